package sharding

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/retry"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/memapi"
)

// edit changes an object as a user does, who tries again if somebody else was faster.
func (s *sim) edit(gvr schema.GroupVersionResource, namespace, name string, change func(*unstructured.Unstructured)) {
	s.Helper()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		object := s.server.Get(gvr, namespace, name)
		if object == nil {
			s.Fatalf("there is no %s %s", gvr.Resource, name)
		}
		change(object)
		_, err := s.server.Update(gvr, object, "")
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
}

func set(value any, path ...string) func(*unstructured.Unstructured) {
	return func(object *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(object.Object, value, path...); err != nil {
			panic(err)
		}
	}
}

// writes counts the requests of an actor that change something, by verb and resource.
func (s *sim) writes(actor string) map[string]int64 {
	counts := map[string]int64{}
	for kind, n := range s.server.RequestCounts() {
		switch kind.Verb {
		case "get", "list", "watch":
			continue
		}
		if kind.Actor == actor {
			counts[kind.Verb+" "+kind.Resource+" "+kind.Subresource] += n
		}
	}
	return counts
}

func TestIdleManagerWritesNothing(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i, root := range s.secrets(50) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(7 * time.Minute) // until it has said that one shard would be enough
		before := s.writes("m")
		s.settle(20 * time.Minute)
		for kind, n := range s.writes("m") {
			if n -= before[kind]; n > 0 && (kind != "update leases " || n > 600) {
				t.Errorf("in 20 idle minutes: %d times %s", n, kind)
			}
		}
	})
}

func TestManagerIsKilledInTheMiddleOfAMove(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i, root := range s.secrets(300) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		first := s.runManager("m1")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(30 * time.Second)
		second := s.runManager("m2")
		s.settle(time.Second)
		// The shards take a moment to hand over, and the manager dies meanwhile.
		for _, shard := range []string{"a", "b"} {
			s.server.Client(shard).SetFaults(memapi.Faults{MinLatency: 50 * time.Millisecond, MaxLatency: 100 * time.Millisecond})
		}
		s.worker("c", nil)
		for range 1000 {
			s.settle(20 * time.Millisecond)
			if s.counts(secrets)["→"] > 10 {
				break
			}
		}
		if n := s.counts(secrets)["→"]; n == 0 {
			t.Fatal("there was no move to be interrupted")
		}
		first.kill()
		s.settle(90 * time.Second)
		wants(s, "second leads", second.Leading(), true)
		counts := s.counts(secrets)
		if counts["c"] < 70 || counts["→"] != 0 || counts["a"]+counts["b"]+counts["c"] != 300 {
			t.Errorf("owners: %v", counts)
		}
		wants(s, "children away from their roots", s.astray(), 0)
	})
}

func TestManagerThatStopsLetsTheNextBeginAtOnce(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		first := s.runManager("m1")
		s.worker("a", nil)
		s.settle(10 * time.Second)
		second := s.runManager("m2")
		s.settle(5 * time.Second)
		wants(s, "first leads", first.Leading(), true)
		wants(s, "second leads", second.Leading(), false)
		first.stop()
		<-first.ended
		s.settle(5 * time.Second)
		wants(s, "second leads", second.Leading(), true)
	})
}

func TestAPIServerOutageMovesNothing(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secrets(60)
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(time.Minute)
		before := s.epochs()
		s.server.SetDown(true)
		s.settle(10 * time.Minute)
		s.server.SetDown(false)
		s.settle(2 * time.Minute)
		wants(s, "epochs", s.epochs(), before)
		s.secret("late", "")
		s.settle(2 * time.Second)
		wants(s, "unowned", s.counts(secrets)["-"], 0)
	})
}

// epochs renders how often the roots have changed hands.
func (s *sim) epochs() string {
	var b strings.Builder
	for _, root := range s.server.List(secrets, "", nil) {
		fmt.Fprintf(&b, "%d", EpochOf(root, simRing))
	}
	return b.String()
}

func TestManagerUnderFaults(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i, root := range s.secrets(150) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		m := s.runManager("m")
		m.client.SetFaults(memapi.Faults{
			Rates: map[memapi.Fault]float64{
				memapi.TooManyRequests: 0.03, memapi.InternalError: 0.03, memapi.ConnectionReset: 0.03, memapi.LostResponse: 0.05,
				memapi.Duplicate: 0.03,
			},
			WatchDrop: 0.2, WatchGone: 0.2, WatchWithin: time.Minute, MaxLatency: 20 * time.Millisecond,
		})
		s.worker("a", nil)
		b := s.worker("b", nil)
		s.settle(2 * time.Minute)
		wants(s, "unowned", s.counts(secrets)["-"], 0)
		s.worker("c", nil)
		s.settle(2 * time.Minute)
		b.kill()
		s.settle(2 * time.Minute)
		counts := s.counts(secrets)
		if counts["a"]+counts["c"] != 150 || counts["→"] != 0 {
			t.Errorf("owners: %v", counts)
		}
		wants(s, "children away from their roots", s.astray(), 0)
	})
}

