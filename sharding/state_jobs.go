package sharding

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// stateWriters is how many writes of a controller that concern states are on their way at the same time.
const stateWriters = 16

// stateJob is a write that concerns the state of an object and that nobody waits for.
type stateJob struct {
	key  types.NamespacedName
	kind stateJobKind
}

type stateJobKind int

const (
	acknowledgeState stateJobKind = iota // take the state off the object: it was imported, and the object has been reconciled
	checkpointState                      // look whether the state has changed since the last checkpoint
	saveState                            // write the checkpoint that waits
	lapseRefusal                         // take a refusal back
)

// run does jobs until ctx is done.
func (k *keeper) run(ctx context.Context) {
	var writers sync.WaitGroup
	for range stateWriters {
		writers.Go(func() {
			for {
				job, shutdown := k.jobs.Get()
				if shutdown {
					return
				}
				k.do(ctx, job)
				k.jobs.Done(job)
			}
		})
	}
	<-ctx.Done()
	k.jobs.ShutDown()
	writers.Wait()
}

func (k *keeper) do(ctx context.Context, job stateJob) {
	h, now, ok := k.look(job.key)
	var err error
	switch {
	case !k.p.w.Active():
		return // resume asks again for what is to be done
	case job.kind == lapseRefusal:
		err = k.lapse(ctx, job.key)
	case !ok:
		return
	case job.kind == acknowledgeState && now.unacknowledged:
		err = k.acknowledge(ctx, job.key, h)
	case job.kind == saveState && now.waiting != nil:
		err = k.save(ctx, job.key, h, now.waiting)
	case job.kind == checkpointState:
		k.change(h, func(h *holding) { h.planned = false })
		k.lookAt(ctx, job.key, h)
	}
	if err != nil && !errors.Is(err, errNotOurs) && ctx.Err() == nil {
		klog.FromContext(ctx).V(2).Info("Writing the state of an object failed, will try again", "object", job.key, "err", err)
		k.jobs.AddRateLimited(job)
		return
	}
	k.jobs.Forget(job)
}

// acknowledge takes the imported state off the object.
func (k *keeper) acknowledge(ctx context.Context, key types.NamespacedName, h *holding) error {
	var taken *envelope
	err := k.rewrite(ctx, key, h, func(root metav1.Object) ([]byte, error) {
		var err error
		if taken, err = stateOf(root, k.ring()); err != nil || taken == nil {
			return nil, errSettled
		}
		return statePatch(root, k.ring(), removeAnnotation), nil
	})
	if err != nil && !errors.Is(err, errSettled) {
		return err
	}
	k.change(h, func(h *holding) { h.unacknowledged = false })
	if err == nil {
		k.store.remove(ctx, taken)
	}
	return nil
}

// save writes the checkpoint that waits.
func (k *keeper) save(ctx context.Context, key types.NamespacedName, h *holding, state *State) error {
	var old, written *envelope
	err := k.rewrite(ctx, key, h, func(root metav1.Object) (patch []byte, err error) {
		old, _ = stateOf(root, k.ring())
		change := removeAnnotation
		if state.Data != nil {
			if written, err = k.pack(ctx, root, *state); err != nil {
				return nil, err
			}
			change = setAnnotation(written.String())
		} else if old == nil {
			return nil, errSettled
		}
		return statePatch(root, k.ring(), change), nil
	})
	var bad *stateError
	if errors.As(err, &bad) {
		klog.FromContext(ctx).Error(bad, "No checkpoint of the state of an object can be written", "object", key, "reason", bad.reason)
		k.event(key, "CheckpointFailed", "ExportState", "no checkpoint of the state can be written (%s): %v", bad.reason, bad)
		imported := false
		k.change(h, func(h *holding) { h.waiting, imported = nil, h.unacknowledged })
		if !imported {
			return nil // the last checkpoint is better than none
		}
		return k.acknowledge(ctx, key, h)
	}
	if err != nil && !errors.Is(err, errSettled) {
		return err
	}
	k.change(h, func(h *holding) {
		h.unacknowledged, h.saved = false, time.Now()
		if h.sum = ""; written != nil {
			h.sum, h.sequence = written.Sum, written.Sequence
		}
		if h.waiting == state {
			h.waiting = nil
		}
	})
	if err == nil {
		k.p.w.metrics.stateBytes.WithLabelValues(k.ring(), "checkpoint").Observe(float64(len(state.Data)))
		if old != nil && (written == nil || old.Secret != written.Secret) {
			k.store.remove(ctx, old)
		}
	}
	return nil
}

