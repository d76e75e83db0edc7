package sharding

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// renewalOf matches the manager's writes to the Lease of a shard.
func renewalOf(shard string) func(*memapi.Request) bool {
	return func(r *memapi.Request) bool {
		return r.Resource == leases && r.Name == shard && (r.Verb == "update" || r.Verb == "patch")
	}
}

// slowly makes every write to a root or a child take so long.
func slowly(latency time.Duration) memapi.Faults {
	return memapi.Faults{
		MinLatency: latency, MaxLatency: latency,
		Match: func(r *memapi.Request) bool {
			return r.Verb == "patch" && (r.Resource == secrets || r.Resource == configMaps)
		},
	}
}

// TestInterruptedTakeOverGoesOn: in the middle of a take-over, the manager can't renew the Lease of the dead shard for so long
// that it does not hold it any more. It must stop writing, take the Lease again, and finish.
func TestInterruptedTakeOverGoesOn(t *testing.T) {
	for fault, times := range map[memapi.Fault]int{memapi.Unavailable: 8, memapi.Hang: 4, memapi.LostResponse: 8, memapi.LateResponse: 4} {
		t.Run(fault.String(), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.watchOwnership()
				s.config()
				for i, root := range s.secrets(300) {
					s.child(fmt.Sprintf("c%03d", i), "", root)
				}
				m := s.runManager("m")
				s.worker("a", nil)
				s.worker("b", nil)
				c := s.worker("c", nil)
				s.settle(time.Minute)
				m.client.SetFaults(slowly(time.Second)) // some 100 roots, 2 writes of 2 s each, 16 at a time: 25 s
				c.kill()
				s.settle(simLease + 4*time.Second)
				wants(s, "holder of the Lease of the dead shard", s.holder("c"), "manager/m")
				if left := s.counts(secrets)["c"]; left < 40 {
					t.Fatalf("the take-over is over too soon for this test: %d roots left", left)
				}
				m.client.Inject(fault, times, renewalOf("c"))
				for i := range 60 { // what has the label of the dead shard is seen again and again meanwhile
					s.settle(200 * time.Millisecond)
					s.secret(fmt.Sprintf("late%02d", i), "c")
				}
				if left := s.counts(secrets)["c"]; left < 5 {
					t.Fatalf("the take-over has not been interrupted: %d roots left", left)
				}
				s.settle(simLease + 30*time.Second)
				wants(s, "roots of the dead shard", s.counts(secrets)["c"], 0)
				wants(s, "roots in hand-over", s.counts(secrets)["→"], 0)
				wants(s, "children away from their roots", s.astray(), 0)
				s.settle(time.Minute)
				wants(s, "Lease of the dead shard", s.holder("c"), "no lease")
			})
		})
	}
}

// TestTakeOverOfAShardThatHasOnlyAName: its ShardInstance is there and objects have its label, but nobody has ever seen it alive. So
// the objects are found as strays before the shard is declared dead, and while it is being taken over.
func TestTakeOverOfAShardThatHasOnlyAName(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i := range 40 {
			s.child(fmt.Sprintf("c%d", i), "ghost", s.secret(fmt.Sprintf("s%d", i), "ghost"))
		}
		s.create(instances, map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardInstance",
			"metadata": map[string]any{"name": "ghost", "namespace": simNamespace},
			"spec":     map[string]any{"shardId": "ghost", "ring": simRing}})
		s.runManager("m")
		s.worker("a", nil)
		s.settle(10 * time.Second)
		wants(s, "roots of the ghost before a lease duration has passed", s.counts(secrets)["ghost"], 40)
		s.settle(simLease + 10*time.Second)
		wants(s, "roots of the ghost", s.counts(secrets)["ghost"], 0)
		wants(s, "children away from their roots", s.astray(), 0)
	})
}

// TestTakeOverTakesALeaseAndItsWrites: from the last sign of life of a shard to the new owner of its last object passes the lease
// duration, and what the requests take.
func TestTakeOverTakesALeaseAndItsWrites(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		for i, root := range s.secrets(600) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		m := s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		c := s.worker("c", nil)
		s.settle(time.Minute)
		latency := time.Millisecond // there, and back
		m.client.SetFaults(memapi.Faults{MinLatency: latency, MaxLatency: latency})
		s.settle(simLease)
		var mu sync.Mutex
		var renewed, last time.Time
		writes := 0
		s.server.OnCommit(func(e memapi.Event) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case e.Resource == leases && e.Actor == "c":
				renewed = time.Now()
			case (e.Resource == secrets || e.Resource == configMaps) && e.Actor == "m":
				last = time.Now()
				writes++
			}
		})
		s.settle(simLease)
		c.kill()
		s.settle(2 * simLease)
		mu.Lock()
		defer mu.Unlock()
		wants(s, "roots of the dead shard", s.counts(secrets)["c"], 0)
		if writes < 300 {
			t.Fatalf("%d writes, too few for this test", writes)
		}
		requests := 20 // before the first write: the confirmation, the Lease, the slots, the lists
		want := simLease + time.Duration(requests+2*writes/defaultConcurrency)*2*latency
		if took := last.Sub(renewed); took > want || took < simLease {
			t.Errorf("the take-over ended %v after the last renewal, with %d writes; want %v to %v", took, writes, simLease, want)
		}
	})
}
