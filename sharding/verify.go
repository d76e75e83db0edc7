package sharding

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// A manager that has moved objects to a shard asks whether the shard has really taken them over, by an annotation on its
// ShardInstance; the worker answers by another one. This costs two writes for any number of objects, and none when nobody asks.
const (
	// verifyAnnotation is the question: up to which resourceVersion of each resource, in the form of versions.
	verifyAnnotation = "shard.io/verify"
	// verifiedAnnotation is the answer, a verified in JSON.
	verifiedAnnotation = "shard.io/verified"

	// maxVerifiedObjects is how many objects an answer names.
	maxVerifiedObjects = 100
	// verifyPoll is how often the worker looks, while it has been asked and can't answer yet.
	verifyPoll = 20 * time.Millisecond
)

// verified is a worker's answer: of the objects that it was given by the time of these versions, each has been taken over (its state was
// imported, and its first reconcile has returned without a terminal error), has been refused, has left again, or is among those that
// failed.
type verified struct {
	Versions string           `json:"versions"`
	Failed   int              `json:"failed,omitempty"`
	Objects  []verifiedObject `json:"objects,omitempty"` // the first of those that failed, in the order of their names
}

// verifiedObject is an object whose first reconcile has failed for good.
type verifiedObject struct {
	Resource  string    `json:"resource"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	Message   string    `json:"message,omitempty"`
}

// verifyRequest returns what a shard is being asked; nil if nothing.
func verifyRequest(instance *shardv1.ShardInstance) versions {
	return parseVersions(instance.Annotations[verifyAnnotation])
}

// verifiedOf returns what a shard has answered last; false if nothing that can be read.
func verifiedOf(instance *shardv1.ShardInstance) (verified, bool) {
	var v verified
	text, ok := instance.Annotations[verifiedAnnotation]
	return v, ok && json.Unmarshal([]byte(text), &v) == nil
}

// covers reports whether the answer is about all that is wanted.
func (v verified) covers(want versions) bool {
	have := parseVersions(v.Versions)
	for resource, version := range want {
		if have[resource] == "" || newerThan(version, have[resource]) {
			return false
		}
	}
	return true
}

// arrivals are the objects of one controller that have come to this shard and that it has not taken over yet.
type arrivals struct {
	mu      sync.Mutex
	pending map[types.NamespacedName]string // resourceVersion in which the cache showed them first
	failed  map[types.NamespacedName]verifiedObject

	// kept is how many objects the two have: mostly none, and then the end of a reconcile needs no lock.
	kept atomic.Int64
}

func newArrivals() *arrivals {
	return &arrivals{pending: map[types.NamespacedName]string{}, failed: map[types.NamespacedName]verifiedObject{}}
}

// came notes that an object is this shard's from now on.
func (a *arrivals) came(key types.NamespacedName, object metav1.Object) {
	a.mu.Lock()
	defer a.unlock()
	delete(a.failed, key)
	a.pending[key] = object.GetResourceVersion()
}

// unlock is called with the lock, after a change.
func (a *arrivals) unlock() {
	a.kept.Store(int64(len(a.pending) + len(a.failed)))
	a.mu.Unlock()
}

// settled notes that an object has been taken over, or is not this shard's any more, or that all is said on the object itself.
func (a *arrivals) settled(key types.NamespacedName) {
	if a.kept.Load() == 0 {
		return
	}
	a.mu.Lock()
	defer a.unlock()
	delete(a.pending, key)
	delete(a.failed, key)
}

// failedFor notes that the first reconcile of an object has failed for good. It counts only if the object had not been taken over.
func (a *arrivals) failedFor(key types.NamespacedName, object verifiedObject) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.pending[key]; ok {
		delete(a.pending, key)
		a.failed[key] = object
	}
}

// open reports whether something that came by the time of version has not been taken over.
func (a *arrivals) open(version string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, came := range a.pending {
		if !newerThan(came, version) {
			return true
		}
	}
	return false
}

func (a *arrivals) failures() []verifiedObject {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.failed))
}

// heard is the newest version of an object that the handlers of a controller have been called with. An informer calls them on a goroutine of their own,
// some time after its cache has changed. The zero value is ready for use.
type heard struct {
	mu      sync.Mutex
	version string
}

func (h *heard) note(object metav1.Object) {
	version := object.GetResourceVersion()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.version == "" || newerThan(version, h.version) {
		h.version = version
	}
}

// has reports whether the handlers have been called with the newest object of a cache.
func (h *heard) has(cached cache.Store) bool {
	h.mu.Lock()
	version := h.version
	h.mu.Unlock()
	for _, obj := range cached.List() {
		if m, ok := obj.(metav1.Object); ok && (version == "" || newerThan(m.GetResourceVersion(), version)) {
			return false
		}
	}
	return true
}

// concluded tells arrivals how a reconcile has ended.
func (p *processor) concluded(key types.NamespacedName, outcome Outcome, result reconcileResult) {
	switch result {
	case resultSuccess, resultRequeue, resultError:
		p.arrivals.settled(key)
	case resultTerminal, resultPanic:
		object := verifiedObject{Resource: p.target.name(), Namespace: key.Namespace, Name: key.Name, Message: outcome.Err.Error()}
		if cached := p.cached(key); cached != nil {
			object.UID = cached.GetUID()
		}
		object.Message = object.Message[:min(len(object.Message), maxRefusalMessage)]
		p.arrivals.failedFor(key, object)
	}
}

// verifier answers the manager's questions.
type verifier struct {
	w     *Worker
	asked chan versions // the latest question; it has a buffer of one
}

func newVerifier(w *Worker) *verifier { return &verifier{w: w, asked: make(chan versions, 1)} }

// saw is called for every state of the ShardInstance, on one goroutine. It does not block.
func (v *verifier) saw(instance *shardv1.ShardInstance) {
	want := verifyRequest(instance)
	if answer, ok := verifiedOf(instance); len(want) == 0 || ok && answer.covers(want) {
		return
	}
	select {
	case <-v.asked:
	default:
	}
	v.asked <- want
}

// run answers until ctx is done.
func (v *verifier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case want := <-v.asked:
			for ctx.Err() == nil && len(v.asked) == 0 {
				if v.done(want) && v.answer(ctx, want) == nil {
					break
				}
				pause(ctx, verifyPoll)
			}
		}
	}
}

// done reports whether the question can be answered.
func (v *verifier) done(want versions) bool {
	if !v.w.Active() {
		return false
	}
	for _, p := range v.w.processors {
		version, asked := want[p.target.name()]
		if asked && (newerThan(version, reached(p.controller.Informer)) || p.arrivals.open(version) ||
			!p.heard.has(p.controller.Informer.GetStore()) || p.arrivals.open(version)) { // looked at first, as it costs less, and again for what was heard since
			return false
		}
	}
	return true
}

func (v *verifier) answer(ctx context.Context, want versions) error {
	a := verified{Versions: want.String()}
	for _, p := range v.w.processors {
		a.Objects = append(a.Objects, p.arrivals.failures()...)
	}
	slices.SortFunc(a.Objects, func(a, b verifiedObject) int {
		return slices.Compare([]string{a.Resource, a.Namespace, a.Name}, []string{b.Resource, b.Namespace, b.Name})
	})
	a.Failed = len(a.Objects)
	a.Objects = a.Objects[:min(len(a.Objects), maxVerifiedObjects)]
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	err = v.w.presence.patch(ctx, map[string]any{"metadata": map[string]any{"annotations": map[string]any{verifiedAnnotation: string(text)}}})
	if err != nil {
		v.w.logger.V(2).Info("Answering the manager failed, will try again", "err", err)
		pause(ctx, handoverRetry)
	}
	return err
}
