package balancer

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/shard-io/shard-controller/ring"
)

func view(t testing.TB, r *ring.Ring, shards ...Shard) *View {
	t.Helper()
	v, err := NewView(r, shards)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func strategy(t testing.TB, name string) Strategy {
	t.Helper()
	s, err := NewRegistry().New(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func numbered(n int) []Shard {
	shards := make([]Shard, n)
	for i := range shards {
		shards[i].ID = fmt.Sprintf("s%03d", i)
	}
	return shards
}

func ringOf(t testing.TB, shards []Shard) *ring.Ring {
	t.Helper()
	members := make([]ring.Member, len(shards))
	for i, s := range shards {
		members[i] = ring.Member{ID: s.ID, Weight: s.Weight}
	}
	r, err := ring.New(members)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func object(i int) Object {
	key := fmt.Sprintf("/Secret/default/tls-%d", i)
	return Object{Key: key, Hash: ring.Hash(key)}
}

// placeMany places new objects and returns how many each shard got.
func placeMany(t testing.TB, s Strategy, v *View, from, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for i := range n {
		d, err := s.Place(v, object(from+i))
		if err != nil {
			t.Fatal(err)
		}
		got[d.Shard]++
	}
	return got
}

// TestWhoMayHave is the table of what each state of an owner, and of the shard that the strategy would choose, means.
func TestWhoMayHave(t *testing.T) {
	for _, c := range []struct {
		name          string
		mine          Shard
		stays, placed bool // an object it has stays; a new object goes there
	}{
		{"healthy", Shard{}, true, true},
		{"cordoned", Shard{Cordoned: true}, true, false},
		{"silent", Shard{Silent: true}, true, false},
		{"full", Shard{Full: true}, true, false},
		{"draining", Shard{Draining: true}, false, false},
		{"draining and cordoned", Shard{Draining: true, Cordoned: true}, false, false},
	} {
		for _, name := range NewRegistry().Names() {
			r := ringOf(t, numbered(2))
			o := object(1)
			c.mine.ID = r.Owner(o.Hash)
			other := Shard{ID: "s000", Objects: 100}
			if c.mine.ID == "s000" {
				other.ID = "s001"
			}
			s, v := strategy(t, name), view(t, r, c.mine, other)
			if name == RoundRobin { // whose turn it is depends on the ID
				if d, err := s.Place(v, object(2)); err == nil && d.Shard == c.mine.ID {
					_, _ = s.Place(v, object(3))
				}
			}
			if d, err := s.Place(v, o); err != nil || (d.Shard == c.mine.ID) != c.placed && !(name == RoundRobin && c.placed) {
				t.Errorf("%s, %s: a new object goes to %v (%v)", name, c.name, d, err)
			}
			o.Owner = c.mine.ID
			if d, err := s.Place(v, o); err != nil || (d.Shard == c.mine.ID) != c.stays || d.Reason == "" {
				t.Errorf("%s, %s: an object it has goes to %v (%v)", name, c.name, d, err)
			}
			alone := view(t, r, c.mine)
			if _, err := s.Place(alone, object(9)); errors.Is(err, ErrNoShard) == c.placed {
				t.Errorf("%s, %s and alone: error %v", name, c.name, err)
			}
		}
	}
}

// TestConsistentHash follows objects through a change of the ring, and through an outage.
func TestConsistentHash(t *testing.T) {
	shards := numbered(10)
	r, s := ringOf(t, shards), strategy(t, ConsistentHash)
	v := view(t, r, shards...)
	moved := 0
	for i := range 5000 {
		o := object(i)
		if d, _ := s.Place(v, o); d.Shard != r.Owner(o.Hash) {
			t.Fatalf("%s goes to %v, the ring says %s", o.Key, d, r.Owner(o.Hash))
		}
		if o.Owner = "s004"; r.Owner(o.Hash) != "s004" {
			if d, _ := s.Place(v, o); d.Shard != r.Owner(o.Hash) {
				t.Fatalf("%s stays on %v, but the ring says %s", o.Key, d, r.Owner(o.Hash))
			}
		}
	}
	shards[3].Silent = true
	spread := map[string]int{}
	silent := view(t, r, shards...)
	for i := range 5000 {
		o := object(i)
		before, _ := s.Place(v, o)
		after, err := s.Place(silent, o)
		if err != nil {
			t.Fatal(err)
		}
		if before.Shard != after.Shard {
			moved++
			spread[after.Shard]++
			if before.Shard != "s003" {
				t.Fatalf("s003 is silent, and %s goes from %s to %s", o.Key, before.Shard, after.Shard)
			}
		}
	}
	if len(spread) != 9 || slices.Max(slices.Collect(mapValues(spread))) > moved/9*2 {
		t.Errorf("the new objects of one silent shard do not spread over the nine others: %v", spread)
	}
}

func mapValues(m map[string]int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for _, n := range m {
			if !yield(n) {
				return
			}
		}
	}
}

// TestWeights checks that each strategy hands out in proportion to the weights.
func TestWeights(t *testing.T) {
	for _, n := range []int{4, 40} {
		shards := numbered(n)
		sum := 0.0
		for i := range shards {
			shards[i].Weight = float64(1 + i%4)
			sum += shards[i].Weight
		}
		for _, name := range NewRegistry().Names() {
			got := placeMany(t, strategy(t, name), view(t, ringOf(t, shards), shards...), 0, 20_000)
			for _, s := range shards {
				share := s.Weight / sum * 20_000
				if have := float64(got[s.ID]); math.Abs(have-share) > 5*math.Sqrt(share)+1 {
					t.Errorf("%s, %d shards: %s of weight %v got %v, its share is %.0f", name, n, s.ID, s.Weight, have, share)
				}
			}
		}
	}
}

// TestBoundedLoad checks the bound of the paper: nobody has more than 1+slack times its share, rounded up.
func TestBoundedLoad(t *testing.T) {
	for _, slack := range []float64{0.01, 0.25, 2} {
		s, err := NewBoundedLoad(slack)
		if err != nil {
			t.Fatal(err)
		}
		shards := numbered(20)
		r, v := ringOf(t, shards), view(t, ringOf(t, shards), shards...)
		got, elsewhere := map[string]int{}, 0
		for i := range 3000 {
			d, err := s.Place(v, object(i))
			if err != nil {
				t.Fatal(err)
			}
			got[d.Shard]++
			if d.Shard != r.Owner(object(i).Hash) {
				elsewhere++
			}
			if bound := int(math.Ceil((1 + slack) * float64(i+1) / 20)); got[d.Shard] > bound {
				t.Fatalf("slack %v: of %d objects, %s has %d, the bound is %d", slack, i+1, d.Shard, got[d.Shard], bound)
			}
		}
		if most := map[float64]int{0.01: 1000, 0.25: 100, 2: 30}[slack]; elsewhere > most {
			t.Errorf("slack %v: %d of 3000 objects are not where the ring says, at most %d are explained by the bound", slack, elsewhere, most)
		}
	}
	busy := numbered(3)
	for i := range busy {
		busy[i].Load, busy[i].LoadKnown = 0.4, true
	}
	busy[1].Load = 0.9
	got := placeMany(t, strategy(t, BoundedLoad), view(t, ringOf(t, busy), busy...), 0, 300)
	if got["s001"] != 0 {
		t.Errorf("a shard with a load of 0.9, the others at 0.4, got %v", got)
	}
	for _, slack := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if _, err := NewBoundedLoad(slack); err == nil || !strings.Contains(err.Error(), "slack") {
			t.Errorf("slack %v: error %v", slack, err)
		}
	}
}

// TestRoundRobin checks that turns go on through changes of the view.
func TestRoundRobin(t *testing.T) {
	s, shards := strategy(t, RoundRobin), numbered(4)
	order := ""
	for i := range 8 {
		d, _ := s.Place(view(t, nil, shards...), object(i)) // a new view each time
		order += d.Shard[3:]
	}
	if order != "01230123" {
		t.Errorf("the turns are %s", order)
	}
	placeMany(t, s, view(t, nil, shards...), 0, 400)
	five := view(t, nil, append(shards, Shard{ID: "s999"})...)
	if got := placeMany(t, s, five, 0, 100); got["s999"] < 19 || got["s999"] > 21 {
		t.Errorf("of 100 turns among five, the newcomer has %d", got["s999"])
	}
	shards[2].Cordoned = true
	placeMany(t, s, view(t, nil, shards...), 0, 400)
	shards[2].Cordoned = false
	if got := placeMany(t, s, view(t, nil, shards...), 0, 100); got["s002"] > 26 {
		t.Errorf("of 100 turns among four, the one that was cordoned has %d", got["s002"])
	}
}

// TestLeastLoaded checks that load levels out, and that a newcomer does not get everything.
func TestLeastLoaded(t *testing.T) {
	for _, n := range []int{2, 3, 10, 100} {
		shards := numbered(n)
		for i := range shards {
			shards[i].Objects = 1000
		}
		shards[n-1].Objects = 0
		s := strategy(t, LeastLoaded)
		got := placeMany(t, s, view(t, nil, shards...), 0, 200)
		if most := 1.5*200/float64(n) + 2; float64(got[shards[n-1].ID]) > most || float64(got[shards[n-1].ID]) < 200/float64(n) {
			t.Errorf("of 200 new objects, the newcomer among %d gets %d, at most %.0f are wanted", n, got[shards[n-1].ID], most)
		}
		// The same with a view for each object: what was given is not forgotten.
		for i := range 200 {
			d, _ := s.Place(view(t, nil, shards...), object(i))
			got[d.Shard]++
		}
		if most := 1.5*400/float64(n) + 6; float64(got[shards[n-1].ID]) > most {
			t.Errorf("with many views, of 400 new objects, the newcomer among %d gets %d, at most %.0f are wanted", n, got[shards[n-1].ID], most)
		}
	}
	// Load counts when all report it: s000 has few objects, but is busy.
	loaded := []Shard{{ID: "s000", Objects: 1, Load: 0.9, LoadKnown: true}, {ID: "s001", Objects: 90, Load: 0.2, LoadKnown: true}}
	if d, _ := strategy(t, LeastLoaded).Place(view(t, nil, loaded...), object(1)); d.Shard != "s001" {
		t.Errorf("the busy shard gets the object: %v", d)
	}
	loaded[0].LoadKnown = false
	if d, _ := strategy(t, LeastLoaded).Place(view(t, nil, loaded...), object(1)); d.Shard != "s000" {
		t.Errorf("when not all have reported, objects count, but: %v", d)
	}
	// Two choices keep many shards level.
	got := placeMany(t, strategy(t, LeastLoaded), view(t, nil, numbered(200)...), 0, 20_000)
	most, least := 0, 20_000
	for _, n := range got {
		most, least = max(most, n), min(least, n)
	}
	if most > 106 || least < 90 {
		t.Errorf("of 20,000 objects on 200 shards, one has %d and one %d", most, least)
	}
}

func TestRegistry(t *testing.T) {
	g := NewRegistry()
	if got, want := fmt.Sprint(g.Names()), "[bounded-load consistent-hash least-loaded round-robin]"; got != want {
		t.Errorf("built in are %s, want %s", got, want)
	}
	mine := func() Strategy { return consistentHash{} }
	for _, c := range []struct {
		name, want string
		f          func() Strategy
	}{
		{"mine", "", mine}, {"mine.v2", "", mine}, {"mine", "registered already", mine}, {RoundRobin, "registered already", mine},
		{"", "name", mine}, {"Mine", "name", mine}, {"-mine", "name", mine}, {strings.Repeat("m", 64), "name", mine},
		{"nothing", "must not be nil", nil}, {"returns-nil", "", func() Strategy { return nil }},
	} {
		if err := g.Register(c.name, c.f); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("registering %q: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := g.New("mine"); err != nil {
		t.Error(err)
	}
	if _, err := g.New("maglev"); !errors.Is(err, ErrUnknownStrategy) || !strings.Contains(err.Error(), "consistent-hash") {
		t.Errorf("an unknown name: %v", err)
	}
	if _, err := g.New("returns-nil"); err == nil {
		t.Error("a strategy that is nil is no error")
	}
}

// TestBadViews checks that whatever is wrong is refused with the name of the field.
func TestBadViews(t *testing.T) {
	for _, c := range []struct {
		shards []Shard
		want   string
	}{
		{[]Shard{{ID: "a"}, {}}, "Shards[1].ID"},
		{[]Shard{{ID: "a"}, {ID: "a"}}, `"a"`},
		{[]Shard{{ID: "a", Weight: -1}}, "Shards[0].Weight (a)"},
		{[]Shard{{ID: "a", Weight: math.NaN()}}, "Weight"},
		{[]Shard{{ID: "a", Weight: math.Inf(1)}}, "Weight"},
		{[]Shard{{ID: "a", LoadKnown: true, Load: math.NaN()}}, "Load"},
		{[]Shard{{ID: "a", LoadKnown: true, Load: -1}}, "Load"},
		{[]Shard{{ID: "a", Objects: -1}}, "Objects"},
	} {
		if _, err := NewView(nil, c.shards); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v does not name %s", c.shards, err, c.want)
		}
	}
	v := view(t, nil, Shard{ID: "b"}, Shard{ID: "a", Full: true})
	if a, ok := v.Shard("a"); !ok || a.Weight != 1 || len(v.Eligible()) != 1 || len(v.Shards()) != 2 || v.Ring() != nil {
		t.Errorf("a view of a full and an eligible shard is %+v", v)
	}
}
