package memapi

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// Resource describes one kind that a Server stores. The zero value of every optional field is what
// a custom resource without a status subresource has.
type Resource struct {
	// Group, Version, Plural and Kind name the resource; Group is empty for the core group.
	Group, Version, Plural, Kind string
	// ClusterScoped says that the objects have no namespace.
	ClusterScoped bool
	// Status turns on the status subresource: writes to the object leave status alone, and the reverse.
	Status bool
	// UnconditionalUpdate allows a PUT without a resourceVersion, as most built-in kinds do.
	UnconditionalUpdate bool
	// CreateOnUpdate lets a PUT create an object that does not exist, as Leases and Events do.
	CreateOnUpdate bool
	// NoGeneration leaves metadata.generation out, as kinds without a spec do.
	NoGeneration bool
	// SelectableFields are the dotted paths that a field selector may name, beside metadata.name and
	// metadata.namespace.
	SelectableFields []string
	// ShortNames and Categories are shown by discovery only.
	ShortNames, Categories []string
}

// GVR is the group, version and plural name under which the resource is served.
func (r Resource) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Plural}
}

// GVK is the group, version and kind of the objects.
func (r Resource) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: r.Group, Version: r.Version, Kind: r.Kind}
}

func (r Resource) validate() error {
	switch {
	case r.Version == "":
		return fmt.Errorf("memapi: resource %q: Version is empty, want for example %q", r.Plural, "v1")
	case r.Plural == "" || r.Plural != strings.ToLower(r.Plural):
		return fmt.Errorf("memapi: resource of kind %q: Plural is %q, want the lower-case plural", r.Kind, r.Plural)
	case r.Kind == "":
		return fmt.Errorf("memapi: resource %q: Kind is empty", r.Plural)
	}
	return nil
}

// builtin gives an empty typed object of a kind that client-go's scheme knows, nil for any other. Kinds
// that it knows are patched strategically; the others refuse a strategic merge patch, as custom
// resources do.
func (r Resource) builtin() runtime.Object {
	obj, err := scheme.Scheme.New(r.GVK())
	if err != nil {
		return nil
	}
	return obj
}

// CoreResources are the built-in kinds that a sharded controller meets: Namespaces, Secrets,
// ConfigMaps, Pods, ServiceAccounts, Events (both groups), Leases and Deployments.
func CoreResources() []Resource {
	return []Resource{
		{Version: "v1", Plural: "namespaces", Kind: "Namespace", ClusterScoped: true, Status: true,
			UnconditionalUpdate: true, NoGeneration: true, ShortNames: []string{"ns"}},
		{Version: "v1", Plural: "secrets", Kind: "Secret", UnconditionalUpdate: true, NoGeneration: true,
			SelectableFields: []string{"type"}},
		{Version: "v1", Plural: "configmaps", Kind: "ConfigMap", UnconditionalUpdate: true, NoGeneration: true,
			ShortNames: []string{"cm"}},
		{Version: "v1", Plural: "pods", Kind: "Pod", Status: true, UnconditionalUpdate: true,
			SelectableFields: []string{"spec.nodeName", "status.phase"}, ShortNames: []string{"po"}},
		{Version: "v1", Plural: "serviceaccounts", Kind: "ServiceAccount", UnconditionalUpdate: true, NoGeneration: true},
		{Version: "v1", Plural: "events", Kind: "Event", UnconditionalUpdate: true, CreateOnUpdate: true,
			NoGeneration: true, SelectableFields: []string{"involvedObject.name", "involvedObject.uid", "reason", "type"}},
		{Group: "events.k8s.io", Version: "v1", Plural: "events", Kind: "Event", UnconditionalUpdate: true,
			CreateOnUpdate: true, NoGeneration: true},
		{Group: "coordination.k8s.io", Version: "v1", Plural: "leases", Kind: "Lease", CreateOnUpdate: true,
			NoGeneration: true},
		{Group: "apps", Version: "v1", Plural: "deployments", Kind: "Deployment", Status: true,
			UnconditionalUpdate: true},
	}
}

// ShardResources are the custom resources of shard.io/v1.
func ShardResources() []Resource {
	return []Resource{
		{Group: "shard.io", Version: "v1", Plural: "shardconfigs", Kind: "ShardConfig", Status: true,
			ShortNames: []string{"shcfg"}, Categories: []string{"sharding"}},
		{Group: "shard.io", Version: "v1", Plural: "shardinstances", Kind: "ShardInstance", Status: true,
			ShortNames: []string{"shi"}, Categories: []string{"sharding"}},
		{Group: "shard.io", Version: "v1", Plural: "shardmigrations", Kind: "ShardMigration", Status: true,
			ShortNames: []string{"shm"}, Categories: []string{"sharding"}},
	}
}
