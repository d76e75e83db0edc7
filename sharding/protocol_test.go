package sharding

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// watchOwnership holds every write to roots against the protocol, whoever makes it: epochs grow by one, and an owner gives a
// root to nobody but the shard that the manager has named.
func (s *sim) watchOwnership() {
	s.server.OnCommit(func(e memapi.Event) {
		if e.Resource != secrets || e.New == nil || e.Old == nil || e.Actor == "" {
			return
		}
		was, _ := OwnerOf(e.Old, simRing)
		is, _ := OwnerOf(e.New, simRing)
		if was == is || is == "" {
			return
		}
		if EpochOf(e.New, simRing) != EpochOf(e.Old, simRing)+1 {
			s.Errorf("%s changed the owner of %s from %q to %q, and the epoch from %d to %d", e.Actor, e.New.GetName(),
				was, is, EpochOf(e.Old, simRing), EpochOf(e.New, simRing))
		}
		if target, draining := DrainTargetOf(e.Old, simRing); e.Actor == was && (!draining || target != is) {
			s.Errorf("%s gave %s to %s, but was to give it to %q", e.Actor, e.New.GetName(), is, target)
		}
	})
}

// brief reconciles for a short while.
func brief(ctx context.Context, _ types.NamespacedName) (Result, error) {
	select {
	case <-time.After(20 * time.Millisecond):
		return Result{}, nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

var (
	stormSeeds    = flag.Int("sim.seeds", 3, "how many storms to simulate")
	stormDuration = flag.Duration("sim.storm", 15*time.Minute, "how long each of them lasts, in virtual time")
)

// TestProtocolUnderFaults lets time pass in which everything fails that can: requests, answers, watches, connections,
// processes, the API server. While that lasts, no object is reconciled by two shards at once; when it is over, every
// object has a live owner, and every child is with its root.
func TestProtocolUnderFaults(t *testing.T) {
	for seed := range *stormSeeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			simulate(t, func(s *sim) { newStorm(s, uint64(seed)).rage(*stormDuration) })
		})
	}
}

// storm is what goes wrong in a simulated ring. The same seed makes the same trouble.
type storm struct {
	*sim
	random  *rand.Rand
	faults  memapi.Faults
	clients []*memapi.Client
	workers map[string]*simWorker
	roots   []string
	begun   time.Time
	// change, if there is one, makes what a process reconciles with, and adapts its options.
	change func(process, id string) (ReconcileFunc, func(*WorkerOptions, *Controller))
}

func newStorm(s *sim, seed uint64) *storm {
	return &storm{
		sim: s, random: rand.New(rand.NewPCG(seed, 7)), workers: map[string]*simWorker{},
		faults: memapi.Faults{
			Rates: map[memapi.Fault]float64{
				memapi.TooManyRequests: .01, memapi.InternalError: .02, memapi.Unavailable: .02, memapi.ConnectionReset: .02,
				memapi.LostResponse: .02, memapi.LateResponse: .002, memapi.Hang: .002, memapi.Duplicate: .005,
			},
			MaxLatency: 50 * time.Millisecond, WatchDrop: .3, WatchGone: .1, WatchStall: .2, StallFor: 20 * time.Second,
		},
	}
}

func (s *storm) rage(duration time.Duration) {
	s.watchOwnership()
	s.config()
	for _, name := range []string{"m1", "m2"} {
		s.clients = append(s.clients, s.runManager(name).client)
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		s.join(id, id)
	}
	s.settle(30 * time.Second)
	s.grow(60)
	s.settle(20 * time.Second)
	for _, c := range s.clients {
		c.SetFaults(s.faults)
	}
	for s.begun = time.Now(); time.Since(s.begun) < duration; {
		s.strike()
		s.settle(time.Duration(s.random.IntN(20000)) * time.Millisecond)
	}
	for _, c := range s.clients {
		c.SetFaults(memapi.Faults{})
		c.SetLink(memapi.Connected)
	}
	s.settle(5 * time.Minute)
	counts := s.counts(secrets)
	wants(s.sim, "roots with a live owner when all is well again", counts["a"]+counts["b"]+counts["c"]+counts["d"], len(s.roots))
	wants(s.sim, "roots on their way when all is well again", counts["→"], 0)
	wants(s.sim, "children away from their roots when all is well again", s.astray(), 0)
	for id, w := range s.workers {
		wants(s.sim, id+" is active when all is well again", w.Active(), true)
	}
}

// strike makes one thing go wrong, or well.
func (s *storm) strike() {
	switch s.random.IntN(9) {
	case 0, 1:
		s.clients[s.random.IntN(len(s.clients))].SetLink(memapi.Link(s.random.IntN(4)))
	case 2, 3, 4:
		s.clients[s.random.IntN(len(s.clients))].SetLink(memapi.Connected)
	case 5: // a shard stops, however it can, and comes back as another process
		id := string(rune('a' + s.random.IntN(4)))
		s.workers[id].stop()
		s.settle(time.Minute)
		<-s.workers[id].ended
		s.join(fmt.Sprintf("%s-%d", id, len(s.clients)), id).client.SetFaults(s.faults)
	case 6:
		s.grow(3)
	case 7:
		i := s.random.IntN(len(s.roots))
		if err := s.server.Delete(secrets, "ns", "root-"+s.roots[i]); err != nil {
			s.Fatal(err)
		}
		if err := s.server.Delete(configMaps, "ns", "child-"+s.roots[i]); err != nil { // as the garbage collector would
			s.Fatal(err)
		}
		s.roots = append(s.roots[:i:i], s.roots[i+1:]...)
	case 8:
		s.server.SetDown(true)
		s.settle(time.Duration(s.random.IntN(40)) * time.Second)
		s.server.SetDown(false)
	}
}

func (s *storm) join(process, id string) *simWorker {
	reconcile, change := ReconcileFunc(brief), func(*WorkerOptions, *Controller) {}
	if s.change != nil {
		reconcile, change = s.change(process, id)
	}
	w := s.process(process, id, reconcile, change)
	s.workers[id] = w
	s.clients = append(s.clients, w.client)
	return w
}

// grow creates n roots with a child each.
func (s *storm) grow(n int) {
	for range n {
		name := fmt.Sprintf("%06x", s.random.Uint32N(1<<24))
		s.roots = append(s.roots, name)
		s.child("child-"+name, "", s.secret("root-"+name, ""))
	}
}
