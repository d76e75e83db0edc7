package ring

import (
	"math/bits"
	"slices"
	"sort"
)

// Ring says which member owns which slot. It is immutable. The nil Ring and the zero Ring have no members.
type Ring struct {
	table   []uint16 // slot → index of its owner in names
	shift   uint8    // a hash shifted right by this is its slot
	names   []string // IDs of members, then "" for slots that nobody owns
	members []Member // sorted by ID
	runs    []run    // the table as maximal runs of equal owners, in order
}

// run is a sequence of slots of one owner. It ends where the next one starts.
type run struct {
	start uint32
	owner uint16
}

// New returns a ring in which each member owns one contiguous range, in the order of their IDs, of a length
// proportional to its weight, rounded to whole slots by largest remainder (Hamilton's method). Without members it returns
// a ring in which no slot has an owner. It uses the options [Slots] and [Loads].
func New(members []Member, opts ...Option) (*Ring, error) {
	return (*Ring)(nil).Assign(members, opts...)
}

// newRing returns the ring with the given members, which are sorted and valid, table and runs, which it takes over.
func newRing(members []Member, table []uint16, runs []run) *Ring {
	r := &Ring{
		table:   table,
		shift:   uint8(64 - bits.Len(uint(len(table)-1))),
		members: members,
		names:   make([]string, len(members)+1),
		runs:    runs,
	}
	for i, m := range members {
		r.names[i] = m.ID
	}
	return r
}

// fromTable returns the ring with the given members and table.
func fromTable(members []Member, table []uint16) *Ring { return newRing(members, table, runsOf(table)) }

func runsOf(table []uint16) []run {
	n := 0
	for slot, owner := range table {
		if slot == 0 || owner != table[slot-1] {
			n++
		}
	}
	runs := make([]run, 0, n)
	for slot, owner := range table {
		if slot == 0 || owner != table[slot-1] {
			runs = append(runs, run{uint32(slot), owner})
		}
	}
	return runs
}

// Owner returns the ID of the member that owns the hash. It is "" only in a ring without members, and for slots that
// [Recover] left free. It does not allocate, takes no lock, and its cost does not depend on the number of members.
func (r *Ring) Owner(hash uint64) string {
	if r == nil {
		return ""
	}
	// The comparison replaces the bounds check, and makes the zero Ring work.
	if slot := hash >> (r.shift & 63); slot < uint64(len(r.table)) {
		return r.names[r.table[slot]]
	}
	return ""
}

// Lookup returns the owner of a key: Owner(Hash(key)).
func (r *Ring) Lookup(key string) string { return r.Owner(Hash(key)) }

// Owners appends the owner of each hash to dst and returns it: Owner for planners that look at many objects at once.
func (r *Ring) Owners(dst []string, hashes []uint64) []string {
	dst = slices.Grow(dst, len(hashes))
	for _, hash := range hashes {
		dst = append(dst, r.Owner(hash))
	}
	return dst
}

// Slots returns the number of slots, 0 for the nil or zero Ring.
func (r *Ring) Slots() int {
	if r == nil {
		return 0
	}
	return len(r.table)
}

// Slot returns the slot that a hash is in: its top bits. It is 0 for the nil or zero Ring.
func (r *Ring) Slot(hash uint64) int {
	if r.Slots() == 0 {
		return 0
	}
	return int(hash >> (r.shift & 63))
}

// Len returns the number of members.
func (r *Ring) Len() int {
	if r == nil {
		return 0
	}
	return len(r.members)
}

// Members returns the members sorted by ID, with their effective weights. The slice is the caller's.
func (r *Ring) Members() []Member {
	if r == nil {
		return nil
	}
	return slices.Clone(r.members)
}

// Has says whether id is a member.
func (r *Ring) Has(id string) bool {
	_, ok := r.index(id)
	return ok
}

func (r *Ring) index(id string) (int, bool) {
	if r == nil {
		return 0, false
	}
	i := sort.Search(len(r.members), func(i int) bool { return r.members[i].ID >= id })
	return i, i < len(r.members) && r.members[i].ID == id
}

// free is the index in the table that says that nobody owns a slot.
func (r *Ring) free() uint16 { return uint16(len(r.members)) }

// end returns the slot after the last one of run i.
func (r *Ring) end(i int) int {
	if i+1 < len(r.runs) {
		return int(r.runs[i+1].start)
	}
	return len(r.table)
}

// Share returns the part of the hash space that id owns, from 0 to 1. It takes time in proportion to the ranges.
func (r *Ring) Share(id string) float64 {
	index, ok := r.index(id)
	if !ok {
		return 0
	}
	owned := 0
	for i, run := range r.runs {
		if int(run.owner) == index {
			owned += r.end(i) - int(run.start)
		}
	}
	return float64(owned) / float64(len(r.table))
}

// Equal says whether both rings have the same members, weights, slots and owners.
func (r *Ring) Equal(other *Ring) bool {
	return slices.Equal(r.Members(), other.Members()) && r.Slots() == other.Slots() &&
		(r.Slots() == 0 || slices.Equal(r.runs, other.runs))
}
