//go:build unix

package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// root is what matters of a Secret.
type root struct {
	owner string // "" if it has none
	drain string // the shard it is on its way to
	epoch int64
}

// snapshot is what there was to see of the ring at one moment: Secrets by name,
// the owners of their reports by the name of the Secret, and the shards. It is
// not changed after it was made.
type snapshot struct {
	roots    map[string]root
	children map[string]string
	shards   []shard
}

// shard is a ShardInstance.
type shard struct {
	id    string
	phase string
	load  float64 // negative if it has reported none
}

// set is a set of shard IDs.
type set map[string]bool

func setOf(ids ...string) set {
	s := set{}
	for _, id := range ids {
		s[id] = true
	}
	return s
}

// unowned counts the Secrets that none of the live shards owns.
func (s snapshot) unowned(live set) int {
	n := 0
	for _, r := range s.roots {
		if !live[r.owner] {
			n++
		}
	}
	return n
}

// moving counts the Secrets that are on their way to another shard.
func (s snapshot) moving() int {
	n := 0
	for _, r := range s.roots {
		if r.drain != "" {
			n++
		}
	}
	return n
}

// ownedBy is how many Secrets, and how many reports, the shard has.
func (s snapshot) ownedBy(id string) (roots, children int) {
	for _, r := range s.roots {
		if r.owner == id {
			roots++
		}
	}
	for _, owner := range s.children {
		if owner == id {
			children++
		}
	}
	return roots, children
}

// owners are the shards that have Secrets.
func (s snapshot) owners() set {
	owners := set{}
	for _, r := range s.roots {
		owners[r.owner] = true
	}
	return owners
}

// separated counts the reports that are not where their Secret is.
func (s snapshot) separated() int {
	n := 0
	for name, owner := range s.children {
		if s.roots[name].owner != owner {
			n++
		}
	}
	return n
}

// calm reports whether all that can be seen to be done is done: every Secret is
// with a live shard and stays there, and its report is with it.
func (s snapshot) calm(total int, live set) bool {
	return len(s.roots) == total && len(s.children) == total &&
		s.unowned(live) == 0 && s.moving() == 0 && s.separated() == 0
}

// move is a Secret that changed its owner.
type move struct{ name, from, to string }

// movesBetween lists the Secrets whose owner differs, by name.
func movesBetween(before, after snapshot) []move {
	var moves []move
	for _, name := range slices.Sorted(maps.Keys(after.roots)) {
		from, to := before.roots[name].owner, after.roots[name].owner
		if from != to {
			moves = append(moves, move{name, from, to})
		}
	}
	return moves
}

// rows are the lines of the table: every shard that there is or that still has
// objects, in the order of their IDs.
func (s snapshot) rows() []row {
	known := map[string]shard{}
	for _, sh := range s.shards {
		known[sh.id] = sh
	}
	for _, r := range s.roots {
		if _, ok := known[r.owner]; !ok && r.owner != "" {
			known[r.owner] = shard{id: r.owner, phase: "gone", load: -1}
		}
	}
	var rows []row
	for _, sh := range known {
		r := row{shard: sh}
		r.objects, r.reports = s.ownedBy(sh.id)
		for _, o := range s.roots {
			if o.drain == sh.id {
				r.coming++
			}
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.id, b.id) })
	return rows
}

// describe says what is missing to a calm ring.
func (s snapshot) describe(total int, live set) string {
	return fmt.Sprintf("%d of %d Secrets and %d reports are there, %d Secrets have no live owner, %d are on their way, %d reports are apart from their Secrets",
		len(s.roots), total, len(s.children), s.unowned(live), s.moving(), s.separated())
}
