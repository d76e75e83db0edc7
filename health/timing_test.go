package health

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestTimingProportions(t *testing.T) {
	for _, lease := range []time.Duration{MinLeaseDuration, 1001 * time.Millisecond, 15 * time.Second, 30 * time.Second, MaxLeaseDuration} {
		timing, err := TimingFor(lease)
		if err != nil {
			t.Fatal(err)
		}
		if timing.RenewDeadline() > lease*2/3 || timing.SilentAfter() >= timing.RenewDeadline() || timing.RetryPeriod() > lease*2/15 {
			t.Errorf("%v: %v %v %v", lease, timing.RenewDeadline(), timing.RetryPeriod(), timing.SilentAfter())
		}
		if got := time.Duration(timing.seconds()) * time.Second; got < lease || got >= lease+time.Second {
			t.Errorf("%v is written as %v", lease, got)
		}
	}
	for _, lease := range []time.Duration{-1, 0, MinLeaseDuration - 1, MaxLeaseDuration + 1} {
		if _, err := TimingFor(lease); err == nil {
			t.Errorf("%v was accepted", lease)
		}
	}
}

// The ring's timing becomes shorter and longer while everything runs: nobody
// is fenced or declared dead because the two sides hear of it at different times.
func TestTimingChange(t *testing.T) {
	for name, c := range map[string]struct {
		from, to    time.Duration
		workerFirst bool
	}{
		"shorter, manager first": {time.Minute, 5 * time.Second, false},
		"shorter, worker first":  {time.Minute, 5 * time.Second, true},
		"longer, manager first":  {5 * time.Second, time.Minute, false},
		"longer, worker first":   {5 * time.Second, time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				from, to := Timing{LeaseDuration: c.from}, Timing{LeaseDuration: c.to}
				tracker, stop := b.startTracker("m", func(o *TrackerOptions) { o.Timing = from })
				b.pass(0)
				w := b.startWorker("shard-1", "w", func(o *HeartbeatOptions) { o.Timing = from })
				b.after(2 * time.Minute)
				dead := &atomic.Bool{}
				watchDeaths(b, tracker, dead)
				steps := []func(Timing) error{tracker.SetTiming, w.SetTiming}
				if c.workerFirst {
					steps[0], steps[1] = steps[1], steps[0]
				}
				for _, set := range steps {
					if err := set(to); err != nil {
						t.Fatal(err)
					}
					b.pass(100 * time.Second)
				}
				if terms, _ := w.history(); terms != 1 || dead.Load() {
					t.Errorf("%d terms, dead %v", terms, dead.Load())
				}
				b.expectState(tracker, "shard-1", Alive)
				w.kill("w")
				b.pass(c.to + to.RetryPeriod())
				b.expectState(tracker, "shard-1", Dead)
				stop()
			})
		})
	}
	tracker, err := NewTracker(newLeaseServer().as("m"), TrackerOptions{Namespace: "shards", Ring: "ring", Identity: "m", Timing: second15})
	if err != nil {
		t.Fatal(err)
	}
	if err := tracker.SetTiming(Timing{}); err == nil {
		t.Error("an empty timing was accepted")
	}
}
