package sharding

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shard-io/shard-controller/balancer"
)

// planNothingMovable: objects would have to move of which none can.
const planNothingMovable balancer.PlanReason = "NothingMovable"

// planUnits is into how many parts at most the objects of a ring are divided, besides those that are known by name: then some are planned together.
const planUnits = 1 << 16

// movedObject is where an object went with an errand, and when.
type movedObject struct {
	to string
	at time.Time
}

// errands is what the rebalancer remembers of plans over objects. Its memory is bounded by what plans may move in a cool-down.
type errands struct {
	current   *errand
	moved     map[string]movedObject // by key
	fruitless time.Time              // when an errand ended that could not move anything
}

// conclude takes note of an errand that is over.
func (e *errands) conclude(now time.Time, cooldown time.Duration) {
	if e.current == nil || e.current.underway() {
		return
	}
	went := e.current.destinations()
	e.current = nil
	if e.moved == nil {
		e.moved = make(map[string]movedObject, len(went))
	}
	for key, to := range went {
		e.moved[key] = movedObject{to, now}
	}
	e.fruitless = time.Time{}
	if len(went) == 0 {
		e.fruitless = now
	}
	e.forget(now, cooldown)
}

func (e *errands) forget(now time.Time, cooldown time.Duration) {
	maps.DeleteFunc(e.moved, func(_ string, m movedObject) bool { return now.Sub(m.at) >= cooldown })
	if now.Sub(e.fruitless) >= cooldown {
		e.fruitless = time.Time{}
	}
}

// planObjects makes a round for a strategy that leaves objects where they are. No object is looked at: what the shards report is enough to know how
// many are to move, and which of the costliest. A plan that acts is the errand.
func (r *rebalancer) planObjects(in balancer.Round, facts []shardFact, cooldown time.Duration) (balancer.Plan, error) {
	r.errands.forget(in.Now, cooldown)
	held := !r.errands.fruitless.IsZero()
	wet := !in.DryRun
	in.DryRun = in.DryRun || held
	objects, named := objectLoadsOf(facts, r.errands.moved)
	plan, memory, err := r.planner.Objects(r.memory, in, objects)
	r.memory = memory
	switch {
	case err != nil || !plan.Acts():
	case held:
		plan.Reason, plan.Moves, plan.Objects = planNothingMovable, nil, 0
		plan.Text = "objects would have to move, and none could: they have a pin or were refused, or the strategy or what the other shards serve does not allow it"
	case wet:
		r.errands.current = newErrand(plan.Moves, named)
	}
	return plan, err
}

// objectLoadsOf returns what the planner is to know of the objects of all shards: the costliest by name, those that have moved a short time ago,
// and all others, which cost the same each. named are the keys of the first two.
func objectLoadsOf(facts []shardFact, moved map[string]movedObject) (loads []balancer.ObjectLoad, named map[string]bool) {
	facts = slices.SortedFunc(slices.Values(facts), func(a, b shardFact) int { return strings.Compare(a.id, b.id) })
	total := int64(0)
	named = make(map[string]bool, len(moved))
	rests := make([]objectRest, len(facts))
	for i, f := range facts {
		rests[i] = objectRest{shard: f.id, objects: max(0, f.objects), share: 1}
		total += rests[i].objects
		if f.instance == nil {
			continue
		}
		for _, cost := range f.instance.Status.CostliestObjects {
			if named[cost.Key] || cost.Key == "" {
				continue // it has just moved from one of these shards to the other
			}
			named[cost.Key] = true
			share := cost.Share.Float64()
			loads = append(loads, balancer.ObjectLoad{Key: cost.Key, Shard: f.id, Work: share, Moved: moved[cost.Key].at, Pinned: cost.Pinned})
			rests[i].share -= share
			rests[i].objects--
		}
	}
	lately := map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(moved)) {
		if !named[key] {
			named[key] = true
			lately[moved[key].to] = append(lately[moved[key].to], key)
		}
	}
	group := (total + planUnits - 1) / planUnits
	for _, rest := range rests {
		loads = rest.divide(loads, lately[rest.shard], moved, group)
	}
	return loads, named
}

// objectRest is what a shard has besides the objects that it has named.
type objectRest struct {
	shard   string
	objects int64
	share   float64 // of its work
}

// divide appends it to the loads: those that have moved lately one by one, the others in groups.
func (r objectRest) divide(loads []balancer.ObjectLoad, lately []string, moved map[string]movedObject, group int64) []balancer.ObjectLoad {
	if r.objects <= 0 {
		return loads
	}
	each := max(0, r.share) / float64(r.objects)
	for _, key := range lately[:min(int64(len(lately)), r.objects)] {
		loads = append(loads, balancer.ObjectLoad{Key: key, Shard: r.shard, Work: each, Moved: moved[key].at})
		r.objects--
	}
	for r.objects > 0 {
		n := min(group, r.objects)
		loads = append(loads, balancer.ObjectLoad{Shard: r.shard, Work: each * float64(n), Objects: n})
		r.objects -= n
	}
	return loads
}
