package balancer

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/ring"
)

// lopsided is a round with one shard of five objects and one of one, each object as costly as the other.
func lopsided() (Round, []ObjectLoad) {
	round := Round{Now: time.Unix(1e9, 0), Shards: []Shard{
		{ID: "a", Load: 0.9, LoadKnown: true}, {ID: "b", Load: 0.3, LoadKnown: true}, {ID: "c", Load: 0.6, LoadKnown: true},
	}}
	var objects []ObjectLoad
	for i, shard := range "aaaaaaaaabbbcccccc" {
		objects = append(objects, ObjectLoad{Key: string(rune('A' + i)), Shard: string(shard), Work: 1})
	}
	return round, objects
}

// acting is a planner that needs no confirmation.
func acting(t testing.TB, o PlannerOptions) *Planner {
	t.Helper()
	o.Rounds = 1
	p, err := NewPlanner(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPlannerReasons is the table of what is planned and what is not.
func TestPlannerReasons(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Round, *[]ObjectLoad)
		want   PlanReason
		text   string
	}{
		{"lopsided", func(*Round, *[]ObjectLoad) {}, PlanOverloaded, "1 above the band and 1 below"},
		{"even", func(r *Round, _ *[]ObjectLoad) { r.Shards[0].Load, r.Shards[1].Load = 0.62, 0.58 }, PlanWithinTolerance, "10 %"},
		{"only below", func(r *Round, _ *[]ObjectLoad) {
			for i := range r.Shards {
				r.Shards[i].Load = 0.5
			}
			for i := range 20 {
				id := string(rune('d' + i))
				r.Shards = append(r.Shards, Shard{ID: id, Load: 0.5, LoadKnown: true})
			}
			r.Shards[1].Load = 0.3
		}, PlanUnderloaded, "1 below"},
		{"in flight", func(r *Round, _ *[]ObjectLoad) { r.Blocked.PlanInFlight = true }, PlanInFlight, "carried out"},
		{"draining", func(r *Round, _ *[]ObjectLoad) { r.Shards[1].Draining = true }, PlanInFlight, "b is being emptied"},
		{"rolling out", func(r *Round, _ *[]ObjectLoad) { r.Blocked.RollingOut = true }, PlanRollingOut, "restarted"},
		{"versions", func(r *Round, _ *[]ObjectLoad) { r.Blocked.VersionsDiffer = true }, PlanVersionsDiffer, "versions"},
		{"frozen", func(r *Round, _ *[]ObjectLoad) { r.Blocked = Blocks{true, true, true, true} }, PlanFrozen, "silent"},
		{"silent", func(r *Round, _ *[]ObjectLoad) { r.Shards[2].Silent = true }, PlanLoadUnknown, "c"},
		{"unknown", func(r *Round, _ *[]ObjectLoad) { r.Shards[2].LoadKnown = false }, PlanLoadUnknown, "c"},
		{"alone", func(r *Round, _ *[]ObjectLoad) { r.Shards = r.Shards[:1] }, PlanTooFewShards, "two"},
		{"nobody", func(r *Round, _ *[]ObjectLoad) { r.Shards = nil }, PlanTooFewShards, "two"},
		{"others cordoned", func(r *Round, _ *[]ObjectLoad) { r.Shards[1].Cordoned, r.Shards[2].Cordoned = true, true }, PlanTooFewShards, "two"},
		{"all full", func(r *Round, _ *[]ObjectLoad) {
			for i := range r.Shards {
				r.Shards[i].Full = true
			}
		}, PlanNoReceiver, "full"},
		{"one object", func(r *Round, o *[]ObjectLoad) {
			*o = []ObjectLoad{{Key: "A", Shard: "a", Work: 1}, {Key: "B", Shard: "b", Work: 1}, {Key: "C", Shard: "c", Work: 1}}
		}, PlanWithinTolerance, ""},
		{"two objects", func(r *Round, o *[]ObjectLoad) {
			*o = []ObjectLoad{
				{Key: "A", Shard: "a", Work: 10}, {Key: "A2", Shard: "a", Work: 9}, {Key: "B", Shard: "b", Work: 1}, {Key: "C", Shard: "c", Work: 1},
			}
			r.Shards[0].Load, r.Shards[1].Load, r.Shards[2].Load = 0.8, 0.55, 0.55
		}, PlanIndivisible, "no move helps"},
	} {
		round, objects := lopsided()
		c.change(&round, &objects)
		plan, _, err := acting(t, PlannerOptions{}).Objects(Memory{}, round, objects)
		if err != nil || plan.Reason != c.want || !strings.Contains(plan.Text, c.text) {
			t.Errorf("%s: %s, %q, %v; want %s", c.name, plan.Reason, plan.Text, err, c.want)
		}
		if acts := c.want == PlanOverloaded || c.want == PlanUnderloaded; acts != plan.Acts() && c.name != "only below" {
			t.Errorf("%s: moves %v", c.name, plan.Moves)
		}
		if plan.Imbalance > 0 && plan.Acts() && !(plan.Expected <= plan.Imbalance) {
			t.Errorf("%s: imbalance %v is expected to become %v", c.name, plan.Imbalance, plan.Expected)
		}
	}
}

