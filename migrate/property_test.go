package migrate

import (
	"slices"
	"testing"
)

// explored is the graph of all worlds that can come of one.
type explored struct {
	worlds []world
	index  map[key]int32
	// from are the worlds before each, by steps that are not mishaps.
	from [][]int32
	// settled are the worlds in which the migration is over and nothing is left to happen by itself.
	settled []int32
}

// explore walks through everything that can happen: steps happen by themselves, and own ones of them also when the migration is over; bad
// ones may happen. check is called for each.
func explore(t *testing.T, start world, steps, own, bad []step, check func(t *testing.T, before, after *world, name string)) *explored {
	steps = slices.Concat(steps, own, bad)
	ofItself := len(steps) - len(bad)
	x := &explored{index: map[key]int32{start.key(): 0}, worlds: []world{start}, from: [][]int32{nil}}
	for at := 0; at < len(x.worlds); at++ {
		quiet := true
		for i, s := range steps {
			before := x.worlds[at]
			after := before
			did := s.do(&after)
			after.forgetRounds()
			if !did || after == before {
				continue
			}
			check(t, &before, &after, s.name)
			if t.Failed() {
				t.Fatalf("after %q:\n%+v\n%+v", s.name, before, after)
			}
			quiet = quiet && (i >= ofItself || i < ofItself-len(own))
			after.m.Message, after.recorded.message = "", ""
			key := after.key()
			to, known := x.index[key]
			if !known {
				to = int32(len(x.worlds))
				x.index[key] = to
				x.worlds = append(x.worlds, after)
				x.from = append(x.from, nil)
			}
			if i < ofItself {
				x.from[to] = append(x.from[to], int32(at))
			}
		}
		if quiet && x.worlds[at].m.Phase.Ended() {
			x.settled = append(x.settled, int32(at))
		}
	}
	return x
}

// key is a world in few bytes: small numbers, and words by the order in which they were first seen.
type key [72]byte

func (w *world) key() (k key) {
	i := 0
	put := func(values ...int64) {
		for _, v := range values {
			k[i] = byte(v)
			i++
		}
	}
	counts := func(c Counts) {
		put(c.Waiting, c.Moving, c.Arriving, c.Arrived, c.Refused, c.Returning, c.Kept, c.Unusable, c.Astray)
	}
	put(word(string(w.m.Phase)), word(w.m.Reason), word(string(w.recorded.phase)), word(w.recorded.reason))
	put(w.m.Total, w.recorded.total, w.lateRound)
	counts(w.m.Counts)
	counts(w.late)
	put(bit(w.m.Counted, w.m.SourceLost, w.m.TargetLost, w.m.Verified), bit(w.deadA, w.deadB, w.hasLate, w.aborted))
	for n := range w.n {
		o := &w.objects[n]
		put(int64(o.owner), int64(o.drain), int64(o.memory), int64(o.refused),
			bit(o.gone, o.marked, o.pending, o.declined, o.failed, o.unusable, o.lost))
	}
	return k
}

func bit(values ...bool) (n int64) {
	for _, v := range values {
		n <<= 1
		if v {
			n++
		}
	}
	return n
}

// words are those of phases and reasons. There are few, so their position is a number for them.
var words = []string{"", string(Planning), string(Preparation), string(Transfer), string(Verification), string(Cleanup), string(Succeeded),
	string(RollingBack), string(RolledBack), string(Failed), "Aborted", ReasonNothingSelected, ReasonSourceLost, ReasonTargetLost,
	ReasonNotAllMoved, ReasonNotAllReturned}

func word(w string) int64 {
	i := slices.Index(words, w)
	if i < 0 {
		panic(w)
	}
	return int64(i)
}

// stuck returns the worlds from which none of the settled ones can be reached unless something goes wrong.
func (x *explored) stuck() []world {
	reaches := make([]bool, len(x.worlds))
	todo := slices.Clone(x.settled)
	for _, i := range todo {
		reaches[i] = true
	}
	for len(todo) > 0 {
		last := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, before := range x.from[last] {
			if !reaches[before] {
				reaches[before] = true
				todo = append(todo, before)
			}
		}
	}
	var stuck []world
	for i, ok := range reaches {
		if !ok {
			stuck = append(stuck, x.worlds[i])
		}
	}
	return stuck
}

// checkStep holds what must be true of every single step.
func checkStep(t *testing.T, before, after *world, name string) {
	if after.m.Phase == before.m.Phase || name == "restart" {
		return
	}
	for i := range after.n {
		o := &after.objects[i]
		if o.gone {
			continue
		}
		switch after.m.Phase {
		case Succeeded:
			if o.owner != b && !after.deadB && !after.deadA {
				t.Errorf("succeeded with object %d on %s", i, o.owner)
			}
		case RolledBack:
			if o.owner != a && !after.deadA && !after.deadB {
				t.Errorf("rolled back with object %d on %s", i, o.owner)
			}
		}
	}
}

// TestEveryWayEnds walks through all that can happen to two objects with everything that can go wrong once, and to one object with late
// counts as well. From every world that can be reached a settled one can be, and in these everything is where it should be.
func TestEveryWayEnds(t *testing.T) {
	own := append(objectSteps(0), objectSteps(1)...)
	for name, test := range map[string]struct {
		n   int
		bad []step
	}{
		"one object":  {1, slices.Concat(mishaps(0), fates())},
		"two objects": {2, slices.Concat(mishaps(0), fates()[:3])},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := explore(t, newWorld(test.n), managerSteps(), own, test.bad, checkStep)
			t.Logf("%d worlds, %d of them settled", len(x.worlds), len(x.settled))
			if stuck := x.stuck(); len(stuck) > 0 {
				t.Errorf("from %d worlds there is no way to an end; the first:\n%+v", len(stuck), stuck[0])
			}
			ends := map[Phase]int{}
			for _, i := range x.settled {
				w := x.worlds[i]
				ends[w.m.Phase]++
				for i := range w.n {
					checkSettled(t, &w, &w.objects[i])
				}
				if t.Failed() {
					t.Fatalf("%+v", w)
				}
			}
			if len(ends) != 3 {
				t.Errorf("it ends as %v; want all three ways", ends)
			}
		})
	}
}

func checkSettled(t *testing.T, w *world, o *object) {
	if o.gone {
		return
	}
	if !w.alive(o.owner) {
		t.Errorf("an object is owned by %s, which is dead", o.owner)
	}
	if o.places() != 1 {
		t.Errorf("the state of an object is in %d places", o.places())
	}
	if o.memory != none && o.memory != o.owner {
		t.Errorf("the state of an object is with %s, its owner is %s", o.memory, o.owner)
	}
	if o.drain != none && !o.declined {
		t.Error("an object is still asked for")
	}
}
