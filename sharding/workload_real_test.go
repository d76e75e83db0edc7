package sharding_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/shard-io/shard-controller/apis/crd"
	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding"
)

// controllerManager names a kube-controller-manager. "make workload" builds one and sets it.
const controllerManager = "KUBE_CONTROLLER_MANAGER"

// TestRealWorkload scales a Deployment and a StatefulSet whose Pods are made and removed by the controllers of Kubernetes. There is no kubelet: the
// test says that a Pod is ready, and runs its shard.
func TestRealWorkload(t *testing.T) {
	program := os.Getenv(controllerManager)
	if program == "" {
		t.Skip("make workload runs this with a kube-controller-manager; " + controllerManager + " names one")
	}
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Stop()
	if err := crd.Install(t.Context(), plane.Config()); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := plane.KubeconfigFile(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	manager, err := child.Start(child.Command{Path: program, Log: t.TempDir() + "/controller-manager.log", Args: []string{
		"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0",
		"--controllers=deployment-controller,replicaset-controller,statefulset-controller,serviceaccount-controller",
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Kill()
	for _, kind := range []string{"Deployment", "StatefulSet"} {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), klog.Logger{}))
			w := newRealWorkload(ctx, t, plane.Config(), kind)
			defer w.all.Wait()
			defer cancel()
			w.rises(ctx)
			w.falls(ctx)
			if t.Failed() && !manager.Running() {
				t.Errorf("the controller manager has ended, see %s", manager.Log)
			}
		})
	}
}

// realWorkload is a ring in a namespace of its own, and its workload.
type realWorkload struct {
	*testing.T
	cfg             *rest.Config
	kube            kubernetes.Interface
	shards          versioned.Interface
	kind, namespace string
	load            atomic.Uint64 // of every shard
	all             sync.WaitGroup

	mu    sync.Mutex
	pods  map[string]func() // ends the shard
	first string            // the first one that was started: it has the least weight, and so the fewest objects
	// removed are the Pods that went, drained the shards that were to be emptied when they did.
	removed, drained []string
}

const realObjects = 60

func newRealWorkload(ctx context.Context, t *testing.T, cfg *rest.Config, kind string) *realWorkload {
	t.Helper()
	w := &realWorkload{T: t, cfg: cfg, kind: kind, namespace: strings.ToLower(kind), pods: map[string]func(){}}
	var err error
	if w.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	if w.shards, err = versioned.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	w.set(0.5)
	_, err = w.kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range realObjects {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("object-%02d", i), Labels: map[string]string{"test": "object"}}}
		if _, err := w.kube.CoreV1().ConfigMaps(w.namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.shards.ShardV1().ShardConfigs(w.namespace).Create(ctx, &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "ring"},
		Spec: shardv1.ShardConfigSpec{
			MinShards: 1, MaxShards: 4, HealthCheckInterval: &metav1.Duration{Duration: 15 * time.Second},
			Workload: &shardv1.WorkloadReference{APIVersion: "apps/v1", Kind: kind, Name: "worker"},
			Scaling:  &shardv1.Scaling{SustainedPeriod: second, CooldownPeriod: second, DownPeriod: second, Forecast: shardv1.ForecastNone},
			Targets: []shardv1.Target{{
				Resource:          "configmaps",
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.namespace}},
				LabelSelector:     &metav1.LabelSelector{MatchLabels: map[string]string{"test": "object"}},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.create(ctx)
	manager, err := sharding.NewManager(cfg, sharding.ManagerOptions{Namespace: w.namespace, Identity: "manager"})
	if err != nil {
		t.Fatal(err)
	}
	w.all.Go(func() {
		if err := manager.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w.all.Go(func() { w.kubelet(ctx) })
	return w
}

var second = metav1.Duration{Duration: time.Second}

// create makes the workload, with two replicas.
func (w *realWorkload) create(ctx context.Context) {
	w.Helper()
	labels := map[string]string{"app": "worker"}
	meta, selector := metav1.ObjectMeta{Name: "worker"}, &metav1.LabelSelector{MatchLabels: labels}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
		AutomountServiceAccountToken: ptr.To(false), Containers: []corev1.Container{{Name: "worker", Image: "example.invalid/none"}},
	}}
	var err error
	if w.kind == "Deployment" {
		_, err = w.kube.AppsV1().Deployments(w.namespace).Create(ctx, &appsv1.Deployment{ObjectMeta: meta,
			Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](2), Selector: selector, Template: template}}, metav1.CreateOptions{})
	} else {
		_, err = w.kube.AppsV1().StatefulSets(w.namespace).Create(ctx, &appsv1.StatefulSet{ObjectMeta: meta,
			Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2), Selector: selector, Template: template, ServiceName: "worker"}}, metav1.CreateOptions{})
	}
	if err != nil {
		w.Fatal(err)
	}
}

