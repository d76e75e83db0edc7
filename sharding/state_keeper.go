package sharding

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

const (
	// returnPatience is how long an object whose state was refused waits to be sent back, before it goes on without it.
	returnPatience = 30 * time.Second
	// refusalLapse is how long a refusal stands: as long, nobody asks for the same move again.
	refusalLapse = 10 * time.Minute
	// maxTransferAttempts is how often Import, or Export for a hand-over, is tried before its error is final.
	maxTransferAttempts = 5
)

// keeper looks after the states of one controller's objects: what has to be imported before the first reconcile, what this process
// holds, what has to be written to acknowledge it or as a checkpoint, and what goes along when an object is handed over.
//
// A holding belongs to an epoch of an object: when the object comes back in another epoch, what this process had of it is
// dropped, and it is imported anew.
type keeper struct {
	p        *processor
	transfer StateTransfer // of a controller without state: the zero value
	store    stateStore
	budget   *stateBudget
	jobs     workqueue.TypedRateLimitingInterface[stateJob]

	mu   sync.Mutex
	held map[types.NamespacedName]*holding
	kept atomic.Int64 // how many: none of a controller without state, and then the end of a reconcile needs no lock

	// What the keeper writes on an object.
	stateKey, refusedKey, unusableKey string
}

// holding is what this process knows of the state of one object, in one epoch.
type holding struct {
	uid   types.UID
	epoch int64
	ready bool // imported, or there was nothing to import: it may be reconciled

	sequence       int64 // of the last state of this epoch
	unacknowledged bool  // the object has the imported state on it still
	imports        int   // that failed
	exports        int   // for a hand-over that failed
	refused        time.Time

	sum     string // of our checkpoint that is on the object; "" if none is
	saved   time.Time
	planned bool   // a look at whether a checkpoint is due has been scheduled
	waiting *State // checkpoint that is to be written; its Data is nil if the object has no state any more
}

func (h *holding) of(root metav1.Object, ring string) bool {
	return h.uid == root.GetUID() && h.epoch == EpochOf(root, ring)
}

func newKeeper(p *processor) *keeper {
	k := &keeper{
		p: p, held: map[types.NamespacedName]*holding{},
		stateKey: StateAnnotation(p.w.options.Ring), refusedKey: RefusedLabel(p.w.options.Ring), unusableKey: UnusableAnnotation(p.w.options.Ring),
		store: stateStore{client: p.w.kube.CoreV1().Secrets(p.w.options.Namespace), ring: p.w.options.Ring},
		jobs: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[stateJob](
			50*time.Millisecond, 10*time.Second)),
	}
	if p.controller.State != nil {
		k.transfer = *p.controller.State
	}
	k.budget = newStateBudget(k.transfer.MaxSize)
	return k
}

func (k *keeper) ring() string { return k.p.w.options.Ring }

// stateful reports whether the controller has state.
func (k *keeper) stateful() bool { return k.transfer.Importer != nil }

// prepare sees to it that this process holds the state of an object that is about to be reconciled. If it returns false the object must
// not be reconciled now; it is queued again when that makes sense. It is called while the object is in flight.
func (k *keeper) prepare(granted *grant, key types.NamespacedName, root metav1.Object) bool {
	if root == nil {
		return true // deleted, and reconciled for the last time
	}
	_, has := root.GetAnnotations()[k.stateKey]
	if !has && !k.stateful() {
		return true
	}
	h, now := k.hold(key, root)
	if now.ready {
		return true
	}
	if !has {
		k.change(h, func(h *holding) { h.ready = true })
		return true
	}
	if wait := time.Until(now.refused.Add(returnPatience)); !now.refused.IsZero() && wait > 0 {
		k.p.queue.addAfter(key, wait)
		return false
	}
	root, ok := k.current(granted, key, root)
	if !ok {
		k.p.queue.addAfter(key, handoverRetry)
		return false
	}
	return k.take(granted, key, h, root) && k.stillMay(granted, key)
}

// stillMay says whether the right to act on an object has outlasted the requests that came before.
func (k *keeper) stillMay(granted *grant, key types.NamespacedName) bool {
	if granted.check() == nil {
		return true
	}
	k.p.queue.add(key)
	return false
}

// hold returns the holding of an object in its present epoch. What is held of an earlier one is dropped.
func (k *keeper) hold(key types.NamespacedName, root metav1.Object) (h *holding, now holding) {
	h, now, ok := k.look(key)
	if ok && now.of(root, k.ring()) && !(planted("state-twice") && now.unacknowledged) {
		return h, now
	}
	if ok {
		k.drop(key)
	}
	h = &holding{uid: root.GetUID(), epoch: EpochOf(root, k.ring())}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held[key] = h
	k.kept.Store(int64(len(k.held)))
	return h, *h
}

