package v1

// Names that the controller puts on ShardInstances, ShardConfigs and Leases.
const (
	// RingLabel is the label of ShardInstances and Leases that says which ring they belong to. Its value is the name of the
	// ShardConfig.
	RingLabel = "shard.io/ring"
	// CleanupFinalizer keeps a ShardConfig until the labels of its ring are off all objects.
	CleanupFinalizer = "shard.io/cleanup"
)
