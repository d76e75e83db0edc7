package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ShardConfig describes a ring: a set of objects, and the shards that divide it among themselves. Its name is the name of the
// ring, and part of the label keys on the objects, so it is a DNS label of at most 63 characters.
//
// +genclient
// +genclient:method=GetScale,verb=get,subresource=scale,result=k8s.io/api/autoscaling/v1.Scale
// +genclient:method=UpdateScale,verb=update,subresource=scale,input=k8s.io/api/autoscaling/v1.Scale,result=k8s.io/api/autoscaling/v1.Scale
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,path=shardconfigs,singular=shardconfig,shortName=shcfg,categories=sharding
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.shards,statuspath=.status.shards,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Min",type=integer,JSONPath=`.spec.minShards`,description="Fewest shards"
// +kubebuilder:printcolumn:name="Max",type=integer,JSONPath=`.spec.maxShards`,description="Most shards"
// +kubebuilder:printcolumn:name="Shards",type=integer,JSONPath=`.status.shards`,description="Shards that exist"
// +kubebuilder:printcolumn:name="Up",type=integer,JSONPath=`.status.readyShards`,description="Shards that are ready"
// +kubebuilder:printcolumn:name="Load",type=number,JSONPath=`.status.load`,description="Average load of the ready shards; 1 is full"
// +kubebuilder:printcolumn:name="Unowned",type=integer,JSONPath=`.status.unownedObjects`,description="Objects that no live shard owns"
// +kubebuilder:printcolumn:name="Strategy",type=string,JSONPath=`.spec.loadBalanceStrategy`,priority=1
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name is the name of the ring and must be a DNS label of at most 63 characters"
type ShardConfig struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the usual metadata of an object. The name is the name of the ring.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants. Written by the user; shards also by whoever uses the scale subresource. Required, but may be {}:
	// a ring with all defaults, which shards nothing yet.
	Spec ShardConfigSpec `json:"spec"`
	// status is what the manager observed. Written by the leading manager only.
	// +optional
	Status ShardConfigStatus `json:"status,omitempty,omitzero"`
}

// ShardConfigList is a list of ShardConfigs.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type ShardConfigList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the usual metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the ShardConfigs.
	Items []ShardConfig `json:"items"`
}

// ShardConfigSpec is what the user wants of a ring. Everything has a default.
//
// +kubebuilder:validation:XValidation:rule="self.minShards <= self.maxShards",fieldPath=".minShards",message="minShards must not be greater than maxShards"
// +kubebuilder:validation:XValidation:rule="double(self.scaleDownThreshold) < double(self.scaleUpThreshold)",fieldPath=".scaleDownThreshold",message="scaleDownThreshold must be less than scaleUpThreshold"
// +kubebuilder:validation:XValidation:rule="double(self.scaleDownThreshold) >= double(self.scaleUpThreshold) || int(double(self.scaleDownThreshold) * 1000.0 + 0.5) * (self.minShards + 1) < int(double(self.scaleUpThreshold) * 1000.0 + 0.5) * self.minShards",fieldPath=".scaleDownThreshold",message="scaleDownThreshold * (minShards + 1) must be less than scaleUpThreshold * minShards, or removing a shard can overload those that stay and add it again"
// +kubebuilder:validation:XValidation:rule="!has(self.scaling) || !has(self.scaling.consolidateBelow) || (double(self.scaling.consolidateBelow) >= double(self.scaleDownThreshold) && double(self.scaling.consolidateBelow) <= double(self.scaleUpThreshold))",fieldPath=".scaling.consolidateBelow",message="consolidateBelow must be from scaleDownThreshold to scaleUpThreshold, or shards would be removed and added again"
// +kubebuilder:validation:XValidation:rule="!has(self.targets) || self.targets.all(t, !has(t.controlled) || t.controlled.all(c, !self.targets.exists(o, o.group == c.group && o.resource == c.resource)))",fieldPath=".targets",message="a controlled resource must not be a target of the same ring"
type ShardConfigSpec struct {
	// minShards is the smallest number of shards that scaling goes down to. A count, 1 to 1000, default 1, at most maxShards.
	// Written by the user.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	MinShards int32 `json:"minShards,omitempty"`

	// maxShards is the largest number of shards that scaling goes up to. A count, 1 to 1000, default 10, at least minShards.
	// Written by the user.
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	MaxShards int32 `json:"maxShards,omitempty"`

	// scaleUpThreshold is the average load above which shards are added. A load, where 1 is a full shard; above 0 up to 1, three
	// decimals, default 0.8. Written by the user.
	// +kubebuilder:default=0.8
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:ExclusiveMinimum=true
	// +kubebuilder:validation:Maximum=1
	// +optional
	ScaleUpThreshold Ratio `json:"scaleUpThreshold,omitempty,omitzero"`

	// scaleDownThreshold is the average load below which shards are removed. A load, where 1 is a full shard; above 0 up to 1,
	// three decimals, default 0.3. It is less than scaleUpThreshold, and scaleDownThreshold * (minShards + 1) is less than
	// scaleUpThreshold * minShards, so that removing a shard does not at once call for adding one. Written by the user.
	// +kubebuilder:default=0.3
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:ExclusiveMinimum=true
	// +kubebuilder:validation:Maximum=1
	// +optional
	ScaleDownThreshold Ratio `json:"scaleDownThreshold,omitempty,omitzero"`

	// loadBalanceStrategy is the name of the strategy that says which shard gets an object. Built in are consistent-hash, bounded-load,
	// round-robin and least-loaded; programs register others. 1 to 63 characters, lowercase letters, digits, '-', '.' and '/',
	// default "consistent-hash". A name that the manager does not know is reported by the condition Stalled. Written by the user.
	// +kubebuilder:default="consistent-hash"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9./]*[a-z0-9])?$`
	// +optional
	LoadBalanceStrategy string `json:"loadBalanceStrategy,omitempty"`

	// healthCheckInterval is how long a live shard may be silent: the duration of its Lease. It renews the Lease every 2/15 of
	// it and stops acting after 2/3 of it without a renewal. A duration, 1s to 1h, default 30s. Written by the user.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	HealthCheckInterval *metav1.Duration `json:"healthCheckInterval,omitempty"`

	// resources are the compute resources of one worker Pod: the manager writes them into the template of the workload, which replaces its Pods. Not to
	// be confused with targets. No default: then the template is left as it is. Written by the user.
	// +optional
	Resources *ComputeResources `json:"resources,omitempty"`

	// targets are the resources whose objects are assigned to shards. At most 16, none twice, default none: then nothing is
	// sharded. Written by the user.
	// +listType=map
	// +listMapKey=group
	// +listMapKey=resource
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Targets []Target `json:"targets,omitempty"`

	// workload is what the manager scales to get more shards or fewer. Default none: then shards come and go by themselves, and
	// the manager only assigns. Written by the user.
	// +optional
	Workload *WorkloadReference `json:"workload,omitempty"`

	// shards is the number of shards that is wanted now. A count, 1 to 1000; the manager keeps it between minShards and
	// maxShards. Default none: then the manager decides by load. Written by the user or, through the scale subresource, by
	// an autoscaler. While there is none, the server has no scale to show to an autoscaler: kubectl scale gives it a first one.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Shards *int32 `json:"shards,omitempty"`

	// rebalance says when objects are moved to even out the load, and how many at once. Default {}. Written by the user.
	// +kubebuilder:default={}
	// +optional
	Rebalance *Rebalance `json:"rebalance,omitempty"`

	// scaling says how fast the number of shards follows the load. Default {}. Written by the user.
	// +kubebuilder:default={}
	// +optional
	Scaling *Scaling `json:"scaling,omitempty"`

	// handover says how an object goes from one shard to another. Default {}. Written by the user.
	// +kubebuilder:default={}
	// +optional
	Handover *Handover `json:"handover,omitempty"`
}

