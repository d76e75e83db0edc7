package ring

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var long = flag.Bool("long", false, "measure balance and movement with more seeds, and simulate 10,000 shards with 10 million objects")

// keysOf returns the hashes of n random keys. xxhash of real keys does no worse: see TestAdversarialNames.
func keysOf(rng *rand.Rand, n int) []uint64 {
	keys := make([]uint64, n)
	for i := range keys {
		keys[i] = rng.Uint64()
	}
	return keys
}

// fullest returns the largest number of keys of a member, over its fair share of them.
func fullest(r *Ring, keys []uint64) float64 {
	count := make([]int, r.Len()+1)
	for _, k := range keys {
		count[r.table[r.Slot(k)]]++
	}
	sum := 0.0
	for _, m := range r.members {
		sum += m.Weight
	}
	most := 0.0
	for i, m := range r.members {
		most = max(most, float64(count[i])/(m.Weight/sum*float64(len(keys))))
	}
	return most
}

// TestBalance measures the fullest of N members with a million keys, and with the keys per slot fed in.
func TestBalance(t *testing.T) {
	if raceDetector {
		t.Skip("statistics")
	}
	for _, c := range []struct {
		n               int
		plain, measured float64
	}{{10, 1.01, 1.005}, {100, 1.035, 1.01}, {1000, 1.125, 1.03}} {
		seeds := 10
		if *long {
			seeds = 50
		}
		plain, measured := 0.0, 0.0
		ring := mustNew(t, ids(c.n))
		for seed := range seeds {
			keys := keysOf(rand.New(rand.NewPCG(uint64(seed), 7)), 1_000_000)
			plain += fullest(ring, keys) / float64(seeds)
			loads := make([]float64, ring.Slots())
			for _, k := range keys {
				loads[ring.Slot(k)]++
			}
			measured += fullest(mustNew(t, ids(c.n), Loads(loads)), keys) / float64(seeds)
		}
		t.Logf("N=%d: max/mean %.4f, with counts per slot %.4f", c.n, plain, measured)
		if plain > c.plain || measured > c.measured {
			t.Errorf("N=%d: max/mean %.4f, with counts per slot %.4f; goals are %v and %v", c.n, plain, measured, c.plain, c.measured)
		}
	}
}

// TestRebalanceByLoad feeds the counts per slot to a ring that was made without.
func TestRebalanceByLoad(t *testing.T) {
	keys := keysOf(rand.New(rand.NewPCG(1, 8)), 1_000_000)
	ring := mustNew(t, ids(100))
	loads := make([]float64, ring.Slots())
	for _, k := range keys {
		loads[ring.Slot(k)]++
	}
	before := fullest(ring, keys)
	for _, tolerance := range []float64{0.005, 0.01, 0.02} {
		next := mustAssign(t, ring, ids(100), Loads(loads), Tolerance(tolerance))
		after, moved := fullest(next, keys), share(Diff(ring, next))
		t.Logf("tolerance %v: max/mean %.4f → %.4f, moved %.4f", tolerance, before, after, moved)
		if after > 1+tolerance+0.002 || moved > 0.01 {
			t.Errorf("tolerance %v: max/mean %.4f → %.4f, moved %.4f of the ring", tolerance, before, after, moved)
		}
		second := mustAssign(t, next, ids(100), Loads(loads), Tolerance(tolerance))
		if third := mustAssign(t, second, ids(100), Loads(loads), Tolerance(tolerance)); !third.Equal(second) {
			t.Errorf("tolerance %v: the same loads move %v in a third round", tolerance, share(Diff(second, third)))
		}
	}
	// One slot that is half of the load is nobody's fault.
	hot := slices.Clone(loads)
	hot[7] = 1_000_000
	next := mustAssign(t, ring, ids(101), Loads(hot))
	if got := next.Share("shard-100"); got == 0 {
		t.Error("a newcomer gets nothing because of a hot slot")
	}
}

func TestWeights(t *testing.T) {
	if raceDetector {
		t.Skip("statistics")
	}
	members := ids(100)
	for i := range members {
		members[i].Weight = []float64{1, 2, 4}[i%3]
	}
	worst := 0.0
	for seed := range 10 {
		worst += fullest(mustNew(t, members), keysOf(rand.New(rand.NewPCG(uint64(seed), 9)), 1_000_000)) / 10
	}
	t.Logf("weights 1, 2, 4 at N=100: %.4f of the fair share", worst)
	if worst > 1.065 {
		t.Errorf("weights 1, 2, 4 at N=100: %.4f of the fair share, the goal is 1.065", worst)
	}
}

// churn is a random sequence of joins and leaves at about N members.
type churn struct {
	rng     *rand.Rand
	members []Member
	next    int
	ring    *Ring
	credit  float64 // what may still be moved to defragment
	// what came of it
	moved, worst, between float64
}

func newChurn(t *testing.T, n int, seed uint64) *churn {
	return &churn{rng: rand.New(rand.NewPCG(seed, 10)), members: ids(n), next: n, ring: mustNew(t, ids(n))}
}

// change joins or removes a member, and defragments with a part of what that should move.
func (c *churn) change(t *testing.T, part float64) {
	ideal, joining := 1/float64(len(c.members)), ""
	if c.rng.IntN(2) == 0 {
		i := c.rng.IntN(len(c.members))
		c.members = slices.Delete(slices.Clone(c.members), i, i+1)
	} else {
		joining = fmt.Sprintf("shard-%03d", c.next)
		c.members = append(slices.Clone(c.members), Member{ID: joining})
		c.next++
		ideal = 1 / float64(len(c.members))
	}
	next := mustAssign(t, c.ring, c.members)
	for _, m := range Diff(c.ring, next) {
		if m.To != joining && next.Has(m.From) {
			c.between += m.Share()
		}
	}
	if part > 0 {
		c.credit += part * ideal
		tidy, err := next.Defragment(c.credit)
		if err != nil {
			t.Fatal(err)
		}
		c.credit -= share(Diff(next, tidy))
		next = tidy
	}
	moved := share(Diff(c.ring, next)) / ideal
	c.moved += moved
	c.worst = max(c.worst, moved)
	c.ring = next
}

