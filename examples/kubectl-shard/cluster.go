package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	shardclient "github.com/shard-io/shard-controller/generated/clientset/versioned/typed/shard/v1"
)

// pageSize is how many objects are asked for at a time.
const pageSize = 500

// cluster is the API server, as far as the commands need it.
type cluster struct {
	cfg       *rest.Config
	namespace string // that of the flag, else of the context
	shards    shardclient.ShardV1Interface
	kube      kubernetes.Interface
	objects   metadata.Interface

	mapper meta.RESTMapperWithContext // see resources
}

// dial reads the kubeconfig as kubectl does. It asks the API server nothing.
func dial(o *options) (*cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context})
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, usagef("no connection to an API server, set --kubeconfig or --context: %v", err)
	}
	namespace, _, err := loader.Namespace()
	if err != nil {
		return nil, usagef("--kubeconfig: %v", err)
	}
	cfg.UserAgent = "kubectl-shard/" + version()
	cfg.QPS = -1 // requests are sent one after the other
	cfg.Timeout = o.requestTimeout
	return newCluster(cfg, cmp.Or(o.namespace, namespace))
}

func newCluster(cfg *rest.Config, namespace string) (*cluster, error) {
	c := &cluster{cfg: cfg, namespace: namespace}
	shards, err := versioned.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	c.shards = shards.ShardV1()
	if c.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return nil, err
	}
	c.objects, err = metadata.NewForConfig(cfg)
	return c, err
}

// version is that of the build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return cmp.Or(info.Main.Version, "unknown")
}

func shardResource(name string) schema.GroupResource { return shardv1.Resource(name) }

// configs lists the rings of a namespace, or of all.
func (c *cluster) configs(ctx context.Context, namespace string) ([]shardv1.ShardConfig, error) {
	list, err := c.shards.ShardConfigs(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, request{"list", shardResource("shardconfigs"), namespace, ""}.failed(err)
	}
	return list.Items, nil
}

func (c *cluster) config(ctx context.Context, namespace, name string) (*shardv1.ShardConfig, error) {
	config, err := c.shards.ShardConfigs(namespace).Get(ctx, name, metav1.GetOptions{})
	return config, request{"get", shardResource("shardconfigs"), namespace, name}.failed(err)
}

// ringConfig returns the ring that is meant: that of --ring, or the only one of the namespace. Commands that change nothing also look in the
// other namespaces: the objects of a ring are often elsewhere than the ring.
func (s *session) ringConfig(ctx context.Context, elsewhere bool) (*shardv1.ShardConfig, error) {
	in, name, qualified := strings.Cut(s.ring, "/")
	if qualified {
		return s.config(ctx, in, name)
	}
	var wrong error
	for _, namespace := range []string{s.cluster.namespace, ""} {
		list, err := s.configs(ctx, namespace)
		if err != nil {
			if wrong != nil && apierrors.IsForbidden(err) {
				return nil, wrong // it was worth a try
			}
			return nil, err
		}
		if s.ring != "" {
			list = slices.DeleteFunc(list, func(c shardv1.ShardConfig) bool { return c.Name != s.ring })
		}
		if len(list) == 1 {
			return &list[0], nil
		}
		if wrong = s.ambiguous(list); len(list) > 1 || !elsewhere {
			break
		}
	}
	return nil, wrong
}

// ambiguous says why the ring is not clear.
func (s *session) ambiguous(list []shardv1.ShardConfig) error {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.Namespace + "/" + c.Name
	}
	switch {
	case len(list) > 1:
		return usagef("--ring: there are several, choose one of %s", strings.Join(names, ", "))
	case s.ring != "":
		return usagef("--ring: there is no ShardConfig %q in namespace %q", s.ring, s.cluster.namespace)
	}
	return usagef("--namespace: there is no ShardConfig in namespace %q", s.cluster.namespace)
}

// ringFacts are what is known of a ring and its shards.
type ringFacts struct {
	config    *shardv1.ShardConfig
	instances []shardv1.ShardInstance // in order of their names
	leases    map[string]*coordinationv1.Lease
}

