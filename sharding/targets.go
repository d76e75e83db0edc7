package sharding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

// rootTarget is a target of a ring as the API server knows it.
type rootTarget struct {
	resource   schema.GroupVersionResource
	kind       schema.GroupKind
	prefix     ring.Prefix
	namespaced bool
	objects    labels.Selector // of the objects; never nil
	namespaces labels.Selector // nil: all of them
}

// targetSet is all that a ring touches: what its shards own, and what follows its owner. It is immutable.
type targetSet struct {
	roots    []*rootTarget
	children []schema.GroupVersionResource
	// missing are resources that the API server does not serve (yet).
	missing []schema.GroupResource
	byKind  map[schema.GroupKind]*rootTarget
}

// object is what a strategy needs to know about a root. owner is "" if it has none.
func (t *rootTarget) object(namespace, name, owner string) balancer.Object {
	return balancer.Object{
		Key:   t.prefix.Key(namespace, name),
		Hash:  t.prefix.Hash(namespace, name),
		Owner: owner,
	}
}

// all returns every resource that the ring touches, roots first.
func (s *targetSet) all() []schema.GroupVersionResource {
	resources := make([]schema.GroupVersionResource, 0, len(s.roots)+len(s.children))
	for _, root := range s.roots {
		resources = append(resources, root.resource)
	}
	return append(resources, s.children...)
}

// rootResources returns the resources of the targets; none of no targetSet.
func (s *targetSet) rootResources() []schema.GroupResource {
	if s == nil {
		return nil
	}
	resources := make([]schema.GroupResource, len(s.roots))
	for i, root := range s.roots {
		resources[i] = root.resource.GroupResource()
	}
	return resources
}

// rootOf returns the target that the controller of child is of, and the reference to it; nil if child isn't one of the ring.
func (s *targetSet) rootOf(child metav1.Object) (*rootTarget, *metav1.OwnerReference) {
	controller := metav1.GetControllerOfNoCopy(child)
	if controller == nil {
		return nil, nil
	}
	version, err := schema.ParseGroupVersion(controller.APIVersion)
	if err != nil {
		return nil, nil
	}
	target := s.byKind[schema.GroupKind{Group: version.Group, Kind: controller.Kind}]
	if target == nil {
		return nil, nil
	}
	return target, controller
}

// rootNamespace returns where the root of child is: owner references never cross namespaces.
func (t *rootTarget) rootNamespace(child metav1.Object) string {
	if !t.namespaced {
		return ""
	}
	return child.GetNamespace()
}

// resolveTargets finds out what the API server serves the targets as. A resource that it does not serve is no error, but in
// missing: its CustomResourceDefinition may come later. An error names a selector that does not parse, or says that the
// server could not be asked.
func resolveTargets(ctx context.Context, mapper meta.RESTMapperWithContext, targets []shardv1.Target) (*targetSet, error) {
	set := &targetSet{byKind: map[schema.GroupKind]*rootTarget{}}
	for i, t := range targets {
		root, err := newRootTarget(ctx, mapper, t)
		switch {
		case meta.IsNoMatchError(err):
			set.missing = append(set.missing, schema.GroupResource{Group: t.Group, Resource: t.Resource})
		case err != nil:
			return nil, fmt.Errorf("spec.targets[%d]: %w", i, err)
		default:
			set.roots = append(set.roots, root)
			set.byKind[root.kind] = root
		}
	}
	for _, t := range targets {
		for _, c := range t.Controlled {
			if err := set.addChild(ctx, mapper, schema.GroupResource{Group: c.Group, Resource: c.Resource}); err != nil {
				return nil, err
			}
		}
	}
	return set, nil
}

// addChild leaves out what is a target itself: an object can't both be assigned and follow another one.
func (s *targetSet) addChild(ctx context.Context, mapper meta.RESTMapperWithContext, child schema.GroupResource) error {
	resource, err := mapper.ResourceForWithContext(ctx, child.WithVersion(""))
	if meta.IsNoMatchError(err) {
		s.missing = append(s.missing, child)
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.Contains(s.all(), resource) {
		s.children = append(s.children, resource)
	}
	return nil
}

func newRootTarget(ctx context.Context, mapper meta.RESTMapperWithContext, t shardv1.Target) (*rootTarget, error) {
	root := &rootTarget{objects: labels.Everything()}
	var err error
	if t.LabelSelector != nil {
		if root.objects, err = metav1.LabelSelectorAsSelector(t.LabelSelector); err != nil {
			return nil, selectorError{fmt.Errorf("labelSelector: %w", err)}
		}
	}
	if t.NamespaceSelector != nil {
		if root.namespaces, err = metav1.LabelSelectorAsSelector(t.NamespaceSelector); err != nil {
			return nil, selectorError{fmt.Errorf("namespaceSelector: %w", err)}
		}
	}
	kind, err := mapper.KindForWithContext(ctx, schema.GroupVersionResource{Group: t.Group, Resource: t.Resource})
	if err != nil {
		return nil, err
	}
	mapping, err := mapper.RESTMappingWithContext(ctx, kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	root.resource, root.kind = mapping.Resource, kind.GroupKind()
	if root.resource.GroupResource() == (schema.GroupResource{Resource: "secrets"}) {
		root.objects = both(root.objects, selecting(StateLabel, selection.DoesNotExist)) // a state is never sharded itself
	}
	root.prefix = ring.NewPrefix(kind.Group, kind.Kind)
	root.namespaced = mapping.Scope.Name() == meta.RESTScopeNameNamespace
	if !root.namespaced {
		root.namespaces = nil
	}
	return root, nil
}

// selectorError is a selector that nobody but the user can mend.
type selectorError struct{ error }

func (e selectorError) Unwrap() error { return e.error }

func isSelectorError(err error) bool { return errors.As(err, new(selectorError)) }

// both selects what the two selectors select.
func both(a, b labels.Selector) labels.Selector {
	requirements, selectable := b.Requirements()
	if !selectable {
		return labels.Nothing()
	}
	return a.DeepCopySelector().Add(requirements...)
}

// fingerprint changes whenever the set touches other objects.
func (s *targetSet) fingerprint() string {
	var b strings.Builder
	for _, root := range s.roots {
		fmt.Fprintf(&b, "%s|%s", root.resource, root.objects)
		if root.namespaces != nil {
			fmt.Fprintf(&b, "|%s", root.namespaces)
		}
		b.WriteByte('\n')
	}
	for _, child := range s.children {
		fmt.Fprintf(&b, "> %s\n", child)
	}
	return b.String()
}
