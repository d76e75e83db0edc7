package ring

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// oracle is a ring as dumb as can be: the owner of each slot in a map.
type oracle struct {
	owner map[int]string
	slots int
}

func oracleOf(r *Ring) oracle {
	o := oracle{map[int]string{}, r.Slots()}
	for _, m := range r.Members() {
		for _, g := range r.Ranges(m.ID) {
			for slot := range o.slots {
				if first := uint64(slot) << 32 / uint64(o.slots); uint64(g.Start) <= first && first <= uint64(g.End) {
					if other, taken := o.owner[slot]; taken {
						panic(fmt.Sprintf("slot %d is in the ranges of %s and %s", slot, other, m.ID))
					}
					o.owner[slot] = m.ID
				}
			}
		}
	}
	return o
}

func (o oracle) count(id string) int {
	n := 0
	for _, owner := range o.owner {
		if owner == id {
			n++
		}
	}
	return n
}

// fair is the share of a member in slots, not rounded.
func fair(members []Member, id string, slots int) float64 {
	sum, mine := 0.0, 0.0
	for _, m := range members {
		w := m.Weight
		if w == 0 {
			w = 1
		}
		sum += w
		if m.ID == id {
			mine = w
		}
	}
	return mine / sum * float64(slots)
}

// step is a random change of members.
func step(rng *rand.Rand, members []Member, next *int) (changed []Member, what string) {
	changed = slices.Clone(members)
	switch k := rng.IntN(6); {
	case k < 3 || len(members) == 0:
		*next++
		id := fmt.Sprintf("op-%d", *next)
		return append(changed, Member{ID: id}), "join " + id
	case k < 5:
		i := rng.IntN(len(changed))
		return slices.Delete(changed, i, i+1), "leave " + members[i].ID
	default:
		i := rng.IntN(len(changed))
		changed[i].Weight = []float64{0, 0.5, 1, 2, 4, 0.001}[rng.IntN(6)]
		return changed, fmt.Sprintf("weight %s %v", members[i].ID, changed[i].Weight)
	}
}

// TestAssignAgainstOracle takes random walks through memberships on small rings and checks each step against the slots
// one by one.
func TestAssignAgainstOracle(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 2))
		slots := 1 << (6 + rng.IntN(4))
		tolerance := []float64{0, 0.03, 0.2}[rng.IntN(3)]
		next, members := 0, []Member(nil)
		ring := mustNew(t, nil, Slots(slots))
		for range 25 {
			changed, what := step(rng, members, &next)
			after := mustAssign(t, ring, changed, Tolerance(tolerance))
			if problem := checkStep(oracleOf(ring), oracleOf(after), members, changed, tolerance); problem != "" {
				t.Fatalf("seed %d, %d slots, tolerance %v, %s: %s", seed, slots, tolerance, what, problem)
			}
			rng.Shuffle(len(changed), func(i, j int) { changed[i], changed[j] = changed[j], changed[i] })
			if again := mustAssign(t, ring, changed, Tolerance(tolerance)); !again.Equal(after) {
				t.Fatalf("seed %d, %s: another order of members gives another ring", seed, what)
			}
			ring, members = after, changed
		}
	}
}

// checkStep says what is wrong with the step from one ring to the next.
func checkStep(before, after oracle, old, members []Member, tolerance float64) string {
	if len(members) > 0 && len(after.owner) != after.slots {
		return fmt.Sprintf("only %d of %d slots have an owner", len(after.owner), after.slots)
	}
	grows := map[string]bool{}
	gone := map[string]bool{}
	for _, m := range old {
		gone[m.ID] = true
	}
	for _, m := range members {
		delete(gone, m.ID)
		share := fair(members, m.ID, after.slots)
		was := fair(old, m.ID, after.slots)
		if slices.IndexFunc(old, func(o Member) bool { return o.ID == m.ID }) < 0 {
			was = 0
		}
		grows[m.ID] = share > was
		// One slot for rounding the share, and one because the band ends at whole slots; members of almost no weight
		// have one slot each, which the others miss.
		have := float64(after.count(m.ID))
		if slack := share*tolerance + 2 + float64(len(members))/8; math.Abs(have-share) > slack {
			return fmt.Sprintf("%s has %v slots, its share is %.1f and the tolerance %v", m.ID, have, share, tolerance)
		}
		if have == 0 {
			return m.ID + " has no slot"
		}
	}
	if tiny(old, before.slots) || tiny(members, after.slots) {
		return "" // somebody has its one slot at the cost of the others
	}
	return checkMoves(before, after, grows, gone)
}

// tiny says whether the share of some member is less than a slot.
func tiny(members []Member, slots int) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return fair(members, m.ID, slots) < 1 })
}

// checkMoves allows moves to those whose share grows and from those who are gone or whose share shrinks.
func checkMoves(before, after oracle, grows, gone map[string]bool) string {
	for slot, to := range after.owner {
		from, owned := before.owner[slot]
		if !owned || from == to || gone[from] || grows[to] && !grows[from] {
			continue
		}
		return fmt.Sprintf("slot %d moves from %s to %s", slot, from, to)
	}
	return ""
}

