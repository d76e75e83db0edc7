package main

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

// target is one of the ring's, as the API server knows it.
type target struct {
	resource   schema.GroupVersionResource
	kind       schema.GroupKind
	prefix     ring.Prefix
	namespaced bool
	objects    labels.Selector // of the objects; never nil
	namespaces labels.Selector // nil: all of them
	selected   map[string]bool // the namespaces that are selected; nil: all of them
	children   []schema.GroupVersionResource
}

// targets finds out what the API server serves the targets of a ring as. Those that it does not serve are named in missing.
func (c *cluster) targets(ctx context.Context, config *shardv1.ShardConfig) (targets []*target, missing []string, err error) {
	mapper, err := c.resources(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i := range config.Spec.Targets {
		t, err := newTarget(ctx, mapper, &config.Spec.Targets[i])
		if meta.IsNoMatchError(err) {
			missing = append(missing, schema.GroupResource{Group: config.Spec.Targets[i].Group, Resource: config.Spec.Targets[i].Resource}.String())
			continue
		}
		if err != nil {
			return nil, nil, found("spec.targets[%d]: %v", i, err)
		}
		for _, child := range config.Spec.Targets[i].Controlled {
			resource, err := mapper.ResourceForWithContext(ctx, schema.GroupVersionResource{Group: child.Group, Resource: child.Resource})
			if meta.IsNoMatchError(err) {
				missing = append(missing, schema.GroupResource{Group: child.Group, Resource: child.Resource}.String())
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			t.children = append(t.children, resource)
		}
		targets = append(targets, t)
	}
	return targets, missing, nil
}

func newTarget(ctx context.Context, mapper meta.RESTMapperWithContext, spec *shardv1.Target) (*target, error) {
	t := &target{objects: labels.Everything()}
	var err error
	if spec.LabelSelector != nil {
		if t.objects, err = metav1.LabelSelectorAsSelector(spec.LabelSelector); err != nil {
			return nil, fmt.Errorf("labelSelector: %w", err)
		}
	}
	if spec.NamespaceSelector != nil {
		if t.namespaces, err = metav1.LabelSelectorAsSelector(spec.NamespaceSelector); err != nil {
			return nil, fmt.Errorf("namespaceSelector: %w", err)
		}
	}
	kind, err := mapper.KindForWithContext(ctx, schema.GroupVersionResource{Group: spec.Group, Resource: spec.Resource})
	if err != nil {
		return nil, err
	}
	mapping, err := mapper.RESTMappingWithContext(ctx, kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	t.resource, t.kind, t.prefix = mapping.Resource, kind.GroupKind(), ring.NewPrefix(kind.Group, kind.Kind)
	if t.namespaced = mapping.Scope.Name() == meta.RESTScopeNameNamespace; !t.namespaced {
		t.namespaces = nil
	}
	if t.resource.GroupResource() == (schema.GroupResource{Resource: "secrets"}) { // a state that is on its way is never sharded itself
		notState, err := labels.NewRequirement(sharding.StateLabel, selection.DoesNotExist, nil)
		if err != nil {
			return nil, err
		}
		t.objects = t.objects.DeepCopySelector().Add(*notState)
	}
	return t, nil
}

// learnNamespaces reads which namespaces are selected now.
func (c *cluster) learnNamespaces(ctx context.Context, t *target) error {
	if t.namespaces == nil {
		return nil
	}
	selected := map[string]bool{}
	err := c.each(ctx, schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "", t.namespaces.String(), func(n *metav1.PartialObjectMetadata) error {
		selected[n.Name] = true
		return nil
	})
	t.selected = selected
	return err
}

// selects says whether an object of the resource is one of the ring's. The namespaces must be known.
func (t *target) selects(object metav1.Object) bool {
	return t.objects.Matches(labels.Set(object.GetLabels())) && (t.namespaces == nil || t.selected[object.GetNamespace()])
}

// rootNamespace is where the root of a child in a namespace is: owner references never cross namespaces.
func (t *target) rootNamespace(namespace string) string {
	if !t.namespaced {
		return ""
	}
	return namespace
}

// targetFor returns the target with a resource; nil if there is none.
func targetFor(targets []*target, resource schema.GroupResource) *target {
	for _, t := range targets {
		if t.resource.GroupResource() == resource {
			return t
		}
	}
	return nil
}

// rootOf returns the target that the controller of an object is of, and the reference to it; nil if it is no child of the ring.
func rootOf(targets []*target, child metav1.Object) (*target, *metav1.OwnerReference) {
	controller := metav1.GetControllerOfNoCopy(child)
	if controller == nil {
		return nil, nil
	}
	version, err := schema.ParseGroupVersion(controller.APIVersion)
	if err != nil {
		return nil, nil
	}
	for _, t := range targets {
		if t.kind == (schema.GroupKind{Group: version.Group, Kind: controller.Kind}) {
			return t, controller
		}
	}
	return nil, nil
}

// objectRef names an object on a command line.
type objectRef struct {
	resource        schema.GroupVersionResource
	namespace, name string // namespace is "" of what is in none
}

func (r objectRef) String() string {
	if r.namespace == "" {
		return r.resource.GroupResource().String() + "/" + r.name
	}
	return r.resource.GroupResource().String() + "/" + r.namespace + "/" + r.name
}

// object reads RESOURCE/NAME, RESOURCE/NAMESPACE/NAME, or RESOURCE and NAME. A resource may be a short name, and have a group: deploy,
// deployments.apps.
func (s *session) object(ctx context.Context, args ...string) (objectRef, error) {
	parts := strings.Split(strings.Join(args, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" || parts[len(parts)-1] == "" {
		return objectRef{}, usagef("%q is neither RESOURCE/NAME nor RESOURCE/NAMESPACE/NAME", strings.Join(args, " "))
	}
	mapper, err := s.resources(ctx)
	if err != nil {
		return objectRef{}, err
	}
	kind, err := mapper.KindForWithContext(ctx, schema.ParseGroupResource(parts[0]).WithVersion(""))
	if meta.IsNoMatchError(err) {
		return objectRef{}, usagef("the API server does not serve %q", parts[0])
	}
	if err != nil {
		return objectRef{}, err
	}
	mapping, err := mapper.RESTMappingWithContext(ctx, kind.GroupKind(), kind.Version)
	if err != nil {
		return objectRef{}, err
	}
	ref := objectRef{resource: mapping.Resource, namespace: s.cluster.namespace, name: parts[len(parts)-1]}
	if len(parts) == 3 {
		ref.namespace = parts[1]
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		ref.namespace = ""
	}
	return ref, nil
}
