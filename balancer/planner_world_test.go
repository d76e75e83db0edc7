package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/ring"
)

// world is a ring of shards with objects that cause load, and a planner that looks after it.
type world struct {
	t       testing.TB
	planner *Planner
	memory  Memory
	round   Round
	ring    *ring.Ring // nil: labels place
	hashes  []uint64
	objects []ObjectLoad
	speed   map[string]float64
	full    float64 // the work that fills a shard of speed 1
	moved   int64
	plan    Plan
}

func newWorld(t testing.TB, shards, objects int, byRing bool, cost func(i int) float64) *world {
	t.Helper()
	w := &world{t: t, objects: make([]ObjectLoad, objects), hashes: make([]uint64, objects), speed: map[string]float64{}}
	w.use(PlannerOptions{MaxMoves: int64(objects)})
	w.round.Now = time.Unix(1e9, 0)
	w.round.Shards = numbered(shards)
	slots := 16_384
	if objects <= 2000 {
		slots = 2048
	}
	r, err := ring.New(membersOf(shards), ring.Slots(slots))
	if err != nil {
		t.Fatal(err)
	}
	for i := range w.objects {
		w.hashes[i] = ring.Hash(fmt.Sprintf("/Secret/default/tls-%d", i))
		w.objects[i] = ObjectLoad{Key: fmt.Sprintf("/Secret/default/tls-%d", i), Shard: r.Owner(w.hashes[i]), Work: cost(i)}
		w.full += w.objects[i].Work
	}
	w.full = max(1, w.full) * 2 / float64(shards) // a mean load of a half
	if byRing {
		w.ring = r
	}
	return w
}

func (w *world) use(o PlannerOptions) {
	w.t.Helper()
	var err error
	if w.planner, err = NewPlanner(o); err != nil {
		w.t.Fatal(err)
	}
}

// loads are the true loads of the shards.
func (w *world) loads() map[string]float64 {
	loads := map[string]float64{}
	for _, o := range w.objects {
		loads[o.Shard] += o.Work / w.full
	}
	for id, speed := range w.speed {
		loads[id] /= speed
	}
	return loads
}

// imbalance is the true one.
func (w *world) imbalance() float64 {
	most, sum, weights := 0.0, 0.0, 0.0
	loads := w.loads()
	for _, s := range w.round.Shards {
		weight := max(s.Weight, 1)
		most = max(most, loads[s.ID]/weight)
		sum += loads[s.ID]
		weights += weight
	}
	return most / (sum / weights)
}

// bound is the least imbalance that is possible with an indivisible object.
func (w *world) bound() float64 {
	most, sum := 0.0, 0.0
	for _, o := range w.objects {
		most = max(most, o.Work)
		sum += o.Work
	}
	return max(1, most/(sum/float64(len(w.round.Shards))))
}

// step is one round in which every load and every object's work is observed with an error.
func (w *world) step(shardError, objectError func() float64) Plan {
	w.t.Helper()
	w.round.Now = w.round.Now.Add(30 * time.Second)
	loads := w.loads()
	for i := range w.round.Shards {
		s := &w.round.Shards[i]
		s.Load, s.LoadKnown = loads[s.ID]/max(s.Weight, 1)*shardError(), true
	}
	var err error
	if w.ring == nil {
		observed := make([]ObjectLoad, len(w.objects))
		for i, o := range w.objects {
			o.Work *= objectError()
			observed[i] = o
		}
		w.plan, w.memory, err = w.planner.Objects(w.memory, w.round, observed)
	} else {
		slots := make([]SlotLoad, w.ring.Slots())
		for i, o := range w.objects {
			slots[w.ring.Slot(w.hashes[i])].Objects++
			slots[w.ring.Slot(w.hashes[i])].Work += o.Work * objectError()
		}
		w.plan, w.memory, err = w.planner.Slots(w.memory, w.round, w.ring, slots)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.carryOut(w.plan)
	return w.plan
}

// carryOut makes the moves of a plan.
func (w *world) carryOut(plan Plan) {
	w.t.Helper()
	moved := int64(0)
	if w.ring == nil {
		to := map[string]Move{}
		for _, m := range plan.Moves {
			to[m.Key] = m
		}
		for i := range w.objects {
			if m, ok := to[w.objects[i].Key]; ok {
				if w.objects[i].Shard != m.From {
					w.t.Fatalf("%+v: the object is on %s", m, w.objects[i].Shard)
				}
				w.objects[i].Shard = m.To
				moved++
			}
		}
	} else if plan.Ring != nil {
		for i := range w.objects {
			if to := plan.Ring.Owner(w.hashes[i]); to != w.objects[i].Shard {
				w.objects[i].Shard = to
				moved++
			}
		}
		w.ring = plan.Ring
	}
	if moved != plan.Objects {
		w.t.Fatalf("%d objects move, the plan says %d", moved, plan.Objects)
	}
	w.moved += moved
}

func exactly() float64 { return 1 }

// calm makes rounds with exact loads, and returns how many of them moved something.
func (w *world) calm(rounds int) (acting int) {
	w.t.Helper()
	for range rounds {
		if w.step(exactly, exactly).Acts() {
			acting++
		}
	}
	return acting
}

// pareto returns costs of a Pareto distribution with the least value 1.
func pareto(seed uint64, alpha float64) func(int) float64 {
	rng := rand.New(rand.NewPCG(seed, 11))
	return func(int) float64 { return math.Pow(1-rng.Float64(), -1/alpha) }
}

func equal(int) float64 { return 1 }
