package migrate

import "fmt"

// world is a model of everything around the machine: two or three shards, a few objects, a manager that may die at any moment, and what
// people do. It is a value: the property test keeps millions of them.
type world struct {
	deadA, deadB bool
	objects      [2]object
	n            int // of the objects
	m            State
	// recorded is what a manager that begins finds written down.
	recorded record
	// late is a count that was begun and has not been told to the machine.
	late      Counts
	lateRound int64
	hasLate   bool
	// aborted: the user wants it over, which is written down too.
	aborted bool
}

type record struct {
	phase           Phase
	reason, message string
	total           int64
}

// object is one root, with where its processing state is.
type object struct {
	gone         bool
	owner, drain shard
	marked       bool
	// memory is the process that has the state; pending says that the object carries it.
	memory  shard
	pending bool
	refused shard
	// declined, failed: see Object. unusable and lost are where the state is otherwise.
	declined, failed, unusable, lost bool
}

type shard byte

const (
	none shard = iota
	a
	b
	c
)

func (s shard) String() string { return [...]string{"", "a", "b", "c"}[s] }

func newWorld(n int) world {
	w := world{n: n, m: New(false)}
	for i := range n {
		w.objects[i] = object{owner: a, memory: a}
	}
	w.record()
	return w
}

func (w *world) record() { w.recorded = record{w.m.Phase, w.m.Reason, w.m.Message, w.m.Total} }

func (w *world) alive(s shard) bool { return s == c || s == a && !w.deadA || s == b && !w.deadB }

func (w *world) shards() Shards {
	return Shards{Source: "a", Target: "b", SourceReceives: !w.deadA, TargetReceives: !w.deadB, SourceLost: w.deadA, TargetLost: w.deadB}
}

// view is what is written on an object.
func (o *object) view() Object {
	return Object{
		Owner: o.owner.String(), Drain: o.drain.String(), Marked: o.marked, Selected: true, Pending: o.pending,
		RefusedBy: o.refused.String(), Declined: o.declined, Failed: o.failed,
	}
}

// tell is what a manager does with an event: it writes the state down before it does anything else.
func (w *world) tell(e Event) error {
	next, actions, err := Step(w.m, e)
	if err != nil {
		return err
	}
	w.m = next
	if len(actions) > 0 && actions[0] == Record {
		w.record()
	}
	return nil
}

func (w *world) count() Counts {
	var counts Counts
	for i := range w.n {
		if o := &w.objects[i]; !o.gone {
			stage, _ := Look(w.m.Phase, w.shards(), o.view())
			counts.Add(stage)
		}
	}
	return counts
}

// forgetRounds makes worlds equal that differ in nothing but how long they have gone on. A count that is too late stays so.
func (w *world) forgetRounds() {
	if w.hasLate && w.lateRound != w.m.Round {
		w.lateRound = -1
	} else {
		w.lateRound = 0
	}
	w.m.Round = 0
}

// step is something that may happen next; it reports whether it could.
type step struct {
	name string
	do   func(*world) bool
}

// managerSteps are those of the process that runs the migration.
func managerSteps() []step {
	return []step{
		{"plan", func(w *world) bool { return w.tell(Planned{int64(w.n)}) == nil }},
		{"ready", func(w *world) bool { return !w.deadA && !w.deadB && w.tell(Ready{}) == nil }},
		{"lost", func(w *world) bool { // it learns of deaths
			if w.deadA == w.m.SourceLost && w.deadB == w.m.TargetLost {
				return false
			}
			return w.tell(Lost{Source: w.deadA, Target: w.deadB}) == nil
		}},
		{"round", (*world).round},
		{"count", func(w *world) bool { return w.tell(Counted{w.m.Round, w.count()}) == nil }},
		{"verify", func(w *world) bool { return w.tell(Verified{}) == nil }},
		{"clean", func(w *world) bool { return w.tell(Cleaned{}) == nil }},
		{"obey", func(w *world) bool { return w.aborted && w.tell(Abort{"Aborted", ""}) == nil }},
		{"restart", (*world).restart},
	}
}

// round looks at every object, and does what is to be done about it.
func (w *world) round() bool {
	did := false
	for i := range w.n {
		did = w.manage(i) || did
	}
	return did
}

func (w *world) manage(i int) bool {
	o := &w.objects[i]
	if o.gone {
		return false
	}
	_, move := Look(w.m.Phase, w.shards(), o.view())
	switch move {
	case Ask:
		o.drain, o.marked = b, true
	case Withdraw:
		o.drain = none
	case TakeBack:
		o.drain = a
	default:
		return false
	}
	return true
}

// restart: the manager dies, and another one reads what is written down.
func (w *world) restart() bool {
	m, err := Resume(w.recorded.phase, w.recorded.reason, w.recorded.message, w.recorded.total, false)
	if err != nil {
		panic(fmt.Sprintf("%+v can't be resumed: %v", w.recorded, err))
	}
	w.m, w.late, w.lateRound, w.hasLate = m, Counts{}, 0, false
	return true
}

