package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// A target comes and goes while everything runs, and once while no manager
// does: the next one has to know what the former has labelled.
func TestTargetsChangedWhileRunning(t *testing.T) {
	t.Parallel()
	accounts := schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	both := func(s *system) []v1.Target {
		targets := s.newConfig("").Spec.Targets
		return append(targets, v1.Target{Resource: "serviceaccounts", NamespaceSelector: targets[0].NamespaceSelector})
	}
	s := newSystem(t, withLocalWorkersOnly, func(s *system, c *v1.ShardConfig) { c.Spec.Targets = both(s) })
	manager := s.startManager("manager-0", quickElection...)
	setup := func(l *local) error {
		if err := s.secretsOnly(doNothing)(l); err != nil {
			return err
		}
		return l.add("", "serviceaccounts", "ServiceAccount", l.factory.Core().V1().ServiceAccounts().Informer(), doNothing)
	}
	s.startLocal("w-1", setup)
	s.startLocal("w-2", setup)
	s.createSecrets("tls", 20)
	for i := range 20 {
		_, err := s.kube.CoreV1().ServiceAccounts(s.ns).Create(t.Context(), &corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("account-%02d", i)},
		}, metav1.CreateOptions{})
		s.must(err)
	}
	labelled := func(all bool) func() error {
		return func() error {
			list, err := s.meta.Resource(accounts).Namespace(s.ns).List(t.Context(), metav1.ListOptions{LabelSelector: sharding.AnyShard(s.ring).String()})
			if err != nil {
				return err
			}
			return want(all && len(list.Items) >= 20 || !all && len(list.Items) == 0, "%d ServiceAccounts have an owner", len(list.Items))
		}
	}
	s.eventually("both targets are owned", labelled(true))
	s.eventually("both targets are owned", s.ownedBy("w-1", "w-2"))
	only := func(c *v1Spec) { c.Targets = both(s)[:1] }
	s.change(s.ring, only)
	s.eventually("what is no target any more has no labels", labelled(false))
	s.change(s.ring, func(c *v1Spec) { c.Targets = both(s) })
	s.eventually("a target that comes back is owned", labelled(true))
	manager.Kill()
	s.change(s.ring, only)
	s.startManager("manager-1", quickElection...)
	s.eventually("the next manager cleans up after the former", labelled(false))
	s.must(s.ownedBy("w-1", "w-2")())
}

// A reconcile that does not end by itself is cancelled after the drain timeout,
// which is the one that the ring has then.
func TestDrainTimeoutChangedWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withLocalWorkersOnly, config(func(c *v1Spec) {
		c.Handover = &v1.Handover{DrainTimeout: metav1.Duration{Duration: time.Hour}}
	}))
	s.startManager("manager-0")
	hang := s.secretsOnly(func(ctx context.Context, _ *local, _ types.NamespacedName) (sharding.Result, error) {
		<-ctx.Done()
		return sharding.Result{}, context.Cause(ctx)
	})
	s.startLocal("w-1", hang)
	s.createSecrets("tls", 16)
	s.eventually("w-1 has them all", s.ownedBy("w-1"))
	const timeout = 2 * time.Second
	s.change(s.ring, func(c *v1Spec) { c.Handover.DrainTimeout.Duration = timeout })
	s.startLocal("w-2", s.secretsOnly(doNothing))
	s.eventually("w-2 has its share", s.ownedBy("w-1", "w-2"))
	s.eventually("everything is where the table has it", s.placed)
	for _, m := range s.line.Moves("secrets") {
		if took := m.At.Sub(m.Asked); asked(m) && (took < timeout-time.Second/2 || took > timeout+lease) {
			t.Errorf("%s was handed over after %s, and the drain timeout is %s", m.Name, took, timeout)
		}
	}
}
