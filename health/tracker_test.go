package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

func TestTrackerOptionsAreChecked(t *testing.T) {
	good := TrackerOptions{Namespace: "shards", Ring: "ring", Identity: "m", Timing: second15}
	for _, c := range []struct {
		want   string
		change func(*TrackerOptions)
	}{
		{"Namespace", func(o *TrackerOptions) { o.Namespace = "" }},
		{"Ring", func(o *TrackerOptions) { o.Ring = "a,b=c" }},
		{"Identity", func(o *TrackerOptions) { o.Identity = "" }},
		{"Identity", func(o *TrackerOptions) { o.Identity = "a/b" }},
		{"Timing", func(o *TrackerOptions) { o.Timing.LeaseDuration = 1 }},
	} {
		o := good
		c.change(&o)
		if _, err := NewTracker(newLeaseServer().as("m"), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got error %v, want one that names %s", o, err, c.want)
		}
	}
	if _, err := NewTracker(nil, good); err == nil {
		t.Error("a nil client was accepted")
	}
}

// startRing starts a tracker and n workers, and waits until a death could be declared.
func (b *bubble) startRing(n int, change ...func(*TrackerOptions)) (*Tracker, func(), []*worker) {
	b.t.Helper()
	tracker, stop := b.startTracker("m1", change...)
	b.pass(0)
	var workers []*worker
	for i := range n {
		workers = append(workers, b.startWorker(fmt.Sprintf("shard-%d", i+1), fmt.Sprintf("w%d", i+1)))
	}
	b.after(20 * time.Second)
	for i := range n {
		b.expectState(tracker, fmt.Sprintf("shard-%d", i+1), Alive)
	}
	if s := tracker.Snapshot(); s.Frozen || !s.Synced {
		b.t.Fatalf("after 20 s: %+v", s)
	}
	return tracker, stop, workers
}

func finish(workers ...*worker) {
	for _, w := range workers {
		w.finish()
	}
}

// mover registers the tracker as somebody who may act for a shard.
func (b *bubble) mover(t *Tracker, name, shard string) {
	b.mayAct(shard, name, func() bool { return t.Held(shard) })
}

func TestTrackerDeathAndReturn(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var changes atomic.Int32
		tracker, stop, w := b.startRing(3, func(o *TrackerOptions) { o.OnChange = func() { changes.Add(1) } })
		b.mover(tracker, "m1", "shard-1")
		if err := tracker.TakeOver(b.ctx, "shard-1"); !errors.Is(err, ErrAlive) {
			t.Errorf("took a live shard: %v", err)
		}
		quiet := changes.Load()
		b.after(21 * time.Second) // the last renewal was at 20 s
		b.server.breakFor(hangs, "w1")
		b.after(26*time.Second - 1)
		b.expectState(tracker, "shard-1", Alive)
		if changes.Load() != quiet {
			t.Error("OnChange although nothing has changed")
		}
		b.after(26 * time.Second)
		b.expectState(tracker, "shard-1", Silent)
		if w[0].Active() != true {
			t.Error("fenced too early")
		}
		b.after(35*time.Second - 1)
		b.expectState(tracker, "shard-1", Silent)
		b.after(35 * time.Second)
		b.expectState(tracker, "shard-1", Dead)
		if w[0].Active() {
			t.Error("a dead shard acts")
		}
		if changes.Load() != quiet+2 {
			t.Errorf("%d calls of OnChange, want 2", changes.Load()-quiet)
		}

		if err := tracker.TakeOver(b.ctx, "shard-1"); err != nil || !tracker.Held("shard-1") {
			t.Fatal("take-over:", err)
		}
		b.expectState(tracker, "shard-1", Dead)
		if h := tracker.Snapshot().Shards["shard-1"]; !h.Held || h.Holder != tracker.Identity() {
			t.Errorf("snapshot %+v", h)
		}
		b.server.setFaults(nil) // the worker wakes up
		b.after(3 * time.Minute)
		if w[0].Active() || !tracker.Held("shard-1") {
			t.Error("the worker came back in the middle of the move")
		}
		if err := tracker.TakeOver(b.ctx, "shard-1"); err != nil {
			t.Error("the second call failed:", err)
		}
		if err := tracker.GiveBack(b.ctx, "shard-1", false); err != nil || tracker.Held("shard-1") {
			t.Error("give back:", err)
		}
		if err := tracker.GiveBack(b.ctx, "shard-1", false); !errors.Is(err, ErrNotHeld) {
			t.Errorf("gave back twice: %v", err)
		}
		b.pass(2 * time.Second)
		b.expectState(tracker, "shard-1", Alive)
		if terms, _ := w[0].history(); terms != 2 || !w[0].Active() {
			t.Error("the worker did not resume without a restart")
		}
		for _, other := range w[1:] {
			if terms, _ := other.history(); terms != 1 {
				t.Error("another shard was disturbed")
			}
		}
		finish(w...)
		stop()
	})
}

