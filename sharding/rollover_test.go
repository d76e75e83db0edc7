package sharding

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leader starts a replica of an operator as it was before it was sharded: one replica leads, and reconciles everything
// twice a second. It returns what stops it, and waits for its end.
func (s *sim) leader(name, lease string) (stop func()) {
	s.Helper()
	kube, err := kubernetes.NewForConfig(s.server.Config(name))
	if err != nil {
		s.Fatal(err)
	}
	secrets := informers.NewSharedInformerFactory(kube, 0).Core().V1().Secrets()
	reconcile := s.journalled(name, secrets.Informer(), brief)
	lead := func(ctx context.Context) {
		for ctx.Err() == nil {
			all, err := secrets.Lister().List(labels.Everything())
			if err != nil {
				s.Error(err)
			}
			for _, secret := range all {
				if _, err := reconcile(ctx, types.NamespacedName{Namespace: secret.Namespace, Name: secret.Name}); err != nil {
					return
				}
			}
			pause(ctx, 500*time.Millisecond)
		}
	}
	ctx, cancel := context.WithCancel(s.ctx)
	ended := make(chan struct{})
	s.all.Go(func() {
		defer close(ended)
		running := make(chan struct{})
		s.all.Go(func() { defer close(running); secrets.Informer().RunWithContext(ctx) })
		leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: simNamespace, Name: lease}, Client: kube.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: lead, OnStoppedLeading: func() {}},
		})
		<-running
	})
	return func() { cancel(); <-ended }
}

// TestFromOneLeaderToShardsAndBack rolls an operator with leader election over to shards while both versions run, and
// back. No object is reconciled by two at once, which journalled sees to.
func TestFromOneLeaderToShardsAndBack(t *testing.T) {
	const lease = "operator" // of the old version
	simulate(t, func(s *sim) {
		s.config()
		names := []string{"o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8"}
		for _, name := range names {
			s.secret(name, "")
		}
		stopOld1, stopOld2 := s.leader("old-1", lease), s.leader("old-2", lease)
		s.settle(30 * time.Second)
		s.took()
		// There: the manager of the ring wants the old version's Lease, and gives nothing to anyone before it has that.
		manager := s.runManager("m", func(o *ManagerOptions) { o.ElectionLease = lease })
		workers := map[string]*simWorker{"a": s.worker("a", brief), "b": s.worker("b", brief)}
		s.settle(time.Minute)
		wants(s, "objects of the shards while the old version leads", s.counts(secrets)["a"]+s.counts(secrets)["b"], 0)
		stopOld1() // now the other one leads, or the ring's manager
		s.settle(30 * time.Second)
		stopOld2()
		s.settle(30 * time.Second)
		wants(s, "objects of the shards when the old version is gone", s.counts(secrets)["a"]+s.counts(secrets)["b"], len(names))

		// Back: the ring is deleted, then its workers are stopped, then its manager, which has had the Lease all the time.
		stopOld := s.leader("old-1", lease)
		s.settle(time.Minute)
		s.took()
		if err := s.server.Delete(configs, simNamespace, simRing); err != nil {
			t.Fatal(err)
		}
		s.settle(30 * time.Second)
		wants(s, "objects with a label of the ring when that is gone", s.counts(secrets)["-"], len(names))
		for _, w := range workers {
			w.stop()
			<-w.ended
		}
		if calls := s.took(); strings.Contains(calls, "old-1") {
			t.Errorf("the old version worked while the ring's manager had the Lease: %s", calls)
		}
		manager.stop()
		<-manager.ended
		s.settle(30 * time.Second)
		s.took()
		s.settle(5 * time.Second)
		if s.took() == "" {
			t.Error("the old version does not work again")
		}
		stopOld()
	})
}
