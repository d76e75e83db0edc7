package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"

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