func TestTrackerGiveBackByDeleting(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, w := b.startRing(3)
		tracker.Expect("shard-1")
		w[0].kill("w1")
		b.pass(16 * time.Second)
		if err := tracker.TakeOver(b.ctx, "shard-1"); err != nil {
			t.Fatal(err)
		}
		if err := tracker.GiveBack(b.ctx, "shard-1", true); err != nil {
			t.Fatal(err)
		}
		if b.server.get("shard-1") != nil {
			t.Error("the Lease is still there")
		}
		for range 30 {
			if _, known := tracker.Snapshot().Shards["shard-1"]; known {
				t.Fatal("the shard is still known")
			}
			b.pass(time.Second)
		}
		again := b.startWorker("shard-1", "w1")
		b.pass(0)
		b.expectState(tracker, "shard-1", Alive)
		finish(again, w[1], w[2])
		stop()
	})
}

// A take-over that has not come to its end is told to whoever has the Lease next, until one has.
func TestTakeOverThatStops(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, w := b.startRing(3)
		w[0].kill("w1")
		b.pass(16 * time.Second)
		take := func(resumed bool) {
			t.Helper()
			if err := tracker.TakeOver(b.ctx, "shard-1"); err != nil {
				t.Fatal(err)
			}
			if got := tracker.Resumed("shard-1"); got != resumed {
				t.Errorf("somebody has begun to take over: %t, want %t", got, resumed)
			}
		}
		back := func(name string, resumed bool) *worker {
			t.Helper()
			again := b.startWorker("shard-1", name, func(o *HeartbeatOptions) { o.Fresh = false })
			b.pass(20 * time.Second)
			if !again.Active() || again.Resumed() != resumed {
				t.Errorf("%s: active %t, somebody has begun to take over: %t, want %t", name, again.Active(), again.Resumed(), resumed)
			}
			return again
		}
		take(false)
		take(false) // a renewal
		if err := tracker.GiveBack(b.ctx, "shard-1", false); err != nil {
			t.Fatal(err)
		}
		back("w1b", true).kill("w1b")
		b.pass(16 * time.Second)
		take(true)
		if err := tracker.GiveBack(b.ctx, "shard-1", true); err != nil {
			t.Fatal(err)
		}
		finish(back("w1c", false), w[1], w[2])
		stop()
	})
}

// What a refused take-over has read is what the snapshot says at once, or its caller would ask again and again.
func TestTrackerLearnsFromARefusedTakeOver(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, w := b.startRing(2)
		w[0].finish()
		if err := w[0].Release(b.ctx); err != nil {
			t.Fatal(err)
		}
		b.pass(0)
		b.expectState(tracker, "shard-1", Released)
		b.server.stale = true // and no watch tells that it is back
		restarted := b.startWorker("shard-1", "w1b", func(o *HeartbeatOptions) { o.Fresh = false })
		b.pass(0)
		b.expectState(tracker, "shard-1", Released)
		if err := tracker.TakeOver(b.ctx, "shard-1"); !errors.Is(err, ErrAlive) {
			t.Errorf("took a shard that is back: %v", err)
		}
		if h := tracker.Snapshot().Shards["shard-1"]; h.State == Released || h.Holder == "" {
			t.Errorf("after a take-over that was refused the snapshot says %+v", h)
		}
		finish(restarted, w[1])
		stop()
	})
}

func TestTrackerReleased(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, w := b.startRing(3)
		b.mover(tracker, "m1", "shard-1")
		for i, leave := range []func(*worker) error{
			func(w *worker) error { return w.Release(b.ctx) },
			func(w *worker) error { return w.Delete(b.ctx) },
		} {
			w[i].finish()
			if err := leave(w[i]); err != nil {
				t.Fatal(err)
			}
			b.pass(0)
			b.expectState(tracker, fmt.Sprintf("shard-%d", i+1), Released)
		}
		b.pass(10 * time.Second)
		b.expectState(tracker, "shard-1", Released)
		restarted := b.startWorker("shard-1", "w1b", func(o *HeartbeatOptions) { o.Fresh = false })
		b.pass(0)
		if !restarted.Active() {
			t.Error("a restarted process did not get its Lease at once")
		}
		b.expectState(tracker, "shard-1", Alive)
		b.pass(10 * time.Second)
		if _, known := tracker.Snapshot().Shards["shard-2"]; known {
			t.Error("a shard that has left for good is kept for ever")
		}
		restarted.finish()
		if err := restarted.Release(b.ctx); err != nil {
			t.Fatal(err)
		}
		b.pass(0)
		if err := tracker.TakeOver(b.ctx, "shard-1"); err != nil {
			t.Error("a released shard could not be taken over:", err)
		}
		w[2].finish()
		stop()
	})
}

