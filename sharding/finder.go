package sharding

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/klog/v2"
)

// finder follows the objects of a resource that match a selector, and keeps none of them.
//
// It lists them page by page, then watches from there on, and lists again when it is asked to, when the watch can't
// be resumed, and from time to time. So whoever could not deal with an object just forgets it: it will be found again. found
// may block; the server then has to wait.
type finder struct {
	client   metadata.Interface
	resource schema.GroupVersionResource
	selector string

	// found is called for every object of a list (as Added) and every event of the watch, on the finder's goroutine. It answers
	// whether the object counts.
	found func(ctx context.Context, f *finder, event watch.EventType, object *metav1.PartialObjectMetadata) bool
	// listed is called after every complete list with when that began and how many of its objects count. It returns when to list
	// again at the latest.
	listed func(begun time.Time, count int) time.Duration
	// failed is called when a list or watch failed.
	failed func(err error)

	// again, when something is sent, makes the finder list at once. It needs a buffer of one.
	again chan struct{}
}

const (
	finderMinBackoff = 200 * time.Millisecond
	finderMaxBackoff = 5 * time.Second
)

// errListAgain ends a watch that is not broken.
var errListAgain = errors.New("list again")

// relist asks for a new list. It never blocks.
func (f *finder) relist() {
	select {
	case f.again <- struct{}{}:
	default:
	}
}

// run blocks until ctx is done.
func (f *finder) run(ctx context.Context) {
	backoff := finderMinBackoff
	var forbidden seldom
	for ctx.Err() == nil {
		err := f.listAndWatch(ctx)
		if errors.Is(err, errListAgain) {
			backoff = finderMinBackoff
			pause(ctx, finderMinBackoff) // many requests for a list become one
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if apierrors.IsForbidden(err) && forbidden.due() {
			klog.FromContext(ctx).Error(err, "A role is missing, bind it to this account: objects of the ring can't be found", "resource", f.resource.GroupResource())
		} else {
			klog.FromContext(ctx).V(1).Info("Following objects failed, will list again", "resource", f.resource.GroupResource(), "err", err)
		}
		f.failed(err)
		pause(ctx, jitter(backoff))
		backoff = min(2*backoff, finderMaxBackoff)
	}
}

func (f *finder) listAndWatch(ctx context.Context) error {
	select { // this list is the one that was asked for
	case <-f.again:
	default:
	}
	begun, count := time.Now(), 0
	version, err := eachPage(ctx, f.client.Resource(f.resource), f.selector, func(page []metav1.PartialObjectMetadata) error {
		for i := range page {
			if f.found(ctx, f, watch.Added, &page[i]) {
				count++
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", f.resource.GroupResource(), err)
	}
	interval := f.listed(begun, count)
	ctx, cancel := context.WithTimeoutCause(ctx, jitter(interval), errListAgain)
	defer cancel()
	for {
		if version, err = f.watch(ctx, version); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		pause(ctx, finderMinBackoff) // a server that closes watches at once is not to be run over
	}
}

// relistAfter asks for a new list in a while.
func (f *finder) relistAfter(d time.Duration) { time.AfterFunc(d, f.relist) }

// watch follows from version until the watch ends, and returns where to go on.
func (f *finder) watch(ctx context.Context, version string) (string, error) {
	w, err := f.client.Resource(f.resource).Watch(ctx, metav1.ListOptions{
		LabelSelector: f.selector, ResourceVersion: version, AllowWatchBookmarks: true,
	})
	if err != nil {
		return "", fmt.Errorf("watch %s: %w", f.resource.GroupResource(), err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-f.again:
			return "", errListAgain
		case event, open := <-w.ResultChan():
			if !open {
				return version, nil
			}
			if event.Type == watch.Error {
				return "", fmt.Errorf("watch %s: %w", f.resource.GroupResource(), apierrors.FromObject(event.Object))
			}
			object, ok := event.Object.(*metav1.PartialObjectMetadata)
			if !ok {
				return "", fmt.Errorf("watch %s: server sent a %T, want metadata", f.resource.GroupResource(), event.Object)
			}
			version = object.ResourceVersion
			if event.Type != watch.Bookmark {
				f.found(ctx, f, event.Type, object)
			}
		}
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// jitter returns d plus up to a fifth of it, so that managers and finders don't fall into step.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) }
