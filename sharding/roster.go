package sharding

import (
	"context"
	"errors"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Causes with which the context of a reconcile is cancelled, besides those of package health. See [context.Cause].
var (
	// ErrHandover: the object is to be handed over, and its reconcile has taken longer than the ring's drain timeout.
	ErrHandover = errors.New("the object is to be handed over to another shard")
	// ErrNotOwner: the object has been given to another shard, or is gone.
	ErrNotOwner = errors.New("this shard does not own the object any more")
)

// roster knows, for every root object of one controller that something is going on with, what that is: a reconcile in flight, a
// hand-over that was asked for or is being written, or that the object was given away and the cache does not show it
// yet. It decides whether a reconcile may start, and when an object is ready to be handed over. It does no IO and knows no time.
type roster struct {
	shard        string
	owner, drain string // the labels of the ring
	// cached is what the cache shows of an object. It is called while the roster is locked: what was read before could be given away, and
	// gone from the cache, by the time at which it is decided upon.
	cached func(key types.NamespacedName) metav1.Object

	mu      sync.Mutex
	entries map[types.NamespacedName]*rosterEntry
	asked   []types.NamespacedName // to be handed over; they go on being reconciled until their turn comes
	ready   []types.NamespacedName // drained, to be handed over
	spare   []*rosterEntry         // that are in no use, and empty
	truth   *truth                 // nil before the server was asked
}

// revocable is a reconcile whose right to act can be ended.
type revocable interface{ cancel(cause error) }

type revocation context.CancelCauseFunc

func (r revocation) cancel(cause error) { r(cause) }

// truth is what the API server had of this shard's objects, and at which version. A cache that is older may show objects that were taken away since, and
// some that were away and have come back, without the children that came with them.
type truth struct {
	ring, version string
	epochs        map[types.UID]int64
}

// confirms says whether what a cache shows of an object is newer than that, or no different in who has the object.
func (t *truth) confirms(cached metav1.Object) bool {
	if t == nil || newerThan(cached.GetResourceVersion(), t.version) {
		return true
	}
	epoch, ours := t.epochs[cached.GetUID()]
	return ours && epoch == EpochOf(cached, t.ring)
}

// has says whether this may be an object of ours, whatever it was before.
func (t *truth) has(cached metav1.Object) bool {
	if t == nil || newerThan(cached.GetResourceVersion(), t.version) {
		return true
	}
	_, ours := t.epochs[cached.GetUID()]
	return ours
}

// spareEntries is how many entries are kept for the next reconciles.
const spareEntries = 64

type rosterEntry struct {
	flight revocable // the reconcile that is running; nil if none is
	over   bool      // that has been cancelled
	drain  *drainRequest
	given  string // resourceVersion of the write that gave the object away; the cache is still older than that
	left   string // while that is being written: the version at which the object left the cache
	gone   bool   // the object was ours when it was deleted, and Reconcile has not been told

	declined string // the shard that the object can't be handed over to: while that is what is asked for, it is not leaving
	borrowed bool   // flight is no reconcile, but somebody who reads the object's state
	missed   bool   // a reconcile was to begin meanwhile
}

// drainRequest is a request of the manager to hand an object over. As long as it is only that, the object is reconciled as before: while a
// thousand wait for their turn, nobody is to be without an owner that works.
type drainRequest struct {
	closed  bool // it is its turn: no reconcile begins any more
	writing bool // the hand-over is being written
	tried   bool // it was, and children may be away: only the next attempt can tell that the object stays, whatever is asked for by then
}

// leaves says whether no reconcile may begin because of the request.
func (d *drainRequest) leaves() bool { return d != nil && d.closed }

func newRoster(ring, shard string, cached func(key types.NamespacedName) metav1.Object) *roster {
	return &roster{cached: cached, shard: shard, owner: OwnerLabel(ring), drain: DrainLabel(ring), entries: map[types.NamespacedName]*rosterEntry{}}
}

// observation says what follows from a state of an object that the cache has shown.
type observation int

const (
	observedNothing observation = iota
	observedWork                // to be reconciled
	observedDrain               // to be handed over, as of now; it is ready, or will be when its reconcile in flight ends
)

func (r *roster) observe(key types.NamespacedName, obj metav1.Object, labels map[string]string) observation {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.truth.confirms(obj) {
		if entry := r.entries[key]; entry != nil {
			r.revoke(entry)
		}
		return observedNothing
	}
	if r.entries[key] == nil && labels[r.owner] == r.shard && labels[r.drain] == "" {
		return observedWork // nothing goes on with it, and nothing is asked for
	}
	entry := r.entry(key)
	defer r.tidy(key, entry)
	if entry.given != "" {
		if !newerThan(obj.GetResourceVersion(), entry.given) {
			return observedNothing
		}
		entry.given = ""
	}
	entry.gone = false
	if labels[r.drain] != entry.declined {
		entry.declined = ""
	}
	if labels[r.owner] != r.shard {
		r.revoke(entry)
		return observedNothing
	}
	if !r.leaving(entry, labels[r.drain]) {
		if entry.drain != nil && (entry.drain.writing || entry.drain.tried) {
			return observedNothing // that is settled first
		}
		entry.drain = nil
		return observedWork
	}
	if entry.drain != nil {
		return observedNothing
	}
	entry.drain = &drainRequest{}
	r.asked = append(r.asked, key)
	return observedDrain
}

// forget notes that the object has left the cache, which is at version, and how it was shown last. It reports whether that was to be expected, as it was
// given away, or taken. A cache that is late may show it once more, as it was before it was given away.
func (r *roster) forget(key types.NamespacedName, last metav1.Object, version string) (expected bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.entry(key)
	defer r.tidy(key, entry)
	expected = entry.given != "" || !r.truth.has(last) || entry.drain != nil && entry.drain.writing
	entry.declined = ""
	if !newerThan(entry.given, version) {
		entry.given = ""
	}
	if entry.drain != nil && entry.drain.writing {
		entry.left = version
	}
	r.revoke(entry)
	return expected
}

// know notes what the API server had of this shard's objects when it was asked. It counts for everything that the cache shows of before.
func (r *roster) know(t *truth) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.truth = t
	for key, entry := range r.entries {
		if cached := r.cached(key); cached != nil && !t.confirms(cached) {
			r.revoke(entry)
			r.tidy(key, entry)
		}
	}
}