// objectSteps are those of the workers and of the rest of the manager, about object i. They go on when the migration is over.
func objectSteps(i int) []step {
	on := func(f func(w *world, o *object) bool) func(*world) bool {
		return func(w *world) bool {
			o := &w.objects[i]
			return i < w.n && !o.gone && f(w, o)
		}
	}
	return []step{
		{"hand over", on(handOver)},
		{"import", on(func(w *world, o *object) bool {
			if !w.alive(o.owner) || !o.pending || o.memory == o.owner || o.refused == o.owner {
				return false
			}
			o.memory = o.owner
			return true
		})},
		{"acknowledge", on(func(w *world, o *object) bool {
			if !w.alive(o.owner) || !o.pending || o.memory != o.owner {
				return false
			}
			o.pending = false
			return true
		})},
		{"take over", on(takeOver)},
		{"withdraw", on(func(w *world, o *object) bool { // the mover, for a destination that may not receive
			if o.drain == none || w.alive(o.drain) || !w.alive(o.owner) {
				return false
			}
			o.drain = none
			return true
		})},
		{"go on without", on(func(w *world, o *object) bool {
			if o.refused == none || o.refused != o.owner || !o.pending || o.drain != none || !w.alive(o.owner) {
				return false
			}
			o.pending, o.unusable = false, true
			return true
		})},
	}
}

// handOver is one write: owner and state change together.
func handOver(w *world, o *object) bool {
	if !w.alive(o.owner) || o.drain == none || o.declined {
		return false
	}
	if o.memory == o.owner {
		o.memory, o.pending = none, true // what was imported is exported anew
	}
	o.owner, o.drain, o.failed = o.drain, none, false
	return true
}

func takeOver(w *world, o *object) bool {
	if w.alive(o.owner) {
		return false
	}
	if o.memory == o.owner {
		o.memory = none
		o.lost = !o.pending && !o.unusable
	}
	heir := c
	if o.drain != none && w.alive(o.drain) {
		heir = o.drain
	}
	o.owner, o.drain, o.refused, o.declined, o.failed = heir, none, none, false, false
	return true
}

// mishaps are what goes wrong with object i.
func mishaps(i int) []step {
	on := func(f func(w *world, o *object) bool) func(*world) bool {
		return func(w *world) bool {
			o := &w.objects[i]
			return i < w.n && !o.gone && !w.m.Phase.Ended() && f(w, o)
		}
	}
	return []step{
		{"refuse", on(func(w *world, o *object) bool {
			if o.owner != b || !w.alive(b) || !o.pending || o.memory == b || o.refused != none {
				return false
			}
			o.refused = b
			return true
		})},
		{"decline", on(func(w *world, o *object) bool {
			if o.owner != a || !w.alive(a) || o.drain != b || o.memory != a || o.declined {
				return false
			}
			o.declined = true
			return true
		})},
		{"fail", on(func(w *world, o *object) bool {
			if o.owner != b || !w.alive(b) || o.pending || o.failed || w.m.Phase != Verification || w.m.Verified {
				return false
			}
			o.failed = true
			return true
		})},
		{"delete", on(func(w *world, o *object) bool { *o = object{gone: true}; return true })},
		{"unlabel", on(func(w *world, o *object) bool { // somebody takes the request off by hand
			if o.drain == none {
				return false
			}
			o.drain = none
			return true
		})},
	}
}

// fates are what happens to shards and to the migration as a whole.
func fates() []step {
	before := func(f func(*world) bool) func(*world) bool {
		return func(w *world) bool { return !w.m.Phase.Ended() && f(w) }
	}
	return []step{
		{"kill a", before(func(w *world) bool { was := w.deadA; w.deadA = true; return !was })},
		{"kill b", before(func(w *world) bool { was := w.deadB; w.deadB = true; return !was })},
		{"abort", before(func(w *world) bool { was := w.aborted; w.aborted = true; return !was })},
		{"begin a count", before(func(w *world) bool {
			if w.hasLate || !w.m.Phase.Moving() {
				return false
			}
			w.late, w.lateRound, w.hasLate = w.count(), w.m.Round, true
			return true
		})},
		{"end the count", before(func(w *world) bool {
			if !w.hasLate {
				return false
			}
			late, round := w.late, w.lateRound
			w.late, w.lateRound, w.hasLate = Counts{}, 0, false
			return w.tell(Counted{round, late}) == nil
		})},
	}
}

// places is in how many places the processing state of an object is.
func (o *object) places() int {
	n := 0
	for _, there := range []bool{o.memory != none, o.pending, o.unusable, o.lost} {
		if there {
			n++
		}
	}
	return n
}