// facts reads what there is about a ring. Leases are read only if they are wanted, as few people may.
func (c *cluster) facts(ctx context.Context, config *shardv1.ShardConfig, leases bool) (*ringFacts, error) {
	f := &ringFacts{config: config, leases: map[string]*coordinationv1.Lease{}}
	list, err := c.shards.ShardInstances(config.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, request{"list", shardResource("shardinstances"), config.Namespace, ""}.failed(err)
	}
	rings := 0 // of the namespace; asked for only if it matters
	for _, instance := range list.Items {
		if instance.Spec.Ring == "" && rings == 0 {
			all, err := c.configs(ctx, config.Namespace)
			if err != nil {
				return nil, err
			}
			rings = len(all)
		}
		if instance.Spec.Ring == config.Name || instance.Spec.Ring == "" && rings == 1 {
			f.instances = append(f.instances, instance)
		}
	}
	slices.SortFunc(f.instances, func(a, b shardv1.ShardInstance) int { return strings.Compare(a.Name, b.Name) })
	if !leases {
		return f, nil
	}
	f.leases, err = c.ringLeases(ctx, config)
	return f, err
}

func (c *cluster) ringLeases(ctx context.Context, config *shardv1.ShardConfig) (map[string]*coordinationv1.Lease, error) {
	list, err := c.kube.CoordinationV1().Leases(config.Namespace).List(ctx, metav1.ListOptions{LabelSelector: shardv1.RingLabel + "=" + config.Name})
	if err != nil {
		return nil, request{"list", coordinationv1.Resource("leases"), config.Namespace, ""}.failed(err)
	}
	leases := make(map[string]*coordinationv1.Lease, len(list.Items))
	for i := range list.Items {
		leases[list.Items[i].Name] = &list.Items[i]
	}
	return leases, nil
}

// instance returns a shard by name; nil if there is none.
func (f *ringFacts) instance(name string) *shardv1.ShardInstance {
	i, ok := slices.BinarySearchFunc(f.instances, name, func(i shardv1.ShardInstance, name string) int { return strings.Compare(i.Name, name) })
	if !ok {
		return nil
	}
	return &f.instances[i]
}

// names of the shards, in order.
func (f *ringFacts) names() []string {
	names := make([]string, len(f.instances))
	for i := range f.instances {
		names[i] = f.instances[i].Name
	}
	return names
}

// resources asks the API server once what it serves.
func (c *cluster) resources(ctx context.Context) (meta.RESTMapperWithContext, error) {
	if c.mapper != nil {
		return c.mapper, nil
	}
	client, err := discovery.NewDiscoveryClientForConfig(c.cfg)
	if err != nil {
		return nil, err
	}
	groups, err := restmapper.GetAPIGroupResourcesWithContext(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("ask the API server at %s what it serves: %w", c.cfg.Host, err)
	}
	mapper := restmapper.NewDiscoveryRESTMapperWithContext(groups)
	c.mapper = restmapper.NewShortcutExpanderWithContext(mapper, client, func(string) {})
	return c.mapper, nil
}

// each calls visit for every object that the selector selects, from storage, a page at a time.
func (c *cluster) each(ctx context.Context, resource schema.GroupVersionResource, namespace, selector string, visit func(*metav1.PartialObjectMetadata) error) error {
	options := metav1.ListOptions{LabelSelector: selector, Limit: pageSize}
	for {
		list, err := c.objects.Resource(resource).Namespace(namespace).List(ctx, options)
		if apierrors.IsResourceExpired(err) && options.Continue != "" {
			// The list has lasted longer than the server remembers: it goes on with how things are now.
			if status, ok := err.(apierrors.APIStatus); ok && status.Status().Continue != "" {
				options.Continue = status.Status().Continue
				list, err = c.objects.Resource(resource).Namespace(namespace).List(ctx, options)
			}
		}
		if err != nil {
			return request{"list", resource.GroupResource(), namespace, ""}.failed(err)
		}
		for i := range list.Items {
			if err := visit(&list.Items[i]); err != nil {
				return err
			}
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return nil
		}
	}
}

// get reads the metadata of an object. What does not exist is a usageError.
func (c *cluster) get(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (*metav1.PartialObjectMetadata, error) {
	object, err := c.objects.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	return object, request{"get", resource.GroupResource(), namespace, name}.failed(err)
}
