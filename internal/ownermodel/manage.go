package ownermodel

// stepManager is what a manager may do. It is not asked whether it leads: all managers do at all times, as far as they know. Nor does
// it matter to safety to whom they give what, so they give anything to anybody, whether that seems to be alive or not. What they decide
// about objects of live owners takes effect at once: with compare-and-swap, a write that comes late is one that was decided upon late.
func stepManager(s *State, m int, add adder) {
	if in := s.Manager[m].Intent; in.To != 0 {
		add(func(t *State) { t.write(int(in.Object), Object{Owner: in.To}) })
		add(func(t *State) { t.Manager[m].Intent = Intent{} })
	} else {
		for o := range s.Object {
			planTakeOver(s, m, o, add)
		}
	}
	for i := range s.Shard {
		stepTakeOver(s, m, i, add)
	}
}

// stepPlacement is what any manager may write at any time.
func stepPlacement(s *State, o int, add adder) {
	object := s.Object[o]
	for to := uint8(1); to <= Shards; to++ {
		switch {
		case object.Owner == 0:
			add(func(t *State) { t.write(o, Object{Owner: to}) })
		case to != object.Owner && to != object.Drain:
			add(func(t *State) { t.write(o, Object{object.Owner, to}) })
		}
	}
	if object.Drain != 0 {
		add(func(t *State) { t.write(o, Object{Owner: object.Owner}) })
	}
}

// planTakeOver: who holds the Lease of an owner, and may act on that, decides to give its object to another shard.
func planTakeOver(s *State, m, o int, add adder) {
	owner := s.Object[o].Owner
	if owner == 0 || s.Shard[owner-1].Holder != ByManager+Holder(m) || s.Shard[owner-1].Age != Fresh {
		return
	}
	for to := uint8(1); to <= Shards; to++ {
		if to != owner {
			add(func(t *State) { t.Manager[m].Intent = Intent{uint8(o), to} })
		}
	}
}

// stepTakeOver: a manager takes the Lease of a dead shard, renews it, and gives it back when nothing is left, or when there is nobody to
// take anything. It waits for its own writes before that.
func stepTakeOver(s *State, m, i int, add adder) {
	shard, mine := &s.Shard[i], ByManager+Holder(m)
	if shard.Age == Dead && shard.Holder != mine {
		add(func(t *State) { t.Shard[i].Holder, t.Shard[i].Age = mine, Fresh })
	}
	if shard.Holder != mine {
		return
	}
	if shard.Age != Fresh {
		add(func(t *State) { t.Shard[i].Age = Fresh })
	}
	if in := s.Manager[m].Intent; in.To == 0 || int(s.Object[in.Object].Owner) != i+1 {
		add(func(t *State) { t.Shard[i].Holder, t.Shard[i].Age = Nobody, Fresh })
	}
}
