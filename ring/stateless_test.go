package ring

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func mustStateless(t testing.TB, members []Member, opts ...Option) *Ring {
	t.Helper()
	r, err := Stateless(members, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// uncapped is highest random weight without a cap, darts thrown one after the other in the order of time: slow and plain.
func uncapped(members []Member, slots int) []string {
	owner := make([]string, slots)
	sorted, _ := normalize(members)
	r := newRace(sorted, ledger{slots: slots}, 1e6)
	for left := slots; left > 0; {
		first := 0
		for i := range r.clock {
			if r.clock[i] < r.clock[first] {
				first = i
			}
		}
		slot := mix(^r.seeds[first]+r.thrown[first]*golden) / (1 << 63 / uint64(slots) * 2)
		if owner[slot] == "" {
			owner[slot] = sorted[first].ID
			left--
		}
		r.advance(first)
	}
	return owner
}

func TestStatelessIsHighestRandomWeight(t *testing.T) {
	members := []Member{{ID: "a"}, {ID: "b", Weight: 2}, {ID: "c", Weight: 0.5}, {ID: "d"}}
	r := mustStateless(t, members, Slots(256), Tolerance(math.Inf(1)))
	want := uncapped(members, 256)
	for slot, id := range want {
		if got := r.Owner(uint64(slot) << 56); got != id {
			t.Errorf("slot %d is on %s, the first dart is that of %s", slot, got, id)
		}
	}
}

// TestStatelessKeepsItsCap checks shares, and that an uncapped leaver gives up its own slots only.
func TestStatelessKeepsItsCap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 6))
	for _, n := range []int{1, 2, 3, 10, 50} {
		members := ids(n)
		for i := range members {
			members[i].Weight = float64(1 + rng.IntN(4))
		}
		for _, tolerance := range []float64{0, 0.05} {
			r := mustStateless(t, members, Slots(4096), Tolerance(tolerance))
			for _, m := range members {
				if have, most := r.Share(m.ID)*4096, fair(members, m.ID, 4096)*(1+tolerance)+2; have > most {
					t.Errorf("n=%d tolerance=%v: %s has %v slots, at most %v are allowed", n, tolerance, m.ID, have, most)
				}
			}
			slices.Reverse(members)
			if !mustStateless(t, members, Slots(4096), Tolerance(tolerance)).Equal(r) {
				t.Errorf("n=%d: another order of members gives another ring", n)
			}
		}
		before := mustStateless(t, members, Slots(4096), Tolerance(math.Inf(1)))
		after := mustStateless(t, members[1:], Slots(4096), Tolerance(math.Inf(1)))
		for _, move := range Diff(before, after) {
			if move.From != members[0].ID {
				t.Fatalf("n=%d: %s leaves, and %+v moves", n, members[0].ID, move)
			}
		}
	}
}

func TestLn(t *testing.T) {
	for i := 1; i <= 20000; i++ {
		x := float64(i) / 20000
		if d := math.Abs(ln(x) - math.Log(x)); d > 1e-12 {
			t.Fatalf("ln(%v) is off by %v", x, d)
		}
	}
}
