package sharding

import (
	"time"
)

// maxSuspicions bounds how many suspicions are remembered, some 50 bytes each. If there are more, those that have been there for
// longest are kept, and the count of the gaps is a lower bound.
const maxSuspicions = 4096

// suspicion is that something is wrong with one object. It becomes a gap when it is seen again, unchanged, after a time.
type suspicion struct {
	first     time.Time
	state     uint64
	pass      int64 // that has seen it last
	confirmed bool
}

type suspicionKey struct {
	object element
	kind   gapKind
}

// suspicions are what the audit has seen wrong and does not believe yet. They know no clock: time is an argument.
type suspicions struct {
	known map[suspicionKey]suspicion
	pass  int64
	// beyond is how many this pass has seen that could not be remembered.
	beyond int64
}

// verdict is what a suspicion amounts to.
type verdict int

const (
	suspected   verdict = iota // wait and see
	newlyProven                // it is a gap, as of now
	stillProven                // it is a gap, and has been told so before
)

// begin starts a pass.
func (s *suspicions) begin() {
	if s.known == nil {
		s.known = map[suspicionKey]suspicion{}
	}
	s.pass++
	s.beyond = 0
}

// raise notes that something looks wrong now.
func (s *suspicions) raise(now time.Time, object element, kind gapKind, state uint64, dwell time.Duration) verdict {
	key := suspicionKey{object, kind}
	entry, known := s.known[key]
	if !known && len(s.known) >= maxSuspicions {
		s.beyond++
		return suspected
	}
	if !known || entry.state != state {
		s.known[key] = suspicion{first: now, state: state, pass: s.pass}
		return suspected
	}
	before := entry.pass
	entry.pass = s.pass
	result := suspected
	switch {
	case entry.confirmed:
		result = stillProven
	case now.Sub(entry.first) >= dwell && before < s.pass:
		entry.confirmed, result = true, newlyProven
	}
	s.known[key] = entry
	return result
}

// end forgets what the pass has not seen again. It returns after which time the next pass can prove something; false if there is
// nothing left to be proven.
func (s *suspicions) end(now time.Time, dwell func(gapKind) time.Duration) (wait time.Duration, any bool) {
	for key, entry := range s.known {
		if entry.pass < s.pass {
			delete(s.known, key)
			continue
		}
		due := max(0, dwell(key.kind)-now.Sub(entry.first))
		if !any || due < wait {
			wait, any = due, true
		}
	}
	return wait, any
}

// abort takes a pass back that was not completed: nothing is forgotten because of it.
func (s *suspicions) abort() {
	for key, entry := range s.known {
		if entry.pass < s.pass {
			entry.pass = s.pass
			s.known[key] = entry
		}
	}
}

// concerns says whether an object is suspected of something that is told from the reports of the shards.
func (s *suspicions) concerns(object element) bool {
	for _, kind := range [...]gapKind{gapNotHeld, gapHeldElsewhere} {
		if _, known := s.known[suspicionKey{object, kind}]; known {
			return true
		}
	}
	return false
}
