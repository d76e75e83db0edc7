package ownermodel

// Step returns every state that can follow. Each comes from one event: at one process, or at the API server.
func Step(s State) []State {
	var next []State
	add := func(change func(*State)) {
		t := s
		change(&t)
		next = append(next, t)
	}
	for i := range s.Shard {
		stepShard(&s, i, add)
		stepLease(&s, i, add)
	}
	for m := range s.Manager {
		stepManager(&s, m, add)
	}
	for o := range s.Object {
		stepPlacement(&s, o, add)
	}
	return next
}

// write makes a change of an object take effect: all other writes that were decided upon before are refused from now on.
func (s *State) write(o int, to Object) {
	s.Object[o] = to
	for m := range s.Manager {
		if in := &s.Manager[m].Intent; in.To != 0 && int(in.Object) == o {
			*in = Intent{}
		}
	}
	for i := range s.Shard {
		if s.Shard[i].Phase[o] == Writing {
			s.unanswered(i, o)
		}
	}
}

// see is what the cache of shard i shows of an object when it is up to date.
func (s *State) see(i, o int) View {
	switch object := s.Object[o]; {
	case int(object.Owner) != i+1:
		return NotMine
	case object.Drain != 0:
		return MineDraining
	}
	return Mine
}

type adder func(func(*State))

func stepShard(s *State, i int, add adder) {
	shard := &s.Shard[i]
	if shard.Active || shard.working() {
		add(func(t *State) { t.crash(i) })
	}
	for o := range s.Object {
		stepObject(s, i, o, add)
	}
	if !shard.Active && shard.Holder == ByShard && shard.Age == Fresh && !shard.working() {
		add(func(t *State) { // a session begins: the caches are compared with the API server
			t.Shard[i].Active = true
			for o := range t.Object {
				t.Shard[i].View[o] = t.see(i, o)
			}
		})
	}
}

// working says whether a reconcile has not returned.
func (s *Shard) working() bool {
	for _, phase := range s.Phase {
		if phase == Reconciling {
			return true
		}
	}
	return false
}

// crash leaves the Lease, which gets older, and what the API server has. A write on its way may be carried out still, though nobody
// is told.
func (s *State) crash(i int) {
	for o, phase := range s.Shard[i].Phase {
		if phase == Reconciling {
			s.Shard[i].Phase[o] = Idle
		}
	}
	s.Shard[i].Age = Deadline // there is nobody left whose deadline it would be
	s.stop(i)
}

// stop ends a session. Reconciles and writes that are on their way go on for a while.
func (s *State) stop(i int) {
	shard := &s.Shard[i]
	shard.Active = false
	for o := range shard.View {
		shard.View[o] = NotMine
		if shard.Phase[o] == Retry {
			shard.Phase[o] = Idle // the next session looks at everything anew
		}
	}
}

// stepObject is what a shard does about one object.
func stepObject(s *State, i, o int, add adder) {
	shard := &s.Shard[i]
	if seen := s.see(i, o); shard.Active && seen != shard.View[o] {
		add(func(t *State) { t.Shard[i].View[o] = seen }) // the watch
	}
	switch shard.Phase[o] {
	case Idle:
		if shard.Active && shard.View[o] == Mine {
			add(func(t *State) { t.Shard[i].Phase[o] = Reconciling })
		}
		if shard.Active && shard.View[o] == MineDraining {
			add(func(t *State) { t.decide(i, o) })
		}
	case Reconciling:
		add(func(t *State) { t.Shard[i].Phase[o] = Idle })
	case Retry:
		add(func(t *State) { t.decide(i, o) })
	case Writing:
		add(func(t *State) { t.handOver(i, o, true) })
		add(func(t *State) { t.handOver(i, o, false) })
		add(func(t *State) { t.unanswered(i, o) }) // it is lost on its way
	}
}

// decide is the owner's decision to hand over, on the object as it is.
func (s *State) decide(i, o int) {
	shard, object := &s.Shard[i], s.Object[o]
	switch {
	case int(object.Owner) != i+1:
		shard.Phase[o], shard.View[o] = Idle, NotMine // given away by a write whose answer was lost
	case object.Drain == 0:
		shard.Phase[o] = Idle // withdrawn
	default:
		shard.Phase[o] = Writing
	}
}

// handOver is the write of the owner that takes effect; it may learn of that, or not.
func (s *State) handOver(i, o int, answered bool) {
	s.write(o, Object{Owner: s.Object[o].Drain})
	s.unanswered(i, o)
	if answered {
		s.Shard[i].Phase[o], s.Shard[i].View[o] = Idle, NotMine
	}
}

func (s *State) unanswered(i, o int) {
	s.Shard[i].Phase[o] = Idle
	if s.Shard[i].Active {
		s.Shard[i].Phase[o] = Retry
	}
}

// stepLease is what time does to the Lease of a shard, and what the shard does about it.
func stepLease(s *State, i int, add adder) {
	shard := &s.Shard[i]
	switch {
	case shard.Holder == Nobody:
		add(func(t *State) { t.Shard[i].Holder, t.Shard[i].Age = ByShard, Fresh })
	case shard.Age == Fresh:
		add(func(t *State) {
			t.Shard[i].Age = Deadline
			t.stop(i)
		})
	case shard.Age == Deadline && !shard.working():
		add(func(t *State) { t.Shard[i].Age = Dead; t.lapse(i) })
	}
	if shard.Holder == ByShard && shard.Age != Fresh && !shard.working() {
		add(func(t *State) { t.Shard[i].Age = Fresh }) // it renews late; the next process does when the record of the one before is dead
	}
}

// lapse drops the writes of a take-over that were sent while a Lease was held which is dead by now: they have been carried out or lost.
func (s *State) lapse(i int) {
	for m := range s.Manager {
		in := &s.Manager[m].Intent
		if in.To != 0 && int(s.Object[in.Object].Owner) == i+1 {
			*in = Intent{}
		}
	}
}
