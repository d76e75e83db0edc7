package ring

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// Range is a part of the hash space in the top 32 bits of the hash, both ends included: 0 to 1073741823 is the first
// quarter. It is the form of hashRange and hashRanges in the API.
type Range struct {
	Start, End uint32
}

// NewRange returns the range from start to end, both included, or an error if they are not in the hash space of 32 bits
// or in the wrong order.
func NewRange(start, end int64) (Range, error) {
	switch {
	case start < 0 || start > math.MaxUint32:
		return Range{}, fmt.Errorf("ring: start: %d is out of the hash space, must be from 0 to %d", start, math.MaxUint32)
	case end < 0 || end > math.MaxUint32:
		return Range{}, fmt.Errorf("ring: end: %d is out of the hash space, must be from 0 to %d", end, math.MaxUint32)
	case start > end:
		return Range{}, fmt.Errorf("ring: start: %d is above the end %d", start, end)
	}
	return Range{uint32(start), uint32(end)}, nil
}

// String returns the range as "start-end" in decimal.
func (g Range) String() string { return fmt.Sprintf("%d-%d", g.Start, g.End) }

// Contains says whether the hash is in the range.
func (g Range) Contains(hash uint64) bool {
	return uint64(g.Start) <= hash>>32 && hash>>32 <= uint64(g.End)
}

// Span is a part of the hash space in all 64 bits of the hash, without its end: a hash h is in it when Start ≤ h < End.
// An End of 0 stands for 2^64.
type Span struct {
	Start, End uint64
}

// String returns the span as "0x%016x-0x%016x"; the end of the hash space is 0x10000000000000000.
func (s Span) String() string {
	if s.End == 0 {
		return fmt.Sprintf("0x%016x-0x10000000000000000", s.Start)
	}
	return fmt.Sprintf("0x%016x-0x%016x", s.Start, s.End)
}

// Span returns the range as a half-open span of 64 bits.
func (g Range) Span() Span { return Span{uint64(g.Start) << 32, (uint64(g.End) + 1) << 32} }

// Ranges returns what id owns, in order and with neighbouring ranges joined; nil if it is not a member or owns
// nothing. It takes time in proportion to the ranges of all members.
func (r *Ring) Ranges(id string) []Range {
	index, ok := r.index(id)
	if !ok {
		return nil
	}
	var ranges []Range
	for i, run := range r.runs {
		if int(run.owner) == index {
			ranges = append(ranges, r.rangeOf(int(run.start), r.end(i)))
		}
	}
	return ranges
}

// Claims returns all members with their ranges, sorted by ID: what [FromRanges] makes the same ring of.
func (r *Ring) Claims() []Claim {
	claims := make([]Claim, r.Len())
	for i := range claims {
		claims[i].Member = r.members[i]
	}
	if r != nil {
		for i, run := range r.runs {
			if int(run.owner) < len(claims) {
				c := &claims[run.owner]
				c.Ranges = append(c.Ranges, r.rangeOf(int(run.start), r.end(i)))
			}
		}
	}
	return claims
}

// rangeOf returns the range of the slots from start up to end.
func (r *Ring) rangeOf(start, end int) Range {
	shift := r.shift - 32
	return Range{uint32(start << shift), uint32(end<<shift - 1)}
}

// Claim is what one member says it owns.
type Claim struct {
	Member
	Ranges []Range
}

// Fault is something wrong with the ranges of a set of claims. [FromRanges] returns the first one as its error, and
// [Recover] returns all of them.
type Fault struct {
	// Kind says what is wrong.
	Kind FaultKind
	// Range is where.
	Range Range
	// Shard is the member that claims the range; of a gap, the one before it, "" at the start of the hash space.
	Shard string
	// Other is the second member that claims the range; of a gap, the one after it, "" at the end of the hash space.
	Other string
	// Slots is the number of slots the claims were held against.
	Slots int
}

// FaultKind is the kind of a [Fault].
type FaultKind string

const (
	// Gap: nobody claims the range.
	Gap FaultKind = "gap"
	// Overlap: two members claim the range, or one claims it twice.
	Overlap FaultKind = "overlap"
	// Inverted: the range ends before it starts.
	Inverted FaultKind = "inverted"
	// Misaligned: the range does not begin and end where a slot does.
	Misaligned FaultKind = "misaligned"
)

// Error says what is wrong with which range of which shard, and what would be right.
func (f *Fault) Error() string {
	switch f.Kind {
	case Gap:
		return fmt.Sprintf("ring: Ranges: nobody claims %v, between %s and %s", f.Range,
			nameOr(f.Shard, "the start of the hash space"), nameOr(f.Other, "the end of the hash space"))
	case Overlap:
		return fmt.Sprintf("ring: Ranges: %v is claimed by both %q and %q", f.Range, f.Shard, f.Other)
	case Inverted:
		return fmt.Sprintf("ring: Ranges: %v of %q is inverted: start must not be above end", f.Range, f.Shard)
	default:
		width := uint64(1<<32) / uint64(f.Slots)
		return fmt.Sprintf("ring: Ranges: %v of %q does not fit %d slots: start and end+1 must be multiples of %d",
			f.Range, f.Shard, f.Slots, width)
	}
}

