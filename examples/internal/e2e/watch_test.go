package e2e

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// watch begins to record what happens to roots and children of this test.
func (s *system) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	for _, resource := range s.watched {
		s.watching.Go(func() { s.follow(ctx, resource) })
	}
}

// follow lists and watches, over and over: an API server may be away.
func (s *system) follow(ctx context.Context, resource schema.GroupVersionResource) {
	first := true
	for ctx.Err() == nil {
		number, err := s.record(ctx, resource, !first)
		if err == nil {
			first = false
			s.followFrom(ctx, resource, number)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// record adds what there is. gap says that there may have been more before.
func (s *system) record(ctx context.Context, resource schema.GroupVersionResource, gap bool) (number string, err error) {
	list, err := s.meta.Resource(resource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for i := range list.Items {
		if v := versionOf(resource.Resource, s.ring, &list.Items[i]); s.concerns(&list.Items[i]) {
			v.gap = gap
			s.line.add(v)
		}
	}
	return list.ResourceVersion, nil
}

// concerns keeps the objects of other tests out.
func (s *system) concerns(o *metav1.PartialObjectMetadata) bool {
	return o.Namespace == s.ns || o.Namespace == s.ns+"-2" || o.Namespace == "" && o.Labels["e2e"] == s.ns
}

// followFrom goes on after broken watches as long as the server lets it.
func (s *system) followFrom(ctx context.Context, resource schema.GroupVersionResource, number string) {
	for ctx.Err() == nil {
		w, err := s.meta.Resource(resource).Watch(ctx, metav1.ListOptions{ResourceVersion: number, AllowWatchBookmarks: true})
		if err != nil {
			return
		}
		for event := range w.ResultChan() {
			o, ok := event.Object.(*metav1.PartialObjectMetadata)
			if !ok { // the version is too old
				w.Stop()
				return
			}
			number = o.ResourceVersion
			if event.Type != watch.Bookmark && s.concerns(o) {
				v := versionOf(resource.Resource, s.ring, o)
				v.deleted = event.Type == watch.Deleted
				s.line.add(v)
			}
		}
	}
}

// lookOnce records the state at the end, which the watches may not have reached.
func (s *system) lookOnce() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, resource := range s.watched {
		if _, err := s.record(ctx, resource, true); err != nil {
			s.t.Error(err)
		}
	}
}