func (w *realWorkload) set(load float64) { w.load.Store(math.Float64bits(load)) }

// kubelet runs a shard for each Pod, and says that it is ready.
func (w *realWorkload) kubelet(ctx context.Context) {
	for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		list, err := w.kube.CoreV1().Pods(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=worker"})
		if err != nil {
			continue
		}
		there := map[string]bool{}
		for i := range list.Items {
			pod := &list.Items[i]
			there[pod.Name] = true
			w.mu.Lock()
			_, runs := w.pods[pod.Name]
			w.mu.Unlock()
			if !runs {
				w.start(ctx, pod)
			}
		}
		w.mu.Lock()
		for name, stop := range w.pods {
			if !there[name] {
				w.removed = append(w.removed, name)
				delete(w.pods, name)
				stop()
			}
		}
		w.mu.Unlock()
		w.watchDrains(ctx)
	}
}

// watchDrains notes which shards are being emptied.
func (w *realWorkload) watchDrains(ctx context.Context) {
	list, err := w.shards.ShardV1().ShardInstances(w.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range list.Items {
		if i.Spec.Draining && !slices.Contains(w.drained, i.Name) {
			w.drained = append(w.drained, i.Name)
		}
	}
}

func (w *realWorkload) start(ctx context.Context, pod *corev1.Pod) {
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	if _, err := w.kube.CoreV1().Pods(w.namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		return // next time
	}
	weight := int32(3)
	if w.first == "" || w.first == pod.Name {
		w.first, weight = pod.Name, 1
	}
	worker, err := sharding.NewWorker(w.cfg, sharding.WorkerOptions{
		Ring: "ring", Namespace: w.namespace, ID: pod.Name, Weight: weight,
		Load: func() float64 { return math.Float64frombits(w.load.Load()) },
	})
	if err != nil {
		w.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	w.pods[pod.Name] = cancel
	w.mu.Unlock()
	factory := informers.NewSharedInformerFactoryWithOptions(w.kube, 0, informers.WithTweakListOptions(worker.TweakListOptions))
	w.all.Go(func() {
		reconcile := func(context.Context, types.NamespacedName) (sharding.Result, error) { return sharding.Result{}, nil }
		if err := worker.Run(ctx, factory.Core().V1().ConfigMaps().Informer(), reconcile); err != nil && !errors.Is(err, context.Canceled) {
			w.Errorf("shard %s: %v", pod.Name, err)
		}
	})
}

// await waits for something to be so.
func (w *realWorkload) await(ctx context.Context, what string, so func() bool) {
	w.Helper()
	for end := time.Now().Add(2 * time.Minute); !so(); time.Sleep(100 * time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(end) {
			config, err := w.shards.ShardV1().ShardConfigs(w.namespace).Get(context.WithoutCancel(ctx), "ring", metav1.GetOptions{})
			w.Fatalf("never: %s; %v; objects by owner %v; status %+v, %v", what, w.names(), w.owners(ctx), config.Status, err)
		}
	}
}

func (w *realWorkload) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.pods))
}

// owners counts objects by owner.
func (w *realWorkload) owners(ctx context.Context) map[string]int {
	list, err := w.kube.CoreV1().ConfigMaps(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: "test=object"})
	if err != nil {
		return nil
	}
	owners := map[string]int{}
	for i := range list.Items {
		owner, _ := sharding.OwnerOf(&list.Items[i], "ring")
		owners[owner]++
	}
	return owners
}

// divided says whether n Pods run, and everyone of them has objects, and nobody else.
func (w *realWorkload) divided(ctx context.Context, n int) bool {
	names, owners := w.names(), w.owners(ctx)
	return len(names) == n && slices.Equal(names, slices.Sorted(maps.Keys(owners)))
}

func (w *realWorkload) rises(ctx context.Context) {
	w.await(ctx, "two Pods with objects", func() bool { return w.divided(ctx, 2) })
	w.set(1)
	w.await(ctx, "four Pods with objects", func() bool { return w.divided(ctx, 4) })
}

// falls: one after the other goes, each after it was emptied, and exactly that one. The first Pod of the Deployment has the fewest objects, and two
// are younger: without its mark, one of those would be removed.
func (w *realWorkload) falls(ctx context.Context) {
	w.set(0.05)
	w.await(ctx, "one Pod with all objects", func() bool { return w.divided(ctx, 1) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.removed, w.drained) || len(w.removed) != 3 {
		w.Errorf("removed %v, emptied %v, want the same three one after the other", w.removed, w.drained)
	}
	if w.kind == "Deployment" && w.removed[0] != w.first {
		w.Errorf("%s went first, want %s, which had the fewest objects", w.removed[0], w.first)
	}
	if want := []string{"worker-3", "worker-2", "worker-1"}; w.kind == "StatefulSet" && !slices.Equal(w.removed, want) {
		w.Errorf("removed %v, want %v", w.removed, want)
	}
}
