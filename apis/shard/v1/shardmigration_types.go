package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ShardMigration moves objects from one shard of a ring to another: the record of the intent, of the progress and of the result.
// Users make one to move objects by hand. The manager makes one for each plan of its own: when a shard joins, leaves or is
// dead, and when objects are moved to even out the ring. Deleting one that a user made and that is under way aborts it, and takes back what can
// be. Its name is part of a label on the objects, so it is a DNS label of at most 54 characters.
//
// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,path=shardmigrations,singular=shardmigration,shortName=shm,categories=sharding
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ring",type=string,JSONPath=`.spec.ring`,priority=1,description="ShardConfig whose objects move"
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.spec.reason`,priority=1,description="Why objects move"
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.source`,description="Shard that the objects leave; empty for any"
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.target`,description="Shard that the objects go to; empty for where the strategy puts them"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Moved",type=integer,JSONPath=`.status.objects.moved`,description="Objects that have arrived, and that the target has acknowledged"
// +kubebuilder:printcolumn:name="Total",type=integer,JSONPath=`.status.objects.total`,description="Objects that were selected"
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.objects.failed`,priority=1,description="Objects that could not be moved"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 54 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name is part of a label on the objects and must be a DNS label of at most 54 characters"
type ShardMigration struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the usual metadata of an object.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is to be moved, from where, and to where. Written by the user or the manager when it is created; nothing of it but
	// deadline can be changed. Required.
	Spec ShardMigrationSpec `json:"spec"`
	// status is how far it has come. Written by the leading manager only.
	// +optional
	Status ShardMigrationStatus `json:"status,omitempty,omitzero"`
}

// ShardMigrationList is a list of ShardMigrations.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type ShardMigrationList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the usual metadata of a list.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the ShardMigrations.
	Items []ShardMigration `json:"items"`
}

// ShardMigrationSpec is what is to be moved, from where, and to where.
//
// +kubebuilder:validation:XValidation:rule="!has(self.source) || !has(self.target) || self.source != self.target",fieldPath=".target",message="target must be another shard than source"
// +kubebuilder:validation:XValidation:rule="self.reason != 'Manual' || has(self.target)",fieldPath=".target",message="target is required"
// +kubebuilder:validation:XValidation:rule="self.reason != 'Manual' || has(self.source)",fieldPath=".source",message="source is required"
// +kubebuilder:validation:XValidation:rule="self.ring == oldSelf.ring && self.reason == oldSelf.reason && has(self.source) == has(oldSelf.source) && (!has(self.source) || self.source == oldSelf.source) && has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == oldSelf.target) && has(self.dryRun) == has(oldSelf.dryRun) && (!has(self.dryRun) || self.dryRun == oldSelf.dryRun) && has(self.selection) == has(oldSelf.selection) && (!has(self.selection) || self.selection == oldSelf.selection)",message="spec is immutable but for deadline, maxInFlight and objectsPerSecond"
type ShardMigrationSpec struct {
	// ring is the name of the ShardConfig, in the same namespace, whose objects move. A DNS label of 1 to 63 characters, required,
	// immutable. Written by whoever creates the migration.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Ring string `json:"ring"`

	// source is the shardId of the shard that the objects leave. A DNS label of at most 63 characters, immutable. Required of users.
	// Default none: then the objects come from any shard, as in the plans of the manager. Written by whoever creates the migration.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Source string `json:"source,omitempty"`

	// target is the shardId of the shard that the objects go to. A DNS label of at most 63 characters, other than source, immutable.
	// Required of users. Default none: then the strategy places them, as in the plans of the manager. Written by whoever creates
	// the migration.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +optional
	Target string `json:"target,omitempty"`

	// selection says which of the source's objects move. Default none: all of them. Immutable. Written by whoever creates the migration.
	// +optional
	Selection *MigrationSelection `json:"selection,omitempty"`

	// reason is why objects move: Manual, Join, Leave, Rebalance or TakeOver. Default Manual. All others are records of the manager's
	// own plans; one that somebody else creates is refused by the manager. Immutable. Written by the manager.
	// +kubebuilder:default=Manual
	// +kubebuilder:validation:Enum=Manual;Join;Leave;Rebalance;TakeOver
	// +optional
	Reason MigrationReason `json:"reason,omitempty"`

	// deadline is when a migration that has not come to its end is aborted, and what it has moved is taken back. A time in UTC, in the
	// future when the migration begins; default none. Written by the user.
	// +optional
	Deadline *metav1.Time `json:"deadline,omitempty"`

	// maxInFlight is below how many objects of the ring in hand-over this migration asks for another one. A count, 1 to 10000; the ring's
	// handover.maxInFlight counts if it is lower. Default none: then the ring's. Written by the user.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	// +optional
	MaxInFlight *int32 `json:"maxInFlight,omitempty"`

	// objectsPerSecond is how many objects are asked for per second at most. A rate, 1 to 100000, default none: as fast as
	// maxInFlight allows. Written by the user.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +optional
	ObjectsPerSecond *int32 `json:"objectsPerSecond,omitempty"`

	// dryRun says that nothing is to be moved: the status answers how many objects would be, and names the first of them. Default false. Immutable.
	// Written by the user.
	// +optional
	DryRun bool `json:"dryRun,omitempty"`
}