func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return fmt.Sprintf("%q", name)
}

// FromRanges returns the ring in which each member owns what it claims. The claims must cover the hash space exactly:
// the first gap, overlap, inverted or misaligned range is returned as a [*Fault]. Members without ranges are allowed as
// long as others cover everything; without claims the ring has no members.
//
// With [Slots], ranges must begin and end where slots do. Without, the ring gets the fewest slots that they fit, but not
// fewer than [New] would give it, nor more than [MaxSlots].
func FromRanges(claims []Claim, opts ...Option) (*Ring, error) {
	ring, faults, err := fromClaims(claims, opts)
	if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		return nil, &faults[0]
	}
	return ring, nil
}

// Recover returns the ring of claims that may contradict each other, as those do that a manager finds after a crash
// between two writes. A slot that exactly one member claims wholly is that member's. All other slots are free:
// [Ring.Owner] is "" there, and the next [Ring.Assign] gives them away. The faults say what was wrong, in the order of the
// hash space. The error is about the members or options, never about ranges.
func Recover(claims []Claim, opts ...Option) (*Ring, []Fault, error) {
	return fromClaims(claims, opts)
}

// claimed is one range of one member on its way into a table.
type claimed struct {
	Range
	owner int
}

func fromClaims(claims []Claim, opts []Option) (*Ring, []Fault, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, nil, err
	}
	members := make([]Member, len(claims))
	for i, c := range claims {
		members[i] = c.Member
	}
	if members, err = normalize(members); err != nil {
		return nil, nil, err
	}
	slots, err := o.slotsFor(len(members), 0)
	if err != nil {
		return nil, nil, err
	}
	empty := fromTable(members, freeTable(slots, len(members)))
	if len(members) == 0 {
		return empty, nil, nil
	}
	list := make([]claimed, 0, len(claims))
	var ends uint32
	for _, c := range claims {
		owner, _ := empty.index(c.ID)
		for _, g := range c.Ranges {
			list = append(list, claimed{g, owner})
			ends |= g.Start | (g.End + 1)
		}
	}
	if fits := 1 << (32 - min(32, bits.TrailingZeros32(ends))); o.slots == 0 && fits <= MaxSlots && fits > slots {
		slots = fits
		empty = fromTable(members, freeTable(slots, len(members)))
	}
	slices.SortFunc(list, func(a, b claimed) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), cmp.Compare(a.owner, b.owner))
	})
	return empty.fill(list)
}

func freeTable(slots, members int) []uint16 {
	table := make([]uint16, slots)
	fill(table, uint16(members))
	return table
}

// fill returns the ring with what the sorted claims say about the slots of r, which are all free.
func (r *Ring) fill(list []claimed) (*Ring, []Fault, error) {
	var faults []Fault
	name := func(i int) string { return r.names[i] }
	fault := func(kind FaultKind, at Range, a, b string) {
		faults = append(faults, Fault{kind, at, a, b, len(r.table)})
	}
	table := slices.Clone(r.table)
	width := uint64(1) << (r.shift - 32)
	covered := uint64(0) // everything below is claimed
	reach := -1          // the member whose claim reaches that far
	contested := make([]Range, 0)
	for _, c := range list {
		start, end := uint64(c.Start), uint64(c.End)+1
		if start >= end {
			fault(Inverted, c.Range, name(c.owner), "")
			continue
		}
		if start%width != 0 || end%width != 0 {
			fault(Misaligned, c.Range, name(c.owner), "")
		}
		if start > covered {
			fault(Gap, Range{uint32(covered), uint32(start - 1)}, r.nameAt(reach), name(c.owner))
		}
		if start < covered {
			both := Range{c.Start, uint32(min(covered, end) - 1)}
			fault(Overlap, both, r.nameAt(reach), name(c.owner))
			contested = append(contested, both)
		}
		for slot := (start + width - 1) / width; slot < end/width; slot++ {
			table[slot] = uint16(c.owner)
		}
		if end > covered {
			covered, reach = end, c.owner
		}
	}
	if covered < 1<<32 {
		fault(Gap, Range{uint32(covered), 1<<32 - 1}, r.nameAt(reach), "")
	}
	for _, c := range contested {
		for slot := uint64(c.Start) / width; slot <= uint64(c.End)/width; slot++ {
			table[slot] = r.free()
		}
	}
	return fromTable(r.members, table), faults, nil
}

func (r *Ring) nameAt(i int) string {
	if i < 0 {
		return ""
	}
	return r.names[i]
}
