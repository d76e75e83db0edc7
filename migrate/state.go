package migrate

import (
	"errors"
	"fmt"
)

// Phase is how far a migration is.
type Phase string

// The phases, in the order in which they are passed through.
const (
	// Planning: the selection is being counted. Nothing is written on objects.
	Planning Phase = "Planning"
	// Preparation: it waits for its turn, and for both shards to be there. Nothing is written on objects.
	Preparation Phase = "Preparation"
	// Transfer: objects are asked for and handed over.
	Transfer Phase = "Transfer"
	// Verification: everything has been handed over, and the target has yet to say that it works with all of it.
	Verification Phase = "Verification"
	// Cleanup: the result is certain, and leftovers are removed.
	Cleanup Phase = "Cleanup"
	// Succeeded: all objects that still exist are at the target.
	Succeeded Phase = "Succeeded"
	// RollingBack: what was moved goes back to the source.
	RollingBack Phase = "RollingBack"
	// RolledBack: nothing is moved: all objects that still exist are at the source.
	RolledBack Phase = "RolledBack"
	// Failed: it is over, and some objects are not where they should be. All of them have an owner.
	Failed Phase = "Failed"
)

// phases holds, for each phase, whether it is an end.
var phases = map[Phase]bool{
	Planning: false, Preparation: false, Transfer: false, Verification: false, Cleanup: false, RollingBack: false,
	Succeeded: true, RolledBack: true, Failed: true,
}

// Ended says whether the phase is one that nothing follows.
func (p Phase) Ended() bool { return phases[p] }

// Moving says whether objects may be on their way in this phase.
func (p Phase) Moving() bool {
	return p == Transfer || p == Verification || p == Cleanup || p == RollingBack
}

// Why a migration is rolled back, or has failed. Callers may have reasons of their own for [Abort] and [Reject].
const (
	ReasonNothingSelected = "NothingSelected" // the selection is empty
	ReasonSourceLost      = "SourceLost"      // the source died; its objects were taken over, by the target or by others
	ReasonTargetLost      = "TargetLost"      // the target died
	ReasonNotAllMoved     = "NotAllMoved"     // some objects stayed where they were, or are elsewhere
	ReasonNotAllReturned  = "NotAllReturned"  // some objects could not be taken back
)

// Counts are the numbers of objects by [Stage]. Each object that carries the mark of the migration is in one of them.
type Counts struct {
	// Waiting are selected, at the source, and have not been asked for. They carry no mark.
	Waiting int64
	// Moving are asked for and not handed over, in either direction.
	Moving int64
	// Arriving are at the target, which has not acknowledged their processing state.
	Arriving int64
	// Arrived are at the target, which has.
	Arrived int64
	// Refused are at the target, which can't use their processing state, and are to go back.
	Refused int64
	// Returning are at the source again, which has not acknowledged their processing state.
	Returning int64
	// Kept are at the source, and stay.
	Kept int64
	// Unusable are at the target, which has gone on without their processing state.
	Unusable int64
	// Astray are on a third shard, or on none.
	Astray int64
}

// Sum is the number of objects.
func (c Counts) Sum() int64 {
	return c.Waiting + c.underWay() + c.Arrived + c.Kept + c.Unusable + c.Astray
}

// underWay is the number of those that have yet to come to rest.
func (c Counts) underWay() int64 { return c.Moving + c.Arriving + c.Refused + c.Returning }

// Add counts one object.
func (c *Counts) Add(s Stage) {
	switch s {
	case StageWaiting:
		c.Waiting++
	case StageMoving:
		c.Moving++
	case StageArriving:
		c.Arriving++
	case StageArrived:
		c.Arrived++
	case StageRefused:
		c.Refused++
	case StageReturning:
		c.Returning++
	case StageKept:
		c.Kept++
	case StageUnusable:
		c.Unusable++
	case StageAstray:
		c.Astray++
	}
}

func (c Counts) negative() bool {
	return min(c.Waiting, c.Moving, c.Arriving, c.Arrived, c.Refused, c.Returning, c.Kept, c.Unusable, c.Astray) < 0
}

// State is all that a migration is, besides what is written on the objects. The zero value is no state; see [New] and [Resume].
type State struct {
	// Phase is how far it is.
	Phase Phase
	// Reason is why it is rolled back, or has failed; a word. Empty while all goes as planned.
	Reason string
	// Message says more about the reason.
	Message string
	// DryRun: count, and move nothing.
	DryRun bool
	// Total is how many objects were selected. It grows when more turn up while the migration goes on.
	Total int64
	// Counts are from the newest count, if Counted; else there has been none since the migration was resumed, or turned round.
	Counts  Counts
	Counted bool
	// Round grows with every event that is accepted. A count says in which round it began.
	Round int64
	// SourceLost and TargetLost: that shard has died since the migration began.
	SourceLost, TargetLost bool
	// Verified: the target has said that it works with all that it was given.
	Verified bool
}

// New returns the state of a migration that begins.
func New(dryRun bool) State { return State{Phase: Planning, DryRun: dryRun} }

// Resume returns the state of a migration of which the phase, the reason and the total were written down. Everything else is found out
// anew: the next count, and whether the shards are there. An error says which of the three can't be.
func Resume(phase Phase, reason, message string, total int64, dryRun bool) (State, error) {
	s := State{Phase: phase, Reason: reason, Message: message, Total: total, DryRun: dryRun}
	return s, s.check()
}

// Moved is how many objects are at the target.
func (s State) Moved() int64 { return s.Counts.Arrived }

// Failures is how many objects are not where the plan wanted them, as far as that is certain.
func (s State) Failures() int64 {
	n := s.Counts.Unusable + s.Counts.Astray
	if s.Phase != RollingBack && s.Phase != RolledBack && !s.rolledBack() {
		n += s.Counts.Kept
	}
	if s.SourceLost { // those without a mark went to others, and nobody can tell them from those that were deleted
		n += s.missing()
	}
	return n
}

// Gone is how many of the selected objects do not exist any more, or are not the ring's.
func (s State) Gone() int64 {
	if s.SourceLost {
		return 0
	}
	return s.missing()
}

func (s State) missing() int64 {
	if !s.Counted {
		return 0
	}
	return max(0, s.Total-s.Counts.Sum())
}

// rolledBack says of a failed migration that it has failed on the way back.
func (s State) rolledBack() bool {
	return s.Phase == Failed && s.Reason != ReasonNotAllMoved && s.Reason != ReasonSourceLost
}

// ErrInvalid: a state that can't be. The error that wraps it says why.
var ErrInvalid = errors.New("invalid state of a migration")

// check holds the invariants.
func (s State) check() error {
	switch _, known := phases[s.Phase]; {
	case !known:
		return fmt.Errorf("%w: phase %q is none", ErrInvalid, s.Phase)
	case s.Total < 0 || s.Round < 0 || s.Counts.negative():
		return fmt.Errorf("%w: a count is negative: total %d, round %d, %+v", ErrInvalid, s.Total, s.Round, s.Counts)
	case s.Phase == RollingBack && s.Reason == "":
		return fmt.Errorf("%w: it is rolled back without a reason", ErrInvalid)
	case s.Phase == Failed && s.Reason == "":
		return fmt.Errorf("%w: it has failed without a reason", ErrInvalid)
	case s.Phase == Succeeded && s.Reason != "":
		return fmt.Errorf("%w: it has succeeded although %s", ErrInvalid, s.Reason)
	case s.DryRun && s.Phase.Moving():
		return fmt.Errorf("%w: a dry run in phase %s", ErrInvalid, s.Phase)
	}
	return nil
}
