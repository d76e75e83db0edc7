package balancer

import (
	"fmt"
	"math"
	"time"

	"github.com/shard-io/shard-controller/ring"
)

// Defaults of PlannerOptions.
const (
	DefaultPlanTolerance = 0.1
	DefaultPlanRounds    = 2
	DefaultMaxMoves      = 1000
	DefaultMoveCooldown  = 10 * time.Minute
)

// PlannerOptions say how readily the planner moves. The zero value means the defaults.
type PlannerOptions struct {
	// Tolerance is how far the load of a shard may be from the mean before something moves: a part of the mean, above 0 up to 1,
	// default 0.1. A plan that acts goes on until everybody is within a fifth of it.
	Tolerance float64
	// Rounds is how many rounds in a row somebody must be out of the band before something moves: 1 to 10, default 2.
	Rounds int
	// MaxMoves is how many objects a round may move: at least 1, default 1000.
	MaxMoves int64
	// Cooldown is how long a slot or an object that has moved stays where it is: default 10 minutes, below 0 for none.
	Cooldown time.Duration
}

// Planner decides which slots or objects are to move so that loads even out. It is immutable and safe for concurrent use; what it
// remembers from round to round is a [Memory], which its caller keeps.
//
// It is the weighted move of Slicer (Adya and others, "Slicer: Auto-Sharding for Datacenter Applications", OSDI 2016, section 4.4,
// on load balancing): again and again, the move is made that buys most balance for what it costs, until the budget is spent or nothing
// is out of balance. Here balance is the sum of the squared loads, and the cost is the number of objects, and a little for each range
// of the ring that a move creates. Unlike Slicer, the planner does not divide or merge slots.
type Planner struct {
	tolerance float64
	rounds    int
	maxMoves  int64
	cooldown  time.Duration
}

// NewPlanner returns a planner, or an error that names the wrong option.
func NewPlanner(o PlannerOptions) (*Planner, error) {
	p := &Planner{o.Tolerance, o.Rounds, o.MaxMoves, o.Cooldown}
	if p.tolerance == 0 {
		p.tolerance = DefaultPlanTolerance
	}
	if p.rounds == 0 {
		p.rounds = DefaultPlanRounds
	}
	if p.maxMoves == 0 {
		p.maxMoves = DefaultMaxMoves
	}
	if p.cooldown == 0 {
		p.cooldown = DefaultMoveCooldown
	}
	switch {
	case !(p.tolerance > 0 && p.tolerance <= 1):
		return nil, fmt.Errorf("balancer: Tolerance: %v, must be above 0 and at most 1", o.Tolerance)
	case p.rounds < 1 || p.rounds > 10:
		return nil, fmt.Errorf("balancer: Rounds: %d, must be from 1 to 10", o.Rounds)
	case p.maxMoves < 1:
		return nil, fmt.Errorf("balancer: MaxMoves: %d, must be at least 1", o.MaxMoves)
	}
	return p, nil
}

// Slots plans for consistent hashing: which slots of the ring are to change their owner. There must be a SlotLoad for each slot of the
// ring. Members of the ring that are not among the shards of the round neither
// give nor get, and neither do shards that are no members.
//
// It returns the plan and the memory for the next round, which takes the plan for carried out unless it is a dry run; the memory that was
// passed in is unchanged. The same arguments give the same plan in every process. Wrong input is an error that names the field; then nothing moves and the memory is the former one.
// Where nothing may be decided, the loads of the slots are not looked at.
func (p *Planner) Slots(m Memory, in Round, r *ring.Ring, slots []SlotLoad) (Plan, Memory, error) {
	if len(slots) != r.Slots() {
		return invalid(m, fmt.Errorf("balancer: Slots: %d loads for %d slots, there must be one for each", len(slots), r.Slots()))
	}
	s, err := newScene(in.Shards)
	if err != nil {
		return invalid(m, err)
	}
	former := m
	if m.slots != r.Slots() {
		m.slots, m.movedSlots = r.Slots(), nil
	}
	s.only(r)
	if reason, text := s.blocked(in); reason != "" {
		return Plan{Reason: reason, Text: text}, m.interrupted(), nil
	}
	if err := s.addSlots(r, slots); err != nil {
		return invalid(former, err)
	}
	s.cooling = m.coolingSlots(in.Now.Add(-p.cooldown), p.cooldown)
	plan, next := p.plan(m, in, s)
	if plan.Reason == PlanWithinTolerance {
		s.defragment(&plan, slots, p.tolerance, p.maxMoves)
	}
	if err := s.finishSlots(&plan); err != nil {
		return invalid(former, err)
	}
	m = next
	if !in.DryRun {
		m = m.noteSlots(plan.Moves, in.Now, p.cooldown)
	}
	return plan, m, nil
}

