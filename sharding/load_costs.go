package sharding

import (
	"cmp"
	"math"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
	"github.com/shard-io/shard-controller/ring"
)

// CostFunc says what an object costs its shard, in any unit from 0 on that is the same for all objects of the ring: how many hosts it is about,
// say. The planner divides the load of a shard among its objects in proportion. NaN, an infinite or a negative number say that it is not known; then
// the object counts like the others on average. More than 1e15 counts as 1e15.
//
// The Worker calls it with each object that it owns as the informer has cached it, which must not be changed: once in every interval of the
// planner, and when their number has changed much, one after the other. It must return at once; if it panics, the cost is not known.
type CostFunc func(object metav1.Object) float64

// maxCost keeps sums of costs finite.
const maxCost = 1e15

// callCostFunc returns NaN for what is not known.
func callCostFunc(f CostFunc, object metav1.Object) (cost float64) {
	defer func() {
		if recover() != nil {
			cost = math.NaN()
		}
	}()
	if cost = f(object); !(cost >= 0) || math.IsInf(cost, 1) {
		return math.NaN()
	}
	return min(cost, maxCost)
}

const (
	// costliestListed is how many objects a shard reports on.
	costliestListed = 32
	// alike is up to how many times the mean an object counts as one like the others.
	alike = 1.25
	// leastShare is the least part of the work that is reported, in thousandths.
	leastShare = 5
)

// costTally looks at the costs of all objects of a shard, one after the other, and remembers the highest. The zero value is ready for use.
type costTally struct {
	sum, most      float64
	known, unknown int
	top            []ranked // the highest rank first
}

// ranked is an object that may be listed. Its rank is its cost, and a little more if it is listed already: of many that cost the same, those stay.
type ranked struct {
	prefix ring.Prefix
	name   types.NamespacedName
	cost   float64
	rank   float64
	pinned bool
}

func (r ranked) compare(s ranked) int {
	if c := cmp.Or(cmp.Compare(s.rank, r.rank), compareKeys(r.name, s.name)); c != 0 {
		return c
	}
	return strings.Compare(r.prefix.Key("", ""), s.prefix.Key("", ""))
}

// add counts an object; a cost of NaN is not known.
func (t *costTally) add(r ranked, listed bool) {
	if math.IsNaN(r.cost) {
		t.unknown++
		return
	}
	t.known++
	t.sum += r.cost
	t.most = max(t.most, r.cost)
	if r.rank = r.cost; listed {
		r.rank *= alike
	}
	if len(t.top) == costliestListed && r.compare(t.top[costliestListed-1]) > 0 {
		return
	}
	at, _ := slices.BinarySearchFunc(t.top, r, ranked.compare)
	t.top = slices.Insert(t.top, at, r)[:min(len(t.top)+1, costliestListed)]
}

// costReport is what a shard says of the costs of its objects. It is immutable.
type costReport struct {
	listed []shardv1.ObjectCost
	// hashes are those of the keys, in thousandths of the work.
	hashes map[uint64]float64
	// rest is what each of the others causes.
	rest float64
}

// report lists the costliest objects; none, if all cost about the same.
func (t *costTally) report() costReport {
	n := t.known + t.unknown
	if !(t.sum > 0) {
		return costReport{}
	}
	mean := t.sum / float64(t.known)
	if t.most <= alike*mean {
		return costReport{rest: 1000 / float64(n)}
	}
	r := costReport{hashes: map[uint64]float64{}}
	left := 1000.0
	slices.SortFunc(t.top, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.cost, a.cost), a.compare(b)) })
	for _, o := range t.top {
		milli := math.Round(1000 * o.cost / (mean * float64(n)))
		share, err := shardv1.RatioFromMilli(int32(milli))
		if err != nil || milli < leastShare {
			continue
		}
		r.listed = append(r.listed, shardv1.ObjectCost{Key: o.prefix.Key(o.name.Namespace, o.name.Name), Share: share, Pinned: o.pinned})
		r.hashes[o.prefix.Hash(o.name.Namespace, o.name.Name)] = milli
		left -= milli
	}
	r.rest = max(0, left) / float64(max(1, n-len(r.listed)))
	return r
}

// tells says whether the report has news compared to another one: an object whose part of the work differs by more than a third, and by more
// than a hundredth of all work; or one that is pinned by now, or not any more.
func (r costReport) tells(former costReport) bool {
	pinned := func(report costReport) int {
		n := 0
		for _, o := range report.listed {
			if o.Pinned {
				n++
			}
		}
		return n
	}
	if pinned(r) != pinned(former) {
		return true
	}
	return r.differs(former) || former.differs(r)
}

func (r costReport) differs(other costReport) bool {
	for hash, share := range r.hashes {
		before, listed := other.hashes[hash]
		if !listed {
			before = other.rest
		}
		if math.Abs(share-before) > max(10, max(share, before)/3) {
			return true
		}
	}
	return false
}

func costApply(cost shardv1.ObjectCost) *applyv1.ObjectCostApplyConfiguration {
	apply := applyv1.ObjectCost().WithKey(cost.Key).WithShare(cost.Share)
	if cost.Pinned {
		apply.WithPinned(true)
	}
	return apply
}
