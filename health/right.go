package health

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// right is the right of this process to act: until when it lasts, and the one
// function that acts under it. The moment it ends is a number that is compared
// with the monotonic clock by whoever asks; the timer only serves those who
// wait on the context.
type right struct {
	base  time.Time    // has the monotonic reading that all durations below count from
	until atomic.Int64 // nanoseconds since base; 0: no right to act now

	onActive func(context.Context)
	idle     chan struct{} // receives when onActive has returned

	mu      sync.Mutex
	lease   time.Duration // until when the Lease would let us act (since base)
	from    time.Duration // no term before that
	live    bool          // a term has begun and has not been ended
	running bool          // onActive has not returned
	stopped bool          // no new term
	cancel  context.CancelCauseFunc
	timer   *time.Timer
}

func newRight(onActive func(context.Context)) *right {
	return &right{base: time.Now(), onActive: onActive, idle: make(chan struct{}, 1)}
}

func (r *right) now() time.Duration { return time.Since(r.base) }

func (r *right) active() bool {
	if planted("no-self-fence") {
		return r.until.Load() > 0
	}
	return int64(r.now()) < r.until.Load()
}

func (r *right) deadline() time.Time {
	until := time.Duration(r.until.Load())
	if r.now() >= until {
		return time.Time{}
	}
	return r.base.Add(until)
}

// extend records a renewal that was sent at sent and has succeeded.
func (r *right) extend(sent time.Time, deadline time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lease = sent.Sub(r.base) + deadline
	if !r.live {
		return
	}
	if int64(r.now()) >= r.until.Load() && !planted("no-self-fence") {
		// The answer came after the end. The Lease is ours, but the term is over:
		// its context is about to be cancelled, or has been.
		r.fenceLocked()
		return
	}
	r.setLocked(r.lease)
}

// shorten makes the right end at most deadline after sent, if it lasts longer.
// It has to be called before others are told of a shorter lease, or they may
// count by the new length while we still act by the old one.
func (r *right) shorten(sent time.Time, deadline time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	end := sent.Sub(r.base) + deadline
	r.lease = min(r.lease, end)
	if r.live && end < time.Duration(r.until.Load()) {
		r.setLocked(end)
	}
}

func (r *right) setLocked(until time.Duration) {
	r.until.Store(int64(until))
	if r.timer != nil {
		r.timer.Reset(until - r.now())
	}
}

// standing says whether we are, without doubt, the latest holder of the Lease.
func (r *right) standing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	return now >= r.from && now < r.lease
}

// postpone lets no term begin before pause has passed.
func (r *right) postpone(pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = r.now() + pause
}

// probation is for how long no term may begin though we have the Lease.
func (r *right) probation() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, r.from-r.now())
}

// begin starts a term if the Lease gives the right to and no work of an earlier
// term is left. Only Run calls it.
func (r *right) begin(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); r.live || r.running || r.stopped || now < r.from || now >= r.lease {
		return
	}
	term, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r.cancel, r.live = cancel, true
	r.until.Store(int64(r.lease))
	r.timer = time.AfterFunc(r.lease-r.now(), r.expire)
	if r.onActive == nil {
		return
	}
	r.running = true
	go func() {
		defer r.finished()
		r.onActive(term)
	}()
}

func (r *right) finished() {
	r.mu.Lock()
	r.running = false
	if r.stopped {
		r.endLocked(ErrStopped)
	}
	r.mu.Unlock()
	select {
	case r.idle <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// expire runs when the timer fires.
func (r *right) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live || planted("no-self-fence") {
		return
	}
	if left := time.Duration(r.until.Load()) - r.now(); left > 0 {
		r.timer.Reset(left) // renewed just now
		return
	}
	r.fenceLocked()
}

// fence ends the term, if there is one, and what is left of the Lease.
func (r *right) fence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lease = 0
	r.fenceLocked()
}

func (r *right) fenceLocked() { r.endLocked(ErrFenced) }

func (r *right) endLocked(cause error) {
	r.until.Store(0)
	if !r.live {
		return
	}
	r.live = false
	r.timer.Stop()
	r.cancel(cause)
}

// stop cancels the term's context and lets no new term begin. The right itself
// lasts on, until the work has ended.
func (r *right) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	if r.running && r.live {
		r.cancel(ErrStopped)
		return
	}
	r.endLocked(ErrStopped)
}

// busy says whether work of a term has not ended.
func (r *right) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// wait returns when the work of the last term has ended.
func (r *right) wait() {
	for r.busy() {
		<-r.idle
	}
}

// end is stop for a Run that returns.
func (r *right) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped, r.lease = true, 0
	r.endLocked(ErrStopped)
}
