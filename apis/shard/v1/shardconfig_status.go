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
}