// deleted notes that an object of ours was deleted, so that begin lets it be reconciled once more.
func (r *roster) deleted(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entry(key).gone = true
}

// revoke ends what goes on with an object that is not ours any more.
func (r *roster) revoke(entry *rosterEntry) {
	if entry.flight != nil {
		entry.flight.cancel(ErrNotOwner)
		entry.over = true
	}
	if entry.drain != nil && !entry.drain.writing {
		entry.drain = nil
	}
}

// begin reports whether a reconcile of the object may start, and notes that it has. It is cancelled if the right to act ends before end is
// called. cached is what the cache shows of the object, nil for nothing.
func (r *roster) begin(key types.NamespacedName, reconcile revocable) (cached metav1.Object, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cached = r.cached(key)
	entry := r.entry(key)
	defer r.tidy(key, entry)
	return cached, r.start(entry, cached, reconcile)
}

// start is called with the lock.
func (r *roster) start(entry *rosterEntry, cached metav1.Object, reconcile revocable) bool {
	if entry.flight != nil || entry.drain.leaves() {
		entry.missed = entry.borrowed
		return false
	}
	if cached == nil {
		if !entry.gone {
			return false
		}
	} else if !r.owns(entry, cached) {
		return false
	}
	entry.gone = false
	entry.flight, entry.over = reconcile, false
	return true
}

// owns reports whether the object is ours, going by what the cache shows of it and by what this shard has given away. It is called with
// the lock.
func (r *roster) owns(entry *rosterEntry, cached metav1.Object) bool {
	stale := entry.given != "" && !newerThan(cached.GetResourceVersion(), entry.given)
	return cached.GetLabels()[r.owner] == r.shard && !stale && r.truth.confirms(cached)
}

// holds reports whether this shard owns the object, and does not just give it away.
func (r *roster) holds(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.entries[key]
	if entry == nil {
		entry = &rosterEntry{}
	}
	if entry.flight != nil {
		return !entry.over // also of an object that was deleted
	}
	if entry.drain.leaves() {
		return false
	}
	cached := r.cached(key)
	return cached != nil && r.owns(entry, cached)
}

// end notes that a reconcile has returned. It reports whether the object is now ready to be handed over.
func (r *roster) end(key types.NamespacedName) (ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.entry(key)
	defer r.tidy(key, entry)
	entry.flight = nil
	if !entry.drain.leaves() || entry.drain.writing {
		return false
	}
	r.ready = append(r.ready, key)
	return true
}

// force cancels the reconcile of an object that is to be handed over. It reports whether there was one.
func (r *roster) force(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.entries[key]
	if entry == nil || entry.flight == nil || !entry.drain.leaves() {
		return false
	}
	entry.flight.cancel(ErrHandover)
	entry.over = true
	return true
}

// inFlight names the objects whose reconciles have not returned, in alphabetical order.
func (r *roster) inFlight() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for key, entry := range r.entries {
		if entry.flight != nil && !entry.borrowed {
			names = append(names, key.String())
		}
	}
	slices.Sort(names)
	return names
}

// overdue reports whether the reconcile of an object that is to be handed over has been cancelled and has not returned.
func (r *roster) overdue(key types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.entries[key]
	return entry != nil && entry.flight != nil && entry.over && entry.drain != nil
}

// takeReady returns the objects whose hand-over is to be written now; settle is called for each of them. Those that rest already come
// first; then it is the turn of those that were asked for, in that order, until there are n in all. waited are those of them whose reconcile in
// flight has to end before: they don't count, as they are not without somebody who works.
func (r *roster) takeReady(n int) (taken, waited []types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range r.ready {
		if entry := r.entries[key]; entry != nil && entry.drain.leaves() && !entry.drain.writing && entry.flight == nil {
			entry.drain.writing = true
			taken = append(taken, key)
		}
	}
	r.ready = nil
	next := 0
	for ; next < len(r.asked) && len(taken) < n; next++ {
		key := r.asked[next]
		entry := r.entries[key]
		if entry == nil || entry.drain == nil || entry.drain.closed {
			continue // it stays, or has been asked for twice
		}
		entry.drain.closed = true
		if entry.flight != nil && !planted("hand-over-early") {
			waited = append(waited, key)
			continue
		}
		entry.drain.writing = true
		taken = append(taken, key)
	}
	if r.asked = r.asked[next:]; len(r.asked) == 0 {
		r.asked = nil
	}
	return taken, waited
}

