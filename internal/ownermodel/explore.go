package ownermodel

// Result of an exploration.
type Result struct {
	// States is how many were reached, up to the order of shards, objects and managers.
	States int
	// Depth is how many events the farthest of them is away.
	Depth int
	// Path leads to a violation; nil if there is none. What says which.
	Path []State
	What string
}

// Explore goes through all states that can be reached from the first by step, breadth first. States that differ only in which shard,
// object or manager is which count as one.
func Explore(first State, step func(State) []State, violation func(*State) string) Result {
	type link struct{ parent int32 }
	known := map[key]int32{}
	var states []State
	var links []link
	visit := func(s State, parent int32) bool {
		k := canonical(&s)
		if _, seen := known[k]; seen {
			return false
		}
		known[k] = int32(len(states))
		states = append(states, s)
		links = append(links, link{parent})
		return true
	}
	visit(first, -1)
	r := Result{}
	for begin := 0; begin < len(states); r.Depth++ {
		end := len(states)
		for i := begin; i < end; i++ {
			if r.What = violation(&states[i]); r.What != "" {
				for at := int32(i); at >= 0; at = links[at].parent {
					r.Path = append([]State{states[at]}, r.Path...)
				}
				r.States = len(states)
				return r
			}
			for _, next := range step(states[i]) {
				visit(next, int32(i))
			}
		}
		begin = end
	}
	r.States = len(states)
	return r
}

// A key is a State in 53 bits.
type key uint64

var (
	shardOrders   = [][Shards]uint8{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} // shard i becomes number order[i]
	objectOrders  = [][Objects]uint8{{0, 1}, {1, 0}}                                                  // the inverse of an order of two is itself
	managerOrders = [][Managers]uint8{{0, 1}, {1, 0}}
)

// canonical is the smallest key among those of all states that are the same up to order.
func canonical(s *State) key {
	least := ^key(0)
	for _, objects := range objectOrders {
		for _, managers := range managerOrders {
			var words [Shards]key
			for i := range s.Shard {
				words[i] = s.Shard[i].encode(objects, managers)
			}
			for _, shards := range shardOrders {
				least = min(least, s.encode(words, shards, objects, managers))
			}
		}
	}
	return least
}

const shardBits = 13

func (s *Shard) encode(objects [Objects]uint8, managers [Managers]uint8) key {
	k := key(0)
	if s.Active {
		k = 1
	}
	holder := s.Holder
	if holder >= ByManager {
		holder = ByManager + Holder(managers[holder-ByManager])
	}
	k = k<<2 | key(holder)
	k = k<<2 | key(s.Age)
	for _, o := range objects {
		k = k<<2 | key(s.View[o])
		k = k<<2 | key(s.Phase[o])
	}
	return k
}

func (s *State) encode(words [Shards]key, shards [Shards]uint8, objects [Objects]uint8, managers [Managers]uint8) key {
	shard := func(from1 uint8) key {
		if from1 == 0 {
			return 0
		}
		return key(shards[from1-1] + 1)
	}
	k := key(0)
	for _, o := range objects {
		k = k<<2 | shard(s.Object[o].Owner)
		k = k<<2 | shard(s.Object[o].Drain)
	}
	for _, m := range managers {
		in := s.Manager[m].Intent
		if in.To == 0 {
			k <<= 3
			continue
		}
		k = k<<1 | key(objects[in.Object])
		k = k<<2 | shard(in.To)
	}
	k <<= Shards * shardBits
	for i, word := range words {
		k |= word << (shardBits * shards[i])
	}
	return k
}