// ComputeResources are requests and limits as in a container.
type ComputeResources struct {
	// requests are what a worker Pod is sure to get. Amounts by resource name, at most 16, no default. Written by the user.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`
	// limits are what a worker Pod may use at most. Amounts by resource name, at most 16, no default. Written by the user.
	// +kubebuilder:validation:MaxProperties=16
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// WorkloadReference names an object with a scale subresource in the namespace of the ShardConfig.
type WorkloadReference struct {
	// apiVersion is the group and version of the workload, such as apps/v1. 1 to 317 characters, required. Written by the user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$`
	APIVersion string `json:"apiVersion"`
	// kind is the kind of the workload, such as StatefulSet. 1 to 63 characters, required. Written by the user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Za-z0-9]*$`
	Kind string `json:"kind"`
	// name is the name of the workload. A DNS name of 1 to 253 characters, required. Written by the user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`
}

// Rebalance says when objects are moved to even out the load.
type Rebalance struct {
	// tolerance is how far the load of a shard may be from the average before objects are moved. A fraction of the average,
	// above 0 up to 1, three decimals, default 0.1. Written by the user.
	// +kubebuilder:default=0.1
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:ExclusiveMinimum=true
	// +kubebuilder:validation:Maximum=1
	// +optional
	Tolerance Ratio `json:"tolerance,omitempty,omitzero"`

	// interval is the time from one round of planning to the next. A duration, 1s to 1h, default 30s. Written by the user.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	Interval metav1.Duration `json:"interval,omitempty,omitzero"`

	// rounds is how many rounds in a row the load must be outside of the tolerance before objects are moved. A count, 1 to 10,
	// default 2. Written by the user.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	// +optional
	Rounds int32 `json:"rounds,omitempty"`

	// maxMovesPerRound is how many objects one round may move. A count, 1 to 100000, default 1000. Written by the user.
	// +kubebuilder:default=1000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +optional
	MaxMovesPerRound int32 `json:"maxMovesPerRound,omitempty"`

	// cooldownPeriod is how long a slot or an object that was moved stays where it is. A duration, 1s to 1h, default 10m. Written by the user.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	CooldownPeriod metav1.Duration `json:"cooldownPeriod,omitempty,omitzero"`

	// dryRun says that it is only reported what would move, and why. Default false. Written by the user.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
}

// Scaling says how fast the number of shards follows the load.
type Scaling struct {
	// tolerance is how far the load may be from a threshold without consequence. A fraction of the threshold, above 0 up to 1, three
	// decimals, default 0.1. Written by the user.
	// +kubebuilder:default=0.1
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:ExclusiveMinimum=true
	// +kubebuilder:validation:Maximum=1
	// +optional
	Tolerance Ratio `json:"tolerance,omitempty,omitzero"`

	// sustainedPeriod is how long the load must stay above scaleUpThreshold before shards are added. A duration, 1s to 1h,
	// default 30s. Written by the user.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	SustainedPeriod metav1.Duration `json:"sustainedPeriod,omitempty,omitzero"`

	// cooldownPeriod is how long the load must stay below scaleDownThreshold before shards are removed. A duration, 1s to 1h,
	// default 5m. Written by the user.
	// +kubebuilder:default="5m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	CooldownPeriod metav1.Duration `json:"cooldownPeriod,omitempty,omitzero"`

	// maxStepUp is how many shards may be added within upPeriod. A count, 1 to 1000, default 4. Written by the user.
	// +kubebuilder:default=4
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	MaxStepUp int32 `json:"maxStepUp,omitempty"`

	// maxStepDown is how many shards may be removed within downPeriod. A count, 1 to 1000, default 1. Written by the user.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	MaxStepDown int32 `json:"maxStepDown,omitempty"`

	// upPeriod is the time in which at most maxStepUp shards are added. A duration, 1s to 1h, default 30s. Written by the user.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	UpPeriod metav1.Duration `json:"upPeriod,omitempty,omitzero"`

	// downPeriod is the time in which at most maxStepDown shards are removed. A duration, 1s to 1h, default 1m. Written by the user.
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	DownPeriod metav1.Duration `json:"downPeriod,omitempty,omitzero"`

	// queueLimit is how many objects may wait on a shard: as many count as a load of 1, and above that, on average, a shard is added while
	// they do not get fewer. A count, 1 to 1000000, default 1000. Written by the user.
	// +kubebuilder:default=1000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	QueueLimit int32 `json:"queueLimit,omitempty"`

	// ageLimit is how long an object may wait on a shard: the age of the oldest one over it counts as load. A duration, 1s to 1h, default 1m. Written by the user.
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	AgeLimit metav1.Duration `json:"ageLimit,omitempty,omitzero"`

	// consolidateBelow removes shards although the load is above scaleDownThreshold, as long as those that stay have at most this load. A
	// load, from scaleDownThreshold up to scaleUpThreshold, three decimals; default none: never. Written by the user.
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:ExclusiveMinimum=true
	// +kubebuilder:validation:Maximum=1
	// +optional
	ConsolidateBelow Ratio `json:"consolidateBelow,omitempty,omitzero"`

	// staleAfter is the age from which the load that a shard has reported is unknown. A duration, 10s to 1h, default 1m. Written by the user.
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s') && duration(self) <= duration('1h')",message="must be a duration from 10s to 1h"
	// +optional
	StaleAfter metav1.Duration `json:"staleAfter,omitempty,omitzero"`

	// forecast is how the load to come is foreseen: None, Trend (it goes on as in the last minutes), Seasonal (as at the same time on the
	// days before) or Both. A forecast only ever adds or keeps shards, and is left out while it is bad. Default Trend. Written by the user.
	// +kubebuilder:default=Trend
	// +optional
	Forecast ForecastModel `json:"forecast,omitempty"`

	// horizon is how long it takes until a shard that is added has taken its share over: its start, and the moves. Forecasts are made for then. A duration, 1s to 1h, default 1m. Written by the user.
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	Horizon metav1.Duration `json:"horizon,omitempty,omitzero"`

	// dryRun says that it is only reported how many shards there should be, although there is a workload. Default false. Written by the
	// user.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
}

// ForecastModel is a way to foresee load.
//
// +kubebuilder:validation:Enum=None;Trend;Seasonal;Both
type ForecastModel string

// The ways to foresee load.
const (
	// ForecastNone foresees nothing.
	ForecastNone ForecastModel = "None"
	// ForecastTrend goes on as the load went in the last minutes.
	ForecastTrend ForecastModel = "Trend"
	// ForecastSeasonal expects what was at the same time on the days before.
	ForecastSeasonal ForecastModel = "Seasonal"
	// ForecastBoth has both models; the larger forecast counts.
	ForecastBoth ForecastModel = "Both"
)

// Handover says how an object goes from one shard to another.
type Handover struct {
	// drainTimeout is how long the source lets a running reconcile of the object go on before it cancels the reconcile's context.
	// A duration, 1s to 1h, default 30s. Written by the user.
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="must be a duration from 1s to 1h"
	// +optional
	DrainTimeout metav1.Duration `json:"drainTimeout,omitempty,omitzero"`

	// maxInFlight is how many objects of the ring may be in hand-over at the same time. A count, 1 to 10000, default 200.
	// Written by the user.
	// +kubebuilder:default=200
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	MaxInFlight int32 `json:"maxInFlight,omitempty"`
}
