package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// Held says whether this manager holds the Lease of the shard at this moment,
// by the same rule as Heartbeat.Active: two thirds of a lease duration from the
// start of the last write that succeeded, on the monotonic clock. It is to be
// asked before each write that takes an object from the shard.
func (t *Tracker) Held(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.base) < t.held[id]
}

// Resumed says of a shard whose Lease this manager has taken whether somebody had
// begun to give its objects away before, as far as can be known, and not come to
// the end: children may be elsewhere while their roots are not.
func (t *Tracker) Resumed(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.resumed[id]
}

// TakeOver takes the Lease of a shard that is Dead or Released, so that it can
// not be renewed by the shard and its objects can be moved. It is a
// compare-and-swap on the record that the verdict was about; for a shard
// without a Lease it is a creation, which fails if the shard has made one.
// Calling it again for a Lease that is held is a renewal.
//
// The errors: ErrAlive when the shard is in no state to be taken, or has
// changed its record; ErrForeignLease; or what the request failed with, in which
// case it may have succeeded, and calling again is right.
//
// Until GiveBack, Run renews the Lease. Any goroutine may call it.
func (t *Tracker) TakeOver(ctx context.Context, id string) error {
	unlock, err := t.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	t.mu.Lock()
	state, _ := t.detector.State(id)
	e := t.entries[id]
	var lease *coordinationv1.Lease
	foreign := false
	if e != nil {
		lease, foreign = e.lease, e.foreign
	}
	t.mu.Unlock()
	switch {
	case foreign:
		return fmt.Errorf("%w: %s", ErrForeignLease, id)
	case state != Dead && state != Released:
		return fmt.Errorf("%w: shard %s is %s", ErrAlive, id, state)
	}
	err = t.take(ctx, id, lease)
	if !isRefusal(err) {
		return err
	}
	// The Lease is not what it was. Labels may have been edited, or it is our
	// own write whose answer was lost, or the shard is alive.
	now, lookErr := t.look(ctx, id)
	if lookErr != nil {
		return lookErr
	}
	if same(lease, now) || now != nil && RecordOf(now).Holder == t.holder {
		if err = t.take(ctx, id, now); !isRefusal(err) {
			return err
		}
	}
	return fmt.Errorf("%w: the record of shard %s has changed", ErrAlive, id)
}

// same says whether the two Leases show the same heartbeat.
func same(a, b *coordinationv1.Lease) bool {
	if a == nil || b == nil {
		return a == b
	}
	return RecordOf(a).sameBeat(RecordOf(b))
}

// isRefusal says whether a compare-and-swap found something else than expected.
func isRefusal(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

// take writes the Lease with ourselves as the holder; old is what it must be.
func (t *Tracker) take(ctx context.Context, id string, old *coordinationv1.Lease) error {
	timing, sent := t.currentTiming(), time.Now()
	request, cancel := context.WithTimeout(ctx, timing.RequestTimeout())
	defer cancel()
	if old == nil || RecordOf(old).Holder != t.holder {
		t.mu.Lock()
		t.resumed[id] = old == nil || takeoverBegun(old)
		t.mu.Unlock()
	}
	var written *coordinationv1.Lease
	var err error
	if old == nil {
		next := hold(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
			Namespace: t.options.Namespace, Name: id, Labels: map[string]string{RingLabel: t.options.Ring}}}, t.holder, timing, sent)
		next.Annotations = map[string]string{takeoverAnnotation: "begun"}
		written, err = t.leases.Create(request, next, metav1.CreateOptions{})
	} else {
		next := hold(old, t.holder, timing, sent)
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, takeoverAnnotation, "begun")
		written, err = t.leases.Update(request, next, metav1.UpdateOptions{})
	}
	if err != nil {
		t.ReportWrite(err)
		return err
	}
	if written == nil {
		return errors.New("health: the server answered without an object")
	}
	t.wrote(id, written, sent.Sub(t.base)+timing.RenewDeadline())
	return nil
}

// wrote takes in a Lease that we have just written, held until the given time.
func (t *Tracker) wrote(id string, l *coordinationv1.Lease, until time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[id]; e == nil || e.lease == nil || newer(l.ResourceVersion, e.lease.ResourceVersion) {
		t.apply(id, l, time.Time{}, time.Now())
	}
	if RecordOf(t.entries[id].lease).Holder == t.holder {
		t.held[id] = until
	}
	t.sequence++
	t.entries[id].sequence = t.sequence
	t.evaluate()
}