// lookAt takes the state of an object between two reconciles of it.
func (k *keeper) lookAt(ctx context.Context, key types.NamespacedName, h *holding) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	root, ok := k.p.roster.borrow(key, cancel)
	if !ok {
		return // it is being reconciled, which asks for a checkpoint at the end, or handed over, which exports
	}
	if h.of(root, k.ring()) {
		k.checkpoint(ctx, key, h)
	}
	ready, missed := k.p.roster.giveBack(key)
	if ready {
		k.p.drainer.wake()
	}
	if missed {
		k.p.queue.add(key)
	}
}

// noticed is called with the labels of every state of an object of ours that the cache shows.
func (k *keeper) noticed(key types.NamespacedName, labels map[string]string) {
	if _, refused := labels[k.refusedKey]; refused {
		k.jobs.AddAfter(stateJob{key, lapseRefusal}, refusalLapse)
	}
}

// lapse takes a refusal off an object: what was refused may be tried again.
func (k *keeper) lapse(ctx context.Context, key types.NamespacedName) error {
	root := k.p.cached(key)
	if root == nil {
		return nil
	}
	err := k.rewrite(ctx, key, &holding{uid: root.GetUID(), epoch: EpochOf(root, k.ring())}, func(root metav1.Object) ([]byte, error) {
		if refusalOf(root, k.ring()) == nil {
			return nil, errSettled
		}
		return lapsePatch(root, k.ring()), nil
	})
	if errors.Is(err, errSettled) {
		return nil
	}
	return err
}

// wroteOnly reports whether an update of an object of ours consists in nothing but what the keeper writes: an acknowledgement, a
// checkpoint, or a refusal that was taken back. Operators have nothing to reconcile then.
func (k *keeper) wroteOnly(key types.NamespacedName, before, after metav1.Object) bool {
	if k.kept.Load() == 0 || !k.wrote(before, after) {
		return false
	}
	if _, held, ok := k.look(key); !ok || !held.ready || !held.of(after, k.ring()) {
		return false // it may be waiting for just this change
	}
	a, b := k.bare(before), k.bare(after)
	return a != nil && b != nil && equality.Semantic.DeepEqual(a, b)
}

// wrote reports whether an annotation of the keeper's differs.
func (k *keeper) wrote(before, after metav1.Object) bool {
	a, b := before.GetAnnotations(), after.GetAnnotations()
	return a[k.stateKey] != b[k.stateKey] || a[k.refusedKey] != b[k.refusedKey] || a[k.unusableKey] != b[k.unusableKey]
}

// bare copies an object without what the keeper writes and what the server writes along with it.
func (k *keeper) bare(obj metav1.Object) runtime.Object {
	original, ok := obj.(runtime.Object)
	if !ok {
		return nil
	}
	object := original.DeepCopyObject()
	m, ok := object.(metav1.Object)
	if !ok {
		return nil
	}
	annotations, labels := m.GetAnnotations(), m.GetLabels()
	for _, key := range []string{k.stateKey, k.refusedKey, k.unusableKey} {
		delete(annotations, key)
	}
	delete(labels, k.refusedKey)
	m.SetAnnotations(annotations)
	m.SetLabels(labels)
	m.SetResourceVersion("")
	m.SetManagedFields(nil)
	return object
}
