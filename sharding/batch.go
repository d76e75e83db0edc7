package sharding

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// processBatch reconciles those of the keys that this shard may act on now.
func (p *processor) processBatch(keys []types.NamespacedName) {
	s := p.session()
	if s == nil {
		for _, key := range keys {
			p.queue.done(key) // all objects are looked at again when the worker may act
		}
		return
	}
	defer s.leave()
	granted := p.newGrant(s.ctx, s.ctx)
	defer granted.cancel(nil)
	admitted := make([]types.NamespacedName, 0, len(keys))
	for _, key := range keys {
		if p.admit(granted, key) {
			admitted = append(admitted, key)
		} else {
			p.queue.done(key)
		}
	}
	if len(admitted) == 0 {
		return
	}
	began := p.started()
	outcomes := p.callBatch(granted, admitted)
	cause := granted.why()
	p.measured(began, admitted...)
	for i, key := range admitted {
		p.keeper.reconciled(granted, key, p.classify(outcomes[i], cause))
		p.finish(key, outcomes[i], cause)
	}
}

// callBatch runs the user's function and turns a panic or a wrong number of outcomes into an error for each object.
func (p *processor) callBatch(ctx context.Context, keys []types.NamespacedName) (outcomes []Outcome) {
	defer func() {
		if r := recover(); r != nil {
			outcomes = slices.Repeat([]Outcome{{Err: panicked(ctx, r, keys...)}}, len(keys))
		}
	}()
	outcomes = p.controller.ReconcileBatch(ctx, keys)
	if len(outcomes) != len(keys) {
		err := fmt.Errorf("ReconcileBatch returned %d outcomes for %d objects", len(outcomes), len(keys))
		return slices.Repeat([]Outcome{{Err: err}}, len(keys))
	}
	return outcomes
}