func TestOwnersThatDoNotExist(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.create(leases, map[string]any{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
			"metadata": map[string]any{"name": "foreign", "namespace": simNamespace},
			"spec":     map[string]any{"holderIdentity": "somebody"}})
		for _, owner := range []string{"ghost", "Not_A_Name", "foreign"} {
			s.child("of-"+strings.ToLower(strings.ReplaceAll(owner, "_", "-")), owner, s.secret("on-"+strings.ToLower(strings.ReplaceAll(owner, "_", "-")), owner))
		}
		s.runManager("m")
		s.worker("a", nil)
		s.settle(10 * time.Second)
		wants(s, "owner before a lease duration has passed", s.ownership(secrets, "on-ghost"), "ghost")
		s.settle(40 * time.Second)
		for _, name := range []string{"ghost", "not-a-name", "foreign"} {
			wants(s, "owner of what was on "+name, s.ownership(secrets, "on-"+name), "a@1")
			wants(s, "owner of the child of what was on "+name, s.ownership(configMaps, "of-"+name), "a")
		}
		wants(s, "holder of the Lease that is somebody else's", s.holder("foreign"), "somebody")
		wants(s, "Lease of the ghost", s.holder("ghost"), "no lease")
	})
}

func TestDeletedRecordsOfALiveShardMoveNothing(t *testing.T) {
	for _, c := range []struct {
		gvr schema.GroupVersionResource
	}{{instances}, {leases}} {
		t.Run(c.gvr.Resource, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.secrets(60)
				s.runManager("m")
				s.worker("a", nil)
				s.worker("b", nil)
				s.settle(time.Minute)
				before := s.epochs()
				if err := s.server.Delete(c.gvr, simNamespace, "a"); err != nil {
					t.Fatal(err)
				}
				s.settle(5 * time.Minute)
				wants(s, "epochs", s.epochs(), before)
				wants(s, "holder of the Lease", s.holder("a"), "a")
				wants(s, "phase", s.instance("a").Status.Phase, shardv1.PhaseRunning)
			})
		})
	}
}

func TestShardThatRestartsKeepsItsObjects(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secrets(60)
		keep := func(o *WorkerOptions, _ *Controller) { o.KeepOnStop = true }
		s.runManager("m")
		s.worker("a", nil, keep)
		b := s.worker("b", nil, keep)
		s.settle(time.Minute)
		before := s.epochs()
		b.stop()
		<-b.ended
		s.settle(simLease * 2 / 3)
		wants(s, "holder of the Lease", s.holder("b"), "")
		wants(s, "phase", s.instance("b").Status.Phase, shardv1.PhaseTerminated)
		b = s.process("b2", "b", nil, keep)
		s.settle(30 * time.Second)
		wants(s, "epochs after a restart", s.epochs(), before)
		b.stop()
		<-b.ended
		s.settle(simLease + 2*time.Second)
		wants(s, "objects of a shard that does not come back", s.counts(secrets)["b"], 0)
	})
}

func TestSilentShardGetsNothingNew(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		s.worker("a", nil)
		b := s.worker("b", nil)
		s.settle(time.Minute)
		b.client.SetLink(memapi.Partitioned)
		s.settle(8 * time.Second)
		wants(s, "phase", s.instance("b").Status.Phase, shardv1.PhaseSilent)
		s.secrets(40)
		s.settle(time.Second)
		wants(s, "objects of the silent shard", s.counts(secrets)["b"], 0)
		b.client.SetLink(memapi.Connected)
		s.settle(30 * time.Second)
		if n := s.counts(secrets)["b"]; n < 10 {
			t.Errorf("the shard that is back owns %d", n)
		}
	})
}

func TestMassSilenceIsDoubted(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secrets(60)
		s.runManager("m")
		s.worker("a", nil)
		b, c := s.worker("b", nil), s.worker("c", nil)
		s.settle(time.Minute)
		before := s.epochs()
		b.client.SetLink(memapi.Partitioned)
		c.client.SetLink(memapi.Partitioned)
		s.settle(simLease + 5*time.Second)
		wants(s, "condition", s.condition(conditionHeld), "True MassSilence")
		wants(s, "epochs while in doubt", s.epochs(), before)
		s.settle(2 * simLease)
		wants(s, "objects of the dead", s.counts(secrets)["b"]+s.counts(secrets)["c"], 0)
		wants(s, "condition", s.condition(conditionHeld), "False DetectionWorks")
	})
}
