package sharding

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// Token is what an external system needs to refuse the work of a former owner: it keeps the highest Epoch that it has seen of a UID,
// and refuses what comes with a lower one.
//
// Of one UID the Epoch grows by one or more whenever the object gets another owner, through assignment, hand-over and take-over. It is
// not a count of processes: two processes that are the same shard one after the other have the same. An object that is created
// again under its name has another UID, and begins at 1. So does the same object after its ring, or its target, was deleted.
type Token struct {
	UID   types.UID
	Epoch int64
}

// String returns the token as "UID/EPOCH".
func (t Token) String() string { return string(t.UID) + "/" + strconv.FormatInt(t.Epoch, 10) }

// TokenFromContext returns the token of an object that a reconcile with this context has begun with. It is false for other
// objects, and in a context that does not come from a reconcile. The token of a deleted object is its last one.
func TokenFromContext(ctx context.Context, object types.NamespacedName) (Token, bool) {
	granted := grantOf(ctx)
	if granted == nil {
		return Token{}, false
	}
	for _, t := range granted.tokens {
		if t.object == object {
			return t.token, true
		}
	}
	return Token{}, false
}

// EpochFromContext is TokenFromContext for a reconcile of one object that knows its UID. It is false for a batch of several.
func EpochFromContext(ctx context.Context) (int64, bool) {
	granted := grantOf(ctx)
	if granted == nil || len(granted.tokens) != 1 {
		return 0, false
	}
	return granted.tokens[0].token.Epoch, true
}

// issue adds the token of an object to the grant of a reconcile that is about to begin. cached is nil for a deleted object.
func (p *processor) issue(granted *grant, key types.NamespacedName, cached metav1.Object) {
	if token, known := p.epochs.token(key, cached); known {
		if granted.tokens == nil {
			granted.tokens = granted.room[:0]
		}
		granted.tokens = append(granted.tokens, grantedToken{key, token})
	}
}

// epochs keeps the epochs of the roots that this shard owns from falling: of objects whose annotation somebody has lowered or removed it
// knows what it was. It keeps nothing of all others. It does no IO and knows no time.
type epochs struct {
	ring       string
	annotation string

	mu     sync.Mutex
	floors map[types.NamespacedName]Token // of objects whose annotation says less
	left   map[types.NamespacedName]Token // of objects that have left the cache, and may be reconciled once more

	// kept is how many entries the two have. Hardly ever any: then what is asked in every reconcile needs no lock.
	kept atomic.Int64
}

func newEpochs(ring string) *epochs {
	return &epochs{ring: ring, annotation: EpochAnnotation(ring), floors: map[types.NamespacedName]Token{}, left: map[types.NamespacedName]Token{}}
}

// saw notes two states of an object that the cache has shown one after the other, the first may be nil. It reports whether the epoch has
// to be restored.
func (e *epochs) saw(key types.NamespacedName, before, now metav1.Object) (lowered bool) {
	highest, epoch := int64(0), epochIn(now, e.annotation)
	if before != nil && before.GetUID() == now.GetUID() {
		highest = epochIn(before, e.annotation)
	}
	if epoch >= highest && e.kept.Load() == 0 {
		return false
	}
	e.mu.Lock()
	defer e.unlock()
	delete(e.left, key)
	if floor := e.floors[key]; floor.UID == now.GetUID() {
		highest = max(highest, floor.Epoch)
	}
	if epoch >= highest {
		delete(e.floors, key)
		return false
	}
	e.floors[key] = Token{now.GetUID(), highest}
	return true
}

// differ reports whether two states of an object have different epochs.
func (e *epochs) differ(before, now metav1.Object) bool {
	a, b := before.GetAnnotations()[e.annotation], now.GetAnnotations()[e.annotation]
	return a != b && epochOf(a) != epochOf(b)
}

// unlock is called with the lock, after a change.
func (e *epochs) unlock() {
	e.kept.Store(int64(len(e.floors) + len(e.left)))
	e.mu.Unlock()
}

// gone notes that an object has left the cache.
func (e *epochs) gone(key types.NamespacedName, last metav1.Object) {
	token, _ := e.token(key, last)
	e.mu.Lock()
	defer e.unlock()
	delete(e.floors, key)
	e.left[key] = token
}

