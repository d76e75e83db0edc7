package shardtest

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/rest"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/applyconfiguration"
	shardscheme "github.com/shard-io/shard-controller/generated/clientset/versioned/scheme"
	"github.com/shard-io/shard-controller/internal/memapi"
)

// ServerOptions configure a Server. The zero value is a server with the kinds that every Server has.
type ServerOptions struct {
	// Resources are what the server stores besides Namespaces, Secrets, ConfigMaps, Pods, ServiceAccounts, Events, Leases, Deployments
	// and the resources of shard.io/v1: the custom resources of the operator, or other built-in kinds that it touches.
	Resources []Resource
	// Seed is where uids and faults are drawn from: the same seed and the same requests meet the same faults.
	Seed uint64
	// WithoutDefinitions leaves the resources of shard.io out, as if their CustomResourceDefinitions were not installed.
	WithoutDefinitions bool
}

// Resource is a kind that a Server stores.
type Resource struct {
	// Group, Version, Resource and Kind name it: "acme.org", "v1", "widgets", "Widget". Group is empty for the core group.
	Group, Version, Resource, Kind string
	// ClusterScoped says that its objects are in no namespace, Status that it has a status subresource.
	ClusterScoped, Status bool
}

// Server is an API server in memory. Clients reach it through the configuration of an actor: a process, as far as the server is concerned. It
// starts no goroutine. Its methods may be called from any; inside a bubble of testing/synctest, it has to be made there.
type Server struct {
	memory    *memapi.Server
	resources map[schema.GroupResource]schema.GroupVersionResource
}

// NewServer returns a Server. The error names a resource that is not completely described, or twice.
func NewServer(o ServerOptions) (*Server, error) {
	resources := memapi.CoreResources()
	if !o.WithoutDefinitions {
		resources = append(resources, memapi.ShardResources()...)
	}
	for i, r := range o.Resources {
		if r.Version == "" || r.Resource == "" || r.Kind == "" || r.Resource != strings.ToLower(r.Resource) {
			return nil, fmt.Errorf("server options: Resources[%d] is %+v: Version, Resource in lower case, and Kind are required", i, r)
		}
		resources = append(resources, memapi.Resource{
			Group: r.Group, Version: r.Version, Plural: r.Resource, Kind: r.Kind, ClusterScoped: r.ClusterScoped, Status: r.Status,
			UnconditionalUpdate: true,
		})
	}
	memory, err := memapi.New(memapi.Options{
		Resources: resources, Seed: o.Seed,
		TypeConverters: map[string]managedfields.TypeConverter{shardv1.GroupName: applyconfiguration.NewTypeConverter(shardscheme.Scheme)},
	})
	if err != nil {
		return nil, fmt.Errorf("server options: Resources: %s", strings.TrimPrefix(err.Error(), "memapi: "))
	}
	s := &Server{memory: memory, resources: map[schema.GroupResource]schema.GroupVersionResource{}}
	for _, r := range resources {
		s.resources[r.GVR().GroupResource()] = r.GVR()
	}
	return s, nil
}

// Close ends all watches and refuses every later request.
func (s *Server) Close() { s.memory.Close() }

// Config returns the configuration for the clients of an actor. Each process of the test, and the test itself, takes a name of its own. There
// is no rate limit on the side of the client.
func (s *Server) Config(actor string) *rest.Config {
	cfg := s.memory.Config(actor)
	cfg.Host = "http://in-memory"
	return cfg
}

// Actor returns what can be done to an actor. The name is that of its Config.
func (s *Server) Actor(name string) *Actor { return &Actor{s.memory.Client(name)} }

// SetDown takes the server down, or up again with all its objects: all requests are refused at once, and all watches break.
func (s *Server) SetDown(down bool) { s.memory.SetDown(down) }

// Compact forgets the history, as etcd's compaction does: a watch or a page of a list from before is answered with 410, and
// informers that had fallen behind list again.
func (s *Server) Compact() { s.memory.Compact() }
