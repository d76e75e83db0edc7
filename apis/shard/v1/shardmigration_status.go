package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MigrationFinalizer keeps a ShardMigration that is deleted until nothing of it is under way any more.
const MigrationFinalizer = "shard.io/migration"

// Bounds of what ShardMigration.status says about single objects.
const (
	// MaxMigrationFailures is how many failed objects are named.
	MaxMigrationFailures = 10
)

// ShardMigrationStatus is how far a migration has come. Together with the labels on the objects it is all that a manager needs to go on
// with it.
type ShardMigrationStatus struct {
	// conditions are what is the case now: Ready once it has succeeded, Reconciling while it goes on, Stalled when it has failed or can't go
	// on. At most 16, one per type. Written by the manager.
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

	// phase is how far the migration is: Planning, Preparation, Transfer, Verification, Cleanup, then Succeeded; or RollingBack, then
	// RolledBack; or Failed. At most 32 characters. Written by the manager.
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^([A-Z][A-Za-z]*)?$`
	// +optional
	Phase string `json:"phase,omitempty"`

	// reason is why it is being rolled back, or has failed: a word in CamelCase of at most 64 characters, empty while all goes as planned.
	// Written by the manager.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^([A-Z][A-Za-z]*)?$`
	// +optional
	Reason string `json:"reason,omitempty"`

	// objects are the numbers of objects by what has become of them. Written by the manager.
	// +optional
	Objects MigrationCounts `json:"objects,omitempty,omitzero"`

	// bytes is how much processing state was on objects, not yet acknowledged by their new owners, when they were looked at last. A
	// count of bytes, at least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Bytes int64 `json:"bytes,omitempty"`

	// started is when the first object was asked for. A time in UTC. Written by the manager.
	// +optional
	Started *metav1.Time `json:"started,omitempty"`

	// finished is when the migration came to its end. A time in UTC. Written by the manager.
	// +optional
	Finished *metav1.Time `json:"finished,omitempty"`

	// lastError is the last thing that went wrong, also if it was mended since. At most 1024 characters. Written by the manager.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	LastError string `json:"lastError,omitempty"`

	// failures are the first 10 objects that could not be moved. At most 10. Written by the manager.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +optional
	Failures []MigrationFailure `json:"failures,omitempty"`

	// wouldMove are, of a dry run, the first 10 objects that would move, as resource/namespace/name. At most 10. Written by the
	// manager.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	// +kubebuilder:validation:items:MaxLength=512
	// +optional
	WouldMove []string `json:"wouldMove,omitempty"`
}

// MigrationCounts are the numbers of objects of a migration by what has become of them.
type MigrationCounts struct {
	// total is how many objects were selected. A count, at least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Total int64 `json:"total"`
	// moving is how many are asked for and not handed over, in either direction. A count, at least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Moving int64 `json:"moving"`
	// verifying is how many have a new owner that has yet to acknowledge them. A count, at least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Verifying int64 `json:"verifying"`
	// moved is how many the target has acknowledged. A count, at least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Moved int64 `json:"moved"`
	// returned is how many are back at the source. A count, at least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Returned int64 `json:"returned"`
	// failed is how many could not be moved: declined by the source, refused by the target, or on a third shard. A count, at least 0.
	// Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Failed int64 `json:"failed"`
	// gone is how many were deleted, or stopped being selected by the ring. A count, at least 0. Written by the manager.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Gone int64 `json:"gone"`
}

// MigrationFailure is one object that could not be moved.
type MigrationFailure struct {
	// object is the object as resource/namespace/name. 1 to 512 characters. Written by the manager.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Object string `json:"object"`
	// reason is why, as a word in CamelCase. At most 64 characters. Written by the manager.
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Reason string `json:"reason,omitempty"`
	// message is why, in words. At most 512 characters. Written by the manager.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Message string `json:"message,omitempty"`
}
