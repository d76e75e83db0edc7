package e2enode

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// These scenarios take workers of the Deployment away as a node does that is to be emptied, or that has too little. The ring has as few workers as
// may be.

// taint is what none of our Pods tolerates.
const taint = "test.shard.io/full"

// anyWorker is one of the workers.
func (s *story) anyWorker() *corev1.Pod {
	s.Helper()
	pods, err := s.pods(s.Context(), "worker")
	s.must(err)
	if len(pods) == 0 {
		s.Fatal("there are no workers")
	}
	return &pods[0]
}

// without is a condition: a worker has gone, so many are left, and these have all Secrets.
func (s *story) without(pod *corev1.Pod, left int) func(context.Context) error {
	return func(ctx context.Context) error {
		owners, err := s.owners(ctx)
		if err == nil && owners[pod.Name] > 0 {
			err = fmt.Errorf("%s has %d Secrets still", pod.Name, owners[pod.Name])
		}
		if err != nil {
			return err
		}
		return s.owned(left)(ctx)
	}
}

// tainted makes the node one that a worker may not stay on: the controller of taints deletes its Pod, and no budget protects it.
func (s *story) tainted() {
	s.needsOneNode()
	defer s.fixed()()
	pod := s.anyWorker()
	pods, err := s.kube.CoreV1().Pods("").List(s.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + pod.Spec.NodeName})
	s.must(err)
	for _, other := range pods.Items {
		if other.UID == pod.UID {
			continue
		}
		patch := fmt.Appendf(nil, `[{"op":"add","path":"/spec/tolerations/-","value":{"key":%q,"operator":"Exists"}}]`, taint)
		_, err := s.kube.CoreV1().Pods(other.Namespace).Patch(s.Context(), other.Name, types.JSONPatchType, patch, metav1.PatchOptions{})
		s.must(err)
	}
	begun := time.Now()
	s.taints(pod.Spec.NodeName, fmt.Sprintf(`[{"key":%q,"effect":"NoExecute"}]`, taint))
	defer s.taints(pod.Spec.NodeName, "null")
	s.eventually("the others have its Secrets", s.without(pod, fewest-1))
	s.note("worker evicted by a taint of its node: until all Secrets are with others", "%.1f s", time.Since(begun).Seconds())
	s.taints(pod.Spec.NodeName, "null")
	s.back("the taint is gone", begun)
}

// taints replaces the taints of a node.
func (s *story) taints(node, list string) {
	s.Helper()
	_, err := s.kube.CoreV1().Nodes().Patch(s.Context(), node, types.MergePatchType, []byte(`{"spec":{"taints":`+list+`}}`), metav1.PatchOptions{})
	s.must(err)
}

// back waits until there are as many workers as before, and notes what that has cost.
func (s *story) back(what string, begun time.Time) {
	s.Helper()
	again := time.Now()
	s.eventually("all workers have Secrets again", s.workersAre(fewest))
	took := time.Since(again)
	s.eventually("nothing moves any more", s.settled)
	s.note(what+": until all workers have Secrets again", "%.1f s; in all %s", took.Seconds(), summary(moves(s.line, begun)))
}

// drained is kubectl drain of the node, with a way out: all workers are evicted, as the budget allows it. As long as no other node, or this one,
// takes the new Pods, that is one.
func (s *story) drained() {
	s.needsOneNode()
	defer s.fixed()()
	pods, err := s.pods(s.Context(), "worker")
	s.must(err)
	begun := time.Now()
	s.cordon(pods[0].Spec.NodeName, true)
	defer s.cordon(pods[0].Spec.NodeName, false)
	evictions, ctx := sync.WaitGroup{}, s.Context()
	for _, pod := range pods {
		evictions.Go(func() { s.evict(ctx, pod.Name) })
	}
	lasting := func(ctx context.Context) error {
		if err := s.owned(fewest - 1)(ctx); err != nil {
			return err
		}
		list, err := s.pods(ctx, "worker")
		ready := readyOf(list)
		if err == nil && len(ready) != fewest-1 {
			err = fmt.Errorf("%d workers are ready", len(ready))
		}
		return err
	}
	s.eventually("one has gone, and the others have all Secrets", lasting)
	s.note("node cordoned and workers evicted: until the first is gone", "%.1f s", time.Since(begun).Seconds())
	for range 25 { // 5 s, in which kubectl drain asks again and again
		s.must(lasting(s.Context()))
		time.Sleep(200 * time.Millisecond)
	}
	s.cordon(pods[0].Spec.NodeName, false)
	evictions.Wait()
	s.back("node uncordoned, and the other workers evicted as well", begun)
	if largest, _ := most(moves(s.line, begun)); largest > 2*len(pods) {
		s.Errorf("a Secret has moved %d times while %d Pods were evicted", largest, len(pods))
	}
}

// evict asks for an eviction until it is allowed, as kubectl drain does.
func (s *story) evict(ctx context.Context, pod string) {
	for ; ctx.Err() == nil; time.Sleep(time.Second) {
		err := s.kube.PolicyV1().Evictions(namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: namespace}})
		if err == nil {
			return
		}
		if !apierrors.IsTooManyRequests(err) {
			s.Errorf("eviction of %s: %v", pod, err)
			return
		}
	}
}

func readyOf(pods []corev1.Pod) []corev1.Pod {
	var all []corev1.Pod
	for _, pod := range pods {
		if ready(&pod) {
			all = append(all, pod)
		}
	}
	return all
}

func (s *story) cordon(node string, on bool) {
	s.Helper()
	_, err := s.kube.CoreV1().Nodes().Patch(s.Context(), node, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, on), metav1.PatchOptions{})
	s.must(err)
}

// overfull lets a worker write more to its log than it may: the kubelet evicts it, and gives it a second.
func (s *story) overfull() {
	s.needsNode()
	defer s.fixed()()
	pod := s.anyWorker()
	begun := time.Now()
	s.spam(pod)
	s.eventually("the kubelet has evicted it", func(ctx context.Context) error {
		now, err := s.kube.CoreV1().Pods(namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err == nil && now.Status.Reason != "Evicted" {
			err = fmt.Errorf("%s, %s", why(now), now.Status.Reason)
		}
		return err
	})
	evicted := time.Since(begun)
	s.eventually("others have all Secrets", s.without(pod, fewest))
	s.note("worker evicted by the kubelet, as it wrote too much: after; until others have its Secrets", "%.1f s; %.1f s", evicted.Seconds(), (time.Since(begun) - evicted).Seconds())
	s.eventually("nothing moves any more", s.settled)
	s.note("the same: in all", "%s", summary(moves(s.line, begun)))
	s.must(s.kube.CoreV1().Pods(namespace).Delete(s.Context(), pod.Name, metav1.DeleteOptions{})) // what is left of it
}

// spam writes 8 MiB to the standard output of a Pod's process: less than what makes the kubelet begin another file, more than the Pod may write. A
// line is written at once, so that it is not mixed with another.
func (s *story) spam(pod *corev1.Pod) {
	s.Helper()
	out, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", s.process(pod)), os.O_WRONLY, 0)
	s.must(err)
	defer out.Close()
	line := append(bytes.Repeat([]byte("-"), 4000), '\n')
	for range (8 << 20) / len(line) {
		_, err := out.Write(line)
		s.must(err)
	}
}
