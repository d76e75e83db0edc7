package sharding

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/internal/memapi"
)

func fromUnstructured(object *unstructured.Unstructured, into any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into)
}

func TestWorkerReconcilesWhatItOwns(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("mine", "a")
		s.secret("theirs", "b")
		s.secret("nobodys", "")
		w := s.worker("a", nil)
		s.settle(5 * time.Second)
		wants(s, "reconciled", s.tookOnce(), "a mine")
		wants(s, "active", w.Active(), true)
		wants(s, "holder of the Lease", s.holder("a"), "a")
		s.secret("new", "a")
		s.label(secrets, "nobodys", OwnerLabel(simRing), "a")
		s.settle(time.Second)
		wants(s, "reconciled", s.took(), "a new, a nobodys")
		s.settle(5 * time.Second)
		status := s.instance("a").Status
		wants(s, "objects in the status", status.AssignedResourceCount, 3)
		wants(s, "names in the status", len(status.AssignedResources), 3)
	})
}

func TestWorkerWaitsForItsRing(t *testing.T) {
	simulate(t, func(s *sim) {
		s.secret("o", "a")
		w := s.worker("a", nil)
		s.settle(time.Minute)
		wants(s, "active before there is a ring", w.Active(), false)
		s.config()
		s.settle(5 * time.Second)
		wants(s, "active", w.Active(), true)
		wants(s, "reconciled", s.took(), "a o")
	})
}

func TestHandover(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		root := s.secret("o", "a")
		s.child("c1", "a", root)
		s.child("c2", "a", root)
		s.child("other", "a", s.secret("p", "a"))
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(5 * time.Second)
		s.took()
		var order []string
		s.server.OnCommit(func(e memapi.Event) {
			if e.Actor == "a" && (e.Resource == secrets || e.Resource == configMaps) {
				order = append(order, e.Resource.Resource)
			}
		})
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(time.Second)
		wants(s, "root", s.ownership(secrets, "o"), "b@1")
		wants(s, "child", s.ownership(configMaps, "c1"), "b")
		wants(s, "child", s.ownership(configMaps, "c2"), "b")
		wants(s, "child of another root", s.ownership(configMaps, "other"), "a")
		wants(s, "order of the writes", strings.Join(order, " "), "configmaps configmaps secrets")
		wants(s, "reconciled", s.took(), "b o")
	})
}

func TestAcquiredRootWaitsForItsChildren(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.child("c", "a", s.secret("o", "a"))
		s.worker("a", nil)
		b := s.worker("b", nil)
		s.settle(5 * time.Second)
		s.took()
		// b's cache of children falls behind, that of roots does not.
		b.client.Inject(memapi.Hang, 1, func(r *memapi.Request) bool { return r.Verb == "watch" && r.Resource == configMaps })
		b.client.DropWatches()
		s.settle(5 * time.Second)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(10 * time.Second)
		wants(s, "root", s.ownership(secrets, "o"), "b@1")
		wants(s, "reconciled before the children are in the cache", s.took(), "")
		s.settle(2 * time.Minute)
		wants(s, "reconciled then", s.took(), "b o")
	})
}

func TestHandoverFindsChildrenThatTheCacheLacks(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		root := s.secret("o", "a")
		a := s.worker("a", nil)
		s.settle(5 * time.Second)
		a.client.DelayWatches(10 * time.Second)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(5 * time.Second)
		s.child("c", "a", root)
		s.settle(6 * time.Second)
		wants(s, "root", s.ownership(secrets, "o"), "b@1")
		wants(s, "child", s.ownership(configMaps, "c"), "b")
	})
}

