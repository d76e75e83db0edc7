package loadsim

import (
	"time"

	"github.com/shard-io/shard-controller/balancer"
)

// Point is the state at one tick.
type Point struct {
	// At is the time since the beginning.
	At time.Duration
	// Demand is what arrives, in full shards.
	Demand float64
	// Wanted is how many shards there should be, Serving how many are in the ring and alive.
	Wanted, Serving int
	// Load is the mean load of those that serve, and Imbalance the largest over the mean, both of what arrives now and not smoothed.
	Load, Imbalance float64
	// Moved is how many objects have begun to move until now.
	Moved int64
	// Backlog is the work that waits, in full shards × seconds.
	Backlog float64
	// Overloaded: more arrives than those that serve can do together.
	Overloaded bool
}

// Change is a decision that changed the number of shards, or a plan that moves objects.
type Change struct {
	At       time.Duration
	From, To int
	// Moves is how many objects a plan moves; 0 for a change of the number.
	Moves  int64
	Reason string
}

// Result is what came of a scenario.
type Result struct {
	Name    string
	Points  []Point
	Changes []Change
	Plans   []Change
	// ShardHours are those of all shards, from the decision to start one until it is gone.
	ShardHours float64
	// Overload is the part of the time that is overloaded.
	Overload float64
	// Delayed is the mean work that waits, in full shards × seconds.
	Delayed float64
	// Objects is how many there are.
	Objects int
}

// Run plays the scenario. Its error is that of wrong options.
func Run(s Scenario) (Result, error) {
	c, err := newCluster(s)
	if err != nil {
		return Result{}, err
	}
	var planner *balancer.Planner
	if s.Planner != nil {
		if planner, err = balancer.NewPlanner(*s.Planner); err != nil {
			return Result{}, err
		}
	}
	var memory balancer.Memory
	r := Result{Name: s.Name, Objects: s.Objects}
	for nextPlan := planInterval; c.now < s.Duration; {
		c.works()
		if err := c.proceed(); err != nil {
			return Result{}, err
		}
		r.decide(c)
		if planner != nil && c.now >= nextPlan {
			nextPlan += planInterval
			in, loads := c.round()
			plan, next, err := planner.Slots(memory, in, c.ring, loads)
			if err != nil {
				return Result{}, err
			}
			if plan.Largest.Shard != "" {
				c.largest = plan.Largest.Load
			}
			if memory = next; plan.Acts() {
				r.Plans = append(r.Plans, Change{At: c.now, Moves: plan.Objects, Reason: string(plan.Reason)})
				c.begin(plan.Ring)
			}
		}
		r.note(c)
	}
	ticks := float64(len(r.Points))
	r.Overload /= ticks
	r.Delayed /= ticks
	return r, nil
}

// OverloadSince is the part of the time after a moment that is overloaded.
func (r Result) OverloadSince(from time.Duration) float64 {
	overloaded, all := 0.0, 0.0
	for _, p := range r.Points {
		if p.At > from {
			if all++; p.Overloaded {
				overloaded++
			}
		}
	}
	return overloaded / max(1, all)
}

// decide asks for the number of shards and puts it in force.
func (r *Result) decide(c *cluster) {
	if c.scenario.Decide == nil {
		return
	}
	shards, reason := c.scenario.Decide.Decide(c.input())
	if shards != c.wanted {
		r.Changes = append(r.Changes, Change{At: c.now, From: c.wanted, To: shards, Reason: reason})
		c.want(shards)
	}
}

// note adds the state to the result.
func (r *Result) note(c *cluster) {
	p := Point{At: c.now, Demand: c.scenario.Demand(c.now), Wanted: c.wanted, Moved: c.moved}
	speed, most := 0.0, 0.0
	for _, s := range c.shards {
		p.Backlog += s.backlog
		if !c.serves(s) {
			continue
		}
		p.Serving++
		speed += s.speed
		load := p.Demand * s.share / s.speed
		p.Load += load
		most = max(most, load)
	}
	if p.Serving > 0 && p.Load > 0 {
		p.Load /= float64(p.Serving)
		p.Imbalance = most / p.Load
	}
	if p.Overloaded = p.Demand > speed; p.Overloaded {
		r.Overload++
	}
	r.Delayed += p.Backlog
	r.ShardHours += float64(len(c.shards)) * Tick.Hours()
	r.Points = append(r.Points, p)
}

// serves says whether a shard has its share.
func (c *cluster) serves(s *shard) bool { return c.ring.Has(s.id) }
