package health

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// second15 is the timing of most tests: a lease of 15 s, so a deadline of 10 s,
// a retry period of 2 s, and silence after 6 s.
var second15 = Timing{LeaseDuration: 15 * time.Second}

// bubble is one simulated cluster on a simulated clock.
type bubble struct {
	t      *testing.T
	ctx    context.Context
	server *leaseServer
	start  time.Time
	look   time.Duration // how often the invariant is checked

	mu      sync.Mutex
	actors  map[string]map[string]func() bool // shard -> who -> may it act?
	watcher sync.WaitGroup
}

// inBubble runs a test in a synctest bubble in which somebody checks, all the
// time, that no two may act for the same shard. Everything that was started is
// stopped at the end, and synctest fails the test if a goroutine is left.
func inBubble(t *testing.T, run func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(io.Discard)))
		ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
		b := &bubble{t: t, ctx: ctx, server: newLeaseServer(), start: time.Now(), look: 13 * time.Millisecond, actors: map[string]map[string]func() bool{}}
		b.watcher.Go(b.watchInvariant)
		run(b)
		cancel()
		b.watcher.Wait()
	})
}

// watchInvariant looks again and again.
func (b *bubble) watchInvariant() {
	for b.ctx.Err() == nil && !b.t.Failed() {
		b.mu.Lock()
		for shard, actors := range b.actors {
			holder := ""
			for who, active := range actors {
				if !active() {
					continue
				}
				if holder != "" {
					b.t.Errorf("at %v both %s and %s may act for %s", time.Since(b.start), holder, who, shard)
				}
				holder = who
			}
		}
		b.mu.Unlock()
		time.Sleep(b.look)
	}
}

// mayAct registers somebody who may act for a shard when active says so.
func (b *bubble) mayAct(shard, who string, active func() bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.actors[shard] == nil {
		b.actors[shard] = map[string]func() bool{}
	}
	b.actors[shard][who] = active
}

// after sleeps until the given time since the start of the bubble, and lets
// everything settle.
func (b *bubble) after(d time.Duration) {
	b.t.Helper()
	left := d - time.Since(b.start)
	if left < 0 {
		b.t.Fatalf("it is %v already, cannot go to %v", time.Since(b.start), d)
	}
	time.Sleep(left)
	synctest.Wait()
}

func (b *bubble) pass(d time.Duration) { b.after(time.Since(b.start) + d) }

// worker is one process with a Heartbeat, and what happened to it.
type worker struct {
	*Heartbeat
	b      *bubble
	stop   context.CancelFunc
	done   chan struct{}
	err    error
	frozen chan struct{} // OnActive lingers until it is closed, when not nil

	mu     sync.Mutex
	terms  int
	inside int
	causes []error
	ends   []time.Duration
	errors int
}

// startWorker starts a process named who for a shard.
func (b *bubble) startWorker(shard, who string, change ...func(*HeartbeatOptions)) *worker {
	b.t.Helper()
	w := &worker{b: b, done: make(chan struct{})}
	o := HeartbeatOptions{Namespace: "shards", Name: shard, Ring: "ring", Timing: second15, Fresh: true, OnActive: w.act,
		OnRenewError: func(error) { w.mu.Lock(); w.errors++; w.mu.Unlock() }}
	for _, c := range change {
		c(&o)
	}
	h, err := NewHeartbeat(b.server.as(who), o)
	if err != nil {
		b.t.Fatal(err)
	}
	w.Heartbeat = h
	ctx, cancel := context.WithCancel(b.ctx)
	w.stop = cancel
	b.mayAct(shard, who, h.Active)
	go func() {
		defer close(w.done)
		w.err = h.Run(ctx)
	}()
	return w
}

func (w *worker) act(ctx context.Context) {
	w.mu.Lock()
	w.terms++
	w.inside++
	if w.inside > 1 {
		w.b.t.Error("OnActive runs twice at once")
	}
	w.mu.Unlock()
	if !w.Active() { // it may have ended since, but then the context says so
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
			w.b.t.Error("OnActive began without the right to act")
		}
	}
	<-ctx.Done()
	w.mu.Lock()
	w.causes = append(w.causes, context.Cause(ctx))
	w.ends = append(w.ends, time.Since(w.b.start))
	frozen := w.frozen
	w.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	w.mu.Lock()
	w.inside--
	w.mu.Unlock()
}

// kill ends the process as SIGKILL would: nothing it wants reaches the server.
func (w *worker) kill(who string) {
	w.b.mu.Lock()
	for _, actors := range w.b.actors {
		delete(actors, who)
	}
	w.b.mu.Unlock()
	w.stop()
	<-w.done
}

// finish stops the process and waits for it.
func (w *worker) finish() {
	w.stop()
	<-w.done
}

// history is how many terms began, and why those that ended did.
func (w *worker) history() (int, []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.terms, append([]error(nil), w.causes...)
}

// startTracker starts a manager; stop ends it.
func (b *bubble) startTracker(identity string, change ...func(*TrackerOptions)) (t *Tracker, stop func()) {
	b.t.Helper()
	o := TrackerOptions{Namespace: "shards", Ring: "ring", Identity: identity, Timing: second15}
	for _, c := range change {
		c(&o)
	}
	t, err := NewTracker(b.server.as(identity), o)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := t.Run(ctx); err != nil {
			b.t.Errorf("Tracker.Run: %v", err)
		}
	}()
	return t, func() { cancel(); <-done }
}

// expectState fails the test if a shard is in another state.
func (b *bubble) expectState(t *Tracker, shard string, want State) {
	b.t.Helper()
	if got := t.Snapshot().Shards[shard].State; got != want {
		b.t.Errorf("at %v shard %s is %q, want %q; snapshot %+v", time.Since(b.start), shard, got, want, *t.Snapshot())
	}
}
