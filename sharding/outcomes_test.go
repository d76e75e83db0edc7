package sharding

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var errBroken = errors.New("broken")

// calls counts the reconciles of an object since the last look.
func (s *sim) callsOf(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, call := range s.calls {
		if strings.HasSuffix(call, " "+name) {
			n++
		}
	}
	s.calls = nil
	return n
}

func TestOutcomesOfReconciles(t *testing.T) {
	limits := func(_ *WorkerOptions, c *Controller) {
		c.MinBackoff, c.MaxBackoff, c.MaxFailures, c.MaxPanics = time.Second, time.Minute, 8, 2
	}
	for _, test := range []struct {
		name      string
		reconcile ReconcileFunc
		inAMinute int // calls in the first minute: 1s, 2s, 4s, 8s … apart after an error
		inAnHour  int // calls in the hour after that
		aside     bool
	}{
		{"success", func(context.Context, types.NamespacedName) (Result, error) { return Result{}, nil }, 1, 0, false},
		{"requeue", func(context.Context, types.NamespacedName) (Result, error) {
			return Result{RequeueAfter: 20 * time.Second}, nil
		}, 3, 180, false},
		{"terminal error", func(context.Context, types.NamespacedName) (Result, error) {
			return Result{}, TerminalError(errBroken)
		}, 1, 0, false},
		{"error", func(context.Context, types.NamespacedName) (Result, error) { return Result{}, errBroken }, 6, 7, true},
		{"panic", func(context.Context, types.NamespacedName) (Result, error) { panic("bad object") }, 2, 6, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.secret("o", "a")
				s.secret("other", "a")
				s.worker("a", func(ctx context.Context, key types.NamespacedName) (Result, error) {
					if key.Name == "other" {
						return Result{}, nil
					}
					return test.reconcile(ctx, key)
				}, limits)
				s.settle(55 * time.Second)
				wants(s, "calls in the first minute", s.callsOf("o"), test.inAMinute)
				s.settle(time.Hour)
				wants(s, "calls in the next hour", s.callsOf("o"), test.inAnHour)
				s.label(secrets, "other", "touched", "yes")
				s.settle(time.Second)
				wants(s, "calls for another object", s.callsOf("other"), 1)
				wants(s, "an Event says that it was set aside", s.hasEvent("SetAside"), test.aside)
			})
		})
	}
}

func (s *sim) hasEvent(reason string) bool {
	events := schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}
	for _, event := range s.server.List(events, "", nil) {
		if event.Object["reason"] == reason {
			return true
		}
	}
	return false
}

func TestSetAsideObjectThatIsMended(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		broken := true
		s.worker("a", func(context.Context, types.NamespacedName) (Result, error) {
			if broken {
				return Result{}, errBroken
			}
			return Result{}, nil
		}, func(_ *WorkerOptions, c *Controller) { c.MaxFailures, c.MaxBackoff = 2, 10*time.Second })
		s.settle(20 * time.Second)
		s.took()
		broken = false
		s.label(secrets, "o", "mended", "yes")
		s.settle(11 * time.Second)
		wants(s, "reconciled after it was mended", s.took(), "a o")
		s.label(secrets, "o", "mended", "again")
		s.settle(time.Second)
		wants(s, "reconciled as any other", s.took(), "a o")
	})
}

func TestBatches(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var sizes []int
		seen := map[string]int{}
		s.worker("a", nil, func(_ *WorkerOptions, c *Controller) {
			c.BatchSize, c.Concurrency, c.MinBackoff, c.MaxBackoff = 4, 1, time.Second, time.Second
			c.ReconcileBatch = func(_ context.Context, objects []types.NamespacedName) []Outcome {
				time.Sleep(100 * time.Millisecond) // others gather meanwhile
				sizes = append(sizes, len(objects))
				outcomes := make([]Outcome, len(objects))
				for i, object := range objects {
					if seen[object.Name]++; object.Name == "o-3" && seen[object.Name] < 3 {
						outcomes[i].Err = errBroken
					}
				}
				return outcomes
			}
		})
		s.settle(5 * time.Second) // active first: what is there before may be queued twice, by the cache and by the beginning
		for i := range 10 {
			s.secret(fmt.Sprintf("o-%d", i), "a")
		}
		s.settle(20 * time.Second)
		for i := range 10 {
			want := 1
			if i == 3 {
				want = 3
			}
			wants(s, fmt.Sprintf("reconciles of o-%d", i), seen[fmt.Sprintf("o-%d", i)], want)
		}
		for _, size := range sizes {
			if size > 4 {
				s.Errorf("a batch of %d, want at most 4", size)
			}
		}
		if len(sizes) > 6 {
			s.Errorf("%d batches for 10 objects and 2 retries: %v", len(sizes), sizes)
		}
	})
}

