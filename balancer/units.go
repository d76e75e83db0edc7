package balancer

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/shard-io/shard-controller/ring"
)

// Values in scene.owner that are no party. Members of the ring that are not in the round are stranger, stranger-1 and so on.
const (
	nobody   = -1
	stranger = -2
)

// ownerOf returns who owns a slot, "" for nobody.
func (s *scene) ownerOf(slot int) string {
	switch owner := s.owner[slot]; {
	case owner >= 0:
		return s.parties[owner].ID
	case owner == nobody:
		return ""
	default:
		return s.ring.Members()[stranger-owner].ID
	}
}

// only leaves out the shards that are no members of the ring.
func (s *scene) only(r *ring.Ring) {
	s.active = slices.DeleteFunc(s.active, func(i int) bool { return !r.Has(s.parties[i].ID) })
}

func (s *scene) addSlots(r *ring.Ring, slots []SlotLoad) error {
	s.ring, s.owner = r, make([]int32, len(slots))
	for i := range s.owner {
		s.owner[i] = nobody
	}
	for n, claim := range r.Claims() {
		i, known := s.index[claim.ID]
		if !known {
			for _, g := range claim.Ranges {
				for slot := r.Slot(uint64(g.Start) << 32); slot <= r.Slot(uint64(g.End)<<32); slot++ {
					s.owner[slot] = stranger - int32(n)
				}
			}
			continue
		}
		s.parties[i].ranges = len(claim.Ranges)
		for _, g := range claim.Ranges {
			first, last := r.Slot(uint64(g.Start)<<32), r.Slot(uint64(g.End)<<32)
			full := 0
			for _, l := range slots[first : last+1] {
				if l.Objects != 0 || l.Work != 0 {
					full++
				}
			}
			s.parties[i].units = slices.Grow(s.parties[i].units, full)
			known := len(s.parties[i].units)
			for slot := first; slot <= last; slot++ {
				s.owner[slot] = int32(i)
				if err := s.add(i, "Slots", slot, slots[slot].Objects, slots[slot].Work); err != nil {
					return err
				}
			}
			stretch(s.parties[i].units[known:], int32(first), int32(last))
		}
	}
	return nil
}

// stretch divides the slots of a range among those that are not empty: each gets the empty ones behind it, and the first one those before it.
func stretch(units []unit, first, last int32) {
	for i := range units {
		units[i].first, units[i].last = units[i].id, last
		if i == 0 {
			units[i].first = first
		} else {
			units[i-1].last = units[i].id - 1
		}
	}
}

func (s *scene) addObjects(objects []ObjectLoad) error {
	for n, o := range objects {
		i, known := s.index[o.Shard]
		if !known {
			continue
		}
		if err := s.add(i, "Objects", n, cmp.Or(o.Objects, 1), o.Work); err != nil {
			return err
		}
		units := s.parties[i].units
		units[len(units)-1].stays = o.Pinned
	}
	return nil
}

// add gives a party a unit: the one with the number id in a list of the input.
func (s *scene) add(i int, list string, id int, objects int64, work float64) error {
	if !(work >= 0) || math.IsInf(work, 1) {
		return fmt.Errorf("balancer: %s[%d].Work: %v, must be a number from 0", list, id, work)
	}
	if objects < 0 || objects > 1<<40 {
		return fmt.Errorf("balancer: %s[%d].Objects: %d, must be from 0 to 2^40", list, id, objects)
	}
	if work > 0 || objects > 0 {
		p := &s.parties[i]
		p.units = append(p.units, unit{load: work, cost: max(1, objects), id: int32(id)})
		p.objects += objects
	}
	return nil
}
