package sharding

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/balancer"
)

// Values of the label cause of the metric moves_total.
const (
	causeJoin      = "join"      // a new shard takes its share
	causeDrain     = "drain"     // the shard is to be emptied
	causeRebalance = "rebalance" // the planner, the slot table or the strategy wants it elsewhere
	causeTakeover  = "takeover"  // the shard is dead
)

// wanted is what is to be done about one owned root.
type wanted int

const (
	keep    wanted = iota // it is where it belongs, or on its way there
	drain                 // ask its owner to hand it over
	abort                 // take that request back
	release               // it is not the ring's any more: take all labels off
)

// wantedFor decides about one root that a live shard owns; to is where it is to go.
func wantedFor(p *placement, t *rootTarget, ring string, selected bool, root metav1.Object) (what wanted, to string, err error) {
	owner, _ := OwnerOf(root, ring)
	target, draining := DrainTargetOf(root, ring)
	if !selected {
		return release, "", nil
	}
	refused := refusalOf(root, ring)
	if refused != nil {
		if what, to, ok := wantedAfterRefusal(p, refused, owner, target, draining); ok {
			return what, to, nil
		}
	}
	decision, err := p.placePinned(t, ring, root)
	if err == nil && decision.Shard == owner {
		decision.Shard = cmp.Or(p.sentTo(t, ring, root, owner), owner)
	}
	switch {
	case errors.Is(err, errUnheard):
		return keep, "", nil
	case errors.Is(err, balancer.ErrNoShard), errors.Is(err, errNotServed):
		if draining && !p.receives(target, t) {
			return abort, "", nil
		}
		return keep, "", nil
	case err != nil:
		return keep, "", err
	case decision.Shard == owner && draining:
		return abort, "", nil
	case decision.Shard == owner || draining && decision.Shard == target && !refusedBy(refused, target):
		return keep, "", nil
	case refusedBy(refused, decision.Shard) && draining && (target == decision.Shard || !p.eligible(target)):
		return abort, "", nil
	case refusedBy(refused, decision.Shard):
		return keep, "", nil
	}
	return drain, decision.Shard, nil
}

// causeOf says why a root moves.
func causeOf(p *placement, owner, to string) string {
	if s, ok := p.view.Shard(owner); ok && s.Draining {
		return causeDrain
	}
	if p.joined[to] && !p.errand.gives(owner) {
		return causeJoin
	}
	return causeRebalance
}

// canWait says whether a root may stay where it is for a while: its owner keeps it, and has not refused it.
func canWait(p *placement, owner string, root metav1.Object, ring string) bool {
	return !p.draining(owner) && !refusedBy(refusalOf(root, ring), owner)
}

// mover asks shards to hand over the roots that belong elsewhere. It works in passes over all owned roots, one after the other
// until one finds nothing to do; then it waits for a change, or for the time of the next audit.
type mover struct {
	*ringScope
	flight *flight
	kicked chan struct{}
	// idle is called with the number of roots that a pass came across, by owner, when the pass found everything in its place.
	idle func(ctx context.Context)
	// home is called when hand-overs don't end, and one of them was asked to go elsewhere: its children may have gone ahead.
	home func(ctx context.Context)
	// yields says whether moves that can wait do so: a migration that somebody asked for is under way.
	yields func() bool
	plans  *plans
}

// auditInterval is how often the mover looks at all owned roots although nothing has changed.
const auditInterval = 5 * time.Minute

// kick asks for a pass. It never blocks.
func (m *mover) kick() {
	select {
	case m.kicked <- struct{}{}:
	default:
	}
}

// kickAfter asks for a pass in a while.
func (m *mover) kickAfter(d time.Duration) { time.AfterFunc(d, m.kick) }

// run blocks until ctx is done.
func (m *mover) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		select { // this pass is the one that was asked for
		case <-m.kicked:
		default:
		}
		placement := m.placer.load()
		misplaced, err := m.pass(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			klog.FromContext(ctx).V(1).Info("Looking for misplaced objects failed, will try again", "err", err)
			pause(ctx, jitter(retryDelay(failures)))
			continue
		case misplaced > 0:
			failures = 0
			if m.flight.awaitLanding(ctx); m.flight.wasRedirected(m.targets.Load().roots) {
				m.home(ctx)
			}
			pause(ctx, finderMinBackoff)
			continue
		}
		failures = 0
		if placement != nil {
			placement.errand.end()
		}
		m.idle(ctx)
		m.awaitKick(ctx, jitter(auditInterval))
	}
}

func (m *mover) awaitKick(ctx context.Context, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-m.kicked:
	}
}

const (
	// listsAtOnce is how many lists of a resource a pass makes side by side. More of them would not make it faster: all shards wait for one gate.
	listsAtOnce = 16
	// shardsPerList is how many shards are asked for in one list at most, which names them all in its address.
	shardsPerList = 100
)