func TestBatchWithTooFewOutcomesIsAnError(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		calls := 0
		s.worker("a", nil, func(_ *WorkerOptions, c *Controller) {
			c.MinBackoff, c.MaxBackoff = time.Second, time.Second
			c.ReconcileBatch = func(context.Context, []types.NamespacedName) []Outcome { calls++; return nil }
		})
		s.settle(5 * time.Second)
		if calls < 3 {
			s.Errorf("called %d times, want it to be tried again as after an error", calls)
		}
	})
}

func TestConcurrencyIsLimited(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i := range 20 {
			s.secret(fmt.Sprintf("o-%d", i), "a")
		}
		running, most := 0, 0
		s.worker("a", func(context.Context, types.NamespacedName) (Result, error) {
			s.mu.Lock()
			running++
			most = max(most, running)
			s.mu.Unlock()
			time.Sleep(time.Second)
			s.mu.Lock()
			running--
			s.mu.Unlock()
			return Result{}, nil
		}, func(_ *WorkerOptions, c *Controller) { c.Concurrency = 3 })
		s.settle(10 * time.Second)
		wants(s, "reconciles at the same time", most, 3)
	})
}

func TestLastShardStopsAtOnce(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		w := s.worker("a", nil)
		s.settle(20 * time.Second)
		s.secret("o", "")
		s.settle(5 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "a@1")
		begun := time.Now()
		w.stop()
		<-w.ended
		if took := time.Since(begun); took > 10*time.Second {
			s.Errorf("it took %s to stop, though there is nobody to hand over to", took)
		}
		s.worker("b", nil)
		s.settle(time.Minute)
		wants(s, "owner when there is another shard", s.ownership(secrets, "o"), "b@2")
	})
}

func TestStopTimeout(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		w := s.worker("a", nil, func(o *WorkerOptions, _ *Controller) { o.StopTimeout = 7 * time.Second })
		s.settle(5 * time.Second)
		begun := time.Now()
		w.stop() // nobody answers: there is no manager
		<-w.ended
		if took := time.Since(begun); took < 7*time.Second || took > 9*time.Second {
			s.Errorf("it took %s to stop, want the stop timeout of 7s", took)
		}
		wants(s, "holder of the Lease", s.holder("a"), "")
		wants(s, "instance still there, for the manager", s.instance("a").Spec.Draining, true)
		again := s.process("a2", "a", nil)
		s.settle(5 * time.Second)
		wants(s, "the next process is active", again.Active(), true)
		wants(s, "and not draining", s.instance("a").Spec.Draining, false)
	})
}

func TestWorkerOptionsAreValidated(t *testing.T) {
	for _, test := range []struct {
		options WorkerOptions
		wrong   string
	}{
		{WorkerOptions{Ring: "R", Namespace: "n", ID: "a"}, "Ring"},
		{WorkerOptions{Ring: "r", ID: "a"}, "Namespace"},
		{WorkerOptions{Ring: "r", Namespace: "n"}, "ID"},
		{WorkerOptions{Ring: "r", Namespace: "n", ID: "a.b"}, "ID"},
		{WorkerOptions{Ring: "r", Namespace: "n", ID: "a", Weight: -1}, "Weight"},
		{WorkerOptions{Ring: "r", Namespace: "n", ID: "a", Weight: 1001}, "Weight"},
		{WorkerOptions{Ring: "r", Namespace: "n", ID: "a", StopTimeout: -1}, "StopTimeout"},
		{WorkerOptions{Ring: "r", Namespace: "n", ID: "a", Version: strings.Repeat("v", 129)}, "Version"},
	} {
		if err := test.options.complete(); err == nil || !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("want an error about %s, got %v", test.wrong, err)
		}
	}
}

func TestControllersThatDoNotFitTheRing(t *testing.T) {
	for _, test := range []struct {
		change func(*Controller)
		wrong  string
	}{
		{func(c *Controller) { c.Resource = schema.GroupResource{Resource: "pods"} }, "Resource pods"},
		{func(c *Controller) { c.Resource = schema.GroupResource{Group: "apps", Resource: "secrets"} }, "Resource secrets.apps"},
	} {
		simulate(t, func(s *sim) {
			s.config()
			w := s.worker("a", nil, func(_ *WorkerOptions, c *Controller) { test.change(c) })
			s.settle(time.Second)
			select {
			case <-w.ended:
				if w.err == nil || !strings.Contains(w.err.Error(), test.wrong) {
					s.Errorf("want an error about %s, got %v", test.wrong, w.err)
				}
			default:
				s.Error("Start has not returned")
			}
		})
	}
}
