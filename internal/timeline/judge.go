package timeline

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Violations returns what contradicts the promises about ownership. roots is the
// resource of the roots; objects of all others with a controller are children.
//
//   - A root that had an owner always has one.
//   - Its epoch grows by one with every change of owner, and not otherwise.
//   - When it comes to a shard, its children are there already. (A child without
//     a label is not known to the ring yet.)
//   - At the end, every child is with its root.
func (t *Timeline) Violations(roots string) []string {
	j := judge{roots: roots, last: map[types.UID]Version{}, children: map[types.UID]map[types.UID]bool{}}
	for _, v := range t.Ordered() {
		j.look(v)
	}
	j.end()
	return j.found
}

// judge goes through a timeline once.
type judge struct {
	roots    string
	last     map[types.UID]Version
	children map[types.UID]map[types.UID]bool // of each root
	found    []string
}

func (j *judge) complain(v Version, format string, args ...any) {
	j.found = append(j.found, fmt.Sprintf("%s %s at version %s: ", v.Resource, v.Name, v.Number)+fmt.Sprintf(format, args...))
}

func (j *judge) look(v Version) {
	before, known := j.last[v.UID]
	if v.Deleted {
		delete(j.last, v.UID)
		return
	}
	j.last[v.UID] = v
	if v.Resource != j.roots {
		j.child(v)
		return
	}
	if known && before.Owner != "" && v.Owner == "" {
		j.complain(v, "has lost its owner %s", before.Owner)
	}
	if known && !v.Gap {
		j.epoch(before, v)
	}
	if v.Owner != before.Owner {
		j.arrival(v)
	}
}

func (j *judge) child(v Version) {
	if v.Controller == "" {
		return
	}
	if j.children[v.Controller] == nil {
		j.children[v.Controller] = map[types.UID]bool{}
	}
	j.children[v.Controller][v.UID] = true
}

func (j *judge) epoch(before, v Version) {
	want := before.Epoch
	if v.Owner != before.Owner {
		want++
	}
	if v.Owner != "" && v.Epoch != want {
		j.complain(v, "owner %q → %q, epoch %d → %d, want %d", before.Owner, v.Owner, before.Epoch, v.Epoch, want)
	}
}

func (j *judge) arrival(root Version) {
	for uid := range j.children[root.UID] {
		c, exists := j.last[uid]
		if exists && c.Owner != "" && c.Owner != root.Owner && !root.Gap && !c.Gap {
			j.complain(root, "comes to %s while its child %s %s is on %s", root.Owner, c.Resource, c.Name, c.Owner)
		}
	}
}

func (j *judge) end() {
	for _, c := range j.last {
		root, exists := j.last[c.Controller]
		if exists && c.Resource != j.roots && c.Owner != root.Owner {
			j.complain(c, "is on %q at the end, its root %s on %q", c.Owner, root.Name, root.Owner)
		}
	}
	slices.Sort(j.found)
}
