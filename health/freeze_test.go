package health

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// An API server that is away, for however long and in whatever way, makes
// nobody dead: neither for the manager that lived through it nor for one that
// starts in it.
func TestOutageMovesNothing(t *testing.T) {
	for _, kind := range []fault{fails, hangs, loses} {
		for _, outage := range []time.Duration{3 * time.Second, 8 * time.Second, 14 * time.Second, 17 * time.Second, time.Minute, 3 * time.Hour} {
			t.Run(fmt.Sprint(kind, outage), func(t *testing.T) {
				inBubble(t, func(b *bubble) {
					tracker, stop, w := b.startRing(5)
					dead := &atomic.Bool{}
					watchDeaths(b, tracker, dead)
					b.server.closeWatches(outage > time.Minute)
					b.server.breakFor(kind)
					b.pass(outage / 2)
					second, stopSecond := b.startTracker("m2")
					watchDeaths(b, second, dead)
					b.pass(outage / 2)
					if outage > 10*time.Second && !tracker.Snapshot().Frozen {
						t.Error("not frozen without a connection")
					}
					if err := tracker.Check(b.ctx); (err != nil) != (outage > 6*time.Second) {
						t.Errorf("readiness of the manager: %v", err)
					}
					b.server.setFaults(nil)
					b.pass(time.Minute)
					if dead.Load() {
						t.Error("somebody was declared dead")
					}
					for i, w := range w {
						if !w.Active() {
							t.Error("a worker did not resume")
						}
						b.expectState(tracker, fmt.Sprintf("shard-%d", i+1), Alive)
						b.expectState(second, fmt.Sprintf("shard-%d", i+1), Alive)
					}
					finish(w...)
					stop()
					stopSecond()
				})
			})
		}
	}
}

// watchDeaths notes in dead when a tracker declares somebody dead.
func watchDeaths(b *bubble, t *Tracker, dead *atomic.Bool) {
	b.watcher.Go(func() {
		for b.ctx.Err() == nil {
			for _, h := range t.Snapshot().Shards {
				if h.State == Dead {
					dead.Store(true)
				}
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
}

// More than 55 % fall silent together: it takes two more lease durations of the
// manager's own health before it believes it.
func TestMassSilence(t *testing.T) {
	for _, c := range []struct {
		shards, die int
		frozen      bool
	}{
		{1, 1, false}, {2, 1, false}, {2, 2, true}, {3, 1, false}, {3, 2, true}, {9, 4, false}, {9, 5, true}, {20, 11, false}, {20, 12, true},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.die, c.shards), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				tracker, stop, w := b.startRing(c.shards)
				for i := range c.die { // the last renewal was at 20 s
					w[i].kill(fmt.Sprintf("w%d", i+1))
				}
				b.after(26 * time.Second)
				if s := tracker.Snapshot(); s.Frozen != c.frozen || c.frozen && (s.Hold != HoldMassSilence || s.Reason == "") {
					t.Errorf("snapshot %+v", s)
				}
				dies := 35 * time.Second
				if c.frozen {
					dies = 56 * time.Second
				}
				b.after(dies - 1)
				b.expectState(tracker, "shard-1", Silent)
				b.after(dies)
				for i := range c.die {
					b.expectState(tracker, fmt.Sprintf("shard-%d", i+1), Dead)
				}
				if tracker.Snapshot().Frozen {
					t.Error("frozen for ever")
				}
				if err := tracker.TakeOver(b.ctx, "shard-1"); err != nil {
					t.Error(err)
				}
				for i := c.die; i < c.shards; i++ {
					b.expectState(tracker, fmt.Sprintf("shard-%d", i+1), Alive)
				}
				finish(w[c.die:]...)
				stop()
			})
		})
	}
}

