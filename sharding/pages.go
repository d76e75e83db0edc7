package sharding

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
)

// pageSize is how many objects are asked for at a time. Whoever lists holds two pages at most: the one that is being worked on, and
// the next.
const pageSize = 500

// listing is a list of metadata from storage, page by page.
type listing struct {
	objects  metadata.ResourceInterface
	selector string
	// expired, if there is one, is called when the server does not know the state any more that the list began with. The list then
	// goes on with the state of now. Without it that is an error.
	expired func()
}

type pageAnswer struct {
	list *metav1.PartialObjectMetadataList
	err  error
}

// each returns the resourceVersion of the list, from which a watch can go on. An error of visit ends the list and is returned. The
// next page is asked for while visit works, so that its writes don't wait for that.
func (l listing) each(ctx context.Context, visit func([]metav1.PartialObjectMetadata) error) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	list, err := l.page(ctx, "")
	if err != nil {
		return "", err
	}
	version := list.ResourceVersion
	for {
		next := make(chan pageAnswer, 1)
		more := list.Continue
		if more != "" {
			asking.Go(func() {
				list, err := l.page(ctx, more)
				next <- pageAnswer{list, err}
			})
		}
		if err := visit(list.Items); err != nil {
			return "", err
		}
		if more == "" {
			return version, nil
		}
		page := <-next
		if page.err != nil {
			return "", page.err
		}
		list = page.list
	}
}

func (l listing) page(ctx context.Context, from string) (*metav1.PartialObjectMetadataList, error) {
	options := metav1.ListOptions{LabelSelector: l.selector, Limit: pageSize, Continue: from}
	list, err := l.objects.List(ctx, options)
	if l.expired == nil || from == "" || !apierrors.IsResourceExpired(err) {
		return list, err
	}
	status, ok := err.(apierrors.APIStatus)
	if !ok || status.Status().Continue == "" {
		return nil, err
	}
	l.expired()
	options.Continue = status.Status().Continue
	return l.objects.List(ctx, options)
}

// eachPage lists what the selector selects. See listing.each.
func eachPage(ctx context.Context, objects metadata.ResourceInterface, selector string, visit func([]metav1.PartialObjectMetadata) error,
) (string, error) {
	return listing{objects: objects, selector: selector}.each(ctx, visit)
}

// eachPage lists objects of all namespaces. See listing.each.
func (s *ringScope) eachPage(ctx context.Context, resource schema.GroupVersionResource, selector string,
	visit func([]metav1.PartialObjectMetadata) error,
) (string, error) {
	version, err := eachPage(ctx, s.client.Resource(resource), selector, visit)
	if err != nil {
		return "", fmt.Errorf("list %s: %w", resource.GroupResource(), err)
	}
	return version, nil
}
