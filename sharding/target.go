package sharding

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/ring"
)

// target is what a worker knows of one target of its ring.
type target struct {
	resource       schema.GroupVersionResource
	kind           schema.GroupKind
	prefix         ring.Prefix
	controlled     []schema.GroupVersionResource
	childInformers map[string]cache.SharedIndexInformer // by "resource.group", as in versions
}

func (t *target) name() string { return t.resource.GroupResource().String() }

// targetFor finds the target of the ring that the controller serves, and the versions in which the API server has its resources.
func targetFor(ctx context.Context, config *shardv1.ShardConfig, c Controller, mapper meta.RESTMapperWithContext) (*target, error) {
	spec, err := specFor(config, c.Resource)
	if err != nil {
		return nil, err
	}
	t := &target{childInformers: map[string]cache.SharedIndexInformer{}}
	if t.resource, err = resourceIn(ctx, mapper, schema.GroupResource{Group: spec.Group, Resource: spec.Resource}); err != nil {
		return nil, err
	}
	kind, err := mapper.KindForWithContext(ctx, t.resource)
	if err != nil {
		return nil, fmt.Errorf("resource %s: %w", t.name(), err)
	}
	t.kind = kind.GroupKind()
	t.prefix = ring.NewPrefix(kind.Group, kind.Kind)
	known := map[schema.GroupResource]bool{}
	for _, child := range spec.Controlled {
		resource, err := resourceIn(ctx, mapper, schema.GroupResource{Group: child.Group, Resource: child.Resource})
		if err != nil {
			return nil, err
		}
		t.controlled = append(t.controlled, resource)
		known[resource.GroupResource()] = true
	}
	for resource, informer := range c.Children {
		if !known[resource] {
			return nil, fmt.Errorf("controller: Children[%s]: ring %q does not list it as controlled by %s", resource, config.Name, t.name())
		}
		t.childInformers[resource.String()] = informer
	}
	return t, nil
}

// specFor returns the target of the ring for a resource; for an empty one the ring must have a single target.
func specFor(config *shardv1.ShardConfig, resource schema.GroupResource) (*shardv1.Target, error) {
	targets := config.Spec.Targets
	if resource.Empty() {
		if len(targets) == 1 {
			return &targets[0], nil
		}
		return nil, fmt.Errorf("controller: Resource is required, as ring %q has %d targets", config.Name, len(targets))
	}
	for i := range targets {
		if targets[i].Resource == resource.Resource && targets[i].Group == resource.Group {
			return &targets[i], nil
		}
	}
	names := make([]string, len(targets))
	for i, t := range targets {
		names[i] = schema.GroupResource{Group: t.Group, Resource: t.Resource}.String()
	}
	return nil, fmt.Errorf("controller: Resource %s is not a target of ring %q, which has: %s", resource, config.Name, strings.Join(names, ", "))
}

// discover asks the API server what it serves. Groups that can't be asked, as their server is down, are left out.
func discover(ctx context.Context, api discovery.DiscoveryInterfaceWithContext) (meta.RESTMapperWithContext, error) {
	groups, err := restmapper.GetAPIGroupResourcesWithContext(ctx, api)
	if err != nil {
		return nil, fmt.Errorf("discover the resources of the API server: %w", err)
	}
	return restmapper.NewDiscoveryRESTMapperWithContext(groups), nil
}

func resourceIn(ctx context.Context, mapper meta.RESTMapperWithContext, resource schema.GroupResource) (schema.GroupVersionResource, error) {
	gvr, err := mapper.ResourceForWithContext(ctx, resource.WithVersion(""))
	if err != nil {
		return schema.GroupVersionResource{}, fmt.Errorf("resource %s: %w", resource, err)
	}
	return gvr, nil
}