// TestMovementIsMinimal compares what moves with the least that must: what leavers had, and what joiners need.
func TestMovementIsMinimal(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		members := ids(2 + rng.IntN(60))
		ring := mustNew(t, members)
		for i := range 30 {
			changed := slices.Clone(members)
			least := 0.0
			if rng.IntN(2) == 0 && len(members) > 1 {
				leaver := rng.IntN(len(members))
				least = ring.Share(members[leaver].ID)
				changed = slices.Delete(changed, leaver, leaver+1)
			} else {
				changed = append(changed, Member{ID: fmt.Sprintf("new-%d", i)})
				least = 1 / float64(len(changed))
			}
			after := mustAssign(t, ring, changed)
			if moved := share(Diff(ring, after)); math.Abs(moved-least) > 2.0/DefaultSlots {
				t.Fatalf("seed %d: moved %v of the ring, must move %v", seed, moved, least)
			}
			ring, members = after, changed
		}
	}
}

// TestLeaveTakesFromNobody lets a member leave a ring in which half of the others are at the lower end of the tolerance: what
// it had must go round, so that nobody else has to give.
func TestLeaveTakesFromNobody(t *testing.T) {
	var claims []Claim
	start := 0
	for i, m := range ids(100) {
		slots := 636 + i%2*38 // 655.36 is fair, 635.7 to 675.02 is within 3 %
		if i%2 == 1 && i < 2*36 {
			slots++ // 36 more make it 65,536
		}
		claims = append(claims, Claim{m, []Range{{uint32(start) << 16, uint32(start+slots)<<16 - 1}}})
		start += slots
	}
	ring, err := FromRanges(claims, Slots(DefaultSlots))
	if err != nil {
		t.Fatal(err)
	}
	if same := mustAssign(t, ring, ids(100)); !same.Equal(ring) {
		t.Errorf("a ring within the tolerance moves %v", share(Diff(ring, same)))
	}
	after := mustAssign(t, ring, ids(100)[:99])
	for _, m := range Diff(ring, after) {
		if m.From != "shard-099" {
			t.Errorf("shard-099 leaves, and %+v moves", m)
		}
	}
	for _, m := range after.Members() {
		if got := after.Share(m.ID) * 99; got < 0.969 || got > 1.031 {
			t.Errorf("%s has %v of its share afterwards", m.ID, got)
		}
	}
}

func share(moves []Move) float64 {
	sum := 0.0
	for _, m := range moves {
		sum += m.Share()
	}
	return sum
}

// TestDiffAgainstOracle compares the moves with the slots one by one.
func TestDiffAgainstOracle(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 4))
		next := 0
		members, _ := step(rng, nil, &next)
		a := mustNew(t, members, Slots(64))
		for range rng.IntN(12) {
			members, _ = step(rng, members, &next)
			a = mustAssign(t, a, members)
		}
		members, _ = step(rng, members, &next)
		b := mustAssign(t, a, members, Slots(64<<rng.IntN(3)))
		before, after := oracleOf(a), oracleOf(b)
		moves := Diff(a, b)
		for slot := range b.Slots() {
			from, to := before.owner[slot*a.Slots()/b.Slots()], after.owner[slot]
			hash := uint64(slot) << 32 / uint64(b.Slots()) << 32
			i := slices.IndexFunc(moves, func(m Move) bool { return m.Range.Contains(hash) })
			switch {
			case from == to && i >= 0:
				t.Fatalf("seed %d: slot %d stays on %q, but %+v", seed, slot, from, moves[i])
			case from != to && (i < 0 || moves[i].From != from || moves[i].To != to):
				t.Fatalf("seed %d: slot %d goes from %q to %q, but that is not in %+v", seed, slot, from, to, moves)
			}
		}
	}
}

// TestLookupAgainstOracle compares lookups with a linear search through the ranges.
func TestLookupAgainstOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, n := range []int{0, 1, 2, 3, 17, 300} {
		r := mustAssign(t, mustNew(t, ids(n+2)), ids(n))
		claims := r.Claims()
		for range 300 {
			hash := rng.Uint64()
			want := ""
			for _, c := range claims {
				for _, g := range c.Ranges {
					if s := g.Span(); s.Start <= hash && (hash < s.End || s.End == 0) != g.Contains(hash) {
						t.Fatalf("%v and its span %v disagree about %x", g, s, hash)
					}
					if g.Contains(hash) {
						want = c.ID
					}
				}
			}
			if got := r.Owner(hash); got != want {
				t.Fatalf("n=%d: %x is on %q, want %q", n, hash, got, want)
			}
			if got := r.Owners(nil, []uint64{hash}); got[0] != want {
				t.Fatalf("n=%d: in a batch, %x is on %q, want %q", n, hash, got[0], want)
			}
		}
	}
}
