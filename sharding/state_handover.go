package sharding

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// luggage is what becomes of an object's state when the object is handed over.
type luggage struct {
	change annotationChange
	size   int
	// former is what was on the object, if that is replaced: its Secrets are not needed any more when the object has been handed over.
	former *envelope
}

// luggage exports the state of an object that is about to be handed over. A state that this process has not imported goes on as it
// is. An error that is a stateError declines the hand-over; others may pass.
func (k *keeper) luggage(ctx context.Context, key types.NamespacedName, root metav1.Object) (luggage, error) {
	h, now, ok := k.look(key)
	if !k.stateful() || !ok || !now.of(root, k.ring()) || !now.ready && !planted("return-without-state") {
		return luggage{change: keepAnnotation}, nil
	}
	// How large the state is shows when it has been exported.
	if err := k.budget.acquire(ctx, k.transfer.MaxSize); err != nil {
		return luggage{}, err
	}
	held := k.transfer.MaxSize
	defer func() { k.budget.release(held) }()
	ctx, cancel := context.WithTimeout(ctx, drainTimeout(k.p.w.ring.get()))
	defer cancel()
	data, err := k.exports(ctx, key)
	if spare := held - len(data); spare > 0 {
		k.budget.release(spare)
		held -= spare
	}
	if err != nil {
		failed := 0
		k.change(h, func(h *holding) { h.exports++; failed = h.exports })
		if failed >= maxTransferAttempts || errors.As(err, new(terminalError)) {
			k.change(h, func(h *holding) { h.exports = 0 })
			return luggage{}, &stateError{reasonExport, err}
		}
		return luggage{}, err
	}
	k.change(h, func(h *holding) { h.exports = 0 })
	former, _ := stateOf(root, k.ring())
	if data == nil {
		return luggage{change: removeAnnotation, former: former}, nil
	}
	packed, err := k.pack(ctx, root, State{
		UID: now.uid, Epoch: now.epoch, Sequence: k.after(now.sequence), From: k.p.w.options.ID, Version: k.transfer.Version, Data: data,
	})
	if err != nil {
		return luggage{}, err
	}
	if former != nil && former.Secret == packed.Secret {
		former = nil
	}
	return luggage{change: setAnnotation(packed.String()), size: len(data), former: former}, nil
}

// pack makes the envelope of a state: with the state inside, or in Secrets, which it writes.
func (k *keeper) pack(ctx context.Context, root metav1.Object, state State) (*envelope, error) {
	if len(state.Data) > k.transfer.MaxSize {
		return nil, badState(reasonTooLarge, "the state has %d bytes, the most is %d", len(state.Data), k.transfer.MaxSize)
	}
	e := seal(state)
	if len(state.Data) <= k.transfer.InlineLimit && fits(root, StateAnnotation(k.ring()), e.String()) {
		return e, nil
	}
	e = e.inSecrets(e.secretName(k.ring()))
	if e.Chunks == 0 || !fits(root, StateAnnotation(k.ring()), e.String()) {
		return nil, badState(reasonTooLarge, "the annotations of the object leave no room for the state, or a reference to it")
	}
	object := k.p.target.name() + "/" + keyOf(root).String()
	return e, k.store.write(ctx, e, state.Data, object)
}

// handedOver is called when the write that carries the luggage has succeeded.
func (k *keeper) handedOver(ctx context.Context, l luggage) {
	if l.change.value != nil {
		k.p.w.metrics.stateBytes.WithLabelValues(k.ring(), "export").Observe(float64(l.size))
	}
	k.store.remove(ctx, l.former)
}

// decline says on the object that it can't be handed over, as its state can't be exported. It goes on being reconciled here.
func (k *keeper) decline(ctx context.Context, key types.NamespacedName, root metav1.Object, target string, bad *stateError) settlement {
	self := k.p.w.options.ID
	declined := settlement{declined: target}
	r := &refusal{By: self, Declined: target, Epoch: EpochOf(root, k.ring()), Reason: bad.reason, Message: bad.Error()}
	if have := refusalOf(root, k.ring()); have != nil && have.By == r.By && have.Declined == r.Declined && have.Epoch == r.Epoch {
		return declined
	}
	_, err := k.patch(ctx, key, refusePatch(root, k.ring(), r))
	if apierrors.IsNotFound(err) {
		k.p.departed.Add(key)
		return settlement{}
	}
	if err != nil {
		return k.p.drainer.failed(ctx, key, err)
	}
	k.p.w.metrics.stateRefused.WithLabelValues(k.ring(), string(r.Reason)).Inc()
	klog.FromContext(ctx).Error(bad, "The state of an object can't be exported, so the object stays", "object", key, "to", target, "reason", r.Reason)
	k.event(key, "ExportDeclined", "ExportState", "the state can't be exported (%s), so the object is not handed over to shard %s: %v",
		r.Reason, target, bad)
	return declined
}