// A Lease that is deleted by accident moves nothing; one that stays away does.
func TestTrackerMissingLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, w := b.startRing(3)
		b.mover(tracker, "m1", "shard-1")
		for range 20 {
			b.server.remove("shard-1")
			b.pass(0)
			b.expectState(tracker, "shard-1", Unknown)
			b.pass(2 * time.Second)
			b.expectState(tracker, "shard-1", Alive)
		}
		b.server.breakFor(hangs, "w1")
		b.server.remove("shard-1")
		b.pass(15*time.Second - 1)
		b.expectState(tracker, "shard-1", Unknown)
		if err := tracker.TakeOver(b.ctx, "shard-1"); !errors.Is(err, ErrAlive) {
			t.Errorf("took an unknown shard: %v", err)
		}
		b.pass(1)
		b.expectState(tracker, "shard-1", Dead)
		b.server.setFaults(nil)
		if err := tracker.TakeOver(b.ctx, "shard-1"); err != nil {
			t.Fatal(err)
		}
		if l := b.server.get("shard-1"); l.Labels[RingLabel] != "ring" || !strings.HasPrefix(*l.Spec.HolderIdentity, "manager/m1_") {
			t.Errorf("created %+v", l)
		}
		b.pass(30 * time.Second)
		if w[0].Active() {
			t.Error("the late worker got in")
		}
		finish(w...)
		stop()
	})
}

func TestTrackerExpect(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, w := b.startRing(1)
		if err := tracker.TakeOver(b.ctx, "stray"); !errors.Is(err, ErrAlive) {
			t.Errorf("took a shard it had never heard of: %v", err)
		}
		tracker.Expect("stray", "late", "shard-1")
		b.pass(0)
		b.expectState(tracker, "stray", Unknown)
		b.pass(10 * time.Second)
		late := b.startWorker("late", "w9", func(o *HeartbeatOptions) { o.Fresh = false })
		b.pass(5 * time.Second)
		b.expectState(tracker, "stray", Dead)
		b.expectState(tracker, "late", Alive)
		b.expectState(tracker, "shard-1", Alive)
		if err := tracker.TakeOver(b.ctx, "stray"); err != nil {
			t.Error(err)
		}
		if err := tracker.GiveBack(b.ctx, "stray", true); err != nil {
			t.Error(err)
		}
		tracker.Expect("gone")
		tracker.Forget("gone")
		tracker.Forget("shard-1")
		b.pass(0)
		if s := tracker.Snapshot().Shards; len(s) != 2 {
			t.Errorf("known: %v, want late and shard-1", s)
		}
		finish(append(w, late)...)
		stop()
	})
}

func TestTrackerForeignLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, _ := b.startRing(0)
		b.server.mu.Lock()
		b.server.leases["theirs"] = &coordinationv1.Lease{}
		b.server.leases["theirs"].Name = "theirs"
		b.server.mu.Unlock()
		tracker.Expect("theirs")
		b.pass(40 * time.Second)
		b.expectState(tracker, "theirs", Unknown)
		if !tracker.Snapshot().Shards["theirs"].Foreign {
			t.Error("not marked as foreign")
		}
		if err := tracker.TakeOver(b.ctx, "theirs"); !errors.Is(err, ErrForeignLease) {
			t.Errorf("take-over: %v", err)
		}
		if b.server.get("theirs").Spec.HolderIdentity != nil {
			t.Error("a foreign Lease was written")
		}
		stop()
	})
}

