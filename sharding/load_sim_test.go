package sharding

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// takes is a reconcile of so long.
func takes(d time.Duration) ReconcileFunc {
	return func(ctx context.Context, _ types.NamespacedName) (Result, error) {
		pause(ctx, d)
		return Result{}, nil
	}
}

// again is a reconcile that takes d and comes again after the rest of the period.
func again(d, period time.Duration) ReconcileFunc {
	return func(ctx context.Context, _ types.NamespacedName) (Result, error) {
		pause(ctx, d)
		return Result{RequeueAfter: period - d}, nil
	}
}

// load renders what a shard reports: "0.50 busy 0.50", or "unknown".
func (s *sim) load(id string) string {
	status := s.instance(id).Status
	if status.Load == nil {
		return "unknown"
	}
	text := fmt.Sprintf("%.2f", status.Load.Float64())
	if w := status.Work; w != nil {
		text += fmt.Sprintf(" busy %.2f", w.Busy.Float64())
	}
	return text
}

// reports returns a function that counts how often the shard has written its status since it was called last.
func (s *sim) reports(id string) func() int64 {
	const kind = "apply shardinstances status"
	before := s.writes(id)[kind]
	return func() int64 {
		now := s.writes(id)[kind]
		n := now - before
		before = now
		return n
	}
}

func TestWorkerReportsOnNewObjectsBeforeTheInterval(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i := range 10 {
			s.secret(fmt.Sprint("o", i), "a")
		}
		s.worker("a", nil)
		s.settle(5 * time.Second)
		wants(s, "at first", s.objectsInSlots("a"), 10)
		for i := range 30 {
			s.secret(fmt.Sprint("more", i), "a")
		}
		s.settle(5 * time.Second)
		wants(s, "when there are many more", s.objectsInSlots("a"), 40)
		s.secret("one", "a")
		s.settle(5 * time.Second)
		wants(s, "when there is one more", s.objectsInSlots("a"), 40)
		wants(s, "objects that it says it has", s.instance("a").Status.AssignedResourceCount, 41)
	})
}

// objectsInSlots is on how many objects a shard reports in detail.
func (s *sim) objectsInSlots(id string) (n uint64) {
	report, err := decodeSlotReport(s.instance(id).Status.SlotLoads)
	if err != nil {
		s.Fatal(err)
	}
	for _, e := range report.entries {
		n += e.objects
	}
	return n
}

func TestWorkerReportsItsLoad(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i := range 10 {
			s.secret(fmt.Sprint("o", i), "a")
		}
		s.worker("a", again(500*time.Millisecond, 2500*time.Millisecond)) // ten times a fifth of a goroutine, of four
		s.settle(3 * time.Minute)
		if load := s.instance("a").Status.Load.Float64(); load < 0.45 || load > 0.55 {
			t.Errorf("load is %v, want about 0.5", load)
		}
		work := s.instance("a").Status.Work
		if work.DonePerMinute < 200 || work.DonePerMinute > 280 || work.ErrorsPerMinute != 0 || work.Waiting > 10 {
			t.Errorf("work is %+v, want about 240 done per minute", work)
		}
		report, err := decodeSlotReport(s.instance("a").Status.SlotLoads)
		if err != nil {
			t.Fatal(err)
		}
		objects, least := uint64(0), uint8(maxLevel)
		for _, e := range report.entries {
			objects += e.objects
			least = min(least, e.level)
		}
		wants(s, "objects in slots", objects, 10)
		wants(s, "work of all slots is nearly the same", least >= maxLevel-levelsPerTwice, true)
	})
}

func TestRunningReconcilesAreLoad(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i := range 30 {
			s.secret(fmt.Sprintf("o%02d", i), "a")
		}
		s.worker("a", takes(time.Hour)) // none ends
		s.settle(4 * time.Minute)
		status := s.instance("a").Status
		wants(s, "busy", status.Work.Busy, milli(1000))
		if waiting := status.Work.Waiting; waiting < 24 || waiting > 26 {
			t.Errorf("%d wait, want 25 or 26", waiting)
		}
		if load := status.Load.Float64(); load < 2 { // by the age of those that wait
			t.Errorf("load is %v after four minutes of waiting with an age limit of one", load)
		}
	})
}

func TestOwnLoadDecidesAlone(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		var value atomic.Uint64
		value.Store(math.Float64bits(0.7))
		s.worker("a", nil, func(o *WorkerOptions, _ *Controller) {
			o.Load = func() float64 { return math.Float64frombits(value.Load()) }
		})
		s.settle(2 * time.Minute)
		wants(s, "load", strings.Fields(s.load("a"))[0], "0.70")
		for _, bad := range []float64{math.NaN(), math.Inf(1), -1} {
			value.Store(math.Float64bits(bad))
			s.settle(5 * time.Second)
			wants(s, "load", s.load("a"), "unknown")
		}
		value.Store(math.Float64bits(0.3))
		s.settle(5 * time.Second)
		wants(s, "load", strings.Fields(s.load("a"))[0], "0.30")
	})
}

// TestSteadyLoadIsWrittenRarely: at most every statusInterval while it changes, twice in staleAfter when it is steady, and never when
// there is none.
func TestSteadyLoadIsWrittenRarely(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		root := s.secret("o", "a")
		busy := atomic.Bool{}
		busy.Store(true)
		s.worker("a", func(ctx context.Context, _ types.NamespacedName) (Result, error) {
			if !busy.Load() {
				return Result{}, nil
			}
			pause(ctx, time.Second)
			return Result{RequeueAfter: time.Second}, nil
		})
		s.settle(time.Minute)
		writes := s.reports("a")
		s.settle(10 * time.Minute)
		if n := writes(); n < 18 || n > 42 {
			t.Errorf("%d writes of a steady load in ten minutes, want about 20", n)
		}
		busy.Store(false)
		s.settle(2 * time.Minute)
		if n := writes(); n > 60 {
			t.Errorf("%d writes while the load went away in two minutes, want at most one in two seconds", n)
		}
		wants(s, "load", s.load("a"), "0.00")
		s.settle(time.Hour)
		wants(s, "writes of an idle shard in an hour", writes(), int64(0))
		wants(s, "owner", s.ownership(secrets, root.GetName()), "a")
	})
}

// TestUnknownLoadIsNotWritten: a shard that does not know its load has nothing to say of it, whatever it works.
func TestUnknownLoadIsNotWritten(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		tired := atomic.Bool{}
		s.worker("a", func(ctx context.Context, _ types.NamespacedName) (Result, error) {
			pause(ctx, time.Second)
			tired.Store(!tired.Load())
			if tired.Load() {
				return Result{RequeueAfter: 20 * time.Second}, nil
			}
			return Result{RequeueAfter: time.Second}, nil
		}, func(o *WorkerOptions, _ *Controller) { o.Load = math.NaN })
		s.settle(time.Minute)
		writes := s.reports("a")
		s.settle(time.Hour)
		if n := writes(); n > 30 { // what its slots carry changes now and then
			t.Errorf("%d writes in an hour, want a few", n)
		}
		wants(s, "load", s.load("a"), "unknown")
	})
}
