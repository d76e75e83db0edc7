package sharding

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// workload is a Deployment or StatefulSet as it is now.
type workload struct {
	kind, name string
	version    string // resourceVersion, of the scale as well
	replicas   int32
	rollingOut bool
	template   podTemplate
	// rival is the HorizontalPodAutoscaler that scales it too, "" for none.
	rival string
}

// errUnsupportedWorkload: it is of a kind that has no Pods of which a certain one can be removed.
var errUnsupportedWorkload = errors.New("spec.workload: must be a Deployment or a StatefulSet of apps/v1")

// workloads reads and scales the workload of a ring. Writes are sent only while this manager leads.
type workloads struct {
	kube      kubernetes.Interface
	namespace string
	rivalAt   time.Time // when rivals were last looked for
	rival     string
}

const (
	// workloadTimeout bounds a request, as the ring waits for it.
	workloadTimeout = 5 * time.Second
	// rivalInterval is how often HorizontalPodAutoscalers are looked for.
	rivalInterval = 30 * time.Second
	// deletionCost is the annotation by which the ReplicaSet controller chooses the Pod to delete: the one with the least.
	deletionCost = "controller.kubernetes.io/pod-deletion-cost"
)

// get returns the workload as it is.
func (w *workloads) get(ctx context.Context, ref *shardv1.WorkloadReference, now time.Time) (*workload, error) {
	if ref.APIVersion != appsv1.SchemeGroupVersion.String() {
		return nil, errUnsupportedWorkload
	}
	ctx, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	found := &workload{kind: ref.Kind, name: ref.Name}
	switch ref.Kind {
	case "Deployment":
		d, err := w.kube.AppsV1().Deployments(w.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		found.version, found.replicas, found.template = d.ResourceVersion, replicasOf(d.Spec.Replicas), templateOf(d, &d.Spec.Template)
		found.rollingOut = d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas < min(d.Status.Replicas, found.replicas)
	case "StatefulSet":
		s, err := w.kube.AppsV1().StatefulSets(w.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		found.version, found.replicas, found.template = s.ResourceVersion, replicasOf(s.Spec.Replicas), templateOf(s, &s.Spec.Template)
		found.rollingOut = s.Status.ObservedGeneration < s.Generation || s.Status.UpdateRevision != s.Status.CurrentRevision
	default:
		return nil, errUnsupportedWorkload
	}
	if now.Sub(w.rivalAt) >= rivalInterval {
		w.rivalAt = now
		w.rival = w.findRival(ctx, ref)
	}
	found.rival = w.rival
	return found, nil
}

func replicasOf(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// findRival looks for a HorizontalPodAutoscaler of the same workload. If it may not look, it finds none.
func (w *workloads) findRival(ctx context.Context, ref *shardv1.WorkloadReference) string {
	list, err := w.kube.AutoscalingV1().HorizontalPodAutoscalers(w.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return ""
	}
	for _, hpa := range list.Items {
		if target := hpa.Spec.ScaleTargetRef; target.Kind == ref.Kind && target.Name == ref.Name {
			return hpa.Name
		}
	}
	return ""
}

// setReplicas scales the workload through its scale subresource, if it is still as it was read.
func (w *workloads) setReplicas(ctx context.Context, of *workload, replicas int32) error {
	ctx, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: of.name, Namespace: w.namespace, ResourceVersion: of.version},
		Spec:       autoscalingv1.ScaleSpec{Replicas: replicas},
	}
	options := metav1.UpdateOptions{FieldManager: managerFieldManager}
	var err error
	if of.kind == "Deployment" {
		_, err = w.kube.AppsV1().Deployments(w.namespace).UpdateScale(ctx, of.name, scale, options)
	} else {
		_, err = w.kube.AppsV1().StatefulSets(w.namespace).UpdateScale(ctx, of.name, scale, options)
	}
	return err
}

// choosePod makes the Pod of a shard the one that goes when its Deployment has a replica less. A shard without a Pod needs no mark.
func (w *workloads) choosePod(ctx context.Context, shard string) error {
	ctx, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, deletionCost, strconv.Itoa(math.MinInt32))
	_, err := w.kube.CoreV1().Pods(w.namespace).Patch(ctx, shard, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: managerFieldManager})
	return ignoreNotFound(err)
}

// workloadCondition says whether the manager can scale the workload.
func workloadCondition(w *workload, err error, dryRun bool, waits string) *metav1.Condition {
	c := &metav1.Condition{Type: shardv1.ConditionAbleToScale, Status: metav1.ConditionFalse}
	switch {
	case apierrors.IsNotFound(err):
		c.Reason, c.Message = "WorkloadNotFound", "There is no workload of that name in the namespace."
	case errors.Is(err, errUnsupportedWorkload):
		c.Reason, c.Message = "UnsupportedWorkload", err.Error()
	case apierrors.IsForbidden(err):
		c.Reason, c.Message = "Forbidden", clip(err.Error())
	case err != nil:
		c.Reason, c.Message = "WorkloadUnknown", "The API server could not be asked for the workload, or did not scale it; it will be tried again."
	case w.rival != "":
		c.Reason = "ConflictingAutoscaler"
		c.Message = clip(fmt.Sprintf("The HorizontalPodAutoscaler %s scales the workload as well: let it scale this ShardConfig, or delete it.", w.rival))
	case dryRun:
		c.Reason, c.Message = "DryRun", "spec.scaling.dryRun is set: the number is only reported."
	case waits != "":
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Removing", clip(waits)
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Following", "The workload gets as many replicas as are desired."
	}
	return c
}
