package sharding

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// lateFlush is how long a worker that could not hand its objects over in time takes to write down their states.
const lateFlush = 3 * time.Second

// saveStates writes down the states of what this worker stops with, for the next process of the shard, or for those who take its objects
// over. No reconcile begins any more; those in flight are waited for.
func (w *Worker) saveStates(ctx context.Context) {
	w.closing.Store(true)
	limit := lateFlush
	if w.options.KeepOnStop {
		limit = w.options.StopTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range w.processors {
		all.Go(func() { p.keeper.flush(ctx) })
	}
	all.Wait()
}

// flush writes a checkpoint of every object whose state has changed since it was last written, or never was.
func (k *keeper) flush(ctx context.Context) {
	if !k.stateful() {
		return
	}
	k.mu.Lock()
	keys := make(chan types.NamespacedName, len(k.held))
	for key := range k.held {
		keys <- key
	}
	k.mu.Unlock()
	close(keys)
	var all sync.WaitGroup
	for range stateWriters {
		all.Go(func() {
			for key := range keys {
				if err := k.flushOne(ctx, key); err != nil && !errors.Is(err, errSettled) && !errors.Is(err, errNotOurs) {
					klog.FromContext(ctx).Error(err, "The state of an object was not written down before the worker stopped", "object", key)
				}
			}
		})
	}
	all.Wait()
}

func (k *keeper) flushOne(ctx context.Context, key types.NamespacedName) error {
	for {
		h, now, ok := k.look(key)
		root := k.p.cached(key)
		if !ok || !now.ready || root == nil || !now.of(root, k.ring()) || !k.p.w.Active() {
			return nil
		}
		reading, cancel := context.WithCancelCause(ctx)
		root, ok = k.p.roster.borrow(key, cancel)
		if !ok {
			cancel(nil)
			if pause(ctx, childrenPoll); ctx.Err() != nil {
				return ctx.Err()
			}
			continue // its reconcile is in flight
		}
		changed, err := false, error(nil)
		if now.of(root, k.ring()) {
			changed, err = k.capture(reading, key, h)
		}
		if ready, _ := k.p.roster.giveBack(key); ready {
			k.p.drainer.wake()
		}
		cancel(nil)
		if err != nil || !changed {
			return err
		}
		_, now, _ = k.look(key)
		if now.waiting == nil {
			return nil // somebody else has just written it
		}
		return k.save(ctx, key, h, now.waiting)
	}
}