// waiting reports whether there are objects whose turn has not come.
func (r *roster) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked) > 0
}

// queue returns how many objects wait for their turn, and the namespace that they are all in, if there is one.
func (r *roster) queue() (n int, namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.asked), commonNamespace(r.asked)
}

// settlement is how the attempt to hand an object over ended.
type settlement struct {
	given    string // resourceVersion of the object as it was given away
	retry    bool   // nothing is known to have changed: it is still to be handed over
	declined string // the shard that it can't be handed over to
	// None of these: the object stays, or is gone.

	seen string // the resourceVersion at which the object was found to stay, or gone; "" if it was not in the cache
}

// settle notes how the hand-over of an object ended. A removal from the cache is noted by forget either before or after, but not lost. It reports
// whether the object that stays was to be handed over again by then, as the cache shows.
func (r *roster) settle(key types.NamespacedName, s settlement) (asked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.entry(key)
	defer r.tidy(key, entry)
	defer func() { entry.left = "" }()
	switch {
	case s.retry && entry.drain != nil:
		entry.drain.writing, entry.drain.tried = false, true
		r.ready = append(r.ready, key)
	case s.given != "":
		entry.drain = nil
		if r.cached(key) != nil || newerThan(s.given, entry.left) {
			entry.given = s.given
		}
	default:
		entry.drain, entry.declined = nil, s.declined
		if cached := r.cached(key); cached != nil && newerThan(cached.GetResourceVersion(), s.seen) && r.owns(entry, cached) &&
			r.leaving(entry, cached.GetLabels()[r.drain]) {
			entry.drain = &drainRequest{}
			r.asked = append(r.asked, key)
			return true
		}
	}
	return false
}

// borrow is begin for somebody who reads the state of an object between two reconciles; giveBack is called at the end.
func (r *roster) borrow(key types.NamespacedName, cancel context.CancelCauseFunc) (cached metav1.Object, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.entry(key)
	defer r.tidy(key, entry)
	cached = r.cached(key)
	if cached == nil || !r.start(entry, cached, revocation(cancel)) {
		return nil, false
	}
	entry.borrowed = true
	return cached, true
}

// giveBack reports whether the object is now ready to be handed over, and whether it should have been reconciled meanwhile.
func (r *roster) giveBack(key types.NamespacedName) (ready, missed bool) {
	r.mu.Lock()
	entry := r.entry(key)
	missed = entry.missed
	entry.borrowed, entry.missed = false, false
	r.mu.Unlock()
	return r.end(key), missed
}

// left reports whether the object is not ours any more, going by what the cache shows of it, and nothing goes on with it.
func (r *roster) left(key types.NamespacedName, cached metav1.Object) bool {
	if cached != nil {
		if cached.GetLabels()[r.owner] == r.shard {
			return false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	entry := r.entries[key]
	return entry == nil || entry.flight == nil && (entry.drain == nil || !entry.drain.writing)
}

// reset forgets the hand-overs that have not begun: the worker has lost the right to act, and looks at all objects anew when it has it again.
func (r *roster) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready, r.asked = nil, nil
	for key, entry := range r.entries {
		switch {
		case entry.drain == nil || entry.drain.writing:
		case entry.drain.tried:
			r.ready = append(r.ready, key)
		default:
			entry.drain = nil
		}
		r.tidy(key, entry)
	}
}

// rest keeps objects from being reconciled until an attempt to hand them over has been settled.
func (r *roster) rest(keys []types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		if entry := r.entry(key); entry.drain == nil {
			entry.drain = &drainRequest{closed: true, tried: true}
			r.ready = append(r.ready, key)
		}
	}
}

// leaving reports whether the manager has asked for the object to be handed over to another shard, target, and that has not been declined.
func (r *roster) leaving(entry *rosterEntry, target string) bool {
	return target != "" && target != r.shard && target != entry.declined
}

func (r *roster) entry(key types.NamespacedName) *rosterEntry {
	entry := r.entries[key]
	if entry != nil {
		return entry
	}
	if n := len(r.spare); n > 0 {
		entry, r.spare = r.spare[n-1], r.spare[:n-1]
	} else {
		entry = &rosterEntry{}
	}
	r.entries[key] = entry
	return entry
}

func (r *roster) tidy(key types.NamespacedName, entry *rosterEntry) {
	if entry.flight == nil && entry.drain == nil && entry.given == "" && !entry.gone && entry.declined == "" {
		delete(r.entries, key)
		if *entry = (rosterEntry{}); len(r.spare) < spareEntries {
			r.spare = append(r.spare, entry)
		}
	}
}
