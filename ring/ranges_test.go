package ring

import (
	"errors"
	"strings"
	"testing"
)

const quarter = 1 << 30

func claim(id string, ranges ...Range) Claim { return Claim{Member{ID: id}, ranges} }

// TestFaults reads claims that are wrong, strictly and leniently.
func TestFaults(t *testing.T) {
	const end = 1<<32 - 1
	for _, c := range []struct {
		name   string
		claims []Claim
		want   string   // part of the strict error
		owners []string // what Recover says of the four quarters
	}{
		{"nothing claimed", []Claim{claim("a")},
			"nobody claims 0-4294967295, between the start of the hash space and the end of the hash space", []string{"", "", "", ""}},
		{"gap at the start", []Claim{claim("a", Range{quarter, end})},
			`nobody claims 0-1073741823, between the start of the hash space and "a"`, []string{"", "a", "a", "a"}},
		{"gap in the middle", []Claim{claim("a", Range{0, quarter - 1}), claim("b", Range{2 * quarter, end})},
			`nobody claims 1073741824-2147483647, between "a" and "b"`, []string{"a", "", "b", "b"}},
		{"gap at the end", []Claim{claim("a", Range{0, quarter - 1}), claim("b", Range{quarter, end - quarter})},
			`between "b" and the end of the hash space`, []string{"a", "b", "b", ""}},
		{"overlap", []Claim{claim("b", Range{quarter, end}), claim("a", Range{0, 2*quarter - 1})},
			`1073741824-2147483647 is claimed by both "a" and "b"`, []string{"a", "", "b", "b"}},
		{"one inside the other", []Claim{claim("a", Range{0, end}), claim("b", Range{quarter, 2*quarter - 1})},
			`1073741824-2147483647 is claimed by both "a" and "b"`, []string{"a", "", "a", "a"}},
		{"the same twice", []Claim{claim("a", Range{0, end}), claim("b", Range{0, end})},
			`0-4294967295 is claimed by both "a" and "b"`, []string{"", "", "", ""}},
		{"claimed twice by one", []Claim{claim("a", Range{0, end}, Range{0, quarter - 1})},
			`0-1073741823 is claimed by both "a" and "a"`, []string{"", "a", "a", "a"}},
		{"inverted", []Claim{claim("a", Range{end, 0}), claim("b", Range{0, end})},
			`4294967295-0 of "a" is inverted`, []string{"b", "b", "b", "b"}},
		{"misaligned", []Claim{claim("a", Range{0, quarter}), claim("b", Range{quarter + 1, end})},
			`0-1073741824 of "a" does not fit 4 slots: start and end+1 must be multiples of 1073741824`, []string{"a", "", "b", "b"}},
	} {
		_, err := FromRanges(c.claims, Slots(4))
		var fault *Fault
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), c.want) {
			// Recover says more than the first fault; the one wanted may come second.
			_, faults, _ := Recover(c.claims, Slots(4))
			found := false
			for i := range faults {
				found = found || strings.Contains(faults[i].Error(), c.want)
			}
			if err == nil || !found {
				t.Errorf("%s: error %v does not say %s", c.name, err, c.want)
			}
		}
		r, faults, err := Recover(c.claims, Slots(4))
		if err != nil || len(faults) == 0 {
			t.Errorf("%s: recovered with %v and error %v", c.name, faults, err)
			continue
		}
		for i, want := range c.owners {
			if got := r.Owner(uint64(i) << 62); got != want {
				t.Errorf("%s: quarter %d is on %q, want %q", c.name, i, got, want)
			}
		}
		next := mustAssign(t, r, r.Members())
		for i, want := range c.owners {
			if got := next.Owner(uint64(i) << 62); got == "" || want != "" && len(c.claims) == 1 && got != want {
				t.Errorf("%s: after the next Assign, quarter %d is on %q", c.name, i, got)
			}
		}
	}
}

