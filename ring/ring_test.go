package ring

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
)

// wellFormed returns what is wrong with a piece of XML.
func wellFormed(text []byte) error {
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func ids(n int) []Member {
	members := make([]Member, n)
	for i := range members {
		members[i].ID = fmt.Sprintf("shard-%03d", i)
	}
	return members
}

func mustNew(t testing.TB, members []Member, opts ...Option) *Ring {
	t.Helper()
	r, err := New(members, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustAssign(t testing.TB, r *Ring, members []Member, opts ...Option) *Ring {
	t.Helper()
	next, err := r.Assign(members, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestJoinMovesOnlyToTheNewcomer(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 100} {
		before := mustNew(t, ids(n))
		after := mustAssign(t, before, ids(n+1))
		share := 0.0
		for _, m := range Diff(before, after) {
			if m.To != fmt.Sprintf("shard-%03d", n) {
				t.Fatalf("n=%d: %+v moves between old members", n, m)
			}
			share += m.Share()
		}
		if ideal := 1 / float64(n+1); share > ideal*1.01 || share < ideal*0.95 {
			t.Errorf("n=%d: moved %v of the ring, ideal is %v", n, share, ideal)
		}
	}
}

func TestRangesRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 10, 100} {
		before := mustAssign(t, mustNew(t, ids(n+1)), ids(n))
		after, err := FromRanges(before.Claims())
		if err != nil {
			t.Fatal(err)
		}
		if !before.Equal(after) {
			t.Errorf("n=%d: not the same ring", n)
		}
	}
}

func TestUsersQuarters(t *testing.T) {
	r, err := FromRanges(quarters())
	if err != nil {
		t.Fatal(err)
	}
	for hash, want := range map[uint64]string{
		0: "shard-001", 0x3fffffffffffffff: "shard-001", 0x4000000000000000: "shard-002",
		0xbfffffffffffffff: "shard-003", 0xc000000000000000: "shard-004", 1<<64 - 1: "shard-004",
	} {
		if got := r.Owner(hash); got != want {
			t.Errorf("%x is on %q, want %q", hash, got, want)
		}
	}
}

// TestPrefixHash puts keys together from parts of all lengths up to where they are streamed.
func TestPrefixHash(t *testing.T) {
	text := ""
	for i := range 300 {
		text += string(rune('!' + i*7%90))
	}
	for _, kind := range []string{"", "Pod", "Secret", "Deployment", text[:40], text[:130]} {
		p := NewPrefix("apps", kind)
		for namespace := range 40 {
			for name := range 135 {
				if got, want := p.Hash(text[:namespace], text[50:50+name]), Hash("apps/"+kind+"/"+text[:namespace]+"/"+text[50:50+name]); got != want {
					t.Fatalf("kind %q, namespace of %d bytes, name of %d: %x, want %x", kind, namespace, name, got, want)
				}
			}
		}
	}
	var zero Prefix
	if zero.Key("a", "b") != "//a/b" || zero.Hash("a", "b") != Hash("//a/b") {
		t.Error("the zero prefix is not that of the empty group and kind")
	}
}

// TestBadInput checks that whatever is wrong is refused with the name of the field.
func TestBadInput(t *testing.T) {
	many := make([]Member, MaxMembers+1)
	for i := range many {
		many[i].ID = fmt.Sprint(i)
	}
	valid := ids(2)
	ring := mustNew(t, valid)
	make := func(f func([]Member, ...Option) (*Ring, error), members []Member, opts ...Option) func() error {
		return func() error { _, err := f(members, opts...); return err }
	}
	for _, c := range []struct {
		name, want string
		call       func() error
	}{
		{"too many", "Members", make(New, many)},
		{"empty ID", "Members[1].ID", make(New, []Member{{ID: "a"}, {}})},
		{"twice", `"a"`, make(New, []Member{{ID: "a"}, {ID: "b"}, {ID: "a"}})},
		{"negative weight", "Members[0].Weight (a)", make(New, []Member{{ID: "a", Weight: -1}})},
		{"NaN weight", "Weight", make(ring.Assign, []Member{{ID: "a", Weight: math.NaN()}})},
		{"infinite weight", "Weight", make(Stateless, []Member{{ID: "a", Weight: math.Inf(1)}})},
		{"odd slots", "Slots", make(New, valid, Slots(100))},
		{"no slots", "Slots", make(New, valid, Slots(-1))},
		{"one slot", "Slots", make(New, valid, Slots(1))},
		{"too many slots", "Slots", make(New, valid, Slots(MaxSlots*2))},
		{"too few slots", "Slots", make(Stateless, ids(5), Slots(4))},
		{"fewer slots", "Slots", make(ring.Assign, valid, Slots(64))},
		{"negative tolerance", "Tolerance", make(New, valid, Tolerance(-0.1))},
		{"NaN tolerance", "Tolerance", make(New, valid, Tolerance(math.NaN()))},
		{"too few loads", "Loads", make(New, valid, Loads([]float64{1}))},
		{"negative load", "Loads[2]", make(New, valid, Slots(4), Loads([]float64{1, 1, -1, 1}))},
		{"NaN load", "Loads[0]", make(Stateless, valid, Slots(2), Loads([]float64{math.NaN(), 1}))},
		{"budget", "budget", func() error { _, err := ring.Defragment(1.5); return err }},
		{"NaN budget", "budget", func() error { _, err := ring.Defragment(math.NaN()); return err }},
		{"bad claim", "Members[0].ID", func() error { _, _, err := Recover([]Claim{{}}); return err }},
	} {
		if err := c.call(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v does not name %s", c.name, err, c.want)
		}
	}
}

// TestDefinedResults checks inputs at the edge that are not wrong.
func TestDefinedResults(t *testing.T) {
	if one := mustNew(t, ids(1)); one.Lookup("x") != "shard-000" || one.Share("shard-000") != 1 {
		t.Error("a single member does not own everything")
	}
	tiny := mustNew(t, []Member{{ID: "a", Weight: 5e-324}, {ID: "b", Weight: math.MaxFloat64}})
	if tiny.Share("a") == 0 || tiny.Share("b") < 0.99 {
		t.Errorf("shares of the smallest and the largest weight: %v, %v", tiny.Share("a"), tiny.Share("b"))
	}
	if zero, one := mustNew(t, []Member{{ID: "a"}, {ID: "b", Weight: 1}}), mustNew(t, ids(2)); zero.Share("a") != one.Share("shard-000") {
		t.Error("weight 0 is not weight 1")
	}
	full := mustNew(t, ids(64), Slots(64))
	if emptied := mustAssign(t, full, nil); emptied.Lookup("x") != "" || emptied.Len() != 0 {
		t.Error("a ring whose last member left still has an owner")
	} else if again := mustAssign(t, emptied, ids(3)); again.Share("shard-001") == 0 {
		t.Error("a ring that was empty gives nothing to its new members")
	}
	if doubled := mustAssign(t, full, ids(65)); doubled.Slots() != 128 || doubled.Share("shard-064") == 0 {
		t.Errorf("65 members have %d slots", doubled.Slots())
	}
	for members, slots := range map[int]int{1: 1 << 16, 1024: 1 << 16, 1025: 1 << 17, 10_000: 1 << 20} {
		if got := mustNew(t, ids(members)).Slots(); got != slots {
			t.Errorf("%d members get %d slots, want %d", members, got, slots)
		}
	}
	if most := mustNew(t, ids(MaxMembers)); most.Share("shard-65534") == 0 {
		t.Error("the last of the largest number of members has nothing")
	}
	if r := mustNew(t, ids(3), nil, Loads(make([]float64, DefaultSlots))); math.Abs(r.Share("shard-001")-1.0/3) > 1e-4 {
		t.Error("loads of 0 are not as good as none")
	}
}

// TestNilAndZero checks that a ring that is not there has no members, and nothing else.
func TestNilAndZero(t *testing.T) {
	for name, r := range map[string]*Ring{"nil": nil, "zero": {}, "empty": mustNew(t, nil)} {
		if r.Owner(1<<63) != "" || r.Lookup("x") != "" || r.Len() != 0 || len(r.Members()) != 0 || r.Has("") || r.Share("") != 0 ||
			r.Ranges("a") != nil || len(r.Claims()) != 0 || r.Owners(nil, []uint64{1})[0] != "" || Diff(r, nil) != nil {
			t.Errorf("the %s ring has something", name)
		}
		if r.Slot(1<<63) >= max(1, r.Slots()) {
			t.Errorf("the %s ring has no slot %d", name, r.Slot(1<<63))
		}
		if d, err := r.Defragment(1); err != nil || d.Len() != 0 {
			t.Errorf("the %s ring does not defragment: %v", name, err)
		}
		next := mustAssign(t, r, ids(2))
		if moves := Diff(r, next); len(moves) != 2 || moves[0].From != "" || share(moves) != 1 {
			t.Errorf("from the %s ring to one of two: %+v", name, moves)
		}
	}
	var h Holder
	if h.Load().Lookup("x") != "" {
		t.Error("the zero Holder holds something")
	}
}
