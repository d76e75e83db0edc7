package sharding

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// flight is the set of roots that are in hand-over. It is bounded: whoever wants to add to it waits. What it holds comes from a
// watch on the drain label; what this manager has just asked for is added before that is seen.
type flight struct {
	mu    sync.Mutex
	limit int
	roots map[types.UID]flightEntry
	// redirected: the target of one of these roots may have changed. True at first, as nothing is known of what was before.
	redirected bool
	listed     map[schema.GroupVersionResource]bool // of which all that are in hand-over are known
	changed    chan struct{}                        // closed and replaced when the set shrinks or the limit changes
	// resized is called with the size after every change.
	resized func(int)
}

// flightEntry is one root in hand-over.
type flightEntry struct {
	resource schema.GroupVersionResource
	seen     time.Time
	target   string // "" if it is not known
}

func newFlight(resized func(int)) *flight {
	return &flight{limit: 1, redirected: true, roots: map[types.UID]flightEntry{}, listed: map[schema.GroupVersionResource]bool{}, changed: make(chan struct{}), resized: resized}
}

func (f *flight) setLimit(limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if limit != f.limit {
		f.limit = limit
		f.wake()
	}
}

// board adds a root as soon as there is room.
func (f *flight) board(ctx context.Context, resource schema.GroupVersionResource, root types.UID) error {
	return f.boardBelow(ctx, resource, root, math.MaxInt)
}

// boardBelow is board with another limit, which counts if it is lower than the flight's.
func (f *flight) boardBelow(ctx context.Context, resource schema.GroupVersionResource, root types.UID, limit int) error {
	return f.await(ctx, func() bool {
		if _, in := f.roots[root]; !in && len(f.roots) >= min(f.limit, limit) {
			return false
		}
		f.roots[root] = flightEntry{resource: resource, seen: time.Now()}
		f.resized(len(f.roots))
		return true
	})
}

func (f *flight) leave(root types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, in := f.roots[root]; in {
		delete(f.roots, root)
		f.resized(len(f.roots))
		f.wake()
	}
}

// awaitLanding waits until no root is in hand-over, or for some time: a pass in between finds out which of them have to go
// elsewhere by now.
func (f *flight) awaitLanding(ctx context.Context) { f.awaitLandingFor(ctx, landingPatience) }

func (f *flight) awaitLandingFor(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = f.await(ctx, func() bool { return len(f.roots) == 0 })
}

const landingPatience = 5 * time.Second

// await calls done, with the lock, until it is true.
func (f *flight) await(ctx context.Context, done func() bool) error {
	for {
		f.mu.Lock()
		ok, changed := done(), f.changed
		f.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

func (f *flight) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// wasRedirected says whether a root of the targets that is in hand-over may have been on its way elsewhere before.
func (f *flight) wasRedirected(targets []*rootTarget) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.roots) == 0 && !slices.ContainsFunc(targets, func(t *rootTarget) bool { return !f.listed[t.resource] }) {
		f.redirected = false
	}
	return f.redirected
}

// found is called for every root with a drain label, which names target, and for every one that has lost it. again says that the root was to be
// handed over before, and that was withdrawn.
func (f *flight) found(resource schema.GroupVersionResource, event watch.EventType, root *metav1.PartialObjectMetadata, target string, again bool) {
	if event == watch.Deleted {
		f.leave(root.UID)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if before := f.roots[root.UID].target; again || before != "" && before != target {
		f.redirected = true
	}
	f.roots[root.UID] = flightEntry{resource, time.Now(), target}
	f.resized(len(f.roots))
}

// prune forgets roots that a list, begun then, has not confirmed: their hand-over ended while there was no watch.
func (f *flight) prune(resource schema.GroupVersionResource, begun time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listed[resource] = true
	size := len(f.roots)
	for root, entry := range f.roots {
		if entry.resource == resource && entry.seen.Before(begun) {
			delete(f.roots, root)
		}
	}
	if len(f.roots) != size {
		f.resized(len(f.roots))
		f.wake()
	}
}

func (f *flight) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.roots)
}
