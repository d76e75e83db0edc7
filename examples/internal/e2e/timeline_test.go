package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/shard-io/shard-controller/sharding"
)

// version is one state of one object, as the API server had it.
type version struct {
	resource   string
	name       types.NamespacedName
	uid        types.UID
	number     string // resourceVersion: those of all resources come from one counter in etcd
	owner      string
	drain      string
	epoch      int64
	controller types.UID // of a child: its root
	deleted    bool
	gap        bool      // versions before this one may be missing
	at         time.Time // when it arrived here
}

func versionOf(resource, ring string, o *metav1.PartialObjectMetadata) version {
	v := version{
		resource: resource, name: types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, uid: o.UID,
		number: o.ResourceVersion, epoch: sharding.EpochOf(o, ring), at: time.Now(),
	}
	v.owner, _ = sharding.OwnerOf(o, ring)
	v.drain, _ = sharding.DrainTargetOf(o, ring)
	if controller := metav1.GetControllerOf(o); controller != nil {
		v.controller = controller.UID
	}
	return v
}

// timeline is all that happened to the objects of a ring. It may be used by any
// goroutine.
type timeline struct {
	mu       sync.Mutex
	versions []version
}

func (t *timeline) add(v version) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.versions = append(t.versions, v)
}

// ordered returns the versions in the order in which they were written, each
// once.
func (t *timeline) ordered() []version {
	t.mu.Lock()
	defer t.mu.Unlock()
	order := func(a, b version) int {
		n, err := resourceversion.CompareResourceVersion(a.number, b.number)
		if err != nil {
			panic(err) // the API server is a real one
		}
		return n
	}
	all := slices.Clone(t.versions)
	slices.SortStableFunc(all, func(a, b version) int {
		return cmp.Or(order(a, b), cmp.Compare(a.uid, b.uid))
	})
	return slices.CompactFunc(all, func(a, b version) bool { return a.number == b.number && a.uid == b.uid && a.deleted == b.deleted })
}

// move is a change of the owner of a root or child; from is empty for the first
// owner, to for a removed label.
type move struct {
	version
	from, to string
	drained  bool // it was asked for by a drain label
}

// moves returns the changes of owner of the objects of a resource, in order.
func (t *timeline) moves(resource string) []move {
	var moves []move
	last := map[types.UID]version{}
	for _, v := range t.ordered() {
		before := last[v.uid]
		last[v.uid] = v
		if v.resource == resource && v.owner != before.owner && !v.deleted {
			moves = append(moves, move{version: v, from: before.owner, to: v.owner, drained: before.drain != "" && before.drain == v.owner})
		}
	}
	return moves
}

// since returns those after a moment.
func since(moves []move, moment time.Time) []move {
	return slices.DeleteFunc(moves, func(m move) bool { return m.at.Before(moment) })
}

// between returns those that are no first assignments.
func betweenShards(moves []move) []move {
	return slices.DeleteFunc(moves, func(m move) bool { return m.from == "" || m.to == "" })
}

// violations returns what contradicts the promises about ownership. roots is
// the resource of the roots.
func (t *timeline) violations(roots string) []string {
	j := judge{roots: roots, last: map[types.UID]version{}, children: map[types.UID]map[types.UID]bool{}}
	for _, v := range t.ordered() {
		j.look(v)
	}
	j.end()
	return j.found
}

// judge goes through a timeline once.
type judge struct {
	roots    string
	last     map[types.UID]version
	children map[types.UID]map[types.UID]bool // of each root
	found    []string
}

func (j *judge) complain(v version, format string, args ...any) {
	j.found = append(j.found, fmt.Sprintf("%s %s at version %s: ", v.resource, v.name, v.number)+fmt.Sprintf(format, args...))
}

func (j *judge) look(v version) {
	before, known := j.last[v.uid]
	if v.deleted {
		delete(j.last, v.uid)
		return
	}
	j.last[v.uid] = v
	if v.controller != "" && v.resource != j.roots {
		if j.children[v.controller] == nil {
			j.children[v.controller] = map[types.UID]bool{}
		}
		j.children[v.controller][v.uid] = true
		return
	}
	if v.resource != j.roots {
		return
	}
	if known && before.owner != "" && v.owner == "" {
		j.complain(v, "has lost its owner %s", before.owner)
	}
	if known && !v.gap {
		j.epoch(before, v)
	}
	if v.owner != before.owner {
		j.arrival(v)
	}
}

func (j *judge) epoch(before, v version) {
	want := before.epoch
	if v.owner != before.owner {
		want++
	}
	if v.owner != "" && v.epoch != want {
		j.complain(v, "owner %q → %q, epoch %d → %d, want %d", before.owner, v.owner, before.epoch, v.epoch, want)
	}
}

// arrival checks that the children of a root came before it. One without any
// label is not known to the ring yet.
func (j *judge) arrival(root version) {
	for uid := range j.children[root.uid] {
		c, exists := j.last[uid]
		if exists && c.owner != "" && c.owner != root.owner && !root.gap && !c.gap {
			j.complain(root, "comes to %s while its child %s %s is on %s", root.owner, c.resource, c.name, c.owner)
		}
	}
}

// end checks that at last every child is with its root.
func (j *judge) end() {
	for _, c := range j.last {
		root, exists := j.last[c.controller]
		if exists && c.resource != j.roots && c.owner != root.owner {
			j.complain(c, "is on %q at the end, its root %s on %q", c.owner, root.name, root.owner)
		}
	}
	slices.Sort(j.found)
}