func TestHandoverWaitsForTheReconcileInFlight(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("quick", "a")
		s.secret("slow", "a")
		var causes []error
		s.worker("a", func(ctx context.Context, key types.NamespacedName) (Result, error) {
			patience := 10 * time.Second
			if key.Name == "slow" {
				patience = time.Hour
			}
			select {
			case <-time.After(patience):
				return Result{}, nil
			case <-ctx.Done():
				causes = append(causes, context.Cause(ctx))
				time.Sleep(2 * time.Second) // it takes its time to come to an end
				return Result{}, ctx.Err()
			}
		})
		s.settle(7 * time.Second)
		s.label(secrets, "quick", DrainLabel(simRing), "b")
		s.label(secrets, "slow", DrainLabel(simRing), "b")
		s.settle(time.Second)
		wants(s, "quick while it is reconciled", s.ownership(secrets, "quick"), "a→b")
		s.settle(3 * time.Second)
		wants(s, "quick after its reconcile", s.ownership(secrets, "quick"), "b@1")
		wants(s, "slow before the drain timeout", len(causes), 0)
		s.settle(2 * time.Second) // the drain timeout is 5s
		wants(s, "slow after its context was cancelled", s.ownership(secrets, "slow"), "a→b")
		s.settle(2 * time.Second)
		wants(s, "slow after its reconcile has returned", s.ownership(secrets, "slow"), "b@1")
		wants(s, "cancelled contexts", len(causes), 1)
		wants(s, "cause is ErrHandover", errors.Is(causes[0], ErrHandover), true)
	})
}

func TestHandoverThatIsWithdrawn(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		s.worker("a", func(context.Context, types.NamespacedName) (Result, error) {
			time.Sleep(4 * time.Second)
			return Result{}, nil
		})
		s.settle(2 * time.Second)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(time.Second)
		s.label(secrets, "o", DrainLabel(simRing), "")
		s.settle(5 * time.Second)
		wants(s, "root", s.ownership(secrets, "o"), "a")
		wants(s, "reconciled", s.took(), "a o, a o")
	})
}

func TestHandoverUnderFaults(t *testing.T) {
	for _, fault := range []memapi.Fault{memapi.InternalError, memapi.ConnectionReset, memapi.LostResponse, memapi.TooManyRequests} {
		t.Run(fault.String(), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				root := s.secret("o", "a")
				s.child("c", "a", root)
				a := s.worker("a", nil)
				s.settle(5 * time.Second)
				s.took()
				a.client.Inject(fault, 4, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Resource.Resource != "shardinstances" })
				s.label(secrets, "o", DrainLabel(simRing), "b")
				s.settle(10 * time.Second)
				wants(s, "root", s.ownership(secrets, "o"), "b@1")
				wants(s, "child", s.ownership(configMaps, "c"), "b")
				wants(s, "reconciled after the request", s.took(), "")
			})
		})
	}
}

func TestOutage(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		var ends []time.Duration
		var begun time.Time
		var causes []error
		w := s.worker("a", func(ctx context.Context, _ types.NamespacedName) (Result, error) {
			<-ctx.Done()
			ends = append(ends, time.Since(begun))
			causes = append(causes, context.Cause(ctx))
			return Result{}, ctx.Err()
		})
		s.settle(30 * time.Second)
		begun = time.Now()
		s.server.SetDown(true)
		s.settle(time.Hour)
		wants(s, "active during the outage", w.Active(), false)
		wants(s, "reconciles that were stopped", len(ends), 1)
		if ends[0] > simLease*2/3 {
			s.Errorf("the reconcile was stopped after %s, must be at most 2/3 of the lease", ends[0])
		}
		wants(s, "cause is health.ErrFenced", errors.Is(causes[0], health.ErrFenced), true)
		s.took()
		s.server.SetDown(false)
		s.settle(2 * time.Minute)
		wants(s, "active after the outage", w.Active(), true)
		wants(s, "reconciled after the outage", s.took(), "a o")
	})
}

func TestObjectTakenDuringAPauseIsNotReconciledFromAStaleCache(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		s.secret("kept", "a")
		w := s.worker("a", nil)
		s.settle(5 * time.Second)
		w.client.SetLink(memapi.Partitioned)
		s.settle(20 * time.Second) // fenced
		s.took()
		s.label(secrets, "o", OwnerLabel(simRing), "b")
		w.client.DelayWatches(time.Hour) // its cache does not hear of that
		w.client.SetLink(memapi.Connected)
		s.settle(2 * time.Minute)
		wants(s, "active again", w.Active(), true)
		wants(s, "reconciled", s.took(), "a kept")
	})
}

func TestMovedAwayIsNotDeleted(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("moved", "a")
		s.secret("deleted", "a")
		s.worker("a", nil)
		s.settle(5 * time.Second)
		s.took()
		s.label(secrets, "moved", OwnerLabel(simRing), "b")
		if err := s.server.Delete(secrets, "ns", "deleted"); err != nil {
			s.Fatal(err)
		}
		s.settle(time.Minute)
		wants(s, "reconciled", s.took(), "a deleted gone")
	})
}

