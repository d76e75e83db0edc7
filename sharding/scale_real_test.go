package sharding

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/controlplane"
)

// TestWorkloadsOnARealServer: the scale subresource, its precondition and the mark on a Pod are the server's.
func TestWorkloadsOnARealServer(t *testing.T) {
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Stop()
	kube, err := kubernetes.NewForConfig(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, ns := t.Context(), metav1.NamespaceDefault
	labels := map[string]string{"app": "w"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "w", Image: "w",
		Resources: corev1.ResourceRequirements{Requests: list("memory", "64Mi")}}}}}
	selector := &metav1.LabelSelector{MatchLabels: labels}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "w"}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](3), Selector: selector, Template: template}}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "w"}, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](3), Selector: selector, Template: template, ServiceName: "w"}}
	if _, err := kube.AppsV1().Deployments(ns).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := kube.AppsV1().StatefulSets(ns).Create(ctx, set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"Deployment", "StatefulSet"} {
		checkScaling(ctx, t, &workloads{kube: kube, namespace: ns}, kind)
		checkFitting(ctx, t, &workloads{kube: kube, namespace: ns}, kind)
	}
	checkRivalAndPod(ctx, t, kube, ns)
}

func checkScaling(ctx context.Context, t *testing.T, w *workloads, kind string) {
	ref := &shardv1.WorkloadReference{APIVersion: "apps/v1", Kind: kind, Name: "w"}
	before, err := w.get(ctx, ref, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if before.replicas != 3 || before.rival != "" {
		t.Errorf("%s: %+v, want 3 replicas and no rival", kind, before)
	}
	if err := w.setReplicas(ctx, before, 5); err != nil {
		t.Fatal(err)
	}
	if err := w.setReplicas(ctx, before, 2); !apierrors.IsConflict(err) {
		t.Errorf("%s: on a version that is not the last: %v, want a conflict", kind, err)
	}
	if after, err := w.get(ctx, ref, time.Now()); err != nil || after.replicas != 5 {
		t.Errorf("%s: %+v, %v, want 5 replicas", kind, after, err)
	}
	if _, err := w.get(ctx, &shardv1.WorkloadReference{APIVersion: "apps/v1", Kind: kind, Name: "none"}, time.Now()); !apierrors.IsNotFound(err) {
		t.Errorf("%s: one that does not exist: %v", kind, err)
	}
}

// checkFitting writes resources into the template, and takes them out again: what others have put there stays.
func checkFitting(ctx context.Context, t *testing.T, w *workloads, kind string) {
	ref := &shardv1.WorkloadReference{APIVersion: "apps/v1", Kind: kind, Name: "w"}
	get := func() *workload {
		t.Helper()
		found, err := w.get(ctx, ref, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	fit := func(want *shardv1.ComputeResources) error {
		t.Helper()
		now := get()
		patch, err := resourcePatch(want, now.template)
		if err != nil || patch == nil {
			t.Fatalf("%s: patch %v, %v, want one", kind, patch, err)
		}
		return w.change(ctx, now, patch)
	}
	has := func(want string) {
		t.Helper()
		r := get().template.resources
		if got := fmt.Sprintf("%s %s %s", r.Requests.Cpu(), r.Requests.Memory(), r.Limits.Memory()); got != want {
			t.Errorf("%s: cpu, memory and its limit are %s, want %s", kind, got, want)
		}
	}
	former := get()
	if err := fit(&shardv1.ComputeResources{Requests: list("cpu", "200m"), Limits: list("memory", "1Gi")}); err != nil {
		t.Fatal(err)
	}
	has("200m 64Mi 1Gi") // 64Mi is in the template from the beginning on
	if after := get(); !after.rollingOut || after.template.container != "w" {
		t.Errorf("%s: %+v, want a rollout", kind, after)
	}
	again, err := resourcePatch(&shardv1.ComputeResources{Requests: list("cpu", "0.2"), Limits: list("memory", "1Gi")}, get().template)
	if err != nil || again != nil {
		t.Errorf("%s: again: %v, %v", kind, again, err)
	}
	if err := w.change(ctx, former, map[string]any{"metadata": map[string]any{"labels": map[string]any{"a": "b"}}}); !apierrors.IsConflict(err) {
		t.Errorf("%s: on a version that is not the last: %v, want a conflict", kind, err)
	}
	if err := fit(&shardv1.ComputeResources{Requests: list("memory", "2Gi"), Limits: list("memory", "1Gi")}); !apierrors.IsInvalid(err) {
		t.Errorf("%s: more requested than allowed: %v, want that it is refused", kind, err)
	}
	if err := fit(nil); err != nil {
		t.Fatal(err)
	}
	has("0 64Mi 0")
}

func checkRivalAndPod(ctx context.Context, t *testing.T, kube kubernetes.Interface, ns string) {
	hpa := &autoscalingv1.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "rival"}, Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
		MaxReplicas: 5, ScaleTargetRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "w"}}}
	if _, err := kube.AutoscalingV1().HorizontalPodAutoscalers(ns).Create(ctx, hpa, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w := &workloads{kube: kube, namespace: ns}
	found, err := w.get(ctx, &shardv1.WorkloadReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "w"}, time.Now())
	if err != nil || found.rival != "rival" {
		t.Errorf("%+v, %v, want the rival", found, err)
	}
	if c := workloadCondition(found, nil, false, ""); c.Reason != "ConflictingAutoscaler" || !strings.Contains(c.Message, "rival") {
		t.Errorf("condition: %+v", c)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "w-1"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "w", Image: "w"}}, AutomountServiceAccountToken: ptr.To(false)}}
	if _, err := kube.CoreV1().ServiceAccounts(ns).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	if _, err := kube.CoreV1().Pods(ns).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, shard := range []string{"w-1", "process-without-pod"} {
		if err := w.choosePod(ctx, shard); err != nil {
			t.Errorf("%s: %v", shard, err)
		}
	}
	marked, err := kube.CoreV1().Pods(ns).Get(ctx, "w-1", metav1.GetOptions{})
	if err != nil || marked.Annotations[deletionCost] != "-2147483648" {
		t.Errorf("mark on the Pod: %q, %v", marked.Annotations[deletionCost], err)
	}
}