// TestSlotsOfRanges checks how many slots a ring gets from ranges.
func TestSlotsOfRanges(t *testing.T) {
	fine := []Claim{claim("a", Range{0, 1<<12 - 1}), claim("b", Range{1 << 12, 1<<32 - 1})}
	if r, err := FromRanges(fine); err != nil || r.Slots() != 1<<20 || r.Owner(1<<44-1) != "a" || r.Owner(1<<44) != "b" {
		t.Errorf("ranges that fit 2^20 slots: %d slots, %v", r.Slots(), err)
	}
	if _, err := FromRanges(fine, Slots(1<<16)); err == nil {
		t.Error("ranges that fit 2^20 slots only are accepted for 2^16")
	}
	if r, err := FromRanges(quarters(), Slots(4)); err != nil || r.Slots() != 4 {
		t.Errorf("quarters do not fit 4 slots: %v", err)
	}
	thirds := []Claim{claim("a", Range{0, 1431655764}), claim("b", Range{1431655765, 2863311529}), claim("c", Range{2863311530, 1<<32 - 1})}
	if _, err := FromRanges(thirds); err == nil || !strings.Contains(err.Error(), "65536") {
		t.Errorf("thirds fit no number of slots, but: %v", err)
	}
	r, faults, err := Recover(thirds)
	if err != nil || len(faults) == 0 || r.Share("a") < 0.3333 {
		t.Errorf("thirds are not recovered but for the slots at their ends: %v %v %v", r.Share("a"), faults, err)
	}
}

