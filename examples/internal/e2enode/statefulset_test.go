package e2enode

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// unmoved runs what is to move nothing, waits until all is well again, and says how long that took.
func (s *story) unmoved(what string, disturb func()) {
	begun := time.Now()
	absence := s.absences()
	disturb()
	s.eventually("the workers are ready, and all Secrets have an owner", func(ctx context.Context) error {
		if err := s.running("worker", *workers)(ctx); err != nil {
			return err
		}
		return s.owned(*workers)(ctx)
	})
	s.must(s.line.Look(s.Context()))
	_, total := most(moves(s.line, begun))
	s.note(what, "%.1f s, %d Secrets moved; a worker was away for %.1f s at most", time.Since(begun).Seconds(), total, absence().Seconds())
	if total > 0 {
		s.Errorf("%d Secrets have moved", total)
	}
}

// absences begins to look at the workers. The function that it returns ends that, and says how long one of them was not ready at most: so
// long its Secrets had to wait, if they did not move.
func (s *story) absences() (end func() time.Duration) {
	ctx, cancel := context.WithCancel(s.Context())
	var longest time.Duration
	var looking sync.WaitGroup
	looking.Go(func() {
		present := map[string]time.Time{}
		for ctx.Err() == nil {
			if pods, err := s.pods(ctx, "worker"); err == nil {
				for n := range pods {
					if !ready(&pods[n]) {
						continue
					}
					if last, ok := present[pods[n].Name]; ok {
						longest = max(longest, time.Since(last))
					}
					present[pods[n].Name] = time.Now()
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	return func() time.Duration {
		cancel()
		looking.Wait()
		return longest
	}
}

// rollStatefulSet changes the arguments of the workers, which lets them write journals from now on.
func (s *story) rollStatefulSet() {
	s.scale(*workers)
	s.eventually("the workers have Secrets", s.owned(*workers))
	s.eventually("nothing moves any more", s.settled)
	s.unmoved(fmt.Sprintf("StatefulSet of %d updated, Pod by Pod", *workers), func() {
		s.apply(withJournal(s.render(filepath.Join(deploy, "worker-statefulset"))))
		s.eventually("the StatefulSet is updated", func(ctx context.Context) error {
			set, err := s.kube.AppsV1().StatefulSets(namespace).Get(ctx, "worker", metav1.GetOptions{})
			if err == nil && (set.Status.ObservedGeneration != set.Generation || int(set.Status.UpdatedReplicas) != *workers || int(set.Status.ReadyReplicas) != *workers) {
				err = fmt.Errorf("%d of %d Pods are updated, %d ready", set.Status.UpdatedReplicas, *workers, set.Status.ReadyReplicas)
			}
			return err
		})
	})
}

// replaced waits until the Pod of that name is another one, and ready.
func (s *story) replaced(old *corev1.Pod) {
	s.Helper()
	s.eventually("there is another Pod "+old.Name, func(ctx context.Context) error {
		pod, err := s.kube.CoreV1().Pods(namespace).Get(ctx, old.Name, metav1.GetOptions{})
		if err == nil && (pod.UID == old.UID || !ready(pod)) {
			err = fmt.Errorf("it is the same, or not ready: %s", why(pod))
		}
		return err
	})
}

// podDeleted deletes a Pod, with and without the time to stop: another one of its name goes on with its objects.
func (s *story) podDeleted() {
	for _, c := range []struct {
		what  string
		grace *int64
	}{{"Pod of the StatefulSet deleted", nil}, {"the same with grace period 0", ptr.To(int64(0))}} {
		s.unmoved(c.what, func() {
			pod := s.worker("worker-1")
			s.must(s.kube.CoreV1().Pods(namespace).Delete(s.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: c.grace}))
			s.replaced(pod)
		})
	}
}

// evicted is what kubectl drain does to a Pod. While it is away, the PodDisruptionBudget lets nobody take another one.
func (s *story) evicted() {
	evict := func(name string) error {
		return s.kube.PolicyV1().Evictions(namespace).Evict(s.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}})
	}
	s.unmoved("Pod of the StatefulSet evicted", func() {
		pod := s.worker("worker-0")
		s.eventually("the budget allows an eviction", func(context.Context) error { return evict(pod.Name) })
		if err := evict("worker-1"); !apierrors.IsTooManyRequests(err) {
			s.Errorf("a second eviction: %v, want that the budget forbids it", err)
		}
		s.replaced(pod)
	})
}
