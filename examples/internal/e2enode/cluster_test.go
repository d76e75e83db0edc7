package e2enode

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/shard-io/shard-controller/generated/clientset/versioned"
)

const (
	namespace = "audit"     // of the system
	ringName  = "certaudit" // of its ShardConfig
	site      = "shop"      // where the Secrets are
	deploy    = "../../deploy"
	// patience bounds every wait. A dead shard is noticed after 30 s.
	patience = 4 * time.Minute
)

// cluster is the cluster under test. Its methods fail the test that it is of at the moment.
type cluster struct {
	*testing.T
	config *rest.Config
	kube   kubernetes.Interface
	shards versioned.Interface
	meta   metadata.Interface
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
	onNode bool // the processes of the Pods can be seen from here
}

// connect skips the test if there is no cluster for it.
func connect(t *testing.T) *cluster {
	t.Helper()
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		t.Skip("KUBECONFIG names no cluster: see make e2e, and make e2e-node")
	}
	c := &cluster{T: t, onNode: os.Getenv("E2E_ON_NODE") != ""}
	var err error
	c.config, err = clientcmd.BuildConfigFromFlags("", path)
	c.must(err)
	c.config.QPS, c.config.Burst = 200, 400
	c.kube, err = kubernetes.NewForConfig(c.config)
	c.must(err)
	c.shards, err = versioned.NewForConfig(c.config)
	c.must(err)
	c.meta, err = metadata.NewForConfig(c.config)
	c.must(err)
	c.client, err = dynamic.NewForConfig(c.config)
	c.must(err)
	api, err := discovery.NewDiscoveryClientForConfig(c.config)
	c.must(err)
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapperWithContext(memory.NewMemCacheClientWithContext(api))
	return c
}

// of is the same cluster for a subtest.
func (c *cluster) of(t *testing.T) *cluster {
	sub := *c
	sub.T = t
	return &sub
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// eventually waits until the condition returns nil, and returns how long that has taken.
func (c *cluster) eventually(what string, condition func(context.Context) error) time.Duration {
	c.Helper()
	begun := time.Now()
	for {
		err := condition(c.Context())
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > patience {
			c.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// render is what kubectl kustomize prints for a folder of examples/deploy.
func (c *cluster) render(folder string) []*unstructured.Unstructured {
	c.Helper()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	c.must(err)
	var objects []*unstructured.Unstructured
	for _, resource := range rendered.Resources() {
		content, err := resource.Map()
		c.must(err)
		data, err := (&unstructured.Unstructured{Object: content}).MarshalJSON() // numbers as the API machinery has them
		c.must(err)
		o := &unstructured.Unstructured{}
		c.must(o.UnmarshalJSON(data))
		objects = append(objects, o)
	}
	return objects
}

// withJournal lets the workers write their journals to their logs, as a patch of a user would, and sets their number.
func withJournal(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	for _, o := range objects {
		if o.GetName() == "worker" && (o.GetKind() == "StatefulSet" || o.GetKind() == "Deployment") {
			_ = unstructured.SetNestedField(o.Object, int64(*workers), "spec", "replicas")
		}
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		for _, container := range containers {
			if container, _ := container.(map[string]any); container["name"] == "worker" {
				args, _ := container["args"].([]any)
				container["args"] = append(args, "--journal=/dev/stdout")
				_ = unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
			}
		}
	}
	return objects
}

func (c *cluster) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := o.GroupVersionKind()
	mapping, err := c.mapper.RESTMappingWithContext(c.Context(), gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.client.Resource(mapping.Resource).Namespace(o.GetNamespace()), nil
	}
	return c.client.Resource(mapping.Resource), nil
}

// apply is kubectl apply --server-side: the definitions first, then, when they are served, the rest.
func (c *cluster) apply(objects []*unstructured.Unstructured) {
	c.Helper()
	definitions := func(o *unstructured.Unstructured) bool { return o.GetKind() == "CustomResourceDefinition" }
	for _, first := range []bool{true, false} {
		for _, o := range objects {
			if definitions(o) == first {
				c.applyOne(o)
			}
		}
		if first {
			c.eventually("the definitions are established", c.established)
			c.mapper.Reset()
		}
	}
}

func (c *cluster) applyOne(o *unstructured.Unstructured) *unstructured.Unstructured {
	c.Helper()
	resource, err := c.resource(o)
	c.must(err)
	applied, err := resource.Apply(c.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "kubectl", Force: true})
	if err != nil {
		c.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	return applied
}

func (c *cluster) established(ctx context.Context) error {
	_, err := c.shards.ShardV1().ShardInstances(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err == nil {
		_, err = c.shards.ShardV1().ShardConfigs(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	}
	if err == nil {
		_, err = c.shards.ShardV1().ShardMigrations(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	}
	return err
}

// pods lists the Pods of a component, without those that are on their way out or have ended.
func (c *cluster) pods(ctx context.Context, component string) ([]corev1.Pod, error) {
	list, err := c.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/name=shard-controller,app.kubernetes.io/component=" + component,
	})
	if err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

func ready(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// running is a condition: so many Pods of a component are ready, and there are no others.
func (c *cluster) running(component string, want int) func(context.Context) error {
	return func(ctx context.Context) error {
		pods, err := c.pods(ctx, component)
		if err != nil {
			return err
		}
		var waiting []string
		for _, pod := range pods {
			if !ready(&pod) {
				waiting = append(waiting, pod.Name+": "+why(&pod))
			}
		}
		if len(pods) != want || len(waiting) > 0 {
			return fmt.Errorf("%d Pods of %s, want %d; not ready: %s", len(pods), component, want, strings.Join(waiting, ", "))
		}
		return nil
	}
}

// why says what a Pod waits for.
func why(pod *corev1.Pod) string {
	reasons := []string{string(pod.Status.Phase)}
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Waiting != nil {
			reasons = append(reasons, s.State.Waiting.Reason, s.State.Waiting.Message)
		}
		if t := s.LastTerminationState.Terminated; t != nil {
			reasons = append(reasons, fmt.Sprintf("last ended with %d", t.ExitCode))
		}
	}
	return strings.TrimSpace(strings.Join(reasons, " "))
}
