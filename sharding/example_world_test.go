package sharding_test

import (
	"context"
	"log"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/shardtest"
)

// exampleCluster is what the examples run on: an API server in memory, with the rings that they name.
type exampleCluster struct {
	server *shardtest.Server
	rings  map[string]*shardtest.Ring
}

// newExampleCluster has a ring "auditor", whose targets these are; another ring may be added.
func newExampleCluster(targets ...string) *exampleCluster {
	server, err := shardtest.NewServer(shardtest.ServerOptions{})
	if err != nil {
		log.Fatal(err)
	}
	c := &exampleCluster{server, map[string]*shardtest.Ring{}}
	c.ring("auditor", targets...)
	return c
}

func (c *exampleCluster) ring(name string, targets ...string) {
	config := &shardv1.ShardConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "audit"}}
	for _, target := range targets {
		config.Spec.Targets = append(config.Spec.Targets, shardv1.Target{Resource: target})
	}
	ring, err := shardtest.NewRing(c.server, config)
	if err != nil {
		log.Fatal(err)
	}
	c.rings[name] = ring
}

// config is what a process gets from its kubeconfig.
func (c *exampleCluster) config() *rest.Config { return c.server.Config("auditor-0") }

// options are what a process gets from its flags.
func (c *exampleCluster) options(id string) sharding.WorkerOptions {
	return c.rings["auditor"].WorkerOptions(id)
}

// create creates a Secret or ConfigMap, and gives it to a shard; "": to none.
func (c *exampleCluster) create(ring, resource, name, shard string) {
	client := kubernetes.NewForConfigOrDie(c.server.Config("user")).CoreV1()
	ctx, meta := context.Background(), metav1.ObjectMeta{Name: name}
	var err error
	switch resource {
	case "secrets":
		_, err = client.Secrets("ns").Create(ctx, &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{})
	case "configmaps":
		_, err = client.ConfigMaps("ns").Create(ctx, &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{})
	}
	if err == nil && shard != "" {
		err = c.rings[ring].Assign(schema.GroupResource{Resource: resource}, types.NamespacedName{Namespace: "ns", Name: name}, shard)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// exampleContext has no logs, and ends with what is called.
func exampleContext() (context.Context, context.CancelFunc) {
	return context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
}