// TestPlannerConfirms checks that it takes as many rounds in a row as the options say, and that a blocked one begins anew.
func TestPlannerConfirms(t *testing.T) {
	p, err := NewPlanner(PlannerOptions{Rounds: 3})
	if err != nil {
		t.Fatal(err)
	}
	round, objects := lopsided()
	calm, blocked := round, round
	calm.Shards = append([]Shard(nil), round.Shards...)
	for i := range calm.Shards {
		calm.Shards[i].Load = 0.6
	}
	blocked.Blocked.PlanInFlight = true
	for _, c := range []struct {
		rounds []Round
		want   string
	}{
		{[]Round{round, round, round, round}, "Confirming Confirming Overloaded Confirming "},
		{[]Round{calm, calm, round, round, round}, "WithinTolerance WithinTolerance Confirming Confirming Overloaded "},
		{[]Round{round, round, blocked, round, round, round}, "Confirming Confirming PlanInFlight Confirming Confirming Overloaded "},
		{[]Round{round, round, calm}, "Confirming Confirming WithinTolerance "},
	} {
		m, got := Memory{}, ""
		for _, in := range c.rounds {
			var plan Plan
			if plan, m, err = p.Objects(m, in, objects); err != nil {
				t.Fatal(err)
			}
			got += string(plan.Reason) + " "
		}
		if got != c.want {
			t.Errorf("the rounds are %s, want %s", got, c.want)
		}
	}
}

// TestPlannerBadInput checks that whatever is wrong is refused with the name of the field, and changes nothing.
func TestPlannerBadInput(t *testing.T) {
	for _, o := range []struct {
		options PlannerOptions
		want    string
	}{
		{PlannerOptions{Tolerance: -0.1}, "Tolerance"}, {PlannerOptions{Tolerance: 1.1}, "Tolerance"}, {PlannerOptions{Tolerance: math.NaN()}, "Tolerance"},
		{PlannerOptions{Rounds: 11}, "Rounds"}, {PlannerOptions{Rounds: -1}, "Rounds"}, {PlannerOptions{MaxMoves: -1}, "MaxMoves"},
	} {
		if _, err := NewPlanner(o.options); err == nil || !strings.Contains(err.Error(), o.want) {
			t.Errorf("%+v: error %v", o.options, err)
		}
	}
	p := acting(t, PlannerOptions{})
	before := Memory{outside: 1, noise: 0.5}
	for _, c := range []struct {
		change func(*Round, []ObjectLoad)
		want   string
	}{
		{func(_ *Round, o []ObjectLoad) { o[3].Work = math.NaN() }, "Objects[3].Work"},
		{func(_ *Round, o []ObjectLoad) { o[3].Work = math.Inf(1) }, "Objects[3].Work"},
		{func(_ *Round, o []ObjectLoad) { o[3].Work = -1 }, "Objects[3].Work"},
		{func(r *Round, _ []ObjectLoad) { r.Shards[1].Load = math.NaN() }, "Shards[1].Load"},
		{func(r *Round, _ []ObjectLoad) { r.Shards[1].Load = math.Inf(1) }, "Shards[1].Load"},
		{func(r *Round, _ []ObjectLoad) { r.Shards[1].ID = "a" }, `"a"`},
		{func(r *Round, _ []ObjectLoad) { r.Shards[1].Weight = -2 }, "Shards[1].Weight"},
	} {
		round, objects := lopsided()
		c.change(&round, objects)
		plan, after, err := p.Objects(before, round, objects)
		if err == nil || !strings.Contains(err.Error(), c.want) || plan.Acts() || plan.Reason != PlanInvalid || !reflect.DeepEqual(before, after) {
			t.Errorf("%s: %+v, %v, %+v", c.want, plan, err, after)
		}
	}
	r := ringOf(t, numbered(2))
	if _, _, err := p.Slots(Memory{}, Round{}, r, make([]SlotLoad, 3)); err == nil || !strings.Contains(err.Error(), "65536") {
		t.Errorf("too few slots: %v", err)
	}
	slots := make([]SlotLoad, r.Slots())
	slots[70].Objects = -1
	shards := numbered(2)
	shards[0].LoadKnown, shards[1].LoadKnown = true, true
	if _, _, err := p.Slots(Memory{}, Round{Shards: shards}, r, slots); err == nil || !strings.Contains(err.Error(), "Slots[70].Objects") {
		t.Errorf("a negative number of objects: %v", err)
	}
	if plan, _, err := p.Slots(Memory{}, Round{}, nil, nil); err != nil || plan.Reason != PlanTooFewShards {
		t.Errorf("no ring: %+v, %v", plan, err)
	}
}

