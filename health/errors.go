package health

import "errors"

var (
	// ErrFenced is the cause of the cancellation of OnActive's context when the
	// right to act has ended by itself: no renewal succeeded in time, or the
	// Lease was seen in other hands. The heartbeat goes on trying.
	ErrFenced = errors.New("health: the right to act has ended: the Lease was not renewed in time or is held by another")

	// ErrStopped is the cause of the cancellation of OnActive's context when the
	// context given to Run was done.
	ErrStopped = errors.New("health: the heartbeat is being stopped")

	// ErrForeignLease says that a Lease of the wanted name exists and does not
	// carry the label of this ring. It is never overwritten.
	ErrForeignLease = errors.New("health: the Lease of this name is not a Lease of this ring")

	// errWentBack ends a heartbeat whose Lease has an older version than it has had.
	errWentBack = errors.New("health: the API server has gone back to an earlier state, as when etcd is restored from a backup; " +
		"what this process has seen since can't be told from what is true now, so it has to be started anew")

	// ErrRunning is returned by what may not be called while Run is running,
	// and by a second call of Run.
	ErrRunning = errors.New("health: Run is running, or has run before")

	// ErrAlive is returned by Tracker.TakeOver when the shard is not known to be
	// dead or released, or shows a sign of life at the last moment. Nothing was
	// taken.
	ErrAlive = errors.New("health: the shard is not known to be dead")

	// ErrNotHeld is returned by Tracker.GiveBack for a Lease that this tracker
	// does not hold (any more). Nothing was written.
	ErrNotHeld = errors.New("health: the Lease is not held by this manager")
)
