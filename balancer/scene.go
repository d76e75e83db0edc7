package balancer

import (
	"github.com/shard-io/shard-controller/ring"
)

const (
	// maxLoad is the largest load that is believed. A shard that is full has a queue, and how much waits says for how long it has been full
	// rather than how much too much it has.
	maxLoad = 2
	// standingLoad is what having its share of the objects counts as load for each shard while all are idle. It fades out until the mean
	// load is idleBelow. So the numbers of objects are evened out where there is no load, and fluctuations of almost nothing are not.
	standingLoad = 0.02
	idleBelow    = 0.1
)

// unit is a slot or an object: what moves in one piece.
type unit struct {
	load        float64 // of its shard; until loads are measured, its work
	cost        int64   // objects, 1 at least
	id          int32   // slot, or position among the objects
	first, last int32   // of slots: with the empty ones around it that go along, so that there are fewer ranges
	gone        bool    // moves in this plan
	stays       bool    // counts, but may not move
}

// party is a shard in the planner's calculation.
type party struct {
	Shard
	units   []unit
	objects int64
	load    float64 // smoothed
	now     float64 // as reported in this round, and the objects' standing load
	noise   float64 // by how much the smoothed load may be wrong, relative to the mean load
	fair    float64 // what it should have: the level of all, or its largest unit if that is more
	largest int     // its largest unit, -1 for none

	movable float64 // load of what may move
	sorted  bool
	head    int // units before it are gone
	stuck   bool
	ranges  int // of the ring, while slots are planned
}

// scene is all that a plan looks at.
type scene struct {
	parties []party        // by ID
	index   map[string]int // of parties
	active  []int          // those that take part: the others neither give nor get
	mean    float64        // of the loads of the active ones, by weight
	level   float64        // what a shard without an indivisible load should have
	cooling func(id int32) bool
	owner   []int32 // party of each slot, or nobody, or stranger; nil when objects are planned
	ring    *ring.Ring
	objects int64
	weights float64
	idle    float64 // 1 without any load, 0 from idleBelow on
	skipped struct{ cooling, budget, ranges int }
}

func newScene(shards []Shard) (*scene, error) {
	v, err := NewView(nil, shards)
	if err != nil {
		return nil, err
	}
	s := &scene{index: make(map[string]int, len(shards)), parties: make([]party, len(shards))}
	for i, shard := range v.Shards() {
		s.parties[i] = party{Shard: shard, largest: -1}
		s.index[shard.ID] = i
		if !shard.Draining && !shard.Cordoned {
			s.active = append(s.active, i)
		}
	}
	return s, nil
}

// blocked says why nothing may be decided; "" if it may.
func (s *scene) blocked(in Round) (PlanReason, string) {
	switch b := in.Blocked; {
	case b.Frozen:
		return PlanFrozen, "so many shards are silent that their health is not believed"
	case b.PlanInFlight:
		return PlanInFlight, "a plan is being carried out"
	case b.RollingOut:
		return PlanRollingOut, "members are being replaced or restarted"
	case b.VersionsDiffer:
		return PlanVersionsDiffer, "members run different versions"
	}
	for _, p := range s.parties {
		if p.Draining {
			return PlanInFlight, p.ID + " is being emptied"
		}
	}
	if len(s.active) < 2 {
		return PlanTooFewShards, "fewer than two shards take part"
	}
	for _, i := range s.active {
		if p := s.parties[i]; p.Silent || !p.LoadKnown {
			return PlanLoadUnknown, "the load of " + p.ID + " is not known"
		}
	}
	return "", ""
}

// measure divides the loads of shards among their units.
func (s *scene) measure(plan *Plan) {
	for _, i := range s.active {
		s.objects += s.parties[i].objects
		s.weights += s.parties[i].Weight
	}
	sum := 0.0
	for _, i := range s.active {
		sum += float64(min(s.parties[i].Load, maxLoad) * s.parties[i].Weight)
	}
	s.idle = max(0, 1-sum/s.weights/idleBelow)
	sum = 0
	for _, i := range s.active {
		p := &s.parties[i]
		p.now = float64(min(p.Load, maxLoad)) + s.standing(p.objects, p.Weight)
		sum += float64(p.now * p.Weight)
		s.divide(p)
	}
	s.mean = sum / s.weights
	for _, i := range s.active {
		p := &s.parties[i]
		p.load = p.now
		id, load := s.largest(p)
		if share := float64(load*p.Weight) / sum; sum > 0 && share > plan.Largest.Share {
			plan.Largest = Indivisible{p.ID, id, "", load, share, max(1, load/s.mean)}
		}
	}
	plan.Imbalance = s.imbalance()
}