// change is how a holding is changed: other goroutines may look at it at the same time.
func (k *keeper) change(h *holding, f func(h *holding)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(h)
}

// look returns a holding as it is now; false if there is none.
func (k *keeper) look(key types.NamespacedName) (h *holding, now holding, ok bool) {
	if k.kept.Load() == 0 {
		return nil, holding{}, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if h, ok = k.held[key]; ok {
		now = *h
	}
	return h, now, ok
}

// current returns the root as it is now, if what the cache shows may be older than what an earlier process of this shard has
// acknowledged or written. It returns false if it has to be tried again.
func (k *keeper) current(ctx context.Context, key types.NamespacedName, cached metav1.Object) (metav1.Object, bool) {
	if trusted := k.p.trusted.Load(); trusted != nil && newerThan(cached.GetResourceVersion(), *trusted) {
		return cached, true // this process alone has written it since then
	}
	root, err := k.p.w.objects(k.p.target.resource, key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if err != nil {
		if !apierrors.IsNotFound(err) {
			klog.FromContext(ctx).V(2).Info("Reading an object with a state failed, will try again", "object", key, "err", err)
		}
		return nil, false
	}
	owner, _ := OwnerOf(root, k.ring())
	same := root.UID == cached.GetUID() && EpochOf(root, k.ring()) == EpochOf(cached, k.ring())
	return root, same && owner == k.p.w.options.ID
}

// take imports the state that is on the root, or refuses it.
func (k *keeper) take(granted *grant, key types.NamespacedName, h *holding, root metav1.Object) bool {
	envelope, err := stateOf(root, k.ring())
	if envelope == nil && err == nil { // an earlier process has acknowledged it, or the user has removed it
		k.change(h, func(h *holding) { h.ready = true })
		return true
	}
	var state State
	if err == nil && envelope.Secret != "" { // others are in the cache anyway
		size := min(envelope.Size, k.budget.limit)
		if err = k.budget.acquire(granted, size); err == nil {
			defer k.budget.release(size)
		}
	}
	if err == nil {
		if state, err = k.load(granted, root, envelope); err == nil {
			err = granted.check()
		}
		if err == nil && !planted("acknowledge-unread") {
			err = k.imports(granted, key, state)
		}
	}
	var bad *stateError
	switch {
	case err == nil:
		own := envelope.Epoch == h.epoch
		k.change(h, func(h *holding) {
			h.ready, h.unacknowledged = true, !own || k.transfer.Checkpoint == 0
			if own {
				h.sequence, h.sum = envelope.Sequence, envelope.Sum
			}
		})
		k.p.w.metrics.stateBytes.WithLabelValues(k.ring(), "import").Observe(float64(len(state.Data)))
		return true
	case !k.stillMay(granted, key):
		return false
	case errors.As(err, &bad):
		return k.refuse(granted, key, h, root, envelope, bad)
	}
	failed := 0
	k.change(h, func(h *holding) { h.imports++; failed = h.imports })
	if failed >= maxTransferAttempts || errors.As(err, new(terminalError)) {
		return k.refuse(granted, key, h, root, envelope, &stateError{reasonImport, err})
	}
	klog.FromContext(granted).V(2).Info("Importing the state of an object failed, will try again", "object", key, "err", err)
	k.p.queue.addAfter(key, k.p.controller.backoff(failed))
	return false
}

// load reads and verifies a state.
func (k *keeper) load(ctx context.Context, root metav1.Object, e *envelope) (State, error) {
	if !k.stateful() {
		return State{}, badState(reasonNoImporter, "the controller of this shard does not import states")
	}
	if err := e.belongs(root.GetUID(), EpochOf(root, k.ring()), k.transfer.Version); err != nil {
		return State{}, err
	}
	data := e.Data
	if e.Secret != "" {
		var err error
		if data, err = k.store.read(ctx, e); err != nil {
			return State{}, err
		}
	}
	return e.open(data)
}

func (k *keeper) imports(ctx context.Context, key types.NamespacedName, state State) (err error) {
	defer recovered(ctx, "Import", key, &err)
	return k.transfer.Importer.Import(ctx, key, state)
}

func (k *keeper) exports(ctx context.Context, key types.NamespacedName) (data []byte, err error) {
	defer recovered(ctx, "Export", key, &err)
	return k.transfer.Exporter.Export(ctx, key)
}

// recovered turns a panic of the operator's code into an error.
func recovered(ctx context.Context, function string, key types.NamespacedName, err *error) {
	if r := recover(); r != nil {
		*err = &panicError{value: r}
		klog.FromContext(ctx).Error(*err, function+" panicked", "object", key, "stack", string(debug.Stack()))
	}
}

// refuse says on the object that its state can't be used here, so that the manager sends it back. What has nowhere to go back to, or was not
// sent back in time, goes on without the state, which is kept. It returns whether the object may be reconciled now.
func (k *keeper) refuse(ctx context.Context, key types.NamespacedName, h *holding, root metav1.Object, e *envelope, bad *stateError) bool {
	self := k.p.w.options.ID
	refusedBefore := false
	k.change(h, func(h *holding) { refusedBefore = !h.refused.IsZero() })
	r := &refusal{By: self, Epoch: h.epoch, Reason: bad.reason, Message: bad.Error()}
	if e != nil {
		r.From = e.From
	}
	if r.From == "" || r.From == self || refusedBefore {
		return k.giveUp(ctx, key, h, root, r)
	}
	if _, err := k.patch(ctx, key, refusePatch(root, k.ring(), r)); err != nil {
		k.tryAgain(ctx, key, err, "Refusing the state of an object failed, will try again")
		return false
	}
	k.change(h, func(h *holding) { h.refused = time.Now() })
	k.p.arrivals.settled(key)
	k.p.w.metrics.stateRefused.WithLabelValues(k.ring(), string(r.Reason)).Inc()
	klog.FromContext(ctx).Error(bad, "The state of an object can't be used, it is to go back", "object", key, "from", r.From, "reason", r.Reason)
	k.event(key, "StateRefused", "ImportState", "shard %s can't use the state that comes from shard %s (%s): %v", self, r.From, r.Reason, bad)
	k.p.queue.addAfter(key, returnPatience)
	return false
}

// giveUp puts a state that nobody can use aside.
func (k *keeper) giveUp(ctx context.Context, key types.NamespacedName, h *holding, root metav1.Object, r *refusal) bool {
	const note = "the state that comes from shard %q can't be used (%s): %s; %s"
	if k.transfer.Required {
		k.p.arrivals.settled(key)
		k.change(h, func(h *holding) { h.refused, h.imports = time.Time{}, 0 })
		k.event(key, "StateUnusable", "ImportState", note, r.From, r.Reason, r.Message,
			"the object is not reconciled as long as it has the annotation "+StateAnnotation(k.ring()))
		k.p.queue.addAfter(key, refusalLapse)
		return false
	}
	k.change(h, func(h *holding) { h.ready = true }) // before the cache shows it
	if _, err := k.patch(ctx, key, unusablePatch(root, k.ring())); err != nil {
		k.change(h, func(h *holding) { h.ready = false })
		k.tryAgain(ctx, key, err, "Putting the state of an object aside failed, will try again")
		return false
	}
	k.p.w.metrics.stateUnusable.WithLabelValues(k.ring(), string(r.Reason)).Inc()
	klog.FromContext(ctx).Error(errors.New(r.Message), "An object goes on without its state", "object", key, "from", r.From, "reason", r.Reason)
	k.event(key, "StateUnusable", "ImportState", note, r.From, r.Reason, r.Message,
		"the object goes on without it, and the annotation "+UnusableAnnotation(k.ring())+" keeps it")
	return true
}

func (k *keeper) tryAgain(ctx context.Context, key types.NamespacedName, err error, message string) {
	klog.FromContext(ctx).V(2).Info(message, "object", key, "err", err)
	k.p.queue.addAfter(key, handoverRetry)
}

// reconciled is called after every reconcile of an object, which still is in flight.
func (k *keeper) reconciled(ctx context.Context, key types.NamespacedName, result reconcileResult) {
	h, now, ok := k.look(key)
	if !ok || !now.ready || result == resultTerminal || result == resultCancelled || result == resultPanic {
		return
	}
	switch {
	case k.transfer.Checkpoint > 0:
		k.checkpoint(ctx, key, h)
	case now.unacknowledged:
		k.jobs.Add(stateJob{key, acknowledgeState})
	}
}

// checkpoint takes the state of an object that is in flight, if that is due, and has it written if it has changed.
func (k *keeper) checkpoint(ctx context.Context, key types.NamespacedName, h *holding) {
	_, now, _ := k.look(key)
	if wait := time.Until(now.saved.Add(k.transfer.Checkpoint)); !now.unacknowledged && !now.saved.IsZero() && wait > 0 {
		if !now.planned {
			k.change(h, func(h *holding) { h.planned = true })
			k.jobs.AddAfter(stateJob{key, checkpointState}, wait)
		}
		return
	}
	switch changed, err := k.capture(ctx, key, h); {
	case changed:
		k.jobs.Add(stateJob{key, saveState})
	case err != nil && ctx.Err() == nil:
		klog.FromContext(ctx).Error(err, "Exporting the state of an object for a checkpoint failed", "object", key)
		k.jobs.AddAfter(stateJob{key, checkpointState}, max(k.transfer.Checkpoint, time.Second))
	}
}

// capture takes the state of an object that is in flight, and reports whether it is to be written: then it is waiting.
func (k *keeper) capture(ctx context.Context, key types.NamespacedName, h *holding) (changed bool, err error) {
	data, err := k.exports(ctx, key)
	if err != nil {
		return false, err
	}
	sum := ""
	if data != nil {
		sum = checksum(data)
	}
	k.change(h, func(h *holding) {
		changed = sum != h.sum || h.unacknowledged
		if h.waiting = nil; changed {
			h.waiting = &State{
				UID: h.uid, Epoch: h.epoch, Sequence: k.after(h.sequence), From: k.p.w.options.ID, Version: k.transfer.Version, Data: data,
			}
		}
	})
	return changed, nil
}

// after returns a sequence number that no state of this epoch has had yet: more than the last one that this process knows, and more than
// those of the processes of this shard before it, whose states it may never have seen. These began at an earlier version of the API
// server, and each of their states was a write, which raised that by one or more.
func (k *keeper) after(last int64) int64 {
	var begun int64
	if trusted := k.p.trusted.Load(); trusted != nil {
		begun, _ = strconv.ParseInt(*trusted, 10, 64) // 0 where versions are not numbers
	}
	return max(last, begun) + 1
}

// drop forgets what this process has of an object. It is called while nothing goes on with the object.
func (k *keeper) drop(key types.NamespacedName) {
	k.mu.Lock()
	_, had := k.held[key]
	delete(k.held, key)
	k.kept.Store(int64(len(k.held)))
	k.mu.Unlock()
	if had && k.transfer.Forgetter != nil {
		k.transfer.Forgetter.Forget(key)
	}
}

func (k *keeper) holds(key types.NamespacedName) bool {
	if k.kept.Load() == 0 {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[key] != nil
}

// resume looks at everything that is held, as the worker may act again.
func (k *keeper) resume() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for key, h := range k.held {
		k.p.queue.add(key) // what has left meanwhile is dropped
		if h.waiting != nil {
			k.jobs.Add(stateJob{key, saveState})
		} else if h.unacknowledged && k.transfer.Checkpoint == 0 {
			k.jobs.Add(stateJob{key, acknowledgeState})
		}
	}
}

func (k *keeper) event(key types.NamespacedName, reason, action, note string, args ...any) {
	k.p.event(key, reason, action, note, args...)
}

// patch writes a change of metadata that carries a resourceVersion.
func (k *keeper) patch(ctx context.Context, key types.NamespacedName, patch []byte) (*metav1.PartialObjectMetadata, error) {
	return k.p.w.objects(k.p.target.resource, key.Namespace).Patch(ctx, key.Name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: workerFieldManager})
}

var (
	errSettled = errors.New("there is nothing to write any more")
	errNotOurs = errors.New("the object is not ours any more, or the shard may not act now")
)

// rewrite writes what f makes of a root that is still ours in this epoch, starting from what the cache shows, and again with what the
// server has if that was overtaken. f returns errSettled if nothing is to be written.
func (k *keeper) rewrite(ctx context.Context, key types.NamespacedName, h *holding, f func(root metav1.Object) ([]byte, error)) error {
	root := k.p.cached(key)
	for range maxAttempts {
		if root == nil || !h.of(root, k.ring()) {
			return errNotOurs
		}
		if owner, _ := OwnerOf(root, k.ring()); owner != k.p.w.options.ID || !k.p.w.Active() {
			return errNotOurs
		}
		patch, err := f(root)
		if err != nil {
			return err
		}
		if _, err = k.patch(ctx, key, patch); err == nil {
			return nil
		}
		if apierrors.IsConflict(err) {
			root, err = k.p.w.objects(k.p.target.resource, key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
		}
		if apierrors.IsNotFound(err) {
			return errNotOurs
		}
		if err != nil {
			return err
		}
	}
	return errOvertaken
}
