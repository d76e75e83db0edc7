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

// selects says whether objects of the namespace are the target's: false as well while that is not known.
func (s *namespaceSets) selects(target *rootTarget, namespace string) bool {
	if target.namespaces == nil {
		return true
	}
	informer := s.informer(target.namespaces)
	return informer != nil && has(informer, namespace)
}

// excludes says whether the namespace is certainly not selected: false as well while that is not known.
func (s *namespaceSets) excludes(target *rootTarget, namespace string) bool {
	if target.namespaces == nil {
		return false
	}
	informer := s.informer(target.namespaces)
	return informer != nil && informer.HasSynced() && !has(informer, namespace)
}

func has(informer cache.SharedIndexInformer, namespace string) bool {
	_, exists, err := informer.GetStore().GetByKey(namespace)
	return err == nil && exists
}

func (s *namespaceSets) informer(selector labels.Selector) cache.SharedIndexInformer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets[selector.String()]
}

// follow makes the selector known, and returns when all namespaces are that it selects now, or when ctx is done. changed is
// called when a namespace comes or goes. It watches until term is done, on goroutines that all waits for.
func (s *namespaceSets) follow(ctx, term context.Context, all *sync.WaitGroup, client metadata.Interface, selector labels.Selector, changed func(selected bool)) error {
	informer, err := s.start(term, all, client, selector.String(), changed)
	if err != nil {
		return err
	}
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("list namespaces: %w", context.Cause(ctx))
	}
	return nil
}

// start returns the informer for a selector, which it makes if there is none yet.
func (s *namespaceSets) start(term context.Context, all *sync.WaitGroup, client metadata.Interface, selector string, changed func(selected bool)) (cache.SharedIndexInformer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if informer := s.sets[selector]; informer != nil {
		return informer, nil
	}
	informer := metadatainformer.NewFilteredMetadataInformer(client, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "", 0,
		cache.Indexers{}, func(o *metav1.ListOptions) { o.LabelSelector = selector }).Informer()
	if err := informer.SetTransform(nameOnly); err != nil {
		return nil, err
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed(true) },
		DeleteFunc: func(any) { changed(false) },
	}); err != nil {
		return nil, err
	}
	s.sets[selector] = informer
	all.Go(func() { informer.RunWithContext(term) })
	return informer, nil
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