// TestPlannerEnormous checks that loads beyond all reason neither overflow nor move more than they should.
func TestPlannerEnormous(t *testing.T) {
	round, objects := lopsided()
	round.Shards[0].Load = 1e300
	for i := range objects {
		objects[i].Work = math.MaxFloat64
	}
	plan, _, err := acting(t, PlannerOptions{}).Objects(Memory{}, round, objects)
	if err != nil || !plan.Acts() || math.IsNaN(plan.Expected) || plan.Expected >= plan.Imbalance {
		t.Errorf("%+v, %v", plan, err)
	}
}

// TestPlannerNewcomer checks that a shard that has just joined gets its share, from all the others, with or without load.
func TestPlannerNewcomer(t *testing.T) {
	for _, load := range []float64{1, 1e-6} {
		w := newWorld(t, 10, 20_000, false, equal)
		w.full /= load
		w.use(PlannerOptions{})
		w.round.Shards = append(w.round.Shards, Shard{ID: "new"})
		w.calm(12)
		share := 20_000.0 / 11
		if got := float64(w.moved); got > 1.05*share || got < 0.9*share || w.calm(20) > 0 {
			t.Errorf("load × %v: %v objects moved, the newcomer's share is %.0f", load, got, share)
		}
		for _, o := range w.objects {
			if o.Shard == "new" {
				share--
			}
		}
		if int64(20_000.0/11-share) != w.moved {
			t.Errorf("load × %v: %d objects moved, and the newcomer has %.0f", load, w.moved, 20_000.0/11-share)
		}
	}
}

// TestPlannerWeights checks that shards get load in proportion to their weights.
func TestPlannerWeights(t *testing.T) {
	w := newWorld(t, 4, 8000, false, equal)
	w.round.Shards[2].Weight = 3
	acting := w.calm(8)
	if got := w.loads()["s002"] / w.loads()["s000"]; acting != 1 || math.Abs(got-3) > 0.15 {
		t.Errorf("after %d rounds, a shard of weight 3 has %.3f times the load", acting, got)
	}
}

// TestPlannerHotObject has one object that is half of all load: its shard gives away the rest, and the planner says what is left.
func TestPlannerHotObject(t *testing.T) {
	for _, byRing := range []bool{true, false} {
		w := newWorld(t, 4, 4000, byRing, func(i int) float64 {
			if i == 77 {
				return 4000
			}
			return 1
		})
		acting := w.calm(6)
		if acting > 2 || w.imbalance() > 1.021*w.bound() || w.calm(100) > 0 {
			t.Errorf("by ring %v: %d rounds, imbalance %.3f, the bound is %.3f", byRing, acting, w.imbalance(), w.bound())
		}
		largest := w.plan.Largest
		if math.Abs(largest.Share-0.5) > 0.001 || math.Abs(largest.Bound-w.bound()) > 0.01 || largest.Shard != w.objects[77].Shard {
			t.Errorf("by ring %v: the largest is %+v", byRing, largest)
		}
		if byRing && w.ring.Slot(w.hashes[77]) != largest.Slot || !byRing && (largest.Key != w.objects[77].Key || largest.Slot != -1) {
			t.Errorf("by ring %v: the largest is %+v", byRing, largest)
		}
	}
}

