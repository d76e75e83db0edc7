package sharding

import (
	"context"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/informers/externalversions"
)

// ringState is the ShardConfig of a worker's ring as it was last seen. The zero value is a ring that does not exist.
type ringState struct {
	config atomic.Pointer[shardv1.ShardConfig]

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
}

// get returns the ShardConfig, nil if it does not exist.
func (r *ringState) get() *shardv1.ShardConfig { return r.config.Load() }

// served reports whether the ring exists and is not being deleted. Nobody acts for a ring that is not served.
func (r *ringState) served() bool {
	config := r.get()
	return config != nil && config.DeletionTimestamp.IsZero()
}

func (r *ringState) set(config *shardv1.ShardConfig) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.config.Store(config)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// next returns a channel that is closed at the next change.
func (r *ringState) next() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}

// wait returns the ShardConfig as soon as it is served, or the error of ctx.
func (r *ringState) wait(ctx context.Context) (*shardv1.ShardConfig, error) {
	for {
		changed := r.next()
		if r.served() {
			return r.get(), nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// watchRing keeps w.ring up to date until ctx is done.
func (w *Worker) watchRing(ctx context.Context) {
	factory := externalversions.NewSharedInformerFactoryWithOptions(w.shards, 0,
		externalversions.WithNamespace(w.options.Namespace),
		externalversions.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, w.options.Ring).String()
		}))
	informer := factory.Shard().V1().ShardConfigs().Informer()
	w.ringInformer.Store(&informer)
	_ = informer.SetWatchErrorHandlerWithContext(w.ringUnread)
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { w.ringChanged(obj) },
		UpdateFunc: func(_, obj any) { w.ringChanged(obj) },
		DeleteFunc: func(any) { w.ring.set(nil) },
	}) // both fail only for an informer that has started or stopped
	factory.StartWithContext(ctx)
}

func (w *Worker) ringChanged(obj any) {
	config, ok := obj.(*shardv1.ShardConfig)
	if !ok {
		return
	}
	w.ring.set(config)
	heartbeat := w.heartbeat.Load()
	if heartbeat == nil {
		return
	}
	w.setFence()
	if timing, err := timingOf(config); err == nil {
		_ = heartbeat.SetTiming(timing) // timingOf has validated it
	}
}
