package health

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// RingLabel is the label key of every Lease of a ring; its value is the name
	// of the ring. A Lease without it is not ours.
	RingLabel = "shard.io/ring"

	// ManagerPrefix begins the holder identity of a Lease that a manager has
	// taken from a shard. No shard's identity can begin with it: a shardId has
	// no slash.
	ManagerPrefix = "manager/"

	// takeoverAnnotation is on a Lease from when a manager begins to give the
	// objects of the shard away. It goes with the Lease, which is deleted when
	// that has come to its end.
	takeoverAnnotation = "shard.io/takeover"
)

// takeoverBegun says whether somebody has begun to give the objects of the shard
// away, and is not known to have come to the end.
func takeoverBegun(l *coordinationv1.Lease) bool { return l.Annotations[takeoverAnnotation] != "" }

// Record is what of a Lease matters to the protocol. The times in it are
// another machine's: they are compared for being equal and for nothing else.
type Record struct {
	// UID tells a Lease from a later one of the same name.
	UID string
	// Holder is spec.holderIdentity; empty: the Lease has been released.
	Holder string
	// Renewed is spec.renewTime in microseconds.
	Renewed int64
	// Transitions is spec.leaseTransitions.
	Transitions int32
	// LeaseDuration is what the holder wrote into spec.leaseDurationSeconds. It
	// lengthens the time until the holder counts as dead, and never shortens it.
	LeaseDuration time.Duration
}

// RecordOf reads the record of a Lease.
func RecordOf(l *coordinationv1.Lease) Record {
	r := Record{UID: string(l.UID)}
	s := &l.Spec
	if s.HolderIdentity != nil {
		r.Holder = *s.HolderIdentity
	}
	if s.RenewTime != nil {
		r.Renewed = s.RenewTime.UnixMicro()
	}
	if s.LeaseTransitions != nil {
		r.Transitions = *s.LeaseTransitions
	}
	if s.LeaseDurationSeconds != nil {
		r.LeaseDuration = time.Duration(*s.LeaseDurationSeconds) * time.Second
	}
	return r
}

// sameBeat says whether two records are of one heartbeat. A change of the
// duration alone, like one of labels, is an edit and not a sign of life.
func (r Record) sameBeat(o Record) bool {
	return r.UID == o.UID && r.Holder == o.Holder && r.Renewed == o.Renewed && r.Transitions == o.Transitions
}

// patience is how long the record must stay unchanged before its holder counts
// as dead: the longer of what the holder announced and what the observer is
// configured with, so that neither side of a change of timing is surprised.
func (r Record) patience(t Timing) time.Duration {
	return max(t.LeaseDuration, min(r.LeaseDuration, MaxLeaseDuration))
}

func (r Record) heldByManager() bool { return strings.HasPrefix(r.Holder, ManagerPrefix) }

// identity is name plus what no other process has.
func identity(name string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime aborts instead
	return name + "_" + hex.EncodeToString(b[:])
}

// hold returns a copy of l that is held by holder as of now. The renew time
// always differs from the one before, whatever the wall clock does: it is by
// being different that others see a heartbeat.
func hold(l *coordinationv1.Lease, holder string, t Timing, now time.Time) *coordinationv1.Lease {
	l = l.DeepCopy()
	stamp := metav1.NewMicroTime(now.Truncate(time.Microsecond))
	if old := l.Spec.RenewTime; old != nil && stamp.UnixMicro() == old.UnixMicro() {
		stamp = metav1.NewMicroTime(stamp.Add(time.Microsecond))
	}
	seconds := t.seconds()
	l.Spec.LeaseDurationSeconds, l.Spec.RenewTime = &seconds, &stamp
	if l.Spec.HolderIdentity != nil && *l.Spec.HolderIdentity == holder {
		return l
	}
	transitions := int32(0)
	if old := l.Spec.LeaseTransitions; old != nil && *old < math.MaxInt32 {
		transitions = *old + 1 // else somebody has written nonsense, and the server takes nothing beyond
	}
	l.Spec.HolderIdentity, l.Spec.AcquireTime, l.Spec.LeaseTransitions = &holder, &stamp, &transitions
	return l
}

// released returns a copy of l that nobody holds.
func released(l *coordinationv1.Lease) *coordinationv1.Lease {
	l = l.DeepCopy()
	none := ""
	l.Spec.HolderIdentity = &none
	return l
}

// checkRing says whether l is a Lease of the ring.
func checkRing(l *coordinationv1.Lease, ring string) error {
	if got := l.Labels[RingLabel]; got != ring {
		return fmt.Errorf("%w: Lease %s/%s has the label %s=%q, want %q", ErrForeignLease, l.Namespace, l.Name, RingLabel, got, ring)
	}
	return nil
}
