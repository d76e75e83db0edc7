package timeline

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
)

// again is the pause before a watch that could not be resumed.
const again = 100 * time.Millisecond

// Recorder fills a Timeline from the watches of an API server.
type Recorder struct {
	Client    metadata.Interface
	Ring      string
	Resources []schema.GroupVersionResource
	// Concerns says whether an object is to be recorded; it is called on several goroutines. Default: all are.
	Concerns func(*metav1.PartialObjectMetadata) bool
	// Note says what else is to be kept of a version, as [Version.Note]; it is called on several goroutines. Optional.
	Note func(*metav1.PartialObjectMetadata) string
	// Seen is called with every version when it has been added, on several goroutines. Optional.
	Seen func(Version)

	Timeline
}

// Run records until ctx is done. It survives outages of the API server; what it
// missed then is marked as a gap.
func (r *Recorder) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, resource := range r.Resources {
		all.Go(func() { r.follow(ctx, resource) })
	}
	all.Wait()
}

// Look records the state as it is now. The timeline then is complete up to here,
// although the watches may lag behind.
func (r *Recorder) Look(ctx context.Context) error {
	for _, resource := range r.Resources {
		if _, err := r.list(ctx, resource, true); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recorder) follow(ctx context.Context, resource schema.GroupVersionResource) {
	for first := true; ctx.Err() == nil; {
		number, err := r.list(ctx, resource, !first)
		if err == nil {
			first = false
			r.watch(ctx, resource, number)
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// list records what there is. gap says that there may have been more before.
func (r *Recorder) list(ctx context.Context, resource schema.GroupVersionResource, gap bool) (number string, err error) {
	list, err := r.Client.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for i := range list.Items {
		r.record(resource, &list.Items[i], func(v *Version) { v.Gap = gap })
	}
	return list.ResourceVersion, nil
}

// watch goes on after watches that end as long as the server lets it.
func (r *Recorder) watch(ctx context.Context, resource schema.GroupVersionResource, number string) {
	for ctx.Err() == nil {
		w, err := r.Client.Resource(resource).Watch(ctx, metav1.ListOptions{ResourceVersion: number, AllowWatchBookmarks: true})
		if err != nil {
			return
		}
		for event := range w.ResultChan() {
			o, ok := event.Object.(*metav1.PartialObjectMetadata)
			if !ok { // an error: the version is too old, for example
				w.Stop()
				return
			}
			number = o.ResourceVersion
			if event.Type != watch.Bookmark {
				r.record(resource, o, func(v *Version) { v.Deleted = event.Type == watch.Deleted })
			}
		}
	}
}

func (r *Recorder) record(resource schema.GroupVersionResource, o *metav1.PartialObjectMetadata, mark func(*Version)) {
	if r.Concerns != nil && !r.Concerns(o) {
		return
	}
	v := VersionOf(resource.Resource, r.Ring, o)
	mark(&v)
	if r.Note != nil {
		v.Note = r.Note(o)
	}
	r.Add(v)
	if r.Seen != nil {
		r.Seen(v)
	}
}
