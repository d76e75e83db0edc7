package sharding

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/balancer"
)

// errand is a plan over objects that the mover carries out: some objects by key, and numbers of any others, which it chooses as it comes across
// them. As part of a placement it says where objects are to be that the strategy would leave where they are. It keeps no more keys than the plan
// has objects. It may be used from any goroutine; a nil errand moves nothing.
type errand struct {
	givers map[string]bool // immutable
	stays  map[string]bool // keys that are not to be chosen; immutable

	mu     sync.Mutex
	named  map[string]trip
	quotas map[string][]quota // by giver
	begun  map[string]trip    // by key
	over   bool
}

type trip struct{ from, to string }

// quota is how many objects are still to be chosen for a shard.
type quota struct {
	to   string
	left int64
}

// newErrand returns the errand of a plan. stays are keys of objects that may move only if the plan names them.
func newErrand(moves []balancer.Move, stays map[string]bool) *errand {
	e := &errand{givers: map[string]bool{}, stays: stays, named: map[string]trip{}, quotas: map[string][]quota{}, begun: map[string]trip{}}
	at := map[trip]int{}
	for _, m := range moves {
		e.givers[m.From] = true
		way := trip{m.From, m.To}
		if m.Key != "" {
			e.named[m.Key] = way
			continue
		}
		i, known := at[way]
		if !known {
			i = len(e.quotas[m.From])
			at[way] = i
			e.quotas[m.From] = append(e.quotas[m.From], quota{to: m.To})
		}
		e.quotas[m.From][i].left += m.Objects
	}
	return e
}

// gives says whether objects of a shard may be on the errand.
func (e *errand) gives(shard string) bool { return e != nil && e.givers[shard] }

// destination returns where an object of a shard is to go, "" if nowhere. Once it has said so of an object, it goes on. may says whether the object may go to
// a shard.
func (e *errand) destination(key, owner string, may func(to string) bool) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return ""
	}
	way, begun := e.begun[key]
	if !begun {
		way = e.named[key]
	}
	if way != (trip{}) {
		if way.from != owner || !may(way.to) {
			return ""
		}
		e.begun[key] = way
		return way.to
	}
	if e.stays[key] {
		return ""
	}
	for i := range e.quotas[owner] {
		if q := &e.quotas[owner][i]; q.left > 0 && may(q.to) {
			q.left--
			e.begun[key] = trip{owner, q.to}
			return q.to
		}
	}
	return ""
}

// end notes that everything that could be moved has been.
func (e *errand) end() {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}

// underway says whether the errand has not ended.
func (e *errand) underway() bool {
	if e == nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.over
}

// destinations returns where objects went, by key.
func (e *errand) destinations() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	to := make(map[string]string, len(e.begun))
	for key, way := range e.begun {
		to[key] = way.to
	}
	return to
}

// sentTo returns where a root is to go that the strategy leaves on its owner; "" if it stays there. One that has a pin stays, and nothing goes to where
// it was refused, or where the strategy would not leave it.
func (p *placement) sentTo(t *rootTarget, ring string, root metav1.Object, owner string) string {
	if p == nil || !p.errand.gives(owner) {
		return ""
	}
	if _, pinned := pinOf(root, ring); pinned {
		return ""
	}
	refused := refusalOf(root, ring)
	return p.errand.destination(t.prefix.Key(root.GetNamespace(), root.GetName()), owner, func(to string) bool {
		if refusedBy(refused, to) || !p.receives(to, t) {
			return false
		}
		d, err := p.placeRoot(t, root.GetNamespace(), root.GetName(), to)
		return err == nil && d.Shard == to
	})
}
