package sharding

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/ring"
)

// busyMeter measures what one controller does: for how long its goroutines were in reconciles, also in those that are still running,
// and how many ended. The zero value is ready for use, by any goroutine.
type busyMeter struct {
	mu      sync.Mutex
	running int
	at      time.Time // as of which busy is right
	busy    time.Duration

	done, errors atomic.Int64
}

func (b *busyMeter) begin(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	b.running++
}

func (b *busyMeter) end(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	b.running--
}

// advance is called with the lock.
func (b *busyMeter) advance(now time.Time) {
	if passed := now.Sub(b.at); passed > 0 {
		if b.running > 0 {
			b.busy += passed * time.Duration(b.running)
		}
		b.at = now
	}
}

// count notes how a reconcile ended. One that was interrupted will be made again.
func (b *busyMeter) count(result reconcileResult) {
	switch result {
	case resultCancelled:
		return
	case resultError, resultPanic, resultTerminal:
		b.errors.Add(1)
	}
	b.done.Add(1)
}

// take returns what has been since the last call.
func (b *busyMeter) take(now time.Time) (busy time.Duration, done, errors int64) {
	b.mu.Lock()
	b.advance(now)
	busy, b.busy = b.busy, 0
	b.mu.Unlock()
	return busy, b.done.Swap(0), b.errors.Swap(0)
}

// slotMeter adds up, by slot, for how long objects were reconciled. Its memory is bounded by the number of slots.
type slotMeter struct {
	mu   sync.Mutex
	work map[uint32]float64 // seconds, of which half is forgotten in slotHalfLife
	at   time.Time
	news bool
}

// slotHalfLife is longer than that of load: a single slot has few objects, and these are reconciled now and then.
const slotHalfLife = 2 * time.Minute

// slotBits is into how many slots, as a power of two, a shard divides the hash space to report on it.
const slotBits = 16

func slotOf(prefix ring.Prefix, key types.NamespacedName) uint32 {
	return uint32(prefix.Hash(key.Namespace, key.Name) >> (64 - slotBits))
}

func (s *slotMeter) add(slot uint32, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.work == nil {
		s.work = map[uint32]float64{}
	}
	s.work[slot] += took.Seconds()
	s.news = true
}

// take adds what was measured to sum, and forgets a part of it. What is known of a shard that has had nothing to do since stays known.
func (s *slotMeter) take(now time.Time, sum map[uint32]float64) {
	const nothing = 1e-9 // of a second
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := 1.0
	if !s.at.IsZero() && s.news {
		kept = math.Exp2(-float64(now.Sub(s.at)) / float64(slotHalfLife))
	}
	s.at, s.news = now, false
	for slot, seconds := range s.work {
		if seconds < nothing {
			delete(s.work, slot)
			continue
		}
		sum[slot] += seconds
		s.work[slot] = seconds * kept
	}
}
