//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
)

// workloadName is the Deployment that the manager scales.
const workloadName = "worker"

// localScaler stands in for the controllers of Deployments and ReplicaSets, with processes as Pods: it starts workers when the Deployment is to
// have more replicas than there are, and stops the one that the manager has emptied when it is to have fewer. The Deployment is paused
// and has never been rolled out, so that on a cluster with the real controllers they make no Pods of it. It is used by one goroutine.
type localScaler struct {
	kube            kubernetes.Interface
	shards          versioned.Interface
	crew            *crew
	namespace, ring string
	// stopped are the workers that were stopped on purpose, say prints a line.
	stopped set
	say     func(format string, args ...any)

	started  int // workers that anybody has started, for their names
	replicas int32
	desired  int32
	changed  time.Time // when replicas has changed last
	looked   time.Time
	last     string // what the manager said last about scaling
}

// state says how far scaling is.
func (s *localScaler) state() string {
	return fmt.Sprintf("%d workers run, the Deployment has %d replicas, the manager says %s", s.running(), s.replicas, s.last)
}

// scalerRound is the time between two looks at the Deployment.
const scalerRound = 250 * time.Millisecond

// deploy creates the Deployment, with as many replicas as there are workers, and makes it the workload of the ring.
func (s *localScaler) deploy(ctx context.Context) error {
	labels := map[string]string{"app": workloadName}
	s.replicas = int32(len(s.crew.live()))
	s.desired = s.replicas
	_, err := s.kube.AppsV1().Deployments(s.namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: workloadName},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(s.replicas), Paused: true, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: "worker", Image: "example.invalid/runs-as-a-process"}},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating the Deployment %s: %w", workloadName, err)
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{
		"workload": map[string]string{"apiVersion": "apps/v1", "kind": "Deployment", "name": workloadName},
	}})
	if err != nil {
		return err
	}
	_, err = s.shards.ShardV1().ShardConfigs(s.namespace).Patch(ctx, s.ring, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}

// sync makes the processes what the Deployment says, if it is time to look again.
func (s *localScaler) sync(ctx context.Context) error {
	if time.Since(s.looked) < scalerRound {
		return nil
	}
	s.looked = time.Now()
	deployment, err := s.kube.AppsV1().Deployments(s.namespace).Get(ctx, workloadName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if deployment.Status.ObservedGeneration < deployment.Generation { // a cluster's own controller says so as well
		deployment.Status.ObservedGeneration = deployment.Generation
		if _, err := s.kube.AppsV1().Deployments(s.namespace).UpdateStatus(ctx, deployment, metav1.UpdateOptions{FieldManager: fieldManager}); err != nil {
			return nil // somebody has scaled meanwhile: look again
		}
	}
	if err := s.tell(ctx); err != nil {
		return err
	}
	if n := *deployment.Spec.Replicas; n != s.replicas {
		s.replicas, s.changed = n, time.Now()
	}
	for missing := int(s.replicas) - s.running(); missing > 0; missing-- {
		s.started++
		id := fmt.Sprintf("worker-%d", s.started)
		s.say("       the local scaler, which stands in for the Deployment controller, starts %s", id)
		if err := s.crew.startWorker(ctx, id); err != nil {
			return err
		}
	}
	if s.running() > int(s.replicas) {
		return s.remove(ctx)
	}
	return nil
}

// running is how many workers run that nobody has stopped.
func (s *localScaler) running() int {
	n := 0
	for id := range s.crew.live() {
		if !s.stopped[id] {
			n++
		}
	}
	return n
}

// tell says what the manager has decided, when that is new.
func (s *localScaler) tell(ctx context.Context) error {
	config, err := s.shards.ShardV1().ShardConfigs(s.namespace).Get(ctx, s.ring, metav1.GetOptions{})
	if err != nil {
		return err
	}
	s.last = fmt.Sprintf("%+v", config.Status.LastScaling)
	if c := meta.FindStatusCondition(config.Status.Conditions, shardv1.ConditionAbleToScale); c != nil {
		s.last += ", " + c.Reason + ": " + c.Message
	}
	if want := config.Status.DesiredShards; want != s.desired {
		load := 0.0
		if config.Status.Load != nil {
			load = config.Status.Load.Float64()
		}
		s.say("       the mean load is %.2f, and the manager wants %d shards instead of %d", load, want, s.desired)
		s.desired = want
	}
	return nil
}

// remove stops the worker that was emptied to be removed. The manager has said which one that is before it scaled the Deployment down.
func (s *localScaler) remove(ctx context.Context) error {
	instances, err := s.shards.ShardV1().ShardInstances(s.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var drained []string
	for _, i := range instances.Items {
		if p := s.crew.worker(i.Name); i.Spec.Draining && p != nil && p.Running() && !s.stopped[i.Name] {
			drained = append(drained, i.Name)
		}
	}
	slices.Sort(drained)
	for _, id := range drained[:min(len(drained), s.running()-int(s.replicas))] {
		s.say("       the local scaler stops %s, which the manager has emptied", id)
		s.stopped[id] = true
		if err := s.crew.worker(id).Signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	return nil
}