// TestPlannerCooldown checks that what has moved stays for a while, though its load changes.
func TestPlannerCooldown(t *testing.T) {
	for _, byRing := range []bool{true, false} {
		w := newWorld(t, 2, 2000, byRing, equal)
		w.use(PlannerOptions{Rounds: 1, Cooldown: time.Hour})
		hot := w.objects[5].Shard
		for i := range w.objects {
			if w.objects[i].Shard == hot {
				w.objects[i].Work = 2
			}
		}
		first := w.step(exactly, exactly)
		moved := map[int]string{}
		for i, o := range w.objects {
			if o.Work == 2 && o.Shard != hot {
				moved[i] = o.Shard
			}
		}
		if !first.Acts() || len(moved) != int(first.Objects) {
			t.Fatalf("by ring %v: %d objects moved, the plan says %+v", byRing, len(moved), first.Reason)
		}
		for i := range w.objects { // now the others are busy: those that came, above all
			if w.objects[i].Work = 1; moved[i] != "" {
				w.objects[i].Work = 4
			}
		}
		for range 20 {
			w.step(exactly, exactly)
		}
		for i, shard := range moved {
			if w.objects[i].Shard != shard {
				t.Fatalf("by ring %v: object %d has moved again", byRing, i)
			}
		}
		w.round.Now = w.round.Now.Add(time.Hour)
		w.calm(3)
		if w.imbalance() > 1.05 {
			t.Errorf("by ring %v: an hour later, the imbalance is %.3f: %s", byRing, w.imbalance(), w.plan.Text)
		}
	}
}

// TestPlannerDryRun checks that a dry run says what would move, again and again.
func TestPlannerDryRun(t *testing.T) {
	round, objects := lopsided()
	p := acting(t, PlannerOptions{})
	wet, _, err := p.Objects(Memory{}, round, objects)
	if err != nil {
		t.Fatal(err)
	}
	round.DryRun = true
	m := Memory{}
	for range 3 {
		var plan Plan
		if plan, m, err = p.Objects(m, round, objects); err != nil || !reflect.DeepEqual(plan, wet) {
			t.Fatalf("%+v, %v; want %+v", plan, err, wet)
		}
	}
	if len(m.movedKeys) > 0 {
		t.Errorf("a dry run notes moves: %v", m.movedKeys)
	}
}

// TestPlannerSteady is about two properties: the arguments are not changed, and their order does not matter.
func TestPlannerSteady(t *testing.T) {
	round, objects := lopsided()
	p := acting(t, PlannerOptions{})
	_, m, err := p.Objects(Memory{}, round, objects)
	if err != nil {
		t.Fatal(err)
	}
	frozen := m
	frozenMoved := len(m.movedKeys)
	round.Now = round.Now.Add(time.Hour)
	first, _, _ := p.Objects(m, round, objects)
	round.Shards[0], round.Shards[2] = round.Shards[2], round.Shards[0]
	second, _, _ := p.Objects(m, round, objects)
	if !reflect.DeepEqual(first, second) || !reflect.DeepEqual(frozen, m) || len(m.movedKeys) != frozenMoved {
		t.Errorf("the same arguments give\n%+v and\n%+v", first, second)
	}
}

// TestPlannerStrangers has members of the ring that are not in the round, a shard that is not in the ring, and a cordoned one. None of them gives
// or gets.
func TestPlannerStrangers(t *testing.T) {
	w := newWorld(t, 5, 5000, true, equal)
	before := map[string]int{}
	for i := range w.objects {
		if w.objects[i].Shard == "s001" {
			w.objects[i].Work = 3
		}
		before[w.objects[i].Shard]++
	}
	w.round.Shards = append(w.round.Shards[:4], Shard{ID: "s007"})
	w.round.Shards[3].Cordoned = true
	if w.calm(4) == 0 {
		t.Fatalf("nothing moves: %+v", w.plan)
	}
	after := map[string]int{}
	for _, o := range w.objects {
		after[o.Shard]++
	}
	if after["s003"] != before["s003"] || after["s004"] != before["s004"] || after["s007"] != 0 || after["s000"] == before["s000"] {
		t.Errorf("objects %v → %v", before, after)
	}
}

