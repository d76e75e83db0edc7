package balancer

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Memory is what a [Planner] remembers from one round to the next. The zero Memory remembers nothing, and is right for the first round of
// a manager's term. A Memory is a value: no method changes one, and it may be used again.
type Memory struct {
	outside    int             // rounds in a row in which somebody was out of the band
	noise      float64         // how much loads differ from one round to the next, relative to the mean load: a standard deviation
	differing  bool            // noise was measured
	seen       map[string]seen // by shard
	slots      int
	movedSlots map[int32]time.Time
	movedKeys  map[string]time.Time
}

// seen is the load of a shard, relative to the mean of its rounds.
type seen struct {
	mean float64
	n    int
	last float64
}

const (
	// longestMean is over how many rounds loads are averaged at most.
	longestMean = 10
	// doubt is how many standard deviations are taken for chance.
	doubt = 4
	// noiseMemory is the part of the noise that is kept from round to round.
	noiseMemory = 0.8
)

// interrupted is the memory after a round in which loads were not to be believed, or after which they will be others.
func (m Memory) interrupted() Memory {
	m.outside, m.seen = 0, nil
	return m
}

// observed takes the loads of a round in, and puts their averages in force. A load that differs from its average by more than chance
// explains has changed, and begins a new one.
func (m Memory) observed(s *scene) Memory {
	if !m.sameShards(s) {
		m.seen = nil
	}
	relative := make([]float64, len(s.active))
	var differences []float64
	for n, i := range s.active {
		p := &s.parties[i]
		relative[n] = 1
		if s.mean > 0 {
			relative[n] = p.now / s.mean
		}
		if before, known := m.seen[p.ID]; known {
			differences = append(differences, math.Abs(relative[n]-before.last))
		}
	}
	if len(differences) > 0 {
		m.noise, m.differing = m.noiseWith(differences), true
	}
	next := make(map[string]seen, len(s.active))
	for n, i := range s.active {
		p := &s.parties[i]
		now, before := relative[n], m.seen[p.ID]
		if before.n == 0 || math.Abs(now-before.mean) > doubt*m.noise {
			before = seen{mean: now}
		}
		before.n = min(before.n+1, longestMean)
		before.mean += (now - before.mean) / float64(before.n)
		before.last = now
		next[p.ID] = before
		p.noise = doubt * m.noise / math.Sqrt(float64(before.n))
		relative[n] = before.mean * s.mean
	}
	m.seen = next
	s.settle(relative)
	return m
}

// sameShards says whether the shards that take part are those of the round before. When they are not, all parts of the load are others.
func (m Memory) sameShards(s *scene) bool {
	for _, i := range s.active {
		if _, known := m.seen[s.parties[i].ID]; !known {
			return false
		}
	}
	return len(m.seen) == len(s.active)
}

// noiseWith is the noise after a round with these differences to the round before. The difference of two normal values has a median of 0.954 standard
// deviations of one of them; a median does not mind that the load of a few shards has really changed.
func (m Memory) noiseWith(differences []float64) float64 {
	slices.Sort(differences)
	now := differences[len(differences)/2] / 0.954
	if !m.differing {
		return now
	}
	return float64(noiseMemory*m.noise) + float64((1-noiseMemory)*now)
}

// coolingSlots says which slots have moved since. A cool-down that is not positive means none.
func (m Memory) coolingSlots(since time.Time, cooldown time.Duration) func(int32) bool {
	if cooldown <= 0 || len(m.movedSlots) == 0 {
		return func(int32) bool { return false }
	}
	return func(slot int32) bool {
		at, moved := m.movedSlots[slot]
		return moved && at.After(since)
	}
}

func (m Memory) coolingObjects(since time.Time, cooldown time.Duration, objects []ObjectLoad) func(int32) bool {
	if cooldown <= 0 {
		return func(int32) bool { return false }
	}
	lately := func(at time.Time) bool { return !at.IsZero() && at.After(since) }
	return func(n int32) bool { return lately(objects[n].Moved) || lately(m.movedKeys[objects[n].Key]) }
}

func (m Memory) noteSlots(moves []Move, now time.Time, cooldown time.Duration) Memory {
	m.movedSlots = note(m.movedSlots, moves, now, cooldown, func(move Move) int32 { return int32(move.Slot) })
	return m
}

func (m Memory) noteObjects(moves []Move, now time.Time, cooldown time.Duration) Memory {
	known := slices.DeleteFunc(slices.Clone(moves), func(move Move) bool { return move.Key == "" })
	m.movedKeys = note(m.movedKeys, known, now, cooldown, func(move Move) string { return move.Key })
	return m
}

// note returns the map with the moves, and without those whose cool-down is over.
func note[K comparable](before map[K]time.Time, moves []Move, now time.Time, cooldown time.Duration, key func(Move) K) map[K]time.Time {
	if len(moves) == 0 || cooldown <= 0 {
		return before
	}
	after := maps.Clone(before)
	if after == nil {
		after = make(map[K]time.Time, len(moves))
	}
	maps.DeleteFunc(after, func(_ K, at time.Time) bool { return !at.After(now.Add(-cooldown)) })
	for _, move := range moves {
		after[key(move)] = now
	}
	return after
}
