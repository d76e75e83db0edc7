package ring

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// Stateless returns a ring that depends on the members alone, not on any ring before: everyone who knows the same
// members and options has the same ring. It is for clients that have no ranges to read. When a member joins or leaves,
// somewhat more slots change their owner than [Ring.Assign] would move, and ranges are single slots: it is a ring to look
// up in, not one to write out.
//
// The method is highest random weight (Thaler and Ravishankar, 1998) over slots, with a cap: each slot ranks the members
// by a weighted random draw of slot and ID, and goes to the first one that is not full; a member is full at its fair share
// plus the [Tolerance]. Draws are processed in the order of their time in a race: a member throws darts at slots at
// a rate that is its weight, a free slot belongs to the first dart that hits it, and who is full stops throwing. Without
// the cap that is exactly weighted highest random weight, at a cost that does not grow with slots times members.
//
// It uses the options [Slots], [Tolerance] and [Loads].
func Stateless(members []Member, opts ...Option) (*Ring, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if members, err = normalize(members); err != nil {
		return nil, err
	}
	slots, err := o.slotsFor(len(members), 0)
	if err != nil {
		return nil, err
	}
	ledger, err := newLedger(slots, o.loads)
	if err != nil {
		return nil, err
	}
	r := newRace(members, ledger, o.tolerance)
	if len(members) > 0 {
		for round := 0; r.left > 0 && round < maxRounds; round++ {
			r.round()
		}
		r.rest()
	}
	return fromTable(members, r.table), nil
}

// maxRounds bounds the rounds of darts. In each, about as many are thrown as there are slots; after k rounds a slot is
// free with a probability of about e^-k. The few slots that are left then go to whom they rank first.
const maxRounds = 16

// dart is a draw: a member hits a slot at a time.
type dart struct {
	time   float64
	slot   uint32
	member uint16
}

// race is the state of the method.
type race struct {
	ledger  ledger
	table   []uint16
	left    int // free slots
	room    []int64
	seeds   []uint64
	weights []uint64
	clock   []float64 // of each member, the time of the next dart
	thrown  []uint64  // number of darts of each member
	horizon float64   // the time at which the next round ends
	step    float64
	darts   []dart
}

func newRace(members []Member, ledger ledger, tolerance float64) *race {
	n := len(members)
	r := &race{
		ledger: ledger, table: freeTable(ledger.slots, n), left: ledger.slots, weights: weights(members),
		seeds: make([]uint64, n), clock: make([]float64, n), thrown: make([]uint64, n),
	}
	if n == 0 {
		return r
	}
	r.room = fairShares(ledger.total(), r.weights, make([]int64, n))
	sum := 0.0
	for i, m := range members {
		r.seeds[i] = Hash(m.ID)
		r.room[i] = above(float64(r.room[i]), tolerance)
		sum = float64(sum + float64(r.weights[i]))
		r.advance(i)
	}
	r.step = float64(float64(ledger.slots) / sum)
	return r
}

// advance sets the clock of a member to its next dart: the times between darts are exponential.
func (r *race) advance(member int) {
	r.thrown[member]++
	u := (float64(mix(r.seeds[member]+r.thrown[member]*golden)>>11) + 0.5) / (1 << 53)
	r.clock[member] = float64(r.clock[member] - float64(ln(u)/float64(r.weights[member])))
}

// round throws the darts of one step of time. Those that hit a slot that was free before it count in the order of their
// times.
func (r *race) round() {
	r.horizon = float64(r.horizon + r.step)
	r.darts = r.darts[:0]
	free := uint16(len(r.room))
	shift := 64 - uint(bits.Len(uint(len(r.table)-1)))
	for member := range r.room {
		for r.room[member] > 0 && r.clock[member] < r.horizon {
			slot := mix(^r.seeds[member]+r.thrown[member]*golden) >> shift
			if r.table[slot] == free {
				r.darts = append(r.darts, dart{r.clock[member], uint32(slot), uint16(member)})
			}
			r.advance(member)
		}
	}
	slices.SortFunc(r.darts, func(a, b dart) int {
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.member, b.member), cmp.Compare(a.slot, b.slot))
	})
	for _, d := range r.darts {
		if r.table[d.slot] == free {
			r.give(int(d.slot), int(d.member))
		}
	}
}

// give makes a member the owner of a free slot if it is not full.
func (r *race) give(slot, member int) bool {
	units := r.ledger.of(slot, slot+1)
	if r.room[member] < units {
		return false
	}
	r.room[member] -= units
	r.table[slot] = uint16(member)
	r.left--
	return true
}

// rest gives each slot that is still free to the first member that is not full, by a draw of both; if slots are too coarse
// for that, to the one with most room.
func (r *race) rest() {
	free := uint16(len(r.room))
	for slot, owner := range r.table {
		if owner != free {
			continue
		}
		units := r.ledger.of(slot, slot+1)
		best, first, roomiest := -1, 0.0, 0
		for member, room := range r.room {
			if room > r.room[roomiest] {
				roomiest = member
			}
			if room < units {
				continue
			}
			u := (float64(mix(r.seeds[member]^mix(uint64(slot)+golden))>>11) + 0.5) / (1 << 53)
			if time := -float64(ln(u) / float64(r.weights[member])); best < 0 || time < first {
				best, first = member, time
			}
		}
		if best < 0 {
			best = roomiest
		}
		r.room[best] -= units
		r.table[slot] = uint16(best)
		r.left--
	}
}

// golden is 2^64 divided by the golden ratio: the increment of SplitMix64.
const golden = 0x9e3779b97f4a7c15

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ln is the natural logarithm of a number above 0, the same on every architecture: math.Log is not, and clients on
// different machines must agree. The error is below 1e-12. With x = f·2^e and f near 1, ln f = 2·atanh((f-1)/(f+1)).
func ln(x float64) float64 {
	f, e := math.Frexp(x)
	if f < math.Sqrt2/2 {
		f, e = 2*f, e-1
	}
	s := float64((f - 1) / (f + 1))
	square := float64(s * s)
	sum := 0.0
	for k := 19; k >= 1; k -= 2 {
		sum = float64(float64(sum*square) + float64(1/float64(k)))
	}
	return float64(float64(2*float64(s*sum)) + float64(float64(e)*math.Ln2))
}
