package sharding

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// ErrRingGone is the cause with which reconciles are cancelled when the ShardConfig of the ring is deleted.
var ErrRingGone = errors.New("the ShardConfig of the ring is gone")

// session is a period without interruption in which the worker may act. Every reconcile runs in one.
type session struct {
	ctx context.Context

	inside atomic.Int64 // how many are, and sessionClosed
	empty  chan struct{}
	once   sync.Once // closes empty
}

// sessionClosed is added to the number of those inside when nobody is let in any more.
const sessionClosed = 1 << 62

func newSession(ctx context.Context) *session { return &session{ctx: ctx, empty: make(chan struct{})} }

// enter reports whether the session still lasts; leave is called for every enter that was allowed.
func (s *session) enter() bool {
	if s.inside.Add(1) < sessionClosed {
		return true
	}
	s.leave()
	return false
}

func (s *session) leave() {
	if s.inside.Add(-1) == sessionClosed {
		s.once.Do(func() { close(s.empty) })
	}
}

// close lets nobody in, and waits until everybody has left. It is called once.
func (s *session) close() {
	if s.inside.Add(sessionClosed) > sessionClosed {
		<-s.empty
	}
}

// activate is called by the heartbeat whenever the right to act begins, and returns when it has ended and every reconcile
// has returned: a new period does not begin before.
func (w *Worker) activate(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := w.ring.wait(ctx); err != nil {
			return
		}
		if err := w.fenceCheck.wait(ctx); err != nil {
			return
		}
		if err := w.trust(ctx); err != nil && !planted("trust-caches") {
			continue // only if ctx is done
		}
		w.act(ctx)
	}
}

// act runs one session: until ctx is done or the ring is gone.
func (w *Worker) act(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := newSession(ctx)
	w.current.Store(s)
	w.changed()
	w.presence.begun()
	active := w.metrics.active.WithLabelValues(w.options.Ring)
	active.Set(1)
	w.logger.Info("Shard is active")
	for _, p := range w.processors {
		p.resume()
	}
	cancel(w.reasonToStop(ctx)) // no effect on a context that is done already
	w.current.Store(nil)
	w.changed()
	active.Set(0)
	w.logger.Info("Shard is not active any more", "cause", context.Cause(ctx))
	w.ending.Store(s)
	s.close()
	w.ending.Store(nil)
}

// reasonToStop returns when ctx is done, the ring is gone or a fence that is required is.
func (w *Worker) reasonToStop(ctx context.Context) error {
	for {
		ring, fence := w.ring.next(), w.fenceCheck.next()
		switch {
		case !w.ring.served():
			return ErrRingGone
		case !w.fenceCheck.holds():
			return ErrUnfenced
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ring:
		case <-fence:
		}
	}
}

// trust compares the caches with the API server, so that an object that was taken from this shard while it had no
// right to act, or by an earlier process of it, is not reconciled from a cache that does not know that yet. It returns an
// error only if ctx is done.
func (w *Worker) trust(ctx context.Context) error {
	defer w.hindrance.clear()
	for _, p := range w.processors {
		if !cache.WaitForCacheSync(ctx.Done(), p.synced()...) || planted("trust-caches") {
			return ctx.Err()
		}
		for {
			err := p.trust(ctx)
			if err == nil {
				break
			}
			w.hindrance.set(explained(err))
			w.logger.Error(err, "Reading the objects of this shard failed, will try again")
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(handoverRetry):
			}
		}
	}
	return nil
}

// takenInPart says whether a manager has begun to take this shard over, and not come to the end.
func (w *Worker) takenInPart() bool {
	heartbeat := w.heartbeat.Load()
	return heartbeat != nil && heartbeat.Resumed()
}

func (p *processor) synced() []cache.InformerSynced {
	synced := []cache.InformerSynced{p.controller.Informer.HasSynced}
	for _, informer := range p.controller.Children {
		synced = append(synced, informer.HasSynced)
	}
	return synced
}

// trust asks the API server what is ours, which counts for all that the cache shows of before.
func (p *processor) trust(ctx context.Context) error {
	objects := p.w.objects(p.target.resource, metav1.NamespaceAll)
	own := ShardSelector(p.w.options.Ring, p.w.options.ID)
	page, err := objects.List(ctx, metav1.ListOptions{LabelSelector: own.String(), Limit: 1})
	if err != nil {
		return fmt.Errorf("list %s: %w", p.target.name(), err)
	}
	version := page.ResourceVersion // what the cache shows of a later state than this needs no check
	p.trusted.Store(&version)
	now := &truth{p.w.options.Ring, version, map[types.UID]int64{}}
	keys, moving := map[types.UID]types.NamespacedName{}, map[types.UID]types.NamespacedName{}
	_, err = eachPage(ctx, objects, own.String(), func(page []metav1.PartialObjectMetadata) error {
		for i := range page {
			key, uid := keyOf(&page[i]), page[i].UID
			now.epochs[uid], keys[uid] = EpochOf(&page[i], p.w.options.Ring), key
			if mayHaveLent(&page[i], p.w.options.Ring) {
				moving[uid] = key
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", p.target.name(), err)
	}
	if len(keys) > 0 && p.w.takenInPart() {
		away, err := p.drainer.away(ctx, keys)
		if err != nil {
			return err
		}
		for uid := range away {
			moving[uid] = keys[uid]
		}
	}
	p.roster.know(now)
	p.drainer.inherit(keys, moving)
	return nil
}
