package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ShardInstance is one shard of a ring: a worker process with an identity. Its name is the shardId, and also the name of its Lease
// and of its Pod, where there is a Pod.
//
// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,path=shardinstances,singular=shardinstance,shortName=shi,categories=sharding
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ring",type=string,JSONPath=`.spec.ring`,description="ShardConfig that it belongs to"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Load",type=number,JSONPath=`.status.load`,description="1 is full"
// +kubebuilder:printcolumn:name="Objects",type=integer,JSONPath=`.status.assignedResourceCount`,description="Root objects that it owns"
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.spec.weight`,priority=1
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`,priority=1
// +kubebuilder:printcolumn:name="Heartbeat",type=date,JSONPath=`.status.lastHeartbeat`,description="Coarse copy of the Lease"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.spec.shardId == self.metadata.name",fieldPath=".spec.shardId",message="shardId must be equal to metadata.name"
type ShardInstance struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the usual metadata of an object. The name is the shardId.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is which part of the ring the shard has and what is to happen with it. Written by the worker when it joins, then by the
	// manager and the user. Required.
	Spec ShardInstanceSpec `json:"spec"`
	// status is how the shard is. Written by its worker and by the leading manager.
	// +optional
	Status ShardInstanceStatus `json:"status,omitempty,omitzero"`
}

// ShardInstanceList is a list of ShardInstances.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type ShardInstanceList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the usual metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the ShardInstances.
	Items []ShardInstance `json:"items"`
}

// ShardInstanceSpec is which part of the ring a shard has and what is to happen with it.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.ring) || oldSelf.ring.size() == 0 || (has(self.ring) && self.ring == oldSelf.ring)",fieldPath=".ring",message="ring is immutable once it is set"
type ShardInstanceSpec struct {
	// shardId is the identity of the shard. A DNS label of 1 to 63 characters, equal to metadata.name, immutable, required. Written
	// by the worker when it joins.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="shardId is immutable"
	ShardID string `json:"shardId"`

	// ring is the name of the ShardConfig, in the same namespace, that the shard belongs to. A DNS label of at most 63 characters,
	// immutable once set. Default none: then it is the only ShardConfig of the namespace. Written by the worker when it joins.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$`
	// +optional
	Ring string `json:"ring,omitempty"`

	// hashRange is the part of the hash space that the shard has, when it is a single range. Default none. It counts only while
	// hashRanges is empty. Written by the manager, or by the user before the manager has done so.
	// +optional
	HashRange *HashRange `json:"hashRange,omitempty"`

	// hashRanges are the parts of the hash space that the shard has: in order, none overlapping another, at most 4096, default none.
	// Order and overlaps are checked by whoever reads them, as that would be too much work for the API server. Written by the
	// manager.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=4096
	// +optional
	HashRanges []HashRange `json:"hashRanges,omitempty"`

	// weight is how much the shard can take, relative to the other shards of the ring. 1 to 1000, default 1. Written by the worker
	// when it joins, or by the user.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Weight int32 `json:"weight,omitempty"`

	// cordoned says that the shard gets no more objects, and keeps those that it has. Default false. Written by the user.
	// +optional
	Cordoned bool `json:"cordoned,omitempty"`

	// draining says that all objects of the shard are to move to others. Default false. Written by a worker that leaves, by the
	// user, or by a manager that scales down.
	// +optional
	Draining bool `json:"draining,omitempty"`
}

// HashRange is a range of hash positions, which are the top 32 bits of the 64-bit hash of a key. Both ends are part of it.
//
// +kubebuilder:validation:XValidation:rule="self.start <= self.end",fieldPath=".start",message="start must not be greater than end"
type HashRange struct {
	// start is the first position of the range. 0 to 4294967295, at most end, required. Written by whoever writes the range.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	Start int64 `json:"start"`
	// end is the last position of the range. 0 to 4294967295, at least start, required. Written by whoever writes the range.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	End int64 `json:"end"`
}

