package e2e

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"

	"github.com/shard-io/shard-controller/internal/timeline"
)

type v1Spec = v1.ShardConfigSpec

// quickElection makes another replica, or the next process, lead soon after a leader was killed.
var quickElection = []string{"--election-lease-duration=4s", "--election-renew-deadline=3s", "--election-retry-period=500ms"}

func TestManagerKilledInTheMiddleOfAMove(t *testing.T) {
	t.Parallel()
	s := newSystem(t, config(func(c *v1Spec) { c.Handover = &v1.Handover{MaxInFlight: 2} })) // a move that takes its time
	manager := s.startManager("manager-0", quickElection...)
	for _, id := range []string{"w-1", "w-2", "w-3"} {
		s.startWorker(id)
	}
	s.createSecrets("tls", 120)
	s.settled("w-1", "w-2", "w-3")
	s.churn("tls", 120)
	joined := time.Now()
	s.startWorker("w-4")
	s.eventually("the move has begun", func() error {
		moves := timeline.Since(timeline.BetweenShards(s.line.Moves("secrets")), joined)
		return want(len(moves) > 2, "%d objects have moved", len(moves))
	})
	manager.Kill()
	if s.ownedBy("w-1", "w-2", "w-3", "w-4")() == nil && s.placed() == nil {
		t.Log("the move was over before the manager was")
	}
	s.createSecrets("late", 10) // found by whoever leads next
	s.startManager("manager-0", quickElection...)
	s.settled("w-1", "w-2", "w-3", "w-4")
	s.onlyMoves(joined, "to w-4", func(m timeline.Move) bool { return m.To == "w-4" })
}

func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	managers := map[string]*process{}
	for _, name := range []string{"manager-a", "manager-b"} {
		managers[name] = s.startManager(name, quickElection...)
	}
	for _, id := range []string{"w-1", "w-2"} {
		s.startWorker(id)
	}
	s.createSecrets("tls", 40)
	s.settled("w-1", "w-2")
	s.churn("tls", 40)
	leader := ""
	s.eventually("one of them leads", func() error {
		election := s.lease("shard-manager")
		if election != nil && election.Spec.HolderIdentity != nil {
			leader, _, _ = strings.Cut(*election.Spec.HolderIdentity, "_")
		}
		return want(managers[leader] != nil, "the leader is %q", leader)
	})
	killed := time.Now()
	managers[leader].Kill()
	s.createSecrets("new", 20)
	s.settled("w-1", "w-2")
	s.onlyMoves(killed, "new ones, which may go home late", func(m timeline.Move) bool { return strings.HasPrefix(m.Name.Name, "new-") })
	s.startWorker("w-3")
	s.settled("w-1", "w-2", "w-3")
}

// It is not parallel: nobody else could bear it.
func TestAPIServerOutage(t *testing.T) {
	s := newSystem(t)
	manager, workers := s.start("w-1", "w-2", "w-3")
	s.createSecrets("tls", 60)
	s.settled("w-1", "w-2", "w-3")
	goroutines := manager.metric("go_goroutines")
	begun := time.Now()
	s.must(s.plane.StopAPIServer(t.Context()))
	stopped := time.Now()
	s.throughout(lease*3/2, "the processes bear it", func() error {
		for _, p := range s.processes {
			if !p.Running() {
				return want(false, "%s has ended", p.name)
			}
		}
		return nil
	})
	back := time.Now()
	s.must(s.plane.StartAPIServer(t.Context()))
	for name := range workers {
		s.eventually(name+" is active again", func() error {
			active, err := workers[name].Metric(t.Context(), "shard_controller_shard_active")
			return firstError(err, want(active == 1, "it is not"))
		})
	}
	s.createSecrets("new", 20)
	s.settled("w-1", "w-2", "w-3")
	s.onlyMoves(begun, "new ones, which may go home late: it was the API server that was away", func(m timeline.Move) bool {
		return strings.HasPrefix(m.Name.Name, "new-")
	})
	for _, r := range s.records() {
		if at := time.Unix(0, r.Time); at.After(stopped.Add(lease*2/3+time.Second)) && at.Before(back) {
			t.Errorf("%s has %s of %s %s after the API server went away, and may act for %s", r.Shard, r.Event, r.Key, at.Sub(stopped), lease*2/3)
		}
	}
	s.eventually("the manager is at rest again", func() error {
		now := manager.metric("go_goroutines")
		return want(now <= goroutines+10, "%v goroutines, before the outage %v", now, goroutines)
	})
}

func TestLeaseDeletedUnderALiveShard(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.start("w-1", "w-2")
	s.createSecrets("tls", 40)
	s.settled("w-1", "w-2")
	s.churn("tls", 40)
	s.must(s.kube.CoordinationV1().Leases(s.ns).Delete(t.Context(), "w-1", metav1.DeleteOptions{}))
	s.nothingMoves()
	s.eventually("w-1 has its Lease again", func() error {
		l := s.lease("w-1")
		return want(l != nil && l.Spec.HolderIdentity != nil && strings.HasPrefix(*l.Spec.HolderIdentity, "w-1_"), "it has not")
	})
	s.createSecrets("new", 20)
	s.settled("w-1", "w-2")
}

func TestShardInstanceDeletedUnderALiveShard(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.start("w-1", "w-2")
	s.createSecrets("tls", 40)
	s.settled("w-1", "w-2")
	s.churn("tls", 40)
	s.must(s.shards.ShardV1().ShardInstances(s.ns).Delete(t.Context(), "w-1", metav1.DeleteOptions{}))
	s.nothingMoves()
	s.createSecrets("new", 20)
	s.settled("w-1", "w-2") // by the table, so its ranges are written again
	s.eventually("w-1 runs", s.phase("w-1", "Running"))
}

// nothingMoves asserts that for longer than a Lease lasts.
func (s *system) nothingMoves() {
	s.t.Helper()
	before := len(timeline.BetweenShards(s.line.Moves(s.roots.Resource)))
	s.throughout(lease*3/2, "nothing moves", func() error {
		moves := timeline.BetweenShards(s.line.Moves(s.roots.Resource))[before:]
		return want(len(moves) == 0, "%d objects moved", len(moves))
	})
}
