package sharding

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// ErrNotLeading is wrapped by the error of a write that a Manager has not sent, since it was not, or could not be sure to be, the
// leader at that moment.
var ErrNotLeading = errors.New("this manager does not lead")

// tenure is a period in which a Manager is the leader: from an election that it wins until another may win one. Its number is the
// leaseTransitions of the election Lease, which grows whenever the Lease changes hands.
//
// The right to write ends at (start of the last renewal that succeeded + renew deadline) on the monotonic clock, before the
// Lease can be anybody else's, and begins anew with the next renewal; when the tenure has ended it does not begin again.
type tenure struct {
	base     time.Time // has the monotonic reading that the durations below count from
	deadline time.Duration
	identity string
	// record reads the election Lease from storage, for who has reason to doubt.
	record func(context.Context) (*coordinationv1.Lease, error)
	// stop ends the election, and with it the work. It must not block, and may be called more than once.
	stop func()

	number atomic.Int64 // noTerm before the election is won
	until  atomic.Int64 // nanoseconds since base
	ended  atomic.Bool
	// created is when it created the Lease, or tried to, since base; noTerm if it has not.
	created atomic.Int64
}

// noTerm is the number of no tenure.
const noTerm = -1

func newTenure(identity string, deadline time.Duration, record func(context.Context) (*coordinationv1.Lease, error), stop func()) *tenure {
	t := &tenure{base: time.Now(), deadline: deadline, identity: identity, record: record, stop: stop}
	t.number.Store(noTerm)
	t.created.Store(noTerm)
	return t
}

func (t *tenure) now() time.Duration { return time.Since(t.base) }

// open says whether a write may be sent now. It takes no lock, and is exact in a process that has just woken up.
func (t *tenure) open() bool {
	return t != nil && !t.ended.Load() && int64(t.now()) < t.until.Load()
}

// term is the number of the tenure, noTerm if there is none.
func (t *tenure) term() int64 {
	if t == nil {
		return noTerm
	}
	return t.number.Load()
}

// renewed notes a write of the Lease that was sent at sent and has succeeded.
func (t *tenure) renewed(number int64, sent time.Time) {
	t.number.Store(number)
	t.until.Store(int64(sent.Sub(t.base) + t.deadline))
}

// end ends the tenure for good: from now on nothing is written.
func (t *tenure) end() {
	t.ended.Store(true)
	t.stop()
}

// precedes is asked about everything that carries the number of a tenure, before the leader changes it: is that a later one?
// Then this leader was taken for dead, and its clock did not notice: a machine that is suspended may stop its monotonic clock.
// It goes by what the election Lease says: the number may also be from a Lease that was deleted, or from a backup, and then it is
// as good as none.
func (t *tenure) precedes(ctx context.Context, number int64) error {
	if t == nil || number <= t.number.Load() {
		return nil
	}
	lease, err := t.record(ctx)
	if err != nil {
		return fmt.Errorf("asking who leads, as something was written in term %d, and this is term %d: %w", number, t.number.Load(), err)
	}
	now := resourcelock.LeaseSpecToLeaderElectionRecord(&lease.Spec)
	if now.HolderIdentity == t.identity && int64(now.LeaderTransitions) == t.number.Load() {
		return nil
	}
	klog.FromContext(ctx).Info("Another manager leads; stopping", "leader", now.HolderIdentity, "itsTerm", now.LeaderTransitions, "term", t.number.Load())
	t.end()
	return fmt.Errorf("%w: %s does, in term %d", ErrNotLeading, now.HolderIdentity, now.LeaderTransitions)
}

// doubt is for how long a leader has to wait before it touches a ring that others have led. It is 0, except after the election Lease
// was deleted: whoever creates it anew wins at once, while the leader until then may not have noticed and be writing still.
func (t *tenure) doubt(ledBefore bool, lease time.Duration) time.Duration {
	if t == nil || !ledBefore || t.created.Load() == noTerm {
		return 0
	}
	return max(0, time.Duration(t.created.Load())+lease-t.now())
}

// electionLock is the lock of the election. It tells the tenure how far the Lease reaches, and keeps the elector from what would
// let two lead: client-go goes on as before when it gets a Lease that another has held and released in between, and when it gives the
// Lease up it does not look at whose it is by then.
//
// Its methods are called on the elector's goroutine.
type electionLock struct {
	resourcelock.Interface
	tenure *tenure
	// idle says whether no write of the leader is on its way.
	idle func() bool
	seen resourcelock.LeaderElectionRecord // as it was last read or written
}

// errSuperseded ends an election in which the Lease was another's, or did not exist, in between.
var errSuperseded = errors.New("the Lease of the election has been in other hands")

// errWentBack ends an election whose Lease shows an earlier renewal of ours than the last.
var errWentBack = errors.New("the API server has gone back to an earlier state, as when etcd is restored from a backup")

// Get reads the record. One in which this leader has renewed earlier than it has is from a backup. Its term ends then, as all that it has seen is
// of a later state than the truth; the next one begins with nothing.
func (l *electionLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err != nil {
		return record, raw, err
	}
	ours := record.HolderIdentity == l.tenure.identity && l.seen.HolderIdentity == l.tenure.identity
	if ours && l.seen.RenewTime.Sub(record.RenewTime.Time) > time.Second { // what is read has been rounded
		l.tenure.end()
		return nil, nil, errWentBack
	}
	l.seen = *record
	return record, raw, nil
}

// Create is called when there is no Lease. A leader whose Lease was deleted steps down: another may have had it, and lost it.
func (l *electionLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if l.tenure.number.Load() != noTerm || l.tenure.ended.Load() {
		l.tenure.end()
		return errSuperseded
	}
	sent := time.Now()
	l.tenure.created.Store(int64(l.tenure.now())) // before it is known: the answer may be lost
	if err := l.Interface.Create(ctx, record); err != nil {
		return err
	}
	l.note(record, sent)
	return nil
}

// Update takes the Lease, renews it, or gives it up.
func (l *electionLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" {
		return l.release(ctx, record)
	}
	number := l.tenure.number.Load()
	if l.tenure.ended.Load() || number != noTerm && number != int64(record.LeaderTransitions) {
		l.tenure.end()
		return errSuperseded
	}
	sent := time.Now()
	if err := l.Interface.Update(ctx, record); err != nil {
		return err
	}
	l.note(record, sent)
	return nil
}

func (l *electionLock) note(record resourcelock.LeaderElectionRecord, sent time.Time) {
	l.seen = record
	l.tenure.renewed(int64(record.LeaderTransitions), sent)
}

// release gives the Lease up, so that the next leader need not wait. The right to write ends before. It is not given up if it is not
// ours, or while a write is on its way that may yet arrive: then it expires.
func (l *electionLock) release(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	l.tenure.end()
	ours := l.seen.HolderIdentity == l.tenure.identity && int64(l.seen.LeaderTransitions) == l.tenure.number.Load()
	if !ours || !l.idle() {
		klog.FromContext(ctx).V(2).Info("Not giving up the Lease of the election", "ours", ours)
		return nil
	}
	return l.Interface.Update(ctx, record)
}