// TestPlannerDefragments cuts a ring into pieces and checks that they are joined within the budget and without getting out of balance.
func TestPlannerDefragments(t *testing.T) {
	w := newWorld(t, 4, 20_000, true, equal)
	rng := rand.New(rand.NewPCG(2, 3))
	claims := w.ring.Claims()
	for i := range claims {
		claims[i].Ranges = nil
	}
	width := uint32(1 << 32 / w.ring.Slots())
	for slot := range w.ring.Slots() {
		i := rng.IntN(4)
		claims[i].Ranges = append(claims[i].Ranges, ring.Range{Start: uint32(slot) * width, End: uint32(slot)*width + width - 1})
	}
	var err error
	if w.ring, err = ring.FromRanges(claims, ring.Slots(w.ring.Slots())); err != nil {
		t.Fatal(err)
	}
	for i := range w.objects {
		w.objects[i].Shard = w.ring.Owner(w.hashes[i])
	}
	w.use(PlannerOptions{Cooldown: -1})
	count := func() int {
		n := 0
		for _, c := range w.ring.Claims() {
			n += len(c.Ranges)
		}
		return n
	}
	before := count()
	for range 60 {
		if plan := w.step(exactly, exactly); plan.Reason == PlanDefragmenting && plan.Objects > DefaultMaxMoves/10 {
			t.Fatalf("%d objects move to join ranges", plan.Objects)
		}
	}
	if after := count(); after > before*2/3 || w.imbalance() > 1.1 {
		t.Errorf("%d ranges → %d, imbalance %.3f: %s", before, after, w.imbalance(), w.plan.Text)
	}
}

// TestPlannerManyRanges checks that no shard gets more ranges than can be written down.
func TestPlannerManyRanges(t *testing.T) {
	r, err := ring.New(membersOf(2), ring.Slots(16_384))
	if err != nil {
		t.Fatal(err)
	}
	claims := r.Claims()
	claims[0].Ranges, claims[1].Ranges = nil, nil
	width := uint32(1 << 32 / r.Slots())
	for slot := range r.Slots() { // four slots in a row for one, then four for the other: 2,048 ranges each
		c := &claims[slot/4%2]
		c.Ranges = append(c.Ranges, ring.Range{Start: uint32(slot) * width, End: uint32(slot)*width + width - 1})
	}
	if r, err = ring.FromRanges(claims, ring.Slots(r.Slots())); err != nil {
		t.Fatal(err)
	}
	slots := make([]SlotLoad, r.Slots())
	for slot := range slots { // the inner ones are heavy: to move them would cut a range in two
		slots[slot] = SlotLoad{Objects: 1, Work: []float64{0.1, 1, 1, 0.1}[slot%4]}
	}
	round := Round{Shards: numbered(2)}
	round.Shards[0].Load, round.Shards[0].LoadKnown = 0.9, true
	round.Shards[1].Load, round.Shards[1].LoadKnown = 0.3, true
	plan, _, err := acting(t, PlannerOptions{MaxMoves: 1 << 20}).Slots(Memory{}, round, r, slots)
	if err != nil || !plan.Acts() {
		t.Fatalf("%+v, %v", plan.Reason, err)
	}
	for _, c := range plan.Ring.Claims() {
		if len(c.Ranges) > maxRanges {
			t.Errorf("%s has %d ranges", c.ID, len(c.Ranges))
		}
	}
}

// TestPlannerFewRanges checks that a ring whose load has shifted does not fall to pieces.
func TestPlannerFewRanges(t *testing.T) {
	w := newWorld(t, 10, 20_000, true, equal)
	w.speed["s004"] = 0.5
	w.calm(4)
	ranges := 0
	for _, c := range w.ring.Claims() {
		ranges += len(c.Ranges)
	}
	if ranges > 60 || w.moved < 500 {
		t.Errorf("%d objects of equal cost have moved, and the ring has %d ranges", w.moved, ranges)
	}
}

