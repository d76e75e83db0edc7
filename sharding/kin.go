package sharding

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// manyChildren is from how many children of a shard on a list of them costs more than to follow them while objects are handed over.
	manyChildren = 200
	// kinRest is after how long without a hand-over they are not followed any more.
	kinRest = 30 * time.Second
	// kinPatience is how long it is waited at least for the cache to come as far as the server is, which takes the next event. Each hand-over
	// makes some. When they end, a list is the better way.
	kinPatience = 100 * time.Millisecond
	kinPoll     = 2 * time.Millisecond
	// kinExpectation is for how long hand-overs are put off at most until their children are known.
	kinExpectation = 5 * time.Second
)

// kin follows the children of a shard while many objects are handed over, so that not each hand-over has to list all children there are.
//
// All methods are for the goroutine of drainer.run, or for one that it waits for.
type kin struct {
	objects  metadata.Interface
	selector string
	many     int
	last     time.Time // when children were last listed

	now     *followed // nil: nobody is followed
	stopped context.CancelFunc
	running sync.WaitGroup
	unused  *time.Timer // until it is stopped
}

// followed is a cache of the children of a shard in a namespace. What it answers is as good as a list that begins when it is asked, if it has come
// as far as the history of the API server had then. There are two ways to know how far that was: a list of one object tells, and so does any
// write to an object of the same resource. Who gets no answer lists. The nil followed knows nobody.
//
// It may be used by several goroutines, also when it is not kept up to date any more.
type followed struct {
	objects   metadata.Interface
	namespace string
	informers map[schema.GroupVersionResource]cache.SharedIndexInformer
	patience  time.Duration // as long as a list takes, or longer
}

func newKin(w *Worker) *kin {
	k := &kin{objects: w.metadata, selector: w.Selector().String(), many: w.manyChildren, unused: time.NewTimer(kinRest)}
	k.unused.Stop()
	return k
}

// byRoot is the name of the index of children by the UID of the object that controls them.
const byRoot = "root"

// listed notes how many children a list had and how long it took, and begins to follow those in that namespace when lists are long and come
// one after the other.
func (k *kin) listed(ctx context.Context, resources []schema.GroupVersionResource, namespace string, count int, took time.Duration) {
	before := k.last
	k.last = time.Now()
	if count >= k.many && k.last.Sub(before) <= kinRest {
		k.follow(ctx, resources, namespace, took)
	}
}

// follow begins to follow the children in that namespace. A list takes about as long as that.
func (k *kin) follow(ctx context.Context, resources []schema.GroupVersionResource, namespace string, list time.Duration) {
	if k.now != nil {
		return
	}
	ctx, k.stopped = context.WithCancel(ctx)
	k.now = &followed{k.objects, namespace, map[schema.GroupVersionResource]cache.SharedIndexInformer{}, max(list, kinPatience)}
	for _, resource := range resources {
		informer := metadatainformer.NewFilteredMetadataInformer(k.objects, resource, namespace, 0,
			cache.Indexers{byRoot: controllerOf}, func(o *metav1.ListOptions) { o.LabelSelector = k.selector }).Informer()
		if err := informer.SetTransform(briefly); err != nil {
			klog.FromContext(ctx).Error(err, "Following the children of objects to hand over failed, will list them", "resource", resource.GroupResource())
			continue
		}
		k.now.informers[resource] = informer
		k.running.Go(func() { informer.RunWithContext(ctx) })
	}
	k.unused.Reset(kinRest)
}

// expect is told that many objects will be handed over soon. It follows their children, and returns when it knows them, or has waited for too
// long: it is better to wait now than when the objects rest.
func (k *kin) expect(ctx context.Context, resources []schema.GroupVersionResource, namespace string) {
	if k.now != nil || len(resources) == 0 {
		return
	}
	k.follow(ctx, resources, namespace, 0)
	begun := time.Now()
	for _, informer := range k.now.informers {
		for !informer.HasSynced() && ctx.Err() == nil && time.Since(begun) < kinExpectation {
			pause(ctx, kinPoll)
		}
	}
	k.now.patience = max(k.now.patience, time.Since(begun))
}

// used returns the children that are followed, if those in the namespace are.
func (k *kin) used(namespace string) *followed {
	if k.now == nil || k.now.namespace != namespace && k.now.namespace != metav1.NamespaceAll {
		return nil
	}
	k.unused.Reset(kinRest)
	return k.now
}

// stop ends following.
func (k *kin) stop() {
	if k.now == nil {
		return
	}
	k.unused.Stop()
	k.stopped()
	k.running.Wait()
	k.now = nil
}

// children returns those children of the roots that exist now, if it can tell.
func (f *followed) children(ctx context.Context, resource schema.GroupVersionResource, roots map[types.UID]bool) ([]*metav1.PartialObjectMetadata, bool) {
	if !f.follows(resource) {
		return nil, false
	}
	newest, err := f.objects.Resource(resource).Namespace(f.namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, false
	}
	return f.childrenAt(ctx, resource, roots, newest.ResourceVersion)
}

// childrenAt returns those children of the roots that exist at a version or at a later one, if it can tell.
func (f *followed) childrenAt(ctx context.Context, resource schema.GroupVersionResource, roots map[types.UID]bool, version string) ([]*metav1.PartialObjectMetadata, bool) {
	if !f.follows(resource) || !canCompare(version) {
		return nil, false
	}
	store := f.informers[resource].GetStore()
	for begun := time.Now(); newerThan(version, store.LastStoreSyncResourceVersion()); pause(ctx, kinPoll) {
		if ctx.Err() != nil || time.Since(begun) > f.patience {
			return nil, false
		}
	}
	return f.known(resource, roots), true
}

func (f *followed) follows(resource schema.GroupVersionResource) bool {
	return f != nil && f.informers[resource] != nil && f.informers[resource].HasSynced()
}

// known returns those children of the roots that it has heard of: there may be others by now.
func (f *followed) known(resource schema.GroupVersionResource, roots map[types.UID]bool) (children []*metav1.PartialObjectMetadata) {
	if !f.follows(resource) {
		return nil
	}
	for root := range roots {
		found, err := f.informers[resource].GetIndexer().ByIndex(byRoot, string(root))
		if err != nil {
			panic(err) // there is no such index
		}
		for _, object := range found {
			children = append(children, object.(*metav1.PartialObjectMetadata))
		}
	}
	return children
}

func controllerOf(object any) ([]string, error) {
	if child, ok := object.(metav1.Object); ok {
		if controller := metav1.GetControllerOfNoCopy(child); controller != nil {
			return []string{string(controller.UID)}, nil
		}
	}
	return nil, nil
}

// briefly keeps of a child what a hand-over needs.
func briefly(object any) (any, error) {
	if child, ok := object.(*metav1.PartialObjectMetadata); ok {
		child.ManagedFields, child.Annotations = nil, nil
	}
	return object, nil
}
