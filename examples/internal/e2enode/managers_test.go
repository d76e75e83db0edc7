package e2enode

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// leader is the Pod of the manager that leads.
func (s *story) leader() *corev1.Pod {
	s.Helper()
	var pod *corev1.Pod
	s.eventually("a manager leads", func(ctx context.Context) error {
		lease, err := s.kube.CoordinationV1().Leases(namespace).Get(ctx, "shard-manager", metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := s.pods(ctx, "manager")
		if err != nil {
			return err
		}
		for n := range pods {
			if ready(&pods[n]) && strings.HasPrefix(ptr.Deref(lease.Spec.HolderIdentity, ""), pods[n].Name) {
				pod = &pods[n]
				return nil
			}
		}
		return fmt.Errorf("the leader is %q, which is no Pod that is ready", ptr.Deref(lease.Spec.HolderIdentity, ""))
	})
	return pod
}

// newcomers creates Secrets, and waits until they have owners: which takes a manager.
func (s *story) newcomers(prefix string, workers int) {
	s.Helper()
	s.createSecrets(s.issuer, prefix, 20)
	s.eventually("new Secrets have an owner", s.owned(workers))
}

// managerKilled takes the leader away without warning.
func (s *story) managerKilled() {
	begun := time.Now()
	pod := s.leader()
	if s.onNode {
		s.must(syscall.Kill(s.process(pod), syscall.SIGKILL))
	} else {
		s.must(s.kube.CoreV1().Pods(namespace).Delete(s.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}))
	}
	s.newcomers("killed", *workers)
	s.note("leading manager killed: until 20 new Secrets are owned", "%.1f s", time.Since(begun).Seconds())
	s.eventually("both managers are ready", s.running("manager", managers))
	s.still("the manager was killed", begun)
}

// managerRolled replaces both, one after the other.
func (s *story) managerRolled() {
	begun := time.Now()
	s.restart("manager")
	s.note("managers restarted, one by one", "%.1f s", time.Since(begun).Seconds())
	again := time.Now()
	s.newcomers("rolled", *workers)
	s.note("afterwards: until 20 new Secrets are owned", "%.1f s", time.Since(again).Seconds())
	s.still("the managers were restarted", begun)
}

// still wants nothing to have moved.
func (s *story) still(what string, since time.Time) {
	s.Helper()
	s.must(s.line.Look(s.Context()))
	if _, total := most(moves(s.line, since)); total > 0 {
		s.Errorf("%d Secrets have moved when %s", total, what)
	}
}
