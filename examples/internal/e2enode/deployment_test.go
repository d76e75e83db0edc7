package e2enode

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/timeline"
)

// restart is kubectl rollout restart; it returns when the rollout is complete.
func (s *story) restart(name string) {
	s.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	_, err := s.kube.AppsV1().Deployments(namespace).Patch(s.Context(), name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	s.must(err)
	s.eventually("the Deployment is rolled out", func(ctx context.Context) error { return s.rolledOut(ctx, name) })
}

func (s *story) rolledOut(ctx context.Context, name string) error {
	d, err := s.kube.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if complete(d) {
		return nil
	}
	return fmt.Errorf("%d Pods, %d updated, %d ready, want %d", d.Status.Replicas, d.Status.UpdatedReplicas, d.Status.ReadyReplicas, *d.Spec.Replicas)
}

func complete(d *appsv1.Deployment) bool {
	want := *d.Spec.Replicas
	return d.Status.ObservedGeneration >= d.Generation && d.Status.Replicas == want && d.Status.UpdatedReplicas == want && d.Status.ReadyReplicas == want
}

// toDeployment changes from the one variant to the other. The workers of the StatefulSet keep their Secrets for as long as their Leases last.
func (s *story) toDeployment() {
	begun := time.Now()
	s.apply(withJournal(s.render(filepath.Join(deploy, "worker-deployment"))))
	policy := metav1.DeletePropagationForeground
	s.must(s.kube.AppsV1().StatefulSets(namespace).Delete(s.Context(), "worker", metav1.DeleteOptions{PropagationPolicy: &policy}))
	s.eventually("the Deployment is rolled out", func(ctx context.Context) error { return s.rolledOut(ctx, "worker") })
	s.eventually("the Deployment's workers have all Secrets", func(ctx context.Context) error {
		if err := s.running("worker", *workers)(ctx); err != nil {
			return err
		}
		return s.owned(*workers)(ctx)
	})
	took := time.Since(begun)
	s.eventually("nothing moves any more", s.settled)
	s.note("StatefulSet replaced by the Deployment", "%.1f s; %s", took.Seconds(), summary(moves(s.line, begun)))
}

// rollDeployment restarts workers whose names do not matter. Three times a Pod is replaced, and nobody tells the manager which Pods are to go
// next: an object may move with each of them, but not twice with one.
func (s *story) rollDeployment() {
	before, err := s.pods(s.Context(), "worker")
	s.must(err)
	begun := time.Now()
	s.restart("worker")
	s.eventually("the workers are ready, and all Secrets have an owner", func(ctx context.Context) error {
		if err := s.running("worker", *workers)(ctx); err != nil {
			return err
		}
		return s.owned(*workers)(ctx)
	})
	s.must(s.line.Look(s.Context()))
	byName := moves(s.line, begun)
	s.note("Deployment restarted, Pod by Pod", "%.1f s; %s", time.Since(begun).Seconds(), summary(byName))
	s.note("of these moves", "%s", between(byName, before))
	if largest, _ := most(byName); largest > *workers {
		s.Errorf("a Secret has moved %d times while %d Pods were replaced", largest, *workers)
	}
}

// between says between which Pods Secrets have moved: those that were there before, and the new ones. From old to new each has to.
func between(byName map[string][]timeline.Move, before []corev1.Pod) string {
	old := map[string]bool{}
	for _, pod := range before {
		old[pod.Name] = true
	}
	count := map[[2]bool]int{}
	for _, all := range byName {
		for _, m := range all {
			count[[2]bool{old[m.From], old[m.To]}]++
		}
	}
	return fmt.Sprintf("%d from old to new Pods, %d from old to old, %d from new to new, %d back",
		count[[2]bool{true, false}], count[[2]bool{true, true}], count[[2]bool{false, false}], count[[2]bool{false, true}])
}
