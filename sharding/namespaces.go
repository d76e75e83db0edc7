package sharding

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
)

// namespaceSets knows which namespaces the targets with a namespaceSelector select. It watches those and no others.
type namespaceSets struct {
	mu   sync.Mutex
	sets map[string]cache.SharedIndexInformer // by selector
}

func newNamespaceSets() *namespaceSets {
	return &namespaceSets{sets: map[string]cache.SharedIndexInformer{}}
}

// selects says whether objects of the namespace are the target's.
func (s *namespaceSets) selects(target *rootTarget, namespace string) bool {
	if target.namespaces == nil {
		return true
	}
	s.mu.Lock()
	informer := s.sets[target.namespaces.String()]
	s.mu.Unlock()
	if informer == nil {
		return false
	}
	_, exists, err := informer.GetStore().GetByKey(namespace)
	return err == nil && exists
}

// excludes says whether the namespace is certainly not selected: false as well while that is not known.
func (s *namespaceSets) excludes(target *rootTarget, namespace string) bool {
	if target.namespaces == nil {
		return false
	}
	s.mu.Lock()
	_, known := s.sets[target.namespaces.String()]
	s.mu.Unlock()
	return known && !s.selects(target, namespace)
}

// follow makes the selector known, and returns when all namespaces are that it selects now, or when ctx is done. changed is
// called when a namespace comes or goes. It watches until term is done, on goroutines that all waits for.
func (s *namespaceSets) follow(ctx, term context.Context, all *sync.WaitGroup, client metadata.Interface, selector labels.Selector, changed func()) error {
	text := selector.String()
	s.mu.Lock()
	_, known := s.sets[text]
	s.mu.Unlock()
	if known {
		return nil
	}
	informer := metadatainformer.NewFilteredMetadataInformer(client, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "", 0,
		cache.Indexers{}, func(o *metav1.ListOptions) { o.LabelSelector = text }).Informer()
	if err := informer.SetTransform(nameOnly); err != nil {
		return err
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		DeleteFunc: func(any) { changed() },
	}); err != nil {
		return err
	}
	all.Go(func() { informer.RunWithContext(term) })
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("list namespaces: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	s.sets[text] = informer
	s.mu.Unlock()
	return nil
}

// nameOnly keeps of a namespace what has to be kept.
func nameOnly(object any) (any, error) {
	if namespace, ok := object.(*metav1.PartialObjectMetadata); ok {
		return &metav1.PartialObjectMetadata{
			TypeMeta:   namespace.TypeMeta,
			ObjectMeta: metav1.ObjectMeta{Name: namespace.Name, UID: namespace.UID, ResourceVersion: namespace.ResourceVersion},
		}, nil
	}
	return object, nil
}