// Objects plans for strategies whose placement is the objects' labels alone: which objects are to change their owner. A shard that has
// just joined gets its share this way. Otherwise it is as Slots.
func (p *Planner) Objects(m Memory, in Round, objects []ObjectLoad) (Plan, Memory, error) {
	s, err := newScene(in.Shards)
	if err != nil {
		return invalid(m, err)
	}
	if reason, text := s.blocked(in); reason != "" {
		return Plan{Reason: reason, Text: text}, m.interrupted(), nil
	}
	if err := s.addObjects(objects); err != nil {
		return invalid(m, err)
	}
	s.cooling = m.coolingObjects(in.Now.Add(-p.cooldown), p.cooldown, objects)
	plan, m := p.plan(m, in, s)
	if plan.Largest.Shard != "" {
		plan.Largest.Key, plan.Largest.Slot = objects[plan.Largest.Slot].Key, -1
	}
	for i := range plan.Moves {
		move := &plan.Moves[i]
		move.Key, move.Slot = objects[move.Slot].Key, -1
	}
	if !in.DryRun {
		m = m.noteObjects(plan.Moves, in.Now, p.cooldown)
	}
	return plan, m, nil
}

func invalid(m Memory, err error) (Plan, Memory, error) {
	return Plan{Reason: PlanInvalid, Text: err.Error()}, m, err
}

// plan is the part that does not depend on what is moved, in a round in which something may be. Units are numbered; the numbers are in Move.Slot.
func (p *Planner) plan(m Memory, in Round, s *scene) (Plan, Memory) {
	plan := Plan{}
	s.measure(&plan)
	m = m.observed(s)
	over, under := s.outside(p.tolerance)
	if over+under == 0 {
		m.outside = 0
		plan.Reason = PlanWithinTolerance
		plan.Text = fmt.Sprintf("all %d shards are within %.3g %% of what they should have", len(s.active), 100*p.tolerance)
		return plan, m
	}
	m.outside = min(m.outside+1, p.rounds)
	if m.outside < p.rounds {
		plan.Reason = PlanConfirming
		plan.Text = fmt.Sprintf("%d above the band and %d below, in round %d of the %d that it takes", over, under, m.outside, p.rounds)
		return plan, m
	}
	s.move(p.tolerance*aimPart, p.maxMoves, &plan)
	s.explain(&plan, over, under)
	if len(plan.Moves) > 0 && !in.DryRun {
		m = m.interrupted()
	}
	return plan, m
}

// aimPart is the part of the tolerance within which a plan that acts brings everybody. The rest of the band is what keeps it from acting
// again because of the next fluctuation.
const aimPart = 0.2

// explain gives the reason of a round in which somebody has been out of the band for long enough.
func (s *scene) explain(plan *Plan, over, under int) {
	plan.Expected = s.imbalance()
	switch {
	case len(plan.Moves) > 0:
		plan.Reason = PlanOverloaded
		if over == 0 {
			plan.Reason = PlanUnderloaded
		}
		plan.Text = fmt.Sprintf("%d above the band and %d below: moving %d objects brings the largest load from %.3g to %.3g times the mean",
			over, under, plan.Objects, plan.Imbalance, plan.Expected)
	case s.takers() == 0:
		plan.Reason, plan.Text = PlanNoReceiver, "no shard may receive: all are full"
	case s.skipped.cooling > 0:
		plan.Reason = PlanCoolingDown
		plan.Text = fmt.Sprintf("what would help has moved a short time ago: %d units wait", s.skipped.cooling)
	case s.skipped.budget > 0:
		plan.Reason, plan.Text = PlanOverBudget, "what would help has more objects than a round may move"
	case s.skipped.ranges > 0:
		plan.Reason, plan.Text = PlanTooManyRanges, fmt.Sprintf("what would help would give a shard more than %d ranges", maxRanges)
	default:
		plan.Reason = PlanIndivisible
		plan.Text = fmt.Sprintf("the largest unit is %.3g %% of the load of the ring and %.3g times the mean load of a shard: no move helps",
			100*plan.Largest.Share, plan.Largest.Load/math.Max(s.mean, math.SmallestNonzeroFloat64))
	}
}
