package sharding

import (
	"errors"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// Why a worker's fence refuses a write. They are for people: all come wrapped with ErrFenced.
var (
	errRingUnknown  = errors.New("the worker has not found its ring yet")
	errNotActive    = errors.New("the shard is not active")
	errNotOwned     = errors.New("the shard does not own it")
	errNoController = errors.New("it is a target of the ring, and this worker has no controller for it")
	errForeignRoot  = errors.New("the shard does not own its root")
	errUnknownChild = errors.New("it is in no cache of Controller.Children, and the context is not that of a reconcile")
	errUnselective  = errors.New("the label selector does not name the shard")
)

// fencedScope says which resources are the ring's. It is immutable.
type fencedScope struct {
	roots    map[schema.GroupResource]*processor // nil: this worker has no controller for it
	children map[schema.GroupResource]bool
}

// fenceFor makes the scope of the ring as it is now: of all its targets, whether or not there is a controller for them.
func fenceFor(config *shardv1.ShardConfig, processors []*processor) *fencedScope {
	s := &fencedScope{roots: map[schema.GroupResource]*processor{}, children: map[schema.GroupResource]bool{}}
	for _, t := range config.Spec.Targets {
		s.roots[schema.GroupResource{Group: t.Group, Resource: t.Resource}] = nil
		for _, c := range t.Controlled {
			s.children[schema.GroupResource{Group: c.Group, Resource: c.Resource}] = true
		}
	}
	for _, p := range processors {
		root := p.target.resource.GroupResource()
		if _, still := s.roots[root]; still {
			s.roots[root] = p
		}
	}
	return s
}

// setFence is called when all processors are there, and when the ShardConfig has changed after that. While there is no ShardConfig, the
// last one counts.
func (w *Worker) setFence() {
	if config := w.ring.get(); config != nil {
		w.scope.Store(fenceFor(config, w.processors))
	}
}

// permits returns nil for a write that this worker has nothing against. granted is the grant of the reconcile whose context it has, nil
// if there is none; it has been checked.
func (w *Worker) permits(what write, granted *grant) error {
	scope := w.scope.Load()
	if scope == nil {
		return errRingUnknown
	}
	p, isRoot := scope.roots[what.resource]
	switch {
	case !isRoot && !scope.children[what.resource]:
		return nil
	case !w.Active():
		return errNotActive
	case what.key.Name == "" && what.selector == "" && what.method != http.MethodDelete:
		return nil // a creation
	case what.key.Name == "":
		return w.permitsCollection(what.selector)
	case isRoot && p == nil:
		return errNoController
	case isRoot:
		return p.permits(what.key)
	}
	return w.permitsChild(what, granted)
}

// permitsCollection asks for a selector that selects what this shard owns and nothing else.
func (w *Worker) permitsCollection(selector string) error {
	parsed, err := labels.Parse(selector)
	if err != nil {
		return errUnselective
	}
	requirements, _ := parsed.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			if r.Key() == OwnerLabel(w.options.Ring) && r.Values().Len() == 1 && r.Values().Has(w.options.ID) {
				return nil
			}
		}
	}
	return errUnselective
}

// permits says whether this shard owns a root, as far as this process knows.
func (p *processor) permits(key types.NamespacedName) error {
	if !p.roster.holds(key) {
		return errNotOwned
	}
	return nil
}

// permitsChild goes by the cached child, and without one by the reconcile that wants to write it.
func (w *Worker) permitsChild(what write, granted *grant) error {
	child := w.cachedChild(what)
	if child == nil {
		if granted != nil && granted.worker == w {
			return nil
		}
		return errUnknownChild
	}
	owner, owned := OwnerOf(child, w.options.Ring)
	if owned && owner != w.options.ID {
		return errNotOwned
	}
	controller := metav1.GetControllerOfNoCopy(child)
	p := w.processorOf(controller)
	if p == nil { // it is nobody's child, and has our label or none
		if owned || granted != nil && granted.worker == w {
			return nil
		}
		return errNotOwned
	}
	// References never cross namespaces, but a root may be in none.
	if p.permits(types.NamespacedName{Namespace: what.key.Namespace, Name: controller.Name}) == nil ||
		p.permits(types.NamespacedName{Name: controller.Name}) == nil {
		return nil
	}
	return fmt.Errorf("%w, %s", errForeignRoot, controller.Name)
}

// cachedChild returns what the caches of children show, nil if nothing.
func (w *Worker) cachedChild(what write) metav1.Object {
	name := what.resource.String()
	for _, p := range w.processors {
		informer := p.target.childInformers[name]
		if informer == nil {
			continue
		}
		obj, exists, err := informer.GetStore().GetByKey(cache.NewObjectName(what.key.Namespace, what.key.Name).String())
		if child, ok := obj.(metav1.Object); ok && exists && err == nil {
			return child
		}
	}
	return nil
}

// processorOf returns the processor of the target that the controller of an object is of; nil if it is of none.
func (w *Worker) processorOf(controller *metav1.OwnerReference) *processor {
	if controller == nil {
		return nil
	}
	version, err := schema.ParseGroupVersion(controller.APIVersion)
	if err != nil {
		return nil
	}
	for _, p := range w.processors {
		if p.target.kind == (schema.GroupKind{Group: version.Group, Kind: controller.Kind}) {
			return p
		}
	}
	return nil
}
