package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ShardConfigStatus is what the leading manager observed. It is written only when it changed.
type ShardConfigStatus struct {
	// conditions are what is the case now: Ready, Reconciling, Stalled, Overlapping, Covered, DoublyOwned, TakeOversHeld. At most 16, one per type. Written by
	// the manager.
	// +listType=map
	// +listMapKey=type
	// +patchMergeKey=type
	// +patchStrategy=merge
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// observedGeneration is the metadata.generation that this status is about. At least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// shards is the number of shards that exist: the current replicas of the scale subresource. A count, 0 to 100000. Written by
	// the manager.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	// +optional
	Shards int32 `json:"shards"`

	// readyShards is the number of shards that are alive and may receive objects. A count, 0 to 100000. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	// +optional
	ReadyShards int32 `json:"readyShards"`

	// selector is the label selector of the worker Pods, for the scale subresource. At most 1024 characters. Written by the manager.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Selector string `json:"selector,omitempty"`

	// unownedObjects is the number of objects that no live shard owned when the status was written. A count, at least 0. The metric
	// of the same name is up to date; this is a coarse copy. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	UnownedObjects int64 `json:"unownedObjects"`

	// ringGeneration counts the changes of the slot table. At least 0; it only grows. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	RingGeneration int64 `json:"ringGeneration,omitempty"`

	// load is the average load of the ready shards, where 1 is full. 0 to 1000, three decimals; absent while no shard has
	// reported one. Written by the manager.
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Load *Ratio `json:"load,omitempty"`

	// desiredShards is how many shards there should be now, after windows and limits. A count, 0 to 100000; absent before the first decision.
	// Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	// +optional
	DesiredShards int32 `json:"desiredShards,omitempty"`

	// recommendedShards is how many shards the load of the moment alone asks for, before windows and rates. A count, 0 to 100000; absent
	// before the first decision. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	// +optional
	RecommendedShards int32 `json:"recommendedShards,omitempty"`

	// lastScaling is why the number of shards is to change, or why it stays. Written by the manager when the reason changes.
	// +optional
	LastScaling *Decision `json:"lastScaling,omitempty"`

	// lastPlan is why objects are moved to even out the load, or why not. Written by the manager when the reason changes.
	// +optional
	LastPlan *Decision `json:"lastPlan,omitempty"`

	// imbalance is the largest load of a shard over the mean; 1 is even. A coarse copy of the metric imbalance_ratio. 0 to 1000, three
	// decimals; absent while it is not known. Written by the manager.
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Imbalance *Ratio `json:"imbalance,omitempty"`

	// largestShare is the part of the whole load that the largest slot is, which cannot be divided. A coarse copy of the metric
	// largest_object_share. 0 to 1, three decimals; absent while it is not known. Written by the manager.
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1
	// +optional
	LargestShare *Ratio `json:"largestShare,omitempty"`

	// forecastError is by how much the forecasts of the load have been off: of the best model, in full shards. 0 to 1000, three decimals;
	// absent while none has come due. A coarse copy of the metric forecast_error. Written by the manager.
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	ForecastError *Ratio `json:"forecastError,omitempty"`

	// forecastMemory is what the models of spec.scaling.forecast have learnt, for the next leader. It is for programs: a text of package scaling, whose
	// form may change. At most 16384 characters, without spaces; absent while nothing is worth to be kept. Written by the manager, at most once in 15
	// minutes and at the end of a term.
	// +kubebuilder:validation:MaxLength=16384
	// +kubebuilder:validation:Pattern=`^[!-~]*$`
	// +optional
	ForecastMemory string `json:"forecastMemory,omitempty"`
}

// Decision is what the manager decided about load, acting or not.
type Decision struct {
	// reason says why in one word, such as LoadHigh or WithinTolerance. 1 to 64 characters, required. Written by the manager.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Za-z]*$`
	Reason string `json:"reason"`
	// message says why in a sentence, as of the time. At most 1024 characters. Written by the manager.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
	// time is since when the reason is this one. A time in UTC, required. Written by the manager.
	Time metav1.Time `json:"time"`
}
