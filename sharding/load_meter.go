package sharding

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
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

// workMeter adds up for how long objects were reconciled: by slot, so that its memory is bounded by the number of slots, or by object.
type workMeter struct {
	mu       sync.Mutex
	byObject bool
	work     map[uint64]float64 // seconds, by slot or by hash, of which half is forgotten in workHalfLife
	at       time.Time
	news     bool
}

// workHalfLife is longer than that of load: a single slot has few objects, and these are reconciled now and then.
const workHalfLife = 2 * time.Minute

// slotBits is into how many slots, as a power of two, a shard divides the hash space to report on it.
const slotBits = 16

func slotOf(hash uint64) uint32 { return uint32(hash >> (64 - slotBits)) }

// divide says what is measured from now on. What was measured otherwise is forgotten.
func (m *workMeter) divide(byObject bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byObject != byObject {
		m.byObject, m.work = byObject, nil
	}
}

func (m *workMeter) add(hash uint64, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.work == nil {
		m.work = map[uint64]float64{}
	}
	if !m.byObject {
		hash = uint64(slotOf(hash))
	}
	m.work[hash] += took.Seconds()
	m.news = true
}

// take adds what was measured to sum, and forgets a part of it. What is known of a shard that has had nothing to do since stays known.
func (m *workMeter) take(now time.Time, sum map[uint64]float64) {
	const nothing = 1e-9 // of a second
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := 1.0
	if !m.at.IsZero() && m.news {
		kept = math.Exp2(-float64(now.Sub(m.at)) / float64(workHalfLife))
	}
	m.at, m.news = now, false
	for what, seconds := range m.work {
		if seconds < nothing {
			delete(m.work, what)
			continue
		}
		sum[what] += seconds
		m.work[what] = seconds * kept
	}
}
