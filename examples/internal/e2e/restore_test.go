package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// epochs returns the epoch of each Secret of the test.
func (s *system) epochs() map[string]int64 {
	s.t.Helper()
	list, err := s.kube.CoreV1().Secrets(s.ns).List(s.t.Context(), metav1.ListOptions{LabelSelector: sharding.AnyShard(s.ring).String()})
	s.must(err)
	epochs := map[string]int64{}
	for i := range list.Items {
		epochs[list.Items[i].Name] = sharding.EpochOf(&list.Items[i], s.ring)
	}
	return epochs
}

// TestEtcdRestoredFromABackup does what the manual says: everything is stopped, etcd is restored, everything is started. Owners and epochs are of an
// earlier time then, a shard that is gone has its Lease again, and one that came later has none. It is not parallel: nobody else could bear it.
func TestEtcdRestoredFromABackup(t *testing.T) {
	s := newSystem(t, func(s *system, _ *v1.ShardConfig) { s.lawless = true }) // versions go back
	_, workers := s.start("w-1", "w-2")
	s.createSecrets("old", 30)
	s.settled("w-1", "w-2")
	s.must(s.plane.Backup(t.Context()))
	s.settled("w-1", "w-2")

	workers["w-2"].terminate()
	s.startWorker("w-3")
	s.createSecrets("new", 10)
	s.settled("w-1", "w-3")
	latest := s.epochs()
	for _, p := range s.processes {
		p.Kill()
	}
	s.must(s.plane.Restore(t.Context()))
	back := s.epochs()
	lower := 0
	for name, epoch := range back {
		if epoch < latest[name] {
			lower++
		}
	}
	if len(back) != 30 || lower == 0 {
		t.Fatalf("%d objects, %d of them with an earlier epoch: that was no restore", len(back), lower)
	}

	begun := time.Now()
	s.startManager("manager-1")
	s.startWorker("w-1")
	s.startWorker("w-3")
	s.settled("w-1", "w-3")
	t.Logf("%d of %d objects had gone back to an earlier epoch; all have a live owner %s after the start", lower, len(back), time.Since(begun).Round(100*time.Millisecond))
	_, err := s.kube.CoreV1().Secrets(s.ns).Get(t.Context(), "new-000", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("what was created after the backup: %v", err)
	}
	s.createSecrets("later", 10)
	s.settled("w-1", "w-3")

	// For systems outside, which have seen higher epochs: the manager raises them all.
	raised := time.Now().Unix()
	for name := range s.epochs() {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"%d"}}}`, sharding.EpochAnnotation(s.ring), raised)
		_, err := s.asManager().CoreV1().Secrets(s.ns).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		s.must(err)
	}
	s.eventually("workers reconcile with the epochs that were raised", func() error {
		seen := map[string]bool{}
		for _, r := range s.records() {
			if r.Epoch >= raised {
				seen[r.Key] = true
			}
		}
		return want(len(seen) == 40, "%d of 40", len(seen))
	})
}

// TestEtcdRestoredUnderRunningProcesses does not stop anything before. The workers end by themselves, for a kubelet to start them
// again, and the manager begins a new term. It is not parallel either.
func TestEtcdRestoredUnderRunningProcesses(t *testing.T) {
	s := newSystem(t, func(s *system, _ *v1.ShardConfig) { s.lawless = true })
	manager, workers := s.start("w-1", "w-2", "w-3")
	s.createSecrets("old", 30)
	s.settled("w-1", "w-2", "w-3")
	s.must(s.plane.Backup(t.Context()))
	s.settled("w-1", "w-2", "w-3")
	workers["w-3"].terminate()
	s.createSecrets("new", 10)
	s.settled("w-1", "w-2")
	s.must(s.plane.Restore(t.Context()))
	restored := time.Now()
	for _, id := range []string{"w-1", "w-2"} {
		status, err := workers[id].Wait(patience)
		s.must(firstError(err, want(status == 1, "%s: exit status %d, want 1", id, status)))
		t.Logf("%s ended %s after the restore", id, time.Since(restored).Round(100*time.Millisecond))
		s.startWorker(id)
	}
	s.settled("w-1", "w-2")
	s.eventually("the manager has begun a new term", func() error {
		return want(manager.Running() && strings.Count(manager.Output(), `"Leading"`) == 2, "it has not, or it has ended")
	})
	s.createSecrets("later", 10)
	s.settled("w-1", "w-2")
	t.Logf("all have a live owner %s after the restore", time.Since(restored).Round(100*time.Millisecond))
}