// forget is called for an object that has left the cache and will not be reconciled.
func (e *epochs) forget(key types.NamespacedName) {
	e.mu.Lock()
	defer e.unlock()
	delete(e.left, key)
}

// token returns the token of an object; for nil that of the object that has left the cache under this name.
func (e *epochs) token(key types.NamespacedName, obj metav1.Object) (Token, bool) {
	if obj == nil {
		e.mu.Lock()
		defer e.unlock()
		token, known := e.left[key]
		delete(e.left, key)
		return token, known
	}
	token := Token{obj.GetUID(), epochIn(obj, e.annotation)}
	if e.kept.Load() == 0 {
		return token, true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if floor := e.floors[key]; floor.UID == token.UID {
		token.Epoch = max(token.Epoch, floor.Epoch)
	}
	return token, true
}

// raised returns obj, with its epoch as it should be.
func (e *epochs) raised(key types.NamespacedName, obj metav1.Object) metav1.Object {
	if obj == nil || e.kept.Load() == 0 {
		return obj
	}
	e.mu.Lock()
	floor, known := e.floors[key]
	e.mu.Unlock()
	if !known || floor.UID != obj.GetUID() {
		return obj
	}
	return raiseEpoch(obj, e.ring, floor.Epoch)
}

// raiseEpoch returns obj with an epoch of at least floor. obj is not changed.
func raiseEpoch(obj metav1.Object, ring string, floor int64) metav1.Object {
	if EpochOf(obj, ring) >= floor {
		return obj
	}
	annotations := maps.Clone(obj.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[EpochAnnotation(ring)] = strconv.FormatInt(floor, 10)
	return &raisedObject{obj, annotations}
}

// keepEpoch raises the epoch of an object, as it was read again, to what it was before.
func keepEpoch(before, now *metav1.PartialObjectMetadata, ring string) {
	if before.UID == now.UID {
		now.Annotations = raiseEpoch(now, ring, EpochOf(before, ring)).GetAnnotations()
	}
}

type raisedObject struct {
	metav1.Object
	annotations map[string]string
}

func (o *raisedObject) GetAnnotations() map[string]string { return o.annotations }

// sawEpoch looks at what the cache shows of an object, and has its epoch restored if somebody has lowered it.
func (p *processor) sawEpoch(key types.NamespacedName, before, now metav1.Object) {
	if now.GetLabels()[p.roster.owner] == p.w.options.ID && p.epochs.saw(key, before, now) {
		p.lowered.AddRateLimited(key)
	}
}

// restoreEpochs runs until its queue is shut down.
func (p *processor) restoreEpochs(ctx context.Context) {
	for {
		key, shutdown := p.lowered.Get()
		if shutdown {
			return
		}
		if err := p.restoreEpoch(ctx, key); err != nil {
			klog.FromContext(ctx).V(2).Info("Restoring an epoch failed, will try again", "object", key, "err", err)
			p.lowered.AddRateLimited(key)
		} else {
			p.lowered.Forget(key)
		}
		p.lowered.Done(key)
	}
}

// restoreEpoch writes the epoch that an object of ours had. Who else has changed the object meanwhile causes another event, and with it
// another try. A server whose policy refuses this would have refused to lower it.
func (p *processor) restoreEpoch(ctx context.Context, key types.NamespacedName) error {
	shown, _ := p.raw(key).(metav1.Object)
	obj := p.cached(key)
	if shown == nil || obj == nil || EpochOf(shown, p.w.options.Ring) == EpochOf(obj, p.w.options.Ring) {
		return nil
	}
	if !p.w.Active() {
		return errNotActive
	}
	epoch := obj.GetAnnotations()[EpochAnnotation(p.w.options.Ring)]
	patch := metaPatch{
		ResourceVersion: shown.GetResourceVersion(),
		Annotations:     map[string]*string{EpochAnnotation(p.w.options.Ring): &epoch},
	}
	_, err := p.w.objects(p.target.resource, key.Namespace).Patch(ctx, key.Name, types.MergePatchType, patch.bytes(),
		metav1.PatchOptions{FieldManager: workerFieldManager})
	if err == nil {
		klog.FromContext(ctx).Info("Restored an epoch that somebody had lowered", "object", key, "epoch", epoch)
	}
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return nil
	}
	return err
}
