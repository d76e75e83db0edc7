package e2enode

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// window is over how long CPU time is measured; the kubelet looks every 10 s or so.
const window = 45 * time.Second

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

func (s *story) atRest() {
	for component, u := range s.measure(func() { time.Sleep(window) }, "manager", "worker") {
		s.note(component+" at rest", "%v", u)
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

// load renews certificates as fast as four clients can: each has to be audited, and its report written.
func (s *story) load() {
	renewed := 0
	used := s.measure(func() {
		var clients sync.WaitGroup
		var mu sync.Mutex
		end := time.Now().Add(window)
		for client := range 4 {
			clients.Go(func() {
				for n := client; time.Now().Before(end); n = (n + 4) % *count {
					secret, err := s.issuer.secret(fmt.Sprintf("site-%03d", n))
					if err == nil {
						_, err = s.kube.CoreV1().Secrets(site).Patch(s.Context(), secret.Name, types.MergePatchType, patchOf(secret.Data), metav1.PatchOptions{})
					}
					if err != nil {
						s.Error(err)
						return
					}
					mu.Lock()
					renewed++
					mu.Unlock()
				}
			})
		}
		clients.Wait()
	}, "manager", "worker")
	s.note("afterwards: until all reports are on the new ones", "%.1f s", s.eventually("all reports are on the new certificates", s.reported).Seconds())
	for component, u := range used {
		s.note(fmt.Sprintf("%s while %.0f certificates are renewed in a second", component, float64(renewed)/window.Seconds()), "%v", u)
	}
}

// worker is a worker that is ready.
func (s *story) worker(name string) *corev1.Pod {
	s.Helper()
	pod, err := s.kube.CoreV1().Pods(namespace).Get(s.Context(), name, metav1.GetOptions{})
	s.must(err)
	return pod
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

// killed kills the process in the container. Nobody has released its Lease: others get its objects when that is over, and the process that
// the kubelet starts gets some back.
func (s *story) killed() {
	s.needsNode()
	begun := time.Now()
	pod := s.worker("worker-2")
	s.must(syscall.Kill(s.process(pod), syscall.SIGKILL))
	s.restarted(pod)
	s.eventually("all Secrets have an owner", s.owned(*workers))
	took := time.Since(begun)
	s.eventually("nothing moves any more", s.settled)
	s.note("worker killed with -9: until it is ready and has Secrets again", "%.1f s; %s", took.Seconds(), summary(moves(s.line, begun)))
}

func (s *story) restarted(old *corev1.Pod) {
	s.Helper()
	s.eventually("the container is started again", func(ctx context.Context) error {
		pod, err := s.kube.CoreV1().Pods(namespace).Get(ctx, old.Name, metav1.GetOptions{})
		if err == nil && (pod.Status.ContainerStatuses[0].RestartCount == old.Status.ContainerStatuses[0].RestartCount || !ready(pod)) {
			err = fmt.Errorf("restarted %d times, %s", pod.Status.ContainerStatuses[0].RestartCount, why(pod))
		}
		return err
	})
}

// scale sets the number of workers, and returns what it was.
func (s *story) scale(replicas int) (from int32) {
	s.Helper()
	sets := s.kube.AppsV1().StatefulSets(namespace)
	scale, err := sets.GetScale(s.Context(), "worker", metav1.GetOptions{})
	s.must(err)
	from, scale.Spec.Replicas = scale.Spec.Replicas, int32(replicas)
	_, err = sets.UpdateScale(s.Context(), "worker", scale, metav1.UpdateOptions{})
	s.must(err)
	return from
}

// scaled is kubectl scale, up and down and back.
func (s *story) scaled() {
	for _, replicas := range []int{*workers + 2, 2, *workers} {
		begun := time.Now()
		from := s.scale(replicas)
		s.eventually("the Pods are there, and each has Secrets", func(ctx context.Context) error {
			if err := s.running("worker", replicas)(ctx); err != nil {
				return err
			}
			return s.owned(replicas)(ctx)
		})
		took := time.Since(begun)
		s.eventually("nothing moves any more", s.settled)
		owners, err := s.owners(s.Context())
		s.must(err)
		s.note(fmt.Sprintf("scaled from %d to %d", from, replicas), "%.1f s; %s; then %s", took.Seconds(), summary(moves(s.line, begun)), share(owners))
	}
}

// cutOff lets a worker run, but not reach the API server: the others get what it had, and it gets some back when it can.
func (s *story) cutOff() {
	s.needsNode()
	pod := s.worker("worker-0")
	pid := s.process(pod)
	begun := time.Now()
	s.route(pid, "add", "blackhole", s.service()+"/32")
	s.eventually("the others have all Secrets", s.owned(*workers-1))
	s.note("worker cut off: until all Secrets are with others", "%.1f s", time.Since(begun).Seconds())
	begun = time.Now()
	s.route(pid, "del", "blackhole", s.service()+"/32")
	s.eventually("it has Secrets again", s.owned(*workers))
	s.note("let back in: until it has some again", "%.1f s", time.Since(begun).Seconds())
	if again := s.worker("worker-0"); again.UID != pod.UID {
		s.Error("it is another Pod")
	} else {
		s.Logf("its container was restarted %d times", again.Status.ContainerStatuses[0].RestartCount-pod.Status.ContainerStatuses[0].RestartCount)
	}
}

// service is the address at which Pods find the API server.
func (s *story) service() string {
	s.Helper()
	service, err := s.kube.CoreV1().Services("default").Get(s.Context(), "kubernetes", metav1.GetOptions{})
	s.must(err)
	return service.Spec.ClusterIP
}
