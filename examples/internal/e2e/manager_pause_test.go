package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/timeline"
)

// leader returns who has the Lease of the election, and in which term.
func (s *system) leader() (name string, term int32) {
	election := s.lease("shard-manager")
	if election == nil || election.Spec.HolderIdentity == nil || election.Spec.LeaseTransitions == nil {
		return "", 0
	}
	name, _, _ = strings.Cut(*election.Spec.HolderIdentity, "_")
	return name, *election.Spec.LeaseTransitions
}

// A leader is stopped in the middle of a move, while another takes over a shard that the first believes in, and is then continued. It
// must change nothing, nor take the leadership from its successor.
func TestLeaderPausedInTheMiddleOfAMove(t *testing.T) {
	t.Parallel()
	s := newSystem(t, config(func(c *v1Spec) { c.Handover = &v1.Handover{MaxInFlight: 2} })) // a move that takes its time
	managers := map[string]*process{}
	for _, name := range []string{"manager-a", "manager-b"} {
		managers[name] = s.startManager(name, quickElection...)
	}
	workers := map[string]*process{}
	for _, id := range []string{"w-1", "w-2", "w-3"} {
		workers[id] = s.startWorker(id)
	}
	s.createSecrets("tls", 120)
	s.settled("w-1", "w-2", "w-3")
	first := ""
	s.eventually("one of them leads", func() error {
		first, _ = s.leader()
		return want(managers[first] != nil, "the leader is %q", first)
	})
	joined := time.Now()
	s.startWorker("w-4")
	s.eventually("the move has begun", func() error {
		moves := timeline.Since(timeline.BetweenShards(s.line.Moves("secrets")), joined)
		return want(len(moves) > 2, "%d objects have moved", len(moves))
	})
	managers[first].signal(syscall.SIGSTOP)
	workers["w-1"].Kill()
	s.settled("w-2", "w-3", "w-4")
	successor, term := s.leader()
	if successor == first || successor == "" {
		t.Fatalf("%q leads, while it is stopped", successor)
	}
	continued := time.Now()
	managers[first].signal(syscall.SIGCONT)
	s.throughout(10*time.Second, "the successor leads", func() error {
		now, since := s.leader()
		return want(now == successor && since == term, "%q leads in term %d, and %q did in %d", now, since, successor, term)
	})
	s.settled("w-2", "w-3", "w-4")
	s.onlyMoves(continued, "none", func(timeline.Move) bool { return false })
}
