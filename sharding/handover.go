package sharding

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

const (
	// handoverWriters is how many hand-overs are written at the same time, per controller. An object rests while that is done, so these are
	// not more than an API server needs to have enough to do: more make all of them slower.
	handoverWriters = 5
	handoverRetry   = 200 * time.Millisecond // before a write that failed for no reason of ours is tried again

	// After a list of children the next one waits for as long as that took, at most maxListRest: then half of the time at the most is spent
	// listing. The first is not delayed.
	maxListRest = 400 * time.Millisecond
)

// drainer hands over the objects whose owner is to change: it waits for their reconcile in flight, gives their children to the new
// owner, and then the object itself, in one write.
//
// The children are listed from the API server, as the cache may lack one that was created a moment ago. One list serves all
// hand-overs that are ready when it begins, so its cost is shared when there are many. See kin for shards with many children: those
// that are known are given away while it is found out whether there are others.
type drainer struct {
	p      *processor
	kin    *kin
	signal chan struct{}

	mu        sync.Mutex
	since     map[types.NamespacedName]time.Time
	tries     map[types.NamespacedName]int // attempts in a row
	lent      map[types.UID][]*childObject // children by their root, see recall
	inherited *inheritance                 // nil when all about it is known
	returned  map[types.UID]versions       // children by their root that the caches don't show yet, see isBack
	returning atomic.Int64                 // how many these are

	writing atomic.Int64 // hand-overs
	usual   atomic.Int64 // how long writing one takes, in nanoseconds, smoothed

	listing time.Duration // how long the last list of children took, and rested until when there is to be no other: of run alone
	rested  time.Time
}

func newDrainer(p *processor) *drainer {
	return &drainer{
		p: p, kin: newKin(p.w), signal: make(chan struct{}, 1),
		since: map[types.NamespacedName]time.Time{}, tries: map[types.NamespacedName]int{}, lent: map[types.UID][]*childObject{},
		returned: map[types.UID]versions{},
	}
}

// requested notes that the object is to be handed over.
func (d *drainer) requested(key types.NamespacedName) {
	d.mu.Lock()
	d.since[key] = time.Now()
	d.mu.Unlock()
	d.wake()
}

// limit gives the reconcile in flight of an object whose turn has come the drain timeout to end by itself.
func (d *drainer) limit(key types.NamespacedName) {
	time.AfterFunc(drainTimeout(d.p.w.ring.get()), func() {
		if d.p.roster.force(key) {
			d.p.w.metrics.handoverForced.WithLabelValues(d.p.w.options.Ring).Inc()
			d.p.w.logger.Info("Reconcile exceeds the drain timeout, cancelled it", "object", key)
			time.AfterFunc(obstacleAgain, func() { d.overdue(key) })
		}
	})
}

// overdue says of a reconcile that was cancelled that it has not returned, and looks again.
func (d *drainer) overdue(key types.NamespacedName) {
	if !d.p.roster.overdue(key) {
		return
	}
	d.p.w.logger.Error(nil, "Reconcile has not returned since it was cancelled, so the object can't be handed over", "object", key)
	d.p.event(key, "Stuck", "HandOver", "can't be handed over: its reconcile has not returned since its context was cancelled")
	time.AfterFunc(obstacleAgain, func() { d.overdue(key) })
}

// wake makes run look for objects that are ready.
func (d *drainer) wake() {
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

// handoverJob is one object to hand over.
type handoverJob struct {
	key    types.NamespacedName
	root   types.UID // what the cache had under that key when the turn of the object had come, and whose children family is about; "" for nothing
	family family
}

// run hands objects over until ctx is done.
func (d *drainer) run(ctx context.Context) {
	jobs := make(chan handoverJob)
	var writers sync.WaitGroup
	for range handoverWriters {
		writers.Go(func() {
			for job := range jobs {
				d.settle(ctx, job.key, d.handOver(ctx, job))
				d.writing.Add(-1)
				if d.p.roster.waiting() {
					d.wake()
				}
			}
		})
	}
	defer writers.Wait()
	defer close(jobs)
	defer d.kin.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.kin.unused.C:
			d.kin.stop()
			continue
		case <-d.signal:
		}
		pause(ctx, time.Until(d.rested))
		if d.p.w.Active() {
			d.dispatch(ctx, jobs)
		}
	}
}