func (c *churn) ranges() (mean float64, most int) {
	counts, _ := c.ring.perMember()
	return float64(c.ring.rangeCount()) / float64(c.ring.Len()), slices.Max(counts)
}

// TestChurn makes 50 random changes at N=100 without defragmenting, and 1,000 with.
func TestChurn(t *testing.T) {
	for _, c := range []struct {
		changes, seeds        int
		part                  float64 // of the movement, spent on defragmenting
		balance, moved, worst float64
		ranges                float64
		most                  int
	}{
		{50, 10, 0, 1.035, 1.03, 1.06, 6, 35},
		{1000, 2, 0.055, 1.035, 1.05, 2, 8, 35},
	} {
		if c.changes > 50 && (testing.Short() || raceDetector) {
			continue
		}
		if raceDetector {
			c.seeds = 3
		}
		if *long {
			c.seeds *= 5
		}
		balance, moved, worst, ranges, most := 0.0, 0.0, 0.0, 0.0, 0
		for seed := range c.seeds {
			walk := newChurn(t, 100, uint64(seed))
			for range c.changes {
				walk.change(t, c.part)
			}
			if c.part == 0 && walk.between > 0 {
				t.Errorf("%v of the ring moved between members that were there before and after", walk.between)
			}
			balance += fullest(walk.ring, keysOf(walk.rng, 1_000_000)) / float64(c.seeds)
			moved += walk.moved / float64(c.changes*c.seeds)
			worst = max(worst, walk.worst)
			mean, top := walk.ranges()
			ranges += mean / float64(c.seeds)
			most = max(most, top)
		}
		t.Logf("%d changes: max/mean %.4f, moved %.4f of ideal, at most %.4f; ranges %.2f, at most %d", c.changes, balance, moved, worst, ranges, most)
		if balance > c.balance || moved > c.moved || worst > c.worst || ranges > c.ranges || most > c.most {
			t.Errorf("%d changes: max/mean %.4f, moved %.4f of ideal, at most %.4f; ranges %.2f, at most %d; goals are %+v", c.changes, balance, moved, worst, ranges, most, c)
		}
	}
}

// TestAdversarialNames places families of names that are as alike as names in a cluster can be, and checks that no member has
// more of them than chance explains.
func TestAdversarialNames(t *testing.T) {
	p := NewPrefix("", "Secret")
	rng := rand.New(rand.NewPCG(2, 2))
	families := map[string]func(i int) string{
		"pod-N":        func(i int) string { return p.Key("default", fmt.Sprintf("pod-%d", i)) },
		"ns-N":         func(i int) string { return p.Key(fmt.Sprintf("ns-%d", i), "tls") },
		"customer-x-N": func(i int) string { return p.Key(fmt.Sprintf("customer-%c", 'a'+i%26), fmt.Sprint(i/26)) },
		"UUID": func(int) string {
			return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", rng.Uint32(), rng.Uint32()>>16, rng.Uint32()>>20, rng.Uint32()>>16, rng.Uint64()>>16)
		},
		"lengths":       func(i int) string { return strings.Repeat("a", i%4096) + fmt.Sprint(i/4096) },
		"binary":        func(i int) string { return string([]byte{0xff, byte(i), 0, byte(i >> 8), byte(i >> 16)}) },
		"one bit":       func(i int) string { b := make([]byte, 2500); b[i/8] = 1 << (i % 8); return string(b) },
		"cluster-scope": func(i int) string { return p.Key("", fmt.Sprintf("node-%06d", i)) },
	}
	const keys = 20_000
	for name, key := range families {
		for _, n := range []int{3, 10, 100} {
			members := make([]Member, n)
			for i := range members {
				members[i].ID = fmt.Sprintf("op-%d", i) // op-1 and op-11 must not collide
			}
			r := mustNew(t, members)
			count := make([]float64, n)
			for i := range keys {
				count[r.table[r.Slot(Hash(key(i)))]]++
			}
			chi, mean := 0.0, float64(keys)/float64(n)
			for _, c := range count {
				chi += (c - mean) * (c - mean) / mean
			}
			// The chi-square value of n-1 degrees of freedom has mean n-1 and variance 2(n-1): five deviations.
			if limit := float64(n-1) + 5*math.Sqrt(2*float64(n-1)) + 5; chi > limit {
				t.Errorf("%s on %d shards: chi-square %.1f, chance stays below %.1f", name, n, chi, limit)
			}
		}
	}
	if huge := strings.Repeat("x", 1<<20); mustNew(t, ids(3)).Lookup(huge) == "" || mustNew(t, ids(3)).Lookup("") == "" {
		t.Error("a huge or an empty key has no owner")
	}
}

// TestMemory checks the size of a ring after churn.
func TestMemory(t *testing.T) {
	for n, most := range map[int]int{100: 400 << 10, 1000: 1 << 20} {
		walk := newChurn(t, n, 1)
		for range 30 {
			walk.change(t, 0)
		}
		r := walk.ring
		size := 2*cap(r.table) + 8*cap(r.runs) + 16*cap(r.names) + 24*cap(r.members)
		t.Logf("N=%d: %d KiB, and the names of the members", n, size>>10)
		if size > most {
			t.Errorf("N=%d: %d bytes, at most %d are wanted", n, size, most)
		}
	}
}