// The record changes between the verdict and the take-over.
func TestTrackerTakeOverLosesTheRace(t *testing.T) {
	for name, c := range map[string]struct {
		interfere func(b *bubble, dead *worker)
		taken     bool
	}{
		"renewed": {func(b *bubble, _ *worker) { b.server.edit("shard-1", beat) }, false},
		"labels edited": {func(b *bubble, _ *worker) {
			b.server.edit("shard-1", func(l *coordinationv1.Lease) { l.Labels["x"] = "y" })
		}, true},
		"created again":  {func(b *bubble, w *worker) { b.server.remove("shard-1"); b.recreate(w) }, false},
		"deleted":        {func(b *bubble, _ *worker) { b.server.remove("shard-1") }, false},
		"answer lost":    {func(b *bubble, _ *worker) { b.once("update", loses) }, true},
		"server failing": {func(b *bubble, _ *worker) { b.once("update", fails) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				tracker, stop, w := b.startRing(3)
				w[0].kill("w1")
				b.pass(16 * time.Second)
				b.server.mu.Lock()
				b.server.stale = true // the news have not arrived when it tries
				b.server.mu.Unlock()
				c.interfere(b, w[0])
				err := tracker.TakeOver(b.ctx, "shard-1")
				if err != nil && !errors.Is(err, ErrAlive) { // unclear: try again
					err = tracker.TakeOver(b.ctx, "shard-1")
				}
				if c.taken && (err != nil || !tracker.Held("shard-1")) || !c.taken && !errors.Is(err, ErrAlive) {
					t.Errorf("take-over: %v, held %v", err, tracker.Held("shard-1"))
				}
				finish(w[1:]...)
				stop()
			})
		})
	}
}

// beat is a renewal by the holder.
func beat(l *coordinationv1.Lease) {
	*l = *hold(l, *l.Spec.HolderIdentity, second15, time.Now())
}

// recreate lets a process that was thought dead create its Lease.
func (b *bubble) recreate(w *worker) {
	c := claim{options: &w.options, identity: w.identity}
	if _, err := b.server.as("late").Leases("shards").Create(b.ctx, c.fresh(second15, time.Now()), createOptions); err != nil {
		b.t.Fatal(err)
	}
}

// TestTrackerKeepsWhatItHasTakenFromASlowServer: the renewals of several Leases do not wait for each other.
func TestTrackerKeepsWhatItHasTakenFromASlowServer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, w := b.startRing(9)
		b.after(21 * time.Second)
		killed := []string{"w1", "w2", "w3", "w4"}
		b.server.breakFor(hangs, killed...)
		b.after(45 * time.Second)
		for _, shard := range []string{"shard-1", "shard-2", "shard-3", "shard-4"} {
			b.mover(tracker, "m1", shard)
			if err := tracker.TakeOver(b.ctx, shard); err != nil {
				t.Errorf("%s: %v", shard, err)
			}
		}
		b.server.setFaults(func(actor, verb string) fault {
			switch {
			case slices.Contains(killed, actor):
				return hangs
			case actor == "m1" && verb == "update":
				return slow
			}
			return works
		})
		lost := 0
		for range 120 {
			b.pass(time.Second)
			for _, shard := range []string{"shard-1", "shard-2", "shard-3", "shard-4"} {
				if !tracker.Held(shard) {
					lost++
				}
			}
		}
		if lost > 0 {
			t.Errorf("a Lease was not held at %d of 480 looks", lost)
		}
		finish(w...)
		stop()
	})
}

// once makes the next request of a kind go wrong.
func (b *bubble) once(verb string, f fault) {
	fired := false
	b.server.setFaults(func(actor, v string) fault {
		if v == verb && actor == "m1" && !fired {
			fired = true
			return f
		}
		return works
	})
}

func TestReportWriteCountsOutagesOnly(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{apierrors.NewConflict(leaseResource, "x", nil), false},
		{apierrors.NewForbidden(leaseResource, "x", nil), false},
		{apierrors.NewServiceUnavailable("x"), true},
		{apierrors.NewTooManyRequests("x", 1), true},
		{errors.New("connection refused"), true},
		{fmt.Errorf("wrapped: %w", apierrors.NewInternalError(errors.New("x"))), true},
	} {
		if got := isOutage(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestTrackerLogsAnOutageOnce(t *testing.T) {
	inBubble(t, func(b *bubble) {
		var log bytes.Buffer
		logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log)))
		tracker, err := NewTracker(b.server.as("m1"), TrackerOptions{Namespace: "shards", Ring: "ring", Identity: "m1", Timing: second15})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(klog.NewContext(b.ctx, logger))
		done := make(chan error)
		go func() { done <- tracker.Run(ctx) }()
		b.after(time.Minute)
		b.server.breakFor(fails)
		b.after(100 * time.Second) // 20 reads
		b.server.setFaults(nil)
		b.after(3 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		failed, mended := strings.Count(log.String(), "Could not read the Leases"), strings.Count(log.String(), "works again")
		if failed < 1 || failed > 3 || mended != 1 {
			t.Errorf("logged %d times that reads fail and %d times that they work again, want about 2 and 1:\n%s", failed, mended, &log)
		}
	})
}