// room returns how many objects more may rest to be handed over: as many as there are writers for, and as many again where there are so many
// children that a list takes longer than a hand-over, or more time would go into listing than into writing.
func (d *drainer) room() int {
	room := handoverWriters
	if usual := d.usual.Load(); usual > 0 {
		room += min(handoverWriters, int(int64(handoverWriters*d.listing)/usual))
	}
	return max(1, room-int(d.writing.Load()))
}

// dispatch gives the objects whose turn it is to the writers, and finds out meanwhile which children they have.
func (d *drainer) dispatch(ctx context.Context, writers chan<- handoverJob) {
	if err := d.learn(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Listing the children that an earlier process of this shard has handed over failed, will try again")
	}
	if n, namespace := d.p.roster.queue(); n > handoverWriters {
		d.kin.expect(ctx, d.p.target.controlled, namespace)
	}
	keys, waited := d.p.roster.takeReady(d.room())
	for _, key := range waited {
		d.limit(key)
	}
	if len(keys) == 0 {
		return
	}
	followed := d.kin.used(commonNamespace(keys))
	jobs := make([]handoverJob, len(keys))
	unknown := map[types.UID]types.NamespacedName{} // whose children have to be listed
	l := &childListing{done: make(chan struct{})}
	for i, key := range keys {
		jobs[i].key = key
		root := d.p.cached(key)
		if root == nil {
			continue
		}
		f, complete := d.familyOf(root.GetUID(), followed)
		if !complete {
			f.listing = l
			unknown[root.GetUID()] = key
		}
		jobs[i].root, jobs[i].family = root.GetUID(), f
	}
	go d.makeListing(ctx, l, unknown)
	d.writing.Add(int64(len(keys)))
	for _, job := range jobs {
		writers <- job
	}
	<-l.done
	d.rested = time.Now().Add(d.listing)
}

// makeListing finds out which children the objects have.
func (d *drainer) makeListing(ctx context.Context, l *childListing, roots map[types.UID]types.NamespacedName) {
	defer close(l.done)
	d.listing = 0
	if len(roots) == 0 {
		return
	}
	begun, listed := time.Now(), false
	if l.children, listed, l.err = d.childrenOf(ctx, roots); listed {
		d.listing = min(time.Since(begun), maxListRest)
	}
	if l.err != nil {
		klog.FromContext(ctx).Error(l.err, "Listing the children of objects to hand over failed, will try again", "objects", len(roots))
	}
}

// settle tells the roster how a hand-over ended, and sees to what follows.
func (d *drainer) settle(ctx context.Context, key types.NamespacedName, s settlement) {
	if s.retry {
		time.AfterFunc(d.tried(key), func() {
			d.p.roster.settle(key, s)
			d.wake()
		})
		return
	}
	again := d.p.roster.settle(key, s)
	d.p.w.changed()
	d.mu.Lock()
	since, known := d.since[key]
	delete(d.since, key)
	delete(d.tries, key)
	d.mu.Unlock()
	if again {
		d.requested(key)
	}
	if s.given != "" && known {
		d.p.w.metrics.handover.WithLabelValues(d.p.w.options.Ring).Observe(time.Since(since).Seconds())
	}
	d.p.queue.add(key) // it may have stayed with us, or be back already
	klog.FromContext(ctx).V(4).Info("Hand-over ended", "object", key, "given", s.given != "")
}

// tried notes an attempt that failed. It returns how long to wait: the next one may export a state and write it once more.
func (d *drainer) tried(key types.NamespacedName) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tries[key]++
	return retryDelay(d.tries[key])
}