// GiveBack ends a take-over, after the objects have moved. With remove the Lease
// is deleted and the shard forgotten, and a worker of that name starts from
// nothing; without, its holder becomes empty, and a waiting worker has it at
// once. Held is false from the beginning of the call, whatever comes of it.
// ErrNotHeld when the Lease is in other hands; any other error is worth a retry.
func (t *Tracker) GiveBack(ctx context.Context, id string, remove bool) error {
	unlock, err := t.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	for range tries {
		l, err := t.look(ctx, id)
		if err != nil {
			return err
		}
		if l == nil || RecordOf(l).Holder != t.holder {
			t.dropped(id, l, remove && l == nil)
			if l == nil && remove {
				return nil
			}
			return fmt.Errorf("%w: %s", ErrNotHeld, id)
		}
		if err = t.give(ctx, id, l, remove); !isRefusal(err) {
			return err
		}
	}
	return fmt.Errorf("health: give back the Lease %s: it keeps changing", id)
}

func (t *Tracker) give(ctx context.Context, id string, l *coordinationv1.Lease, remove bool) error {
	request, cancel := context.WithTimeout(ctx, t.currentTiming().RequestTimeout())
	defer cancel()
	// We stop before we ask: the answer may be lost, and the next holder act.
	t.mu.Lock()
	delete(t.held, id)
	t.mu.Unlock()
	if remove {
		if err := t.leases.Delete(request, id, exactly(l)); err != nil {
			t.ReportWrite(err)
			return err
		}
		t.dropped(id, l, true)
		return nil
	}
	written, err := t.leases.Update(request, released(l), metav1.UpdateOptions{})
	if err != nil {
		t.ReportWrite(err)
		return err
	}
	t.wrote(id, written, 0)
	return nil
}

// dropped notes that the Lease is not ours any more, and forgets it if it is gone.
func (t *Tracker) dropped(id string, l *coordinationv1.Lease, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.held, id)
	delete(t.resumed, id)
	if gone {
		t.sequence++
		if l != nil {
			t.gone[id] = tombstone{version: l.ResourceVersion, sequence: t.sequence}
		}
		t.detector.Observe(id, Observation{Missing: true}, time.Now())
		t.detector.Forget(id)
		delete(t.entries, id)
	}
	t.evaluate()
}

// renew keeps what was taken: each Lease once per retry period. They do not
// wait for each other, so that a slow answer costs no more than one of them.
func (t *Tracker) renew(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(t.currentTiming().RetryPeriod()):
		}
		t.mu.Lock()
		for id := range t.held {
			if t.writing[id] == nil { // else it is being renewed, or given back
				all.Go(func() { t.renewOne(ctx, id) })
			}
		}
		t.mu.Unlock()
	}
}

func (t *Tracker) renewOne(ctx context.Context, id string) {
	unlock, err := t.lock(ctx, id)
	if err != nil {
		return
	}
	defer unlock()
	for range 2 {
		t.mu.Lock()
		_, held := t.held[id]
		var lease *coordinationv1.Lease
		if e := t.entries[id]; e != nil {
			lease = e.lease
		}
		t.mu.Unlock()
		if !held {
			return // given back meanwhile, or another has it
		}
		err = t.take(ctx, id, lease)
		if !isRefusal(err) {
			break
		}
		// It is not as we know it: the answer to a write of ours was lost, and the
		// next one will do; or another holds it, and it is ours no longer.
		if _, err = t.look(ctx, id); err != nil {
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Could not renew the Lease of a shard that was taken over", "shard", id)
	}
}

// lock makes the writes to one Lease wait for each other.
func (t *Tracker) lock(ctx context.Context, id string) (unlock func(), err error) {
	mine := make(chan struct{})
	for {
		t.mu.Lock()
		theirs := t.writing[id]
		if theirs == nil {
			t.writing[id] = mine
		}
		t.mu.Unlock()
		if theirs == nil {
			break
		}
		select {
		case <-theirs:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.writing, id)
		close(mine)
	}, nil
}
