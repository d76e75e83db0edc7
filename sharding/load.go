package sharding

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	loadHalfLife   = 10 * time.Second // of what is remembered of earlier load
	loadQueueLimit = 1000             // waiting objects that count as full
)

// busyMeter adds up the time that reconciles took.
type busyMeter struct{ nanoseconds atomic.Int64 }

func (b *busyMeter) add(d time.Duration) { b.nanoseconds.Add(int64(d)) }

// take returns the time since the last call.
func (b *busyMeter) take() time.Duration { return time.Duration(b.nanoseconds.Swap(0)) }

// smoothLoad returns the load after a period in which the shard was busy for part of its capacity (both in
// goroutine time) and ended with queued objects waiting. 1 is full. The larger of the two counts; former load is forgotten with
// loadHalfLife.
func smoothLoad(former float64, period, busy, capacity time.Duration, queued int) float64 {
	if period <= 0 || capacity <= 0 {
		return former
	}
	now := max(float64(busy)/float64(capacity), float64(queued)/loadQueueLimit)
	kept := math.Exp2(-float64(period) / float64(loadHalfLife))
	return kept*former + (1-kept)*now
}
