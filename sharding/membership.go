package sharding

import (
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/ring"
)

// shardFact is what is known about one shard at one moment.
type shardFact struct {
	id string
	// instance is the ShardInstance as it was last seen, nil for a shard that is only known by its Lease or by a label.
	instance *shardv1.ShardInstance
	// deleted says that the ShardInstance does not exist any more.
	deleted bool
	state   health.State
	since   time.Time // of the state
	// member says that the shard was in the slot table so far.
	member bool
	// taken says that its Lease is held by this manager, or that its objects have been given away and it has not come back.
	taken bool
	// missing says that it has no Lease.
	missing bool
	// emptied says that it was being drained, and that nothing is left.
	emptied bool
	// stray says that objects have its label although it was no live shard when they were seen.
	stray bool
	// unheard says that this manager has seen its Lease, and has not yet had the time to see whether it is being renewed.
	unheard bool
	// objects is how many the manager believes it has.
	objects int64
	// measured is when its load was, stale whether that is too long ago.
	measured time.Time
	stale    bool
}

// standing is what the manager does about a shard.
type standing string

const (
	// standingPending: never seen alive. It gets nothing and has nothing.
	standingPending standing = "Pending"
	// standingServing: it has a share of the slots, and keeps what it has. Whether it may receive is another question.
	standingServing standing = "Serving"
	// standingDraining: alive, and everything it has goes to others.
	standingDraining standing = "Draining"
	// standingLost: its objects are to be taken over now.
	standingLost standing = "Lost"
	// standingGone: its objects have been taken over, or are being.
	standingGone standing = "Gone"
)

// membership is what follows from the facts. It is immutable.
type membership struct {
	standings map[string]standing
	// members share the slots.
	members []ring.Member
	// shards are those that strategies see.
	shards []balancer.Shard
	// unheard are shards that may receive objects if they turn out to be alive. What belongs there waits: it is a matter of
	// seconds after the start of a manager, and giving it to others would mean to move it soon after.
	unheard map[string]bool
	// served is what the shards have controllers for.
	served servedSets
	// ready is how many may receive objects.
	ready int
	// recheck is after which time the same facts may mean something else; 0 for never.
	recheck time.Duration
}

// membershipOf decides what the manager does about each shard. A shard that has released its Lease without draining is
// waited for until grace has passed: so long may the restart of a process take without moving its objects.
func membershipOf(facts []shardFact, grace time.Duration, now time.Time) membership {
	m := membership{standings: make(map[string]standing, len(facts)), unheard: map[string]bool{}, served: servedSets{}}
	facts = slices.SortedFunc(slices.Values(facts), func(a, b shardFact) int { return strings.Compare(a.id, b.id) })
	for _, f := range facts {
		s, recheck := f.standing(grace, now)
		m.standings[f.id] = s
		if served, known := servedBy(f.instance); known {
			m.served[f.id] = make(map[schema.GroupResource]bool, len(served))
			for resource := range served {
				m.served[f.id][resource] = true
			}
		}
		if f.unheard {
			m.unheard[f.id] = true
		}
		if recheck > 0 && (m.recheck == 0 || recheck < m.recheck) {
			m.recheck = recheck
		}
		switch s {
		case standingServing:
			m.members = append(m.members, ring.Member{ID: f.id, Weight: f.weight()})
			m.shards = append(m.shards, f.view())
		case standingDraining:
			m.shards = append(m.shards, f.view())
		case standingLost: // until its Lease is ours, it may come back
			if f.member {
				m.members = append(m.members, ring.Member{ID: f.id, Weight: f.weight()})
			}
			if f.instance != nil {
				m.shards = append(m.shards, f.view())
			}
		}
	}
	for _, s := range m.shards {
		if s.Eligible() && !m.unheard[s.ID] {
			m.ready++
		}
	}
	return m
}

func (f shardFact) standing(grace time.Duration, now time.Time) (s standing, recheck time.Duration) {
	switch f.state {
	case health.Alive, health.Silent:
		switch {
		case f.instance == nil: // a Lease alone is not enough to join
			return standingPending, 0
		case f.instance.Spec.Draining:
			return standingDraining, 0
		}
		return standingServing, 0
	case health.Dead:
		if f.taken {
			return standingGone, 0
		}
		return standingLost, 0
	case health.Released:
		waited := now.Sub(f.since)
		switch {
		case f.taken || f.hasLeft():
			return standingGone, 0
		case f.draining() || waited >= grace:
			return standingLost, 0
		case !f.member:
			return standingPending, grace - waited
		}
		return standingServing, grace - waited
	}
	switch { // Unknown: nothing is taken from it, and nothing is given to it
	case f.taken:
		return standingGone, 0
	case f.draining() && !f.deleted:
		return standingDraining, 0
	case f.member:
		return standingServing, 0
	}
	return standingPending, 0
}

// hasLeft says whether the shard, which does not act any more, has left in order: everything was handed over before.
func (f shardFact) hasLeft() bool {
	if f.stray || f.member {
		return false
	}
	if f.instance == nil {
		return f.missing
	}
	return f.emptied || meta.IsStatusConditionTrue(f.instance.Status.Conditions, conditionDrained)
}

// isNothing says whether there is no trace of the shard but in this manager's memory.
func (f shardFact) isNothing() bool {
	return f.instance == nil && f.missing && !f.stray && !f.member && !f.taken
}

func (f shardFact) draining() bool { return f.instance != nil && f.instance.Spec.Draining }

func (f shardFact) weight() float64 {
	if f.instance == nil {
		return 1
	}
	return float64(max(1, f.instance.Spec.Weight))
}

func (f shardFact) view() balancer.Shard {
	s := balancer.Shard{
		ID: f.id, Weight: f.weight(), Objects: max(0, f.objects),
		Draining: f.draining(),
		Silent:   f.state != health.Alive && !f.unheard,
		Cordoned: f.deleted || f.instance == nil || f.instance.Spec.Cordoned || isUnwell(f.instance),
	}
	if f.instance != nil && f.instance.Status.Load != nil && !f.stale {
		load := f.instance.Status.Load.Float64()
		s.Load, s.LoadKnown = load, !math.IsNaN(load)
	}
	return s
}

// live returns the shards that own what their label is on. The objects of all others are to be given to these.
func (m membership) live() map[string]bool {
	live := make(map[string]bool, len(m.shards))
	for _, s := range m.shards {
		live[s.ID] = true
	}
	return live
}
