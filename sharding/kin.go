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
)

// kin is a cache of the children of a shard that is there while many objects are handed over, so that not each hand-over has to list all
// children there are. What it answers is as good as a list that begins when it is asked: it asks the API server how far its history has come,
// which costs a list of one object, and waits until the cache has come as far. Who gets no answer lists.
//
// All methods are for the goroutine of drainer.run.
type kin struct {
	objects  metadata.Interface
	selector string
	many     int
	last     time.Time // when children were last listed

	namespace string
	informers map[schema.GroupVersionResource]cache.SharedIndexInformer // nil: nobody is followed
	stopped   context.CancelFunc
	running   sync.WaitGroup
	unused    *time.Timer   // until it is stopped
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
	if k.informers != nil || count < k.many || k.last.Sub(before) > kinRest {
		return
	}
	ctx, k.stopped = context.WithCancel(ctx)
	k.namespace, k.patience, k.informers = namespace, max(took, kinPatience), map[schema.GroupVersionResource]cache.SharedIndexInformer{}
	for _, resource := range resources {
		informer := metadatainformer.NewFilteredMetadataInformer(k.objects, resource, namespace, 0,
			cache.Indexers{byRoot: controllerOf}, func(o *metav1.ListOptions) { o.LabelSelector = k.selector }).Informer()
		if err := informer.SetTransform(briefly); err != nil {
			klog.FromContext(ctx).Error(err, "Following the children of objects to hand over failed, will list them", "resource", resource.GroupResource())
			continue
		}
		k.informers[resource] = informer
		k.running.Go(func() { informer.RunWithContext(ctx) })
	}
	k.unused.Reset(kinRest)
}

// stop ends following.
func (k *kin) stop() {
	if k.informers == nil {
		return
	}
	k.unused.Stop()
	k.stopped()
	k.running.Wait()
	k.informers = nil
}

// children returns those children of the roots that exist now, if it can tell.
func (k *kin) children(ctx context.Context, resource schema.GroupVersionResource, namespace string, roots map[types.UID]bool) ([]*metav1.PartialObjectMetadata, bool) {
	informer := k.informers[resource]
	if informer == nil || namespace != k.namespace || !informer.HasSynced() {
		return nil, false
	}
	k.unused.Reset(kinRest)
	newest, err := k.objects.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil || !canCompare(newest.ResourceVersion) {
		return nil, false
	}
	for begun := time.Now(); newerThan(newest.ResourceVersion, informer.GetStore().LastStoreSyncResourceVersion()); pause(ctx, kinPoll) {
		if ctx.Err() != nil || time.Since(begun) > k.patience {
			return nil, false
		}
	}
	var children []*metav1.PartialObjectMetadata
	for root := range roots {
		found, err := informer.GetIndexer().ByIndex(byRoot, string(root))
		if err != nil {
			return nil, false
		}
		for _, object := range found {
			children = append(children, object.(*metav1.PartialObjectMetadata))
		}
	}
	return children, true
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
