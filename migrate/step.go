package migrate

import (
	"errors"
	"fmt"
)

// Event is something that has been found out: one of [Planned], [Reject], [Ready], [Counted], [Verified], [Cleaned], [Abort] and [Lost].
type Event interface{ apply(*State) error }

// Planned: the selection has been counted, and is worth moving.
type Planned struct{ Total int64 }

// Reject: the plan makes no sense. Both are required, except Message.
type Reject struct{ Reason, Message string }

// Ready: it is this migration's turn, the target may receive objects, and the source is there.
type Ready struct{}

// Counted: all objects have been looked at, in one list or in one for each resource.
type Counted struct {
	// Round is [State.Round] as it was when the count began. A count that began before the last event is refused: what has become known
	// since may change what it means.
	Round  int64
	Counts Counts
}

// Verified: the target has tried everything that it had been given when Verification began. What it can't work with is looked at as
// [Object.Failed] from now on; the next count decides.
type Verified struct{}

// Cleaned: leftovers have been removed.
type Cleaned struct{}

// Abort: somebody does not want it any more, or it can't be done any more, such as when a deadline has passed. Reason is required.
type Abort struct{ Reason, Message string }

// Lost: one of the two shards is dead, or has left. Its objects go to others.
type Lost struct{ Source, Target bool }

// Action is something that is to be done after a step.
type Action string

// The actions, in the order in which they are returned. All can be repeated.
const (
	// Record: write the state down, before anything else is done.
	Record Action = "Record"
	// Announce: tell people about the new phase.
	Announce Action = "Announce"
	// CountSelection: answer with [Planned] or [Reject].
	CountSelection Action = "CountSelection"
	// AwaitTurn: answer with [Ready].
	AwaitTurn Action = "AwaitTurn"
	// MoveObjects: look at all objects, do what [Look] says, and answer with [Counted], until the phase changes.
	MoveObjects Action = "MoveObjects"
	// AskTarget: ask the target whether it works with what it was given, and answer with [Verified].
	AskTarget Action = "AskTarget"
	// RemoveLeftovers: answer with [Cleaned].
	RemoveLeftovers Action = "RemoveLeftovers"
)

var (
	// ErrNotNow: the event means nothing in this phase.
	ErrNotNow = errors.New("the event means nothing in this phase")
	// ErrStale: the count began before the last event.
	ErrStale = errors.New("the count began before the last event")
)

// Step returns the state after an event, and what is to be done then. It never changes what it is given. With an error, the state is
// the one that was passed, and there is nothing to do; the error wraps [ErrNotNow], [ErrStale] or [ErrInvalid].
func Step(s State, e Event) (State, []Action, error) {
	if err := s.check(); err != nil {
		return s, nil, err
	}
	if e == nil {
		return s, nil, fmt.Errorf("%w: no event", ErrNotNow)
	}
	next := s
	if err := e.apply(&next); err != nil {
		return s, nil, fmt.Errorf("%T in phase %s: %w", e, s.Phase, err)
	}
	if err := next.check(); err != nil {
		return s, nil, fmt.Errorf("%T in phase %s: %w", e, s.Phase, err)
	}
	changed := next != s
	next.Round++
	if next.Phase != s.Phase {
		return next, append([]Action{Record, Announce}, next.Actions()...), nil
	}
	if changed {
		return next, append([]Action{Record}, next.Actions()...), nil
	}
	return next, next.Actions(), nil
}

// Actions returns what is to be done in a state, also by a process that has just taken the migration over.
func (s State) Actions() []Action {
	switch s.Phase {
	case Planning:
		return []Action{CountSelection}
	case Preparation:
		return []Action{AwaitTurn}
	case Transfer, RollingBack:
		return []Action{MoveObjects}
	case Verification:
		return []Action{MoveObjects, AskTarget}
	case Cleanup:
		return []Action{MoveObjects, RemoveLeftovers}
	}
	return nil
}

func (e Planned) apply(s *State) error {
	if s.Phase != Planning {
		return ErrNotNow
	}
	s.Total = e.Total
	switch {
	case e.Total == 0:
		s.fail(ReasonNothingSelected, "No object of the source is selected.")
	case s.DryRun:
		s.Phase = Succeeded
	default:
		s.Phase = Preparation
	}
	return nil
}