// ShardInstanceStatus is how a shard is. It is written only when it changed.
type ShardInstanceStatus struct {
	// conditions are what is the case now: Ready, and Drained while the shard drains. At most 16, one per type. Written by the manager.
	// +listType=map
	// +listMapKey=type
	// +patchMergeKey=type
	// +patchStrategy=merge
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty" patchStrategy:"merge" patchMergeKey:"type"`

	// observedGeneration is the metadata.generation that the conditions are about. At least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase sums up spec and conditions for people: Pending, Running, Draining, Silent, Lost or Terminated. At most 32
	// characters. Programs look at conditions. Written by the manager.
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([A-Z][A-Za-z]*)?$`
	// +optional
	Phase string `json:"phase,omitempty"`

	// load is how busy the shard is, smoothed; 1 is full. 0 to 1000, three decimals; absent while it is not known. Written by
	// the worker.
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Load *Ratio `json:"load,omitempty"`

	// work is what the load is made of. Absent while it is not known. Written by the worker.
	// +optional
	Work *ShardWork `json:"work,omitempty"`

	// slotLoads is what the slots of the shard carry: for each that is not empty, how many objects it has and which part of the work it
	// causes; for programs, in base64. At most 32768 characters; none: not reported. Written by the worker.
	// +kubebuilder:validation:MaxLength=32768
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9+/]*=*$`
	// +optional
	SlotLoads string `json:"slotLoads,omitempty"`

	// costliestObjects are the objects that cause most of the shard's work, where the strategy does not go by slots; the others cause about
	// the same each. At most 32; none: all are about the same, or not reported. Written by the worker.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +optional
	CostliestObjects []ObjectCost `json:"costliestObjects,omitempty"`

	// lastHeartbeat is when the shard was last heard of: a coarse copy for people, the heartbeat is the Lease. A time in UTC.
	// Written by the worker along with other changes.
	// +optional
	LastHeartbeat *metav1.Time `json:"lastHeartbeat,omitempty"`

	// assignedResources are the first 100 in order of the root objects that the shard owns, as names. At most 100 of at most 1024
	// characters each. Written by the worker.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=1024
	// +optional
	AssignedResources []string `json:"assignedResources,omitempty"`

	// assignedResourceCount is how many root objects the shard owns: all of them. A count, at least 0. Written by the worker.
	// +kubebuilder:validation:Minimum=0
	// +optional
	AssignedResourceCount int64 `json:"assignedResourceCount,omitempty"`

	// served are the resources that the shard has a controller for, and what it holds of each: it gets objects of these only. At
	// most 16, none twice; none: not reported, and it gets objects of every target. Written by the worker.
	// +listType=map
	// +listMapKey=group
	// +listMapKey=resource
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Served []ServedResource `json:"served,omitempty"`

	// version is the version of the worker's program. At most 128 characters. Written by the worker.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Version string `json:"version,omitempty"`
}

// ObjectCost is which part of its shard's work an object causes.
type ObjectCost struct {
	// key is the key of the object, group/kind/namespace/name; the group of core kinds is empty. 1 to 1024 characters, required. Written by
	// the worker.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Key string `json:"key"`

	// share is the part of the work. 0 to 1, three decimals, required. Written by the worker.
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1
	Share Ratio `json:"share"`

	// pinned says that the object is to stay where it is, because of its pin label. Default false. Written by the worker.
	// +optional
	Pinned bool `json:"pinned,omitempty"`
}

// ShardWork is what a shard does and has to do. The numbers are smoothed and rounded, for comparisons and for people.
type ShardWork struct {
	// busy is the part of its capacity that the shard used: time in reconciles, over time and concurrency. 0 to 1000, three decimals.
	// Written by the worker.
	// +kubebuilder:validation:Type=number
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Busy Ratio `json:"busy,omitempty,omitzero"`

	// donePerMinute is how many objects were reconciled, whatever the result. A count per minute, at least 0. Written by the worker.
	// +kubebuilder:validation:Minimum=0
	// +optional
	DonePerMinute int64 `json:"donePerMinute,omitempty"`

	// errorsPerMinute is how many of these ended with an error or a panic. A count per minute, at least 0. Written by the worker.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ErrorsPerMinute int64 `json:"errorsPerMinute,omitempty"`

	// waiting is how many objects waited for a reconcile. A count, at least 0. Written by the worker.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Waiting int64 `json:"waiting,omitempty"`

	// oldestSeconds is for how long the oldest of them had waited. Seconds, at least 0. Written by the worker.
	// +kubebuilder:validation:Minimum=0
	// +optional
	OldestSeconds int64 `json:"oldestSeconds,omitempty"`
}

// ServedResource is a resource that a shard has a controller for. What it holds are the root objects whose reconcile it would start
// now: its cache shows it as their owner, and it has not given them away. The audit compares that with the owner labels.
type ServedResource struct {
	// group is the API group of the resource. A DNS name of at most 253 characters, default "": the core group. Written by
	// the worker.
	// +default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$`
	// +optional
	Group string `json:"group,omitempty"`

	// resource is the name of the resource, such as secrets. 1 to 63 characters, required. Written by the worker.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Resource string `json:"resource"`

	// held is how many root objects of the resource the shard holds. A count, at least 0. Written by the worker.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Held int64 `json:"held"`

	// sketch summarizes which objects these are, by their UIDs: the difference of two such sets can be read from the difference of
	// their sketches. At most 1024 characters in base64; none: the set is empty. Written by the worker.
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9+/]*=*$`
	// +optional
	Sketch string `json:"sketch,omitempty"`
}
