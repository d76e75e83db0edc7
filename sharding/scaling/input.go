package scaling

import (
	"context"
	"time"
)

// Input is what is observed in one round.
type Input struct {
	// Now is the time of the round. It must not be before that of the round before.
	Now time.Time
	// Shards is how many shards are wanted now: the replicas of the workload, less those that are being emptied to be removed. At least 0.
	Shards int
	// Wanted is the number that a user or another autoscaler asks for; 0 for none. It is kept within Min and Max, and decides alone.
	Wanted int
	// Loads are those of the shards that exist.
	Loads []ShardLoad
	// Metrics are further measures.
	Metrics []Metric
	// LargestLoad is the load of the largest indivisible object (or slot) on its shard, where 1 is a full shard; 0 when it is not known.
	LargestLoad float64
	// Blocked says what speaks against scaling now.
	Blocked Blocks
}

// Blocks are circumstances in which the number stays. Each is something the caller knows.
type Blocks struct {
	// PlanInFlight: objects are being moved, or a shard is being emptied.
	PlanInFlight bool
	// RollingOut: members are being replaced or restarted.
	RollingOut bool
	// Frozen: so many shards are silent that their health is not believed.
	Frozen bool
}

// ShardLoad is what a shard has reported.
type ShardLoad struct {
	// ID is the name of the shard, for texts.
	ID string
	// Load is how busy it is; 1 is full. Above 1, work waits, and by how much it is above says little.
	Load float64
	// At is when it was measured. The zero time, a time that is more than StaleAfter ago, and a Load that is no number from 0 mean unknown.
	At time.Time
	// Weight is how much the shard can take, relative to the others. 0 means 1.
	Weight float64
	// Starting: it has not taken its share over. As long as its load is not known, it counts as idle.
	Starting bool
	// Queued is how many objects wait, Done how many are finished per second; both 0 when that is not measured.
	Queued, Done float64
}

// Metric is a measure besides the load, such as the length of a queue outside of the cluster.
type Metric struct {
	// Name is for texts.
	Name string
	// Value is what was measured, Target what it should be, per shard. Target must be above 0.
	Value, Target float64
	// Total: Value is the sum over all shards, and not their mean.
	Total bool
	// At is as in ShardLoad. A Value of NaN, infinity, below 0, or so large that more than 2^20 shards would be needed is not known either.
	At time.Time
}

// MetricSource measures. Whoever runs a Scaler calls it before each round, with a context that ends before the next; from one goroutine at
// a time. It may fail: an error, a metric that is missing, NaN, infinite, negative, beyond all measure or stale mean that it is not known.
type MetricSource interface {
	// Metrics returns the metrics of the moment. It must return when ctx is done.
	Metrics(ctx context.Context) ([]Metric, error)
}