// largest returns the slot or the single object of a shard with the highest load, and that load; 0 if there is none.
func (s *scene) largest(p *party) (id int, load float64) {
	if s.owner != nil {
		if p.largest < 0 {
			return 0, 0
		}
		return int(p.units[p.largest].id), p.units[p.largest].load
	}
	for _, u := range p.units {
		if one := u.load / float64(u.cost); one > load {
			id, load = int(u.id), one
		}
	}
	return id, load
}

// standing is the standing load of so many objects on a shard.
func (s *scene) standing(objects int64, weight float64) float64 {
	if s.objects == 0 {
		return 0
	}
	return float64(s.idle*standingLoad*float64(objects)) / float64(s.objects) * s.weights / weight
}

// divide gives each unit its part of the load that the shard has reported.
func (s *scene) divide(p *party) {
	heaviest, sum := 0.0, 0.0
	for _, u := range p.units {
		heaviest = max(heaviest, u.load)
	}
	for _, u := range p.units { // relative to the heaviest, or the sum of huge works would be infinite
		if heaviest > 0 {
			sum += u.load / heaviest
		}
	}
	load := min(p.Load, maxLoad)
	perObject := s.standing(1, p.Weight)
	if heaviest == 0 {
		perObject += load / float64(max(1, p.objects))
	}
	for i := range p.units {
		u := &p.units[i]
		work := 0.0
		if heaviest > 0 {
			work = float64(load * float64(float64(u.load/heaviest)/sum))
		}
		u.load = work + float64(perObject*float64(u.cost))
		if p.largest < 0 || u.load > p.units[p.largest].load {
			p.largest = i
		}
	}
}

// settle puts the smoothed loads in force, and computes what each shard should have.
func (s *scene) settle(smoothed []float64) {
	before, after := 0.0, 0.0
	for n, i := range s.active {
		before += float64(s.parties[i].now * s.parties[i].Weight)
		after += float64(smoothed[n] * s.parties[i].Weight)
	}
	for n, i := range s.active {
		p := &s.parties[i]
		if after > 0 {
			p.load = smoothed[n] * (before / after)
		}
		if p.now > 0 {
			for u := range p.units {
				p.units[u].load *= p.load / p.now
			}
		}
	}
	s.raiseLevel()
}

// raiseLevel finds the level: what everybody has when those whose largest unit alone is above it have nothing else, and all others have the
// same. Without these the level is lower for the others, so that no unit that was above it once is below it later, but for rounding: that must not
// count, or the two would change for ever.
func (s *scene) raiseLevel() {
	s.level = s.mean
	for _, i := range s.active {
		s.parties[i].fair = 0 // not above the level
	}
	for more := true; more; {
		work, weight, others := float64(s.mean*s.weights), s.weights, len(s.active)
		more = false
		for _, i := range s.active {
			p := &s.parties[i]
			if p.fair == 0 && p.largest >= 0 && p.units[p.largest].load > s.level {
				p.fair, more = p.units[p.largest].load, true
			}
			if p.fair > 0 {
				work -= float64(p.fair * p.Weight)
				weight -= p.Weight
				others--
			}
		}
		if more && others > 0 {
			s.level = min(s.level, max(0, work/weight))
		}
	}
	for _, i := range s.active {
		if p := &s.parties[i]; p.fair == 0 {
			p.fair = s.level
		}
	}
}

// outside counts the shards that are out of the band, by more than chance explains.
func (s *scene) outside(tolerance float64) (over, under int) {
	for _, i := range s.active {
		p := &s.parties[i]
		band := max(tolerance, p.noise)
		switch {
		case p.load > float64(p.fair*(1+band)):
			over++
		case p.load < float64(s.level*(1-band)) && p.Eligible():
			under++
		}
	}
	return over, under
}

func (s *scene) imbalance() float64 {
	if !(s.mean > 0) {
		return 1
	}
	most := 0.0
	for _, i := range s.active {
		most = max(most, s.parties[i].load)
	}
	return most / s.mean
}

func (s *scene) takers() int {
	n := 0
	for _, i := range s.active {
		if s.parties[i].Eligible() {
			n++
		}
	}
	return n
}