// TestPlannerBestMove holds single moves against an exhaustive search: of all moves from the fullest shard to the emptiest, the planner makes
// one that gains nearly as much, in the sum of the squared loads, as the best.
func TestPlannerBestMove(t *testing.T) {
	p := acting(t, PlannerOptions{MaxMoves: 1, Tolerance: 0.01})
	rng := rand.New(rand.NewPCG(12, 13))
	moved := 0
	for range 500 {
		n := 2 + rng.IntN(4)
		round := Round{Shards: numbered(n)}
		loads := make([]float64, n)
		var objects []ObjectLoad
		cost := pareto(rng.Uint64(), 1.1)
		for i := range 1 + rng.IntN(60) {
			shard := int(float64(n) * rng.Float64() * rng.Float64())
			objects = append(objects, ObjectLoad{Key: string(rune('A' + i)), Shard: round.Shards[shard].ID, Work: cost(i)})
			loads[shard] += objects[i].Work
		}
		full := slices.Max(loads)
		for i := range loads {
			loads[i] /= full
			round.Shards[i].Load, round.Shards[i].LoadKnown = loads[i], true
		}
		least := slices.Min(loads)
		gain := func(work float64) float64 { return work * (1 - least - work) }
		best := 0.0
		for _, o := range objects {
			if w := o.Work / full; o.Shard == round.Shards[slices.Index(loads, 1)].ID && 2*w <= farthest*(1-least) {
				best = max(best, gain(w))
			}
		}
		plan, _, err := p.Objects(Memory{}, round, objects)
		if err != nil || len(plan.Moves) > 1 {
			t.Fatal(plan, err)
		}
		for _, m := range plan.Moves {
			if m.From != round.Shards[slices.Index(loads, 1)].ID {
				continue // the fullest has nothing that could move
			}
			if moved++; gain(m.Load) < enough*best-1e-9 {
				t.Fatalf("loads %v: %+v gains %v, the best %v", loads, m, gain(m.Load), best)
			}
		}
	}
	if moved < 200 {
		t.Errorf("only %d of 500 worlds had a move", moved)
	}
}

// FuzzPlanner checks what holds for any input: no move above the budget, none to a shard that may not receive, none from one that keeps its
// own, none twice; the ring and the moves agree; and a second round right after finds nothing to do, unless the first ran out of budget.
func FuzzPlanner(f *testing.F) {
	f.Add(uint64(1), uint8(4), uint16(300), uint16(50), uint8(0), true)
	f.Add(uint64(2), uint8(9), uint16(1000), uint16(2000), uint8(3), false)
	f.Add(uint64(3), uint8(2), uint16(3), uint16(1), uint8(255), true)
	f.Add(uint64(4), uint8(5), uint16(500), uint16(300), uint8(4), false)
	f.Fuzz(func(t *testing.T, seed uint64, shards uint8, objects, budget uint16, flags uint8, byRing bool) {
		rng := rand.New(rand.NewPCG(seed, 99))
		w := newWorld(t, 2+int(shards%20), int(objects%3000), byRing, pareto(seed, 0.6+2*rng.Float64()))
		w.use(PlannerOptions{Rounds: 1, MaxMoves: 1 + int64(budget), Tolerance: 0.02 + 0.5*rng.Float64()})
		for i := range w.round.Shards {
			s := &w.round.Shards[i]
			s.Weight = float64(1 + rng.IntN(3))
			s.Full = flags&1 != 0 && rng.IntN(4) == 0
			s.Cordoned = flags&2 != 0 && rng.IntN(4) == 0
			w.speed[s.ID] = 0.5 + rng.Float64()
		}
		pinned := map[string]bool{}
		for i := range w.objects {
			if o := &w.objects[i]; flags&4 != 0 && rng.IntN(3) == 0 {
				o.Pinned, pinned[o.Key] = true, !byRing
			}
		}
		before := w.round.Shards
		plan := w.step(exactly, exactly)
		total, seen := int64(0), map[string]bool{}
		for _, m := range plan.Moves {
			var from, to Shard
			for _, s := range before {
				if s.ID == m.From {
					from = s
				}
				if s.ID == m.To {
					to = s
				}
			}
			id := m.Key
			if byRing {
				id = string(rune(m.Slot))
			}
			if from.ID == "" || from.Cordoned || !to.Eligible() || m.From == m.To || seen[id] || pinned[m.Key] {
				t.Fatalf("move %+v from %+v to %+v", m, from, to)
			}
			seen[id] = true
			total += m.Objects
		}
		if total != plan.Objects || total > 1+int64(budget) {
			t.Fatalf("%d objects in the moves, %d in the plan, the budget is %d", total, plan.Objects, 1+int64(budget))
		}
		if plan.Acts() && plan.Reason != PlanDefragmenting && plan.Expected > plan.Imbalance+1e-9 {
			t.Fatalf("%+v makes it worse", plan)
		}
	})
}