// The workers are cut off and the manager is not. When they come back one by
// one, those who have not come yet are not declared dead as soon as they are few.
func TestMassSilenceEndsInCalm(t *testing.T) {
	inBubble(t, func(b *bubble) {
		tracker, stop, w := b.startRing(4)
		dead := &atomic.Bool{}
		watchDeaths(b, tracker, dead)
		b.server.breakFor(hangs, "w1", "w2", "w3", "w4")
		b.after(45 * time.Second)
		if s := tracker.Snapshot(); s.Hold != HoldMassSilence {
			t.Fatalf("not frozen: %+v", s)
		}
		b.server.breakFor(hangs, "w3", "w4")
		b.after(49 * time.Second)
		b.expectState(tracker, "shard-1", Alive)
		b.expectState(tracker, "shard-3", Silent)
		b.server.setFaults(nil)
		b.after(80 * time.Second)
		if s := tracker.Snapshot(); dead.Load() || s.Frozen {
			t.Errorf("dead %v, snapshot %+v", dead.Load(), s)
		}
		finish(w...)
		stop()
	})
}

// What casts doubt on the manager's own health prolongs the freeze.
func TestMassSilenceAndOwnFailures(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(b *bubble, t *Tracker)
		dies time.Duration
	}{
		"a write fails":      {func(_ *bubble, t *Tracker) { t.ReportWrite(context.DeadlineExceeded) }, 80 * time.Second},
		"a write is refused": {func(_ *bubble, t *Tracker) { t.ReportWrite(ErrNotHeld) }, 80 * time.Second},
		"a write succeeds":   {func(_ *bubble, t *Tracker) { t.ReportWrite(nil) }, 56 * time.Second},
		"one read fails":     {func(b *bubble, _ *Tracker) { b.once("list", fails) }, 56 * time.Second},
		"reads fail for 7 s": {func(b *bubble, _ *Tracker) {
			b.server.breakFor(fails, "m1")
			b.pass(7 * time.Second)
			b.server.setFaults(nil)
		}, 88 * time.Second},
		"the manager is stuck": {func(b *bubble, _ *Tracker) {
			b.server.breakFor(hangs, "m1")
			b.pass(7 * time.Second)
			b.server.setFaults(nil)
		}, 88 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				tracker, stop, w := b.startRing(3)
				w[0].kill("w1")
				w[1].kill("w2")
				b.after(50 * time.Second)
				c.fail(b, tracker)
				b.after(c.dies - 100*time.Millisecond)
				b.expectState(tracker, "shard-1", Silent)
				b.after(c.dies + 2*time.Second)
				b.expectState(tracker, "shard-1", Dead)
				finish(w[2])
				stop()
			})
		})
	}
}

// A manager that has just started gives everybody a lease duration, and takes
// over what another manager had taken, if that is dead.
func TestTrackerStart(t *testing.T) {
	inBubble(t, func(b *bubble) {
		first, stopFirst, w := b.startRing(4)
		b.mover(first, "m1", "shard-1")
		w[0].kill("w1")
		b.after(36 * time.Second)
		if err := first.TakeOver(b.ctx, "shard-1"); err != nil {
			t.Fatal(err)
		}
		w[1].kill("w2")
		stopFirst()
		b.after(50 * time.Second)
		second, stop := b.startTracker("m2")
		b.mover(second, "m2", "shard-1")
		b.pass(0)
		for i := range 4 {
			b.expectState(second, fmt.Sprintf("shard-%d", i+1), Unknown)
		}
		if s := second.Snapshot(); s.Hold != HoldStarting || !s.Synced {
			t.Errorf("snapshot %+v", s)
		}
		b.after(65*time.Second - 1)
		for id, want := range map[string]State{"shard-1": Unknown, "shard-2": Silent, "shard-3": Alive, "shard-4": Alive} {
			b.expectState(second, id, want)
		}
		b.after(65 * time.Second)
		for id, want := range map[string]State{"shard-1": Dead, "shard-2": Dead, "shard-3": Alive, "shard-4": Alive} {
			b.expectState(second, id, want)
		}
		if err := second.TakeOver(b.ctx, "shard-1"); err != nil {
			t.Error(err)
		}
		if first.Held("shard-1") {
			t.Error("the first manager believes to hold it")
		}
		finish(w[2:]...)
		stop()
	})
}