// MigrationReason says why objects move.
type MigrationReason string

// The reasons of ShardMigrations. All but the first are given by the manager to the records of its own plans.
const (
	// MigrationManual: somebody asked for it.
	MigrationManual MigrationReason = "Manual"
	// MigrationJoin: the target is new and gets its share.
	MigrationJoin MigrationReason = "Join"
	// MigrationLeave: the source is draining, and gives everything away.
	MigrationLeave MigrationReason = "Leave"
	// MigrationRebalance: the strategy wants objects elsewhere.
	MigrationRebalance MigrationReason = "Rebalance"
	// MigrationTakeOver: the source is dead.
	MigrationTakeOver MigrationReason = "TakeOver"
)

// MigrationSelection says which objects move. What is given must all be true of an object; count bounds the number of those that are left.
//
// +kubebuilder:validation:XValidation:rule="has(self.all) && self.all || has(self.objects) || has(self.hashRanges) || has(self.labelSelector) || has(self.count)",message="must say which objects: all, objects, hashRanges, labelSelector or count"
// +kubebuilder:validation:XValidation:rule="!(has(self.all) && self.all) || !has(self.objects) && !has(self.hashRanges) && !has(self.labelSelector) && !has(self.count)",fieldPath=".all",message="all can't be combined with anything else"
// +kubebuilder:validation:XValidation:rule="!has(self.objects) || !has(self.hashRanges) && !has(self.labelSelector) && !has(self.count)",fieldPath=".objects",message="objects can't be combined with anything else"
type MigrationSelection struct {
	// all says that all objects move. Default false. It can't be combined with anything else. Written by the user.
	// +optional
	All bool `json:"all,omitempty"`

	// objects are the objects that move, by name. At most 1000, default none. They can't be combined with anything else. Written by the user.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1000
	// +optional
	Objects []MigrationObject `json:"objects,omitempty"`

	// hashRanges are parts of the hash space: objects move whose key is in one of them. At most 256, default none. Written by the user.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +optional
	HashRanges []HashRange `json:"hashRanges,omitempty"`

	// labelSelector selects objects by their labels. Default none. Written by the user.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`

	// count is how many objects move at most: any of those that the rest of the selection leaves. A count, 1 to 10000000, default none.
	// Written by the user.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000000
	// +optional
	Count *int64 `json:"count,omitempty"`
}

// MigrationObject names one object.
type MigrationObject struct {
	// group is the API group of the object. A DNS name of at most 253 characters, default "": the core group. Written by the user.
	// +default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$`
	// +optional
	Group string `json:"group,omitempty"`
	// resource is the resource of the object, lowercase and plural as in the API's paths, such as secrets. At most 63 characters; default
	// none: then it is that of the ring's only target. Written by the user.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^([a-z]([-a-z0-9]*[a-z0-9])?)?$`
	// +optional
	Resource string `json:"resource,omitempty"`
	// namespace is the namespace of the object. A DNS label of at most 63 characters, default "": for a cluster-scoped object. Written by
	// the user.
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$`
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// name is the name of the object. 1 to 253 characters, required. Written by the user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}