func (e Reject) apply(s *State) error {
	if s.Phase != Planning && s.Phase != Preparation {
		return ErrNotNow
	}
	s.fail(e.Reason, e.Message)
	return nil
}

func (e Ready) apply(s *State) error {
	if s.Phase != Preparation {
		return ErrNotNow
	}
	s.Phase = Transfer
	return nil
}

func (e Counted) apply(s *State) error {
	if !s.Phase.Moving() {
		return ErrNotNow
	}
	if e.Round != s.Round {
		return ErrStale
	}
	s.Counts, s.Counted = e.Counts, true
	if s.Phase != RollingBack {
		s.Total = max(s.Total, e.Counts.Sum())
	}
	switch s.Phase {
	case Transfer:
		if s.Counts.Waiting == 0 && s.Counts.underWay() == s.Counts.Arriving {
			s.Phase = Verification
		}
	case Verification:
		if s.Verified && s.Counts.underWay() == 0 {
			s.Phase = Cleanup
		}
	case RollingBack:
		s.endRollback()
	}
	return nil
}

// endRollback ends a migration that has been taken back, when nothing moves any more and nothing is left that could be taken back.
func (s *State) endRollback() {
	left := s.Counts.Arrived + s.Counts.Arriving + s.Counts.Unusable
	switch {
	case s.Counts.Moving+s.Counts.Returning > 0:
	case s.Counts.Refused > 0: // it goes back, is taken over, or its owner goes on without its state
	case left > 0 && !s.SourceLost:
	case s.Counts.Arriving > 0: // its owner is about to acknowledge it
	case left+s.Counts.Astray > 0:
		if s.SourceLost || s.TargetLost {
			s.Phase = Failed
			return
		}
		s.fail(ReasonNotAllReturned, s.Message)
	default:
		s.Phase = RolledBack
	}
}

func (e Verified) apply(s *State) error {
	if s.Phase != Verification {
		return ErrNotNow
	}
	s.Verified = true
	return nil
}

func (e Cleaned) apply(s *State) error {
	if s.Phase != Cleanup || !s.Counted {
		return ErrNotNow
	}
	switch {
	case s.Failures() == 0:
		s.Phase = Succeeded
	case s.SourceLost:
		s.fail(ReasonSourceLost, fmt.Sprintf("The source died; %d objects are not at the target.", s.Failures()))
	default:
		s.fail(ReasonNotAllMoved, fmt.Sprintf("%d of %d objects are not at the target.", s.Failures(), s.Total))
	}
	return nil
}

func (e Abort) apply(s *State) error {
	switch s.Phase {
	case Planning, Preparation:
		s.Phase, s.Reason, s.Message = RolledBack, e.Reason, e.Message
	case Transfer, Verification:
		s.rollBack(e.Reason, e.Message)
	default:
		return ErrNotNow
	}
	if e.Reason == "" {
		return fmt.Errorf("%w: an abort without a reason", ErrInvalid)
	}
	return nil
}

func (e Lost) apply(s *State) error {
	if s.Phase.Ended() {
		return ErrNotNow
	}
	s.SourceLost, s.TargetLost = s.SourceLost || e.Source, s.TargetLost || e.Target
	switch {
	case s.Phase == Planning || s.Phase == Preparation:
		if e.Source {
			s.fail(ReasonSourceLost, "The source died before anything was moved.")
		} else if e.Target {
			s.fail(ReasonTargetLost, "The target died before anything was moved.")
		}
	case (s.Phase == Transfer || s.Phase == Verification) && s.TargetLost:
		s.rollBack(ReasonTargetLost, "The target died.")
	}
	return nil
}

func (s *State) fail(reason, message string) { s.Phase, s.Reason, s.Message = Failed, reason, message }

func (s *State) rollBack(reason, message string) {
	s.Phase, s.Reason, s.Message = RollingBack, reason, message
	s.Verified, s.Counts, s.Counted = false, Counts{}, false
}
