package balancer

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/shard-io/shard-controller/ring"
)

// sharesOf returns the part of all work that each member has.
func sharesOf(r *ring.Ring, slots []SlotLoad) map[string]float64 {
	shares, sum := map[string]float64{}, 0.0
	shift := 64 - int(math.Log2(float64(r.Slots())))
	for slot, s := range slots {
		shares[r.Owner(uint64(slot)<<shift)] += s.Work
		sum += s.Work
	}
	for id := range shares {
		shares[id] /= sum
	}
	return shares
}

// slowRing is a ring of four of which s001 has half as much as the others.
func slowRing(t testing.TB) (*ring.Ring, []SlotLoad) {
	t.Helper()
	members := membersOf(4)
	slots := make([]SlotLoad, 4096)
	rng := rand.New(rand.NewPCG(3, 4))
	loads := make([]float64, len(slots))
	for i := range slots {
		slots[i] = SlotLoad{Objects: 1, Work: rng.ExpFloat64()}
		loads[i] = slots[i].Work
	}
	members[1].Weight = 0.5
	r, err := ring.New(members, ring.Slots(len(slots)), ring.Loads(loads))
	if err != nil {
		t.Fatal(err)
	}
	claims := r.Claims()
	for i := range claims {
		claims[i].Weight = 1
	}
	if r, err = ring.FromRanges(claims, ring.Slots(len(slots))); err != nil {
		t.Fatal(err)
	}
	return r, slots
}

// TestRegroup lets members join, leave and change their weights in a ring in which one has half as much as the others.
func TestRegroup(t *testing.T) {
	members := func(weights ...float64) []ring.Member {
		list := membersOf(len(weights))
		for i := range list {
			list[i].Weight = weights[i]
		}
		return list
	}
	for _, c := range []struct {
		name    string
		members []ring.Member
		want    []float64 // parts of the work, relative to each other
		between bool      // members that stay may exchange something
	}{
		{"one joins", members(1, 1, 1, 1, 1), []float64{1, 0.5, 1, 1, 0.875}, false},
		{"three join", members(1, 1, 1, 1, 1, 1, 1), []float64{1, 0.5, 1, 1, 0.875, 0.875, 0.875}, false},
		{"a heavy one joins", members(1, 1, 1, 1, 2), []float64{1, 0.5, 1, 1, 1.75}, false},
		{"one leaves", members(1, 1, 1), []float64{1, 0.5, 1}, false},
		{"the slow one leaves", append(members(1), members(1, 1, 1, 1)[2:]...), []float64{1, 0, 1, 1}, false},
		{"one gets twice the weight", members(1, 1, 2, 1), []float64{1, 0.5, 2, 1}, true},
	} {
		r, slots := slowRing(t)
		next, err := Regroup(r, c.members, slots)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, part := range c.want {
			sum += part
		}
		for id, got := range sharesOf(next, slots) {
			want := c.want[int(id[3]-'0')] / sum
			if math.Abs(got/want-1) > 1.2*regroupTolerance {
				t.Errorf("%s: %s has %.4f of the work, should be %.4f", c.name, id, got, want)
			}
		}
		for _, d := range ring.Diff(r, next) {
			if next.Has(d.From) && r.Has(d.To) && !c.between {
				t.Errorf("%s: %v moves between members that stay", c.name, d)
			}
		}
		for i, m := range next.Members() {
			if m != c.members[i] {
				t.Errorf("%s: member %+v, want %+v", c.name, m, c.members[i])
			}
		}
		if again, err := Regroup(next, c.members, slots); err != nil || again != next {
			t.Errorf("%s: once more gives another ring (%v)", c.name, err)
		}
	}
}

// TestRegroupEdges is about rings without members, slots without owners, loads that are not known, and wrong input.
func TestRegroupEdges(t *testing.T) {
	r, slots := slowRing(t)
	first, err := Regroup(nil, membersOf(3), nil)
	if err != nil || first.Len() != 3 || math.Abs(first.Share("s000")-1.0/3) > 0.001 {
		t.Errorf("the first ring: %v, %v", first.Members(), err)
	}
	if none, err := Regroup(r, nil, slots); err != nil || none.Len() != 0 {
		t.Errorf("no members: %v, %v", none.Members(), err)
	}
	plain, err := Regroup(first, membersOf(4), nil)
	if err != nil || math.Abs(plain.Share("s003")-0.25) > 0.02 {
		t.Errorf("without loads, a newcomer has %v (%v)", plain.Share("s003"), err)
	}
	counted := make([]SlotLoad, r.Slots())
	for i := range counted {
		counted[i].Objects = int64(i % 3)
	}
	if next, err := Regroup(r, membersOf(5), counted); err != nil || math.Abs(next.Share("s004")-0.2) > 0.02 {
		t.Errorf("by objects, a newcomer has %v (%v)", next.Share("s004"), err)
	}
	claims := r.Claims()
	claims[2].Ranges = nil // its slots have no owner
	torn, _, err := ring.Recover(claims, ring.Slots(r.Slots()))
	if err != nil {
		t.Fatal(err)
	}
	if next, err := Regroup(torn, membersOf(4), slots); err != nil || next.Share("s000")+next.Share("s001")+next.Share("s002")+next.Share("s003") < 0.9999 {
		t.Errorf("slots without an owner stay so (%v)", err)
	} else if got := sharesOf(next, slots)["s002"]; math.Abs(got-1.0/3.5) > 0.08 {
		t.Errorf("a member that had nothing has %v", got)
	}
	bad := append([]SlotLoad(nil), slots...)
	bad[7].Work = math.NaN()
	negative := append([]SlotLoad(nil), slots...)
	negative[8].Objects = -1
	for want, f := range map[string]func() (*ring.Ring, error){
		"Slots[7].Work":    func() (*ring.Ring, error) { return Regroup(r, membersOf(3), bad) },
		"Slots[8].Objects": func() (*ring.Ring, error) { return Regroup(r, membersOf(3), negative) },
		"4096 slots":       func() (*ring.Ring, error) { return Regroup(r, membersOf(3), slots[:9]) },
		"Members[1].ID":    func() (*ring.Ring, error) { return Regroup(r, []ring.Member{{ID: "a"}, {}}, slots) },
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
