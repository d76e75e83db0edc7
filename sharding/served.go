package sharding

import (
	"cmp"
	"context"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
)

// served says what this process has controllers for and what it holds of each, in order of the resources. Out of a session it
// holds nothing, whatever its cache shows: nobody acts on its objects then.
func (w *Worker) served() []shardv1.ServedResource {
	acting := w.current.Load() != nil
	list := make([]shardv1.ServedResource, 0, len(w.processors))
	for _, p := range w.processors {
		s := shardv1.ServedResource{Group: p.target.resource.Group, Resource: p.target.resource.Resource}
		if acting {
			held, n := p.held()
			s.Held, s.Sketch = n, held.String()
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b shardv1.ServedResource) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource))
	})
	return list
}

// held summarizes the roots whose reconcile could start or is going on: the cache shows them as ours, and we have not given them
// away since. It decides by the same rule as roster.begin.
func (p *processor) held() (*sketch, int64) {
	given, truth := p.roster.notOurs()
	held, n := &sketch{}, int64(0)
	for _, obj := range p.controller.Informer.GetStore().List() {
		m, ok := obj.(metav1.Object)
		if !ok {
			continue
		}
		if owner, _ := OwnerOf(m, p.w.options.Ring); owner != p.w.options.ID {
			continue
		}
		if version, gone := given[keyOf(m)]; gone && !newerThan(m.GetResourceVersion(), version) || !truth.confirms(m) {
			continue
		}
		held.add(elementOf(m.GetUID()))
		n++
	}
	return held, n
}

// notOurs returns the objects that were given away and that the cache may still show, with the version from which on that counts; and what else the cache is
// to be held against.
func (r *roster) notOurs() (map[types.NamespacedName]string, *truth) {
	r.mu.Lock()
	defer r.mu.Unlock()
	given := map[types.NamespacedName]string{}
	for key, entry := range r.entries {
		if entry.given != "" {
			given[key] = entry.given
		}
	}
	return given, r.truth
}

func servedApply(served []shardv1.ServedResource) []*applyv1.ServedResourceApplyConfiguration {
	list := make([]*applyv1.ServedResourceApplyConfiguration, len(served))
	for i, s := range served {
		list[i] = applyv1.ServedResource().WithGroup(s.Group).WithResource(s.Resource).WithHeld(s.Held)
		if s.Sketch != "" {
			list[i].WithSketch(s.Sketch)
		}
	}
	return list
}

// servedBy returns what a shard serves; false if it has not said so.
func servedBy(instance *shardv1.ShardInstance) (map[schema.GroupResource]shardv1.ServedResource, bool) {
	if instance == nil || len(instance.Status.Served) == 0 {
		return nil, false
	}
	served := make(map[schema.GroupResource]shardv1.ServedResource, len(instance.Status.Served))
	for _, s := range instance.Status.Served {
		served[schema.GroupResource{Group: s.Group, Resource: s.Resource}] = s
	}
	return served, true
}

// lastWord remembers what this process wrote about what it serves, to notice when another process of the same shard has written
// something else since: the one that waits for the Lease, when it starts.
type lastWord struct {
	mu      sync.Mutex
	version string
	served  []shardv1.ServedResource
}

func (l *lastWord) wrote(instance *shardv1.ShardInstance, served []shardv1.ServedResource) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version, l.served = instance.ResourceVersion, served
}

// contradicted says whether the instance is of later than what was written, and says something else.
func (l *lastWord) contradicted(instance *shardv1.ShardInstance) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version != "" && newerThan(instance.ResourceVersion, l.version) && !slices.Equal(instance.Status.Served, l.served)
}

// rechecks notices when the manager asks the shard to compare its caches anew.
type rechecks struct {
	asked chan struct{} // with a buffer of one
	last  string        // of the handler's goroutine alone
	begun bool
}

func (r *rechecks) see(instance *shardv1.ShardInstance) {
	value := instance.Annotations[recheckAnnotation]
	if r.begun && value != r.last && value != "" {
		select {
		case r.asked <- struct{}{}:
		default:
		}
	}
	r.begun, r.last = true, value
}

// recheck compares the caches with the API server in the middle of a session. What is not ours any more is dropped, and its reconcile
// cancelled. If it fails, the manager asks again.
func (w *Worker) recheck(ctx context.Context) {
	if w.current.Load() == nil {
		return // the next session begins with that
	}
	for _, p := range w.processors {
		if err := p.trust(ctx); err != nil {
			w.logger.Error(err, "Comparing the cache with the API server failed")
		}
	}
	w.changed()
}
