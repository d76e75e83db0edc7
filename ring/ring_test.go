package ring

import (
	"fmt"
	"testing"
)

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
	r, err := FromRanges([]Claim{
		{Member{ID: "shard-001"}, []Range{{0, 1073741823}}},
		{Member{ID: "shard-002"}, []Range{{1073741824, 2147483647}}},
		{Member{ID: "shard-003"}, []Range{{2147483648, 3221225471}}},
		{Member{ID: "shard-004"}, []Range{{3221225472, 4294967295}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Owner(0x4000000000000000); got != "shard-002" {
		t.Errorf("the first hash of the second quarter is on %q", got)
	}
	if got := r.Owner(0x3fffffffffffffff); got != "shard-001" {
		t.Errorf("the last hash of the first quarter is on %q", got)
	}
}

func TestPrefixHash(t *testing.T) {
	p := NewPrefix("apps", "Deployment")
	for _, c := range [][2]string{{"default", "web"}, {"", "node-1"}, {"ns", string(make([]byte, 300))}} {
		if got, want := p.Hash(c[0], c[1]), Hash("apps/Deployment/"+c[0]+"/"+c[1]); got != want {
			t.Errorf("%v: %x, want %x", c, got, want)
		}
	}
}