func TestNewRange(t *testing.T) {
	for _, c := range []struct {
		start, end int64
		want       string // part of the error, "" for none
	}{
		{0, 1073741823, ""}, {0, 1<<32 - 1, ""}, {5, 5, ""},
		{-1, 5, "start: -1 is out of the hash space"}, {1 << 32, 1 << 32, "start: 4294967296 is out"},
		{0, 1 << 32, "end: 4294967296 is out"}, {0, -5, "end: -5 is out"}, {6, 5, "start: 6 is above the end 5"},
	} {
		g, err := NewRange(c.start, c.end)
		switch {
		case c.want == "" && (err != nil || int64(g.Start) != c.start || int64(g.End) != c.end):
			t.Errorf("%d to %d: %v, %v", c.start, c.end, g, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%d to %d: error %v does not say %s", c.start, c.end, err, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for g, want := range map[Range]string{
		{0, 1073741823}:          "0x0000000000000000-0x4000000000000000",
		{3221225472, 1<<32 - 1}:  "0xc000000000000000-0x10000000000000000",
		{0x12345678, 0x12345678}: "0x1234567800000000-0x1234567900000000",
		{1<<32 - 1, 1<<32 - 1}:   "0xffffffff00000000-0x10000000000000000",
	} {
		if got := g.Span().String(); got != want {
			t.Errorf("%v as a span: %s, want %s", g, got, want)
		}
	}
}

// claimsOf makes claims of up to four members from bytes, three for each range, in units of 1/256 of the hash space.
func claimsOf(data []byte) []Claim {
	claims := []Claim{claim("a"), claim("b"), claim("c"), claim("d")}
	for ; len(data) >= 3; data = data[3:] {
		c := &claims[data[0]%4]
		c.Ranges = append(c.Ranges, Range{uint32(data[1]) << 24, uint32(data[2])<<24 | 0xffffff})
	}
	return claims
}

// FuzzRanges compares what is read from ranges with an oracle that counts the claims on each 256th of the hash space, when
// there are 128 slots.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{0, 0, 127, 1, 128, 255})
	f.Add([]byte{0, 0, 127, 1, 120, 255, 2, 9, 3})
	f.Add([]byte{3, 0, 255})
	f.Add([]byte{0, 0, 62, 1, 63, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		claims := claimsOf(data)
		var count [256]int
		var owner [256]string
		faulty := false
		for _, c := range claims {
			for _, g := range c.Ranges {
				first, last := int(g.Start>>24), int(g.End>>24)
				faulty = faulty || first > last || first%2 != 0 || last%2 != 1
				for i := first; i <= last; i++ {
					count[i]++
					owner[i] = c.ID
				}
			}
		}
		r, faults, err := Recover(claims, Slots(128))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < 256; i += 2 {
			want := ""
			if count[i] == 1 && count[i+1] == 1 && owner[i] == owner[i+1] && wholly(claims, i) {
				want = owner[i]
			}
			faulty = faulty || count[i] != 1 || count[i+1] != 1
			if got := r.Owner(uint64(i) << 56); got != want {
				t.Fatalf("%v: slot %d is on %q, want %q", claims, i/2, got, want)
			}
		}
		strict, err := FromRanges(claims, Slots(128))
		if (err != nil) != faulty || (len(faults) > 0) != faulty {
			t.Fatalf("%v: faulty is %v, error is %v, faults are %v", claims, faulty, err, faults)
		}
		next := mustAssign(t, r, r.Members())
		for _, m := range Diff(r, next) {
			if !faulty && m.From == "" || m.To == "" {
				t.Fatalf("%v: the next Assign moves %+v", claims, m)
			}
		}
		if err == nil {
			again, err := FromRanges(strict.Claims(), Slots(128))
			if err != nil || !again.Equal(strict) || !strict.Equal(r) {
				t.Fatalf("%v: written out and read back it is another ring: %v", claims, err)
			}
		}
	})
}

// wholly says whether one range claims both halves of the slot that starts at the 256th.
func wholly(claims []Claim, at int) bool {
	for _, c := range claims {
		for _, g := range c.Ranges {
			if int(g.Start>>24) <= at && at+1 <= int(g.End>>24) {
				return true
			}
		}
	}
	return false
}

// FuzzAssign takes walks through memberships that the fuzzer chooses, and holds them against the oracle.
func FuzzAssign(f *testing.F) {
	f.Add([]byte{1, 2, 3, 130, 4, 5, 200, 131})
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 129, 130, 131, 132, 133, 134, 135, 136, 137})
	f.Fuzz(func(t *testing.T, data []byte) {
		ring := mustNew(t, nil, Slots(128))
		var members []Member
		for _, b := range data[:min(len(data), 40)] {
			id := string(rune('a' + b%32))
			changed := without(members, id)
			if b < 128 || len(changed) == len(members) {
				changed = append(changed, Member{ID: id, Weight: float64(1 + b/32%4)})
			}
			after := mustAssign(t, ring, changed)
			if problem := checkStep(oracleOf(ring), oracleOf(after), members, changed, DefaultTolerance); problem != "" {
				t.Fatalf("%v: %s", changed, problem)
			}
			ring, members = after, changed
		}
	})
}

func without(members []Member, id string) []Member {
	var rest []Member
	for _, m := range members {
		if m.ID != id {
			rest = append(rest, m)
		}
	}
	return rest
}

// FuzzKey checks that a key hashes the same however it is put together, and has an owner.
func FuzzKey(f *testing.F) {
	f.Add("", "Secret", "default", "tls")
	f.Add("apps", "Deployment", "", "\xff")
	f.Add("g", "k", strings.Repeat("n", 120), strings.Repeat("m", 253))
	r := mustNew(f, ids(5))
	f.Fuzz(func(t *testing.T, group, kind, namespace, name string) {
		p := NewPrefix(group, kind)
		if key := p.Key(namespace, name); key != group+"/"+kind+"/"+namespace+"/"+name || p.Hash(namespace, name) != Hash(key) {
			t.Fatalf("%q does not hash as its parts", key)
		} else if owner := r.Owner(p.Hash(namespace, name)); owner == "" || owner != r.Lookup(key) {
			t.Fatalf("%q is on %q by its parts, on %q by key", key, owner, r.Lookup(key))
		}
	})
}
