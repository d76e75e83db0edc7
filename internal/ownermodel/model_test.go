package ownermodel

import (
	"strings"
	"testing"
)

// TestEveryState goes through all states of three shards, two objects and two managers.
func TestEveryState(t *testing.T) {
	settled := 0
	r := Explore(State{}, Step, func(s *State) string {
		if s.Settled() {
			settled++
		}
		return s.Violation()
	})
	for _, s := range r.Path {
		t.Logf("%+v", s)
	}
	t.Logf("%d states, at most %d events away; in %d of them all objects rest with an owner that acts", r.States, r.Depth, settled)
	switch {
	case r.What != "":
		t.Error(r.What)
	case r.States < 500_000 || settled == 0:
		t.Error("the model has become smaller: what does it leave out now?")
	}
}

// mistakes are events that must not be possible. Each is added to the model, and has to lead to a violation.
var mistakes = []struct {
	name  string
	event func(s *State, add adder)
	what  string
}{
	{"hand over during a reconcile", eachView(func(s *State, i, o int, add adder) {
		if s.Shard[i].Phase[o] == Reconciling && s.Shard[i].View[o] == MineDraining {
			add(func(t *State) { t.handOver(i, o, false); t.Shard[i].Phase[o] = Reconciling })
		}
	}), "does not own"},
	{"forget what was given away", eachView(func(s *State, i, o int, add adder) {
		if s.Shard[i].Phase[o] == Writing {
			add(func(t *State) { t.handOver(i, o, true); t.Shard[i].View[o] = Mine })
		}
	}), "does not own"},
	{"begin a session without comparing caches", eachView(func(s *State, i, o int, add adder) {
		if shard := s.Shard[i]; !shard.Active && shard.Holder == ByShard && shard.Age == Fresh && !shard.working() {
			add(func(t *State) { t.Shard[i].Active, t.Shard[i].View[o] = true, Mine })
		}
	}), "does not own"},
	{"act beyond the deadline", eachShard(func(s *State, i int, add adder) {
		if s.Shard[i].Active && s.Shard[i].Age == Fresh {
			add(func(t *State) { t.Shard[i].Age = Deadline })
		}
	}), "without its Lease"},
	{"take a Lease before it is dead", eachShard(func(s *State, i int, add adder) {
		if s.Shard[i].Age == Deadline {
			add(func(t *State) { t.Shard[i].Holder, t.Shard[i].Age = ByManager, Fresh })
		}
	}), "does not own"},
	{"take over without the Lease", eachShard(func(s *State, i int, add adder) {
		if s.Manager[0].Intent.To == 0 && s.Object[0].Owner == uint8(i+1) {
			add(func(t *State) { t.Manager[0].Intent = Intent{0, uint8((i+1)%Shards + 1)} })
		}
	}), "does not own"},
	{"write without a resourceVersion", eachView(func(s *State, i, o int, add adder) {
		if in := s.Manager[0].Intent; in.To != 0 && int(in.Object) == o && s.Shard[i].Phase[o] == Writing {
			add(func(t *State) {
				t.handOver(i, o, true)
				t.Manager[0].Intent = in
			})
		}
		if s.Shard[i].Phase[o] == Writing && s.Object[o].Drain != 0 {
			add(func(t *State) { // somebody takes the object over, and that does not refuse the hand-over
				t.write(o, Object{Owner: s.Object[o].Drain})
				t.Shard[i].Phase[o] = Writing
			})
		}
	}), ""},
	{"write a take-over that was decided under an earlier holding of the Lease", eachShard(func(s *State, i int, add adder) {
		if s.Shard[i].Age == Deadline && !s.Shard[i].working() {
			add(func(t *State) { t.Shard[i].Age = Dead }) // without lapse
		}
	}), "does not own"},
	{"begin with a Lease that another process may still hold", eachShard(func(s *State, i int, add adder) {
		if s.Shard[i].Holder >= ByManager {
			add(func(t *State) { t.Shard[i].Holder, t.Shard[i].Age = ByShard, Fresh })
		}
	}), "does not own"},
}

func eachShard(f func(s *State, i int, add adder)) func(*State, adder) {
	return func(s *State, add adder) {
		for i := range s.Shard {
			f(s, i, add)
		}
	}
}

func eachView(f func(s *State, i, o int, add adder)) func(*State, adder) {
	return eachShard(func(s *State, i int, add adder) {
		for o := range s.Object {
			f(s, i, o, add)
		}
	})
}

// TestMistakesAreFound: every rule that the model keeps is needed.
func TestMistakesAreFound(t *testing.T) {
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			r := Explore(State{}, func(s State) []State {
				next := Step(s)
				m.event(&s, func(change func(*State)) {
					n := s
					change(&n)
					next = append(next, n)
				})
				return next
			}, (*State).Violation)
			if r.What == "" || !strings.Contains(r.What, m.what) {
				t.Fatalf("got violation %q in %d states, want one with %q", r.What, r.States, m.what)
			}
			t.Logf("%s, after %d events", r.What, len(r.Path)-1)
		})
	}
}
