package e2enode

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// window is over how long CPU time is measured; the kubelet looks every 10 s or so.
const window = 45 * time.Second

func (s *story) atRest() {
	for component, u := range s.measure(func() { time.Sleep(window) }, "manager", "worker") {
		s.note(component+" at rest", "%v", u)
	}
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

// worker is the Pod of a worker.
func (s *story) worker(name string) *corev1.Pod {
	s.Helper()
	pod, err := s.kube.CoreV1().Pods(namespace).Get(s.Context(), name, metav1.GetOptions{})
	s.must(err)
	return pod
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

func patchOf(data map[string][]byte) []byte {
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		panic(err) // bytes can always be written
	}
	return patch
}