// handOver gives the children and then the object to the shard that the drain label names now.
func (d *drainer) handOver(ctx context.Context, job handoverJob) settlement {
	root := d.p.cached(job.key)
	switch {
	case root == nil:
		return settlement{}
	case root.GetUID() != job.root:
		return settlement{retry: true} // it has come since its children were looked for
	}
	begun := time.Now()
	children, waited, err := d.gather(ctx, root, job.family)
	if err == nil {
		children, err = d.recall(ctx, root.GetUID(), children)
	}
	s := settlement{retry: true}
	if err == nil {
		s, children = d.attempt(ctx, job.key, root, children)
		d.usual.Store((3*d.usual.Load() + int64(time.Since(begun)-waited)) / 4)
	} else {
		d.failed(ctx, job.key, err)
	}
	if s.retry {
		d.remember(root.GetUID(), children)
	} else {
		d.forgetLent(root.GetUID())
		if s.given == "" {
			d.cameBack(root.GetUID(), children)
		}
	}
	return s
}

// attempt is handOver of one object, whose children have been gathered. It returns them as they were when they were read last.
func (d *drainer) attempt(ctx context.Context, key types.NamespacedName, root metav1.Object, children []*childObject) (settlement, []*childObject) {
	w, uid := d.p.w, root.GetUID()
	objects := w.objects(d.p.target.resource, key.Namespace)
	asked, _ := DrainTargetOf(root, w.options.Ring)
	for {
		root = d.p.epochs.raised(key, root)
		target, draining := DrainTargetOf(root, w.options.Ring)
		owner, _ := OwnerOf(root, w.options.Ring)
		if planted("keep-first-target") && asked != "" {
			target, draining = asked, true
		}
		switch {
		case !w.Active() || root.GetUID() != uid:
			return settlement{retry: true}, children
		case owner != w.options.ID:
			return settlement{given: root.GetResourceVersion()}, children
		case (!draining || target == w.options.ID) && slices.ContainsFunc(children, d.isAway):
			return d.failed(ctx, key, errAstray), children
		case !draining || target == w.options.ID:
			return settlement{seen: root.GetResourceVersion()}, children
		}
		awaited, _, err := d.handOverChildren(ctx, children, target)
		if err != nil {
			return d.failed(ctx, key, err), children
		}
		state, err := d.p.keeper.luggage(ctx, key, root)
		if bad := (*stateError)(nil); errors.As(err, &bad) {
			declined := d.p.keeper.decline(ctx, key, root, target, bad)
			if declined.declined != "" && slices.ContainsFunc(children, d.isAway) {
				return d.failed(ctx, key, errAstray), children // it stays, and rests until they are back
			}
			declined.seen = root.GetResourceVersion()
			return declined, children
		}
		if err != nil {
			return d.failed(ctx, key, err), children
		}
		patch := handoverPatch(root, w.options.Ring, target, awaited, state.change)
		patched, err := objects.Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: workerFieldManager})
		w.trail.owned(w.options.Ring, AuditHandedOver, d.p.target.resource.GroupResource(), root, patch, err)
		if err == nil {
			d.p.keeper.handedOver(ctx, state)
			return settlement{given: patched.ResourceVersion}, children
		}
		if apierrors.IsConflict(err) {
			patched, err = objects.Get(ctx, key.Name, metav1.GetOptions{})
		}
		if apierrors.IsNotFound(err) {
			d.p.controller.guard.leftCache(key, root)
			d.p.departed.Add(key)
			return settlement{seen: root.GetResourceVersion()}, children
		}
		if err != nil {
			// Whether the write went through is unknown. If it did, the next attempt gets a conflict, and sees it.
			return d.failed(ctx, key, err), children
		}
		// The request may have been withdrawn, children brought home, and the request made again.
		if children, err = d.reread(ctx, uid, children); err != nil {
			return d.failed(ctx, key, err), children
		}
		root = patched
	}
}

func (d *drainer) failed(ctx context.Context, key types.NamespacedName, err error) settlement {
	if apierrors.IsForbidden(err) {
		klog.FromContext(ctx).Error(err, "Hand-over failed, will try again: "+explained(err), "object", key)
	}
	klog.FromContext(ctx).V(2).Info("Hand-over failed, will try again", "object", key, "err", err)
	return settlement{retry: true}
}