// together divides shards into those that are asked for in one list.
func together(shards []string) [][]string {
	size := min((len(shards)+listsAtOnce-1)/listsAtOnce, shardsPerList)
	return slices.Collect(slices.Chunk(shards, max(1, size)))
}

// pass looks at every root that a live shard owns, all shards side by side, so that they hand over side by side too. It returns
// how many are not where they belong.
func (m *mover) pass(ctx context.Context) (misplaced int, err error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	targets := m.targets.Load()
	for _, shards := range together(m.placer.load().liveShards()) {
		for _, target := range targets.roots {
			all.Go(func() {
				n, failed := m.passOver(ctx, target, shards)
				mu.Lock()
				defer mu.Unlock()
				misplaced += n
				err = errors.Join(err, failed)
			})
		}
	}
	all.Wait()
	return misplaced, err
}

func (m *mover) passOver(ctx context.Context, target *rootTarget, shards []string) (misplaced int, err error) {
	writes := &batch{gate: m.gate}
	selector := ownedByAnyOf(m.ring, shards).String()
	_, err = m.eachPage(ctx, target.resource, selector, func(page []metav1.PartialObjectMetadata) error {
		for i := range page {
			n, err := m.look(ctx, writes, target, &page[i])
			misplaced += n
			if err != nil {
				return err
			}
		}
		return nil
	})
	return misplaced, errors.Join(err, writes.wait())
}

// look starts what is to be done about one root, and returns 1 if there is something, or if it is in hand-over.
func (m *mover) look(ctx context.Context, writes *batch, target *rootTarget, root *metav1.PartialObjectMetadata) (int, error) {
	current := m.placer.load()
	what, to, err := wantedFor(current, target, m.ring, !m.excludes(target, root), root)
	if err != nil {
		return 0, err
	}
	_, draining := DrainTargetOf(root, m.ring)
	if owner, _ := OwnerOf(root, m.ring); what == drain && !draining && m.yields != nil && m.yields() && canWait(current, owner, root, m.ring) {
		return 0, nil
	}
	switch what {
	case keep:
		if draining {
			return 1, nil
		}
		return 0, nil
	case drain:
		if !draining {
			if err := m.flight.board(ctx, target.resource, root.UID); err != nil {
				return 1, err
			}
		}
	}
	return 1, writes.do(ctx, func(ctx context.Context) error {
		err := m.insist(ctx, target, root, what, to)
		if err != nil && what == drain && !draining {
			m.flight.leave(root.UID)
		}
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || errors.Is(err, errPlacementChanged) {
			return nil // the next pass decides anew
		}
		return err
	})
}

// insist is write for a root that others write, too: it may be overtaken some times. It goes on only while the same is to be done
// about the root as it is then.
func (m *mover) insist(ctx context.Context, target *rootTarget, root *metav1.PartialObjectMetadata, what wanted, to string) error {
	err := m.write(ctx, target, root, what, to)
	for range maxAttempts - 1 {
		if !apierrors.IsConflict(err) {
			return err
		}
		fresh, failed := m.get(ctx, target.resource, root.Namespace, root.Name)
		if failed != nil || fresh.UID != root.UID {
			return err
		}
		now, nowTo, failed := wantedFor(m.placer.load(), target, m.ring, !m.excludes(target, fresh), fresh)
		if failed != nil || now != what {
			return err
		}
		root, to = fresh, nowTo
		err = m.write(ctx, target, root, what, to)
	}
	return err
}

// errPlacementChanged: while a root waited for its turn, its destination stopped receiving.
var errPlacementChanged = errors.New("the placement has changed")

func (m *mover) write(ctx context.Context, target *rootTarget, root *metav1.PartialObjectMetadata, what wanted, to string) error {
	switch what {
	case abort:
		_, err := m.patch(ctx, target.resource, root, drainPatch(root, m.ring, ""))
		if err == nil {
			m.plans.aborted()
		}
		return err
	case release:
		_, err := m.patch(ctx, target.resource, root, releasePatch(root, m.ring))
		return err
	}
	if !m.placer.begin(to) {
		return errPlacementChanged
	}
	_, err := m.patch(ctx, target.resource, root, movePatch(root, m.ring, to))
	m.placer.end(to, err == nil)
	if err == nil {
		owner, _ := OwnerOf(root, m.ring)
		cause := causeOf(m.placer.load(), owner, to)
		m.metrics.moves.WithLabelValues(m.ring, cause).Inc()
		m.plans.asked(cause, owner, to)
	}
	return err
}

// excludes says whether the root is certainly not one that the target describes.
func (s *ringScope) excludes(target *rootTarget, root metav1.Object) bool {
	return !target.objects.Matches(labelsOf(root)) || s.namespaces.excludes(target, root.GetNamespace())
}

func labelsOf(object metav1.Object) labels.Labels { return labels.Set(object.GetLabels()) }
