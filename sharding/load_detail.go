package sharding

import (
	"math"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

// workDetail is what a shard says of the parts of its work: of slots, or of objects, as the planner for the strategy of the ring needs it.
type workDetail struct {
	byObject  bool
	slots     slotReport
	slotsText string
	costs     costReport
}

// goesBySlots says whether it is slots that a strategy and its planner place and move. All others leave an object where its label says.
func goesBySlots(strategy string) bool { return strategy == "" || strategy == balancer.ConsistentHash }

// lookCloser brings the detail up to date: once every interval of the planner, and as soon as the shard has so many objects that the last detail is not
// believed any more.
func (l *loadReporter) lookCloser(now time.Time, owned int64) {
	config := l.w.ring.get()
	if config == nil {
		l.detail, l.detailAt = workDetail{byObject: l.detail.byObject}, time.Time{}
		return
	}
	if byObject := !goesBySlots(config.Spec.LoadBalanceStrategy); byObject != l.detail.byObject {
		l.detail, l.detailAt = workDetail{byObject: byObject}, time.Time{}
		for _, p := range l.w.processors {
			p.work.divide(byObject)
		}
	}
	interval := shardv1.DefaultRebalanceInterval
	if r := config.Spec.Rebalance; r != nil && r.Interval.Duration > 0 {
		interval = r.Interval.Duration
	}
	if now.Sub(l.detailAt) < interval && !farOff(l.detailOf, owned) {
		return
	}
	measured, look := map[uint64]float64{}, l.lookAtSlots
	for _, p := range l.w.processors {
		p.work.take(now, measured)
	}
	if l.detail.byObject {
		look = l.lookAtObjects
	}
	if found := look(measured); found {
		l.detailAt, l.detailOf = now, owned
	}
}

// lookAtSlots adds up objects and work by slot, and says whether there are any.
func (l *loadReporter) lookAtSlots(measured map[uint64]float64) bool {
	objects, work := map[uint32]uint64{}, map[uint32]float64{}
	unknown := map[uint32]int{}
	sum, known := 0.0, 0
	l.eachOwned(func(o ownedObject) {
		if o.pinned {
			return
		}
		slot := slotOf(o.hash)
		objects[slot]++
		if l.w.options.Cost == nil {
			work[slot] = measured[uint64(slot)]
		} else if cost := callCostFunc(l.w.options.Cost, o.object); math.IsNaN(cost) {
			unknown[slot]++
		} else {
			work[slot] += cost
			sum += cost
			known++
		}
	})
	for slot, n := range unknown {
		work[slot] += float64(n) * sum / float64(max(1, known))
	}
	if next := newSlotReport(objects, work); len(next.entries) > 0 && (l.detail.slotsText == "" || next.tells(l.detail.slots)) {
		l.detail.slots, l.detail.slotsText = next, next.encode()
	} else if len(next.entries) == 0 {
		l.detail.slots, l.detail.slotsText = slotReport{}, ""
	}
	return len(objects) > 0
}

// lookAtObjects finds the costliest objects, and says whether there are any objects.
func (l *loadReporter) lookAtObjects(measured map[uint64]float64) bool {
	tally, still := costTally{}, 0
	l.eachOwned(func(o ownedObject) {
		cost := measured[o.hash]
		if l.w.options.Cost != nil {
			cost = callCostFunc(l.w.options.Cost, o.object)
		}
		_, listed := l.detail.costs.hashes[o.hash]
		if listed {
			still++
		}
		tally.add(ranked{prefix: o.prefix, name: o.key, cost: cost, pinned: o.pinned}, listed)
	})
	if next := tally.report(); still < len(l.detail.costs.listed) || next.tells(l.detail.costs) {
		l.detail.costs = next
	}
	return tally.known+tally.unknown > 0
}

// ownedObject is a root that this shard owns.
type ownedObject struct {
	object metav1.Object
	key    types.NamespacedName
	prefix ring.Prefix
	hash   uint64
	pinned bool
}

// eachOwned calls f with every root that this shard owns.
func (l *loadReporter) eachOwned(f func(ownedObject)) {
	for _, p := range l.w.processors {
		for _, obj := range p.controller.Informer.GetStore().List() {
			m, ok := obj.(metav1.Object)
			if !ok {
				continue
			}
			if owner, _ := OwnerOf(m, l.w.options.Ring); owner != l.w.options.ID {
				continue
			}
			key := keyOf(m)
			_, pinned := pinOf(m, l.w.options.Ring)
			f(ownedObject{m, key, p.target.prefix, p.target.prefix.Hash(key.Namespace, key.Name), pinned})
		}
	}
}