func TestSecondProcessOfAShardWaits(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		first := s.process("first", "a", nil, func(o *WorkerOptions, _ *Controller) { o.KeepOnStop = true })
		s.settle(5 * time.Second)
		second := s.process("second", "a", nil)
		s.settle(10 * time.Minute)
		wants(s, "second active beside the first", second.Active(), false)
		wants(s, "reconciled", s.took(), "first o")
		first.stop()
		s.settle(5 * time.Second)
		wants(s, "first active after its stop", first.Active(), false)
		wants(s, "second active then", second.Active(), true)
		wants(s, "reconciled", s.took(), "second o")
	})
}

func TestRingDeletedAndCreatedAgain(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		w := s.worker("a", nil)
		s.settle(5 * time.Second)
		if err := s.server.Delete(configs, simNamespace, simRing); err != nil {
			s.Fatal(err)
		}
		s.settle(time.Second)
		wants(s, "active without a ring", w.Active(), false)
		s.took()
		s.config()
		s.settle(time.Second)
		wants(s, "active", w.Active(), true)
		wants(s, "reconciled", s.took(), "a o")
	})
}

func TestDeletedInstanceOfALiveShardIsCreatedAgain(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		w := s.worker("a", nil)
		s.settle(5 * time.Second)
		if err := s.server.Delete(instances, simNamespace, "a"); err != nil {
			s.Fatal(err)
		}
		s.settle(5 * time.Second)
		wants(s, "active", w.Active(), true)
		wants(s, "instance exists", s.instance("a") != nil, true)
	})
}

func TestIdleWorkerWritesNothingButItsLease(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for _, name := range []string{"o1", "o2", "o3"} {
			s.secret(name, "a")
		}
		s.worker("a", nil)
		s.settle(2 * time.Minute)
		writes := map[string]int{}
		s.server.OnCommit(func(e memapi.Event) { writes[e.Resource.Resource]++ })
		s.settle(20 * time.Minute)
		wants(s, "resources written", len(writes), 1)
		if renewals, most := writes["leases"], int(20*time.Minute/(simLease*2/15))+1; renewals > most {
			s.Errorf("%d renewals in 20 minutes, want at most %d", renewals, most)
		}
	})
}

func TestChildrenThatAreAstray(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		a := s.worker("a", nil)
		s.worker("b", nil)
		s.settle(20 * time.Second)
		s.child("stolen", "a", s.secret("o", "b"))
		gone := s.secret("gone", "a")
		s.child("orphan", "a", gone)
		s.create(configMaps, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{
			"name": "free", "namespace": "ns", "labels": map[string]any{OwnerLabel(simRing): "a"}}})
		if err := s.server.Delete(secrets, "ns", "gone"); err != nil {
			s.Fatal(err)
		}
		s.settle(7 * time.Minute)
		wants(s, "child of another shard's root", s.ownership(configMaps, "stolen"), s.ownership(secrets, "o")[:1])
		wants(s, "child without a root", s.ownership(configMaps, "orphan"), "")
		wants(s, "object that is nobody's child", s.ownership(configMaps, "free"), "a")
		begun := time.Now()
		a.stop()
		<-a.ended
		if took := time.Since(begun); took > 20*time.Second {
			s.Errorf("it took %s to stop", took)
		}
		wants(s, "object that is nobody's child, after its shard has left", s.ownership(configMaps, "free"), "")
	})
}

func TestInstanceComesBackWithItsRing(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		w := s.worker("a", nil)
		s.settle(5 * time.Second)
		if err := s.server.Delete(configs, simNamespace, simRing); err != nil {
			s.Fatal(err)
		}
		s.settle(time.Second)
		if err := s.server.Delete(instances, simNamespace, "a"); err != nil {
			s.Fatal(err)
		}
		s.settle(time.Minute)
		wants(s, "instance exists without a ring", s.instance("a") != nil, false)
		s.config()
		s.settle(5 * time.Second)
		wants(s, "instance exists again", s.instance("a") != nil, true)
		wants(s, "active", w.Active(), true)
	})
}
