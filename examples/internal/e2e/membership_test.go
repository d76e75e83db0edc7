package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/internal/timeline"
)

func TestJoin(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.start("w-1", "w-2", "w-3")
	s.createSecrets("tls", 120)
	s.settled("w-1", "w-2", "w-3")
	s.churn("tls", 120)
	joined := time.Now()
	s.startWorker("w-4")
	s.settled("w-1", "w-2", "w-3", "w-4")
	moves := s.onlyMoves(joined, "to w-4, by request", func(m timeline.Move) bool { return m.To == "w-4" && asked(m) })
	// A quarter of the table belongs to w-4; hashing may put 4 standard deviations more or less of 120 objects into it.
	if len(moves) < 11 || len(moves) > 50 {
		t.Errorf("%d of 120 objects moved, want about 30", len(moves))
	}
}

func TestGracefulLeave(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, workers := s.start("w-1", "w-2", "w-3")
	s.createSecrets("tls", 90)
	s.settled("w-1", "w-2", "w-3")
	s.churn("tls", 90)
	begun := time.Now()
	workers["w-2"].terminate()
	s.must(s.ownedBy("w-1", "w-3")()) // when the process is gone, so are its objects
	s.onlyMoves(begun, "from w-2, by request", func(m timeline.Move) bool { return m.From == "w-2" && asked(m) })
	s.settled("w-1", "w-3")
	s.eventually("w-2 leaves nothing behind", func() error {
		return want(s.instance("w-2") == nil && s.lease("w-2") == nil, "its ShardInstance or Lease is still there")
	})
}

func TestKill(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, workers := s.start("w-1", "w-2", "w-3")
	s.createSecrets("tls", 90)
	s.settled("w-1", "w-2", "w-3")
	s.churn("tls", 90)
	killed := time.Now()
	workers["w-2"].Kill()
	s.settled("w-1", "w-3")
	moves := s.onlyMoves(killed, "from w-2, as it is dead", func(m timeline.Move) bool { return m.From == "w-2" && !asked(m) })
	if len(moves) == 0 {
		t.Fatal("nothing moved")
	}
	// The last sign of life may be a retry period older than the kill.
	if first := moves[0].At.Sub(killed); first < lease-lease*2/15-time.Second {
		t.Errorf("the first object moved after %s, and the Lease lasts %s", first, lease)
	}
	if last := moves[len(moves)-1].At.Sub(killed); last > 2*lease {
		t.Errorf("the last object moved after %s, and the Lease lasts %s", last, lease)
	}
	s.eventually("w-2 is known to be lost", s.phase("w-2", "Lost"))
}

// A process that sleeps for longer than its Lease has lost its objects when it
// wakes up, and does not know it.
func TestPauseLongerThanTheLease(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, workers := s.start("w-1", "w-2", "w-3")
	s.createSecrets("tls", 90)
	s.settled("w-1", "w-2", "w-3")
	s.churn("tls", 90)
	workers["w-2"].signal(syscall.SIGSTOP)
	s.settled("w-1", "w-3")
	woken := time.Now()
	workers["w-2"].signal(syscall.SIGCONT)
	s.settled("w-1", "w-2", "w-3")
	s.onlyMoves(woken, "back to w-2", func(m timeline.Move) bool { return m.To == "w-2" && asked(m) })
}

func TestSilentShardGetsNothingNew(t *testing.T) {
	t.Parallel()
	s := newSystem(t, lastingFor(3*lease))
	_, workers := s.start("w-1", "w-2", "w-3")
	s.createSecrets("old", 30)
	s.settled("w-1", "w-2", "w-3")
	workers["w-2"].signal(syscall.SIGSTOP)
	s.eventually("w-2 is silent", s.phase("w-2", "Silent"))
	silent := time.Now()
	s.createSecrets("new", 60)
	s.eventually("everything new has an owner", func() error {
		owners, err := s.owners()
		return firstError(err, want(owners[""] == 0, "owners are %v", owners))
	})
	for _, m := range timeline.Since(s.line.Moves("secrets"), silent) {
		if m.To == "w-2" || m.From != "" {
			t.Errorf("%s went from %q to %s while w-2 was silent, and not dead", m.Name, m.From, m.To)
		}
	}
	workers["w-2"].signal(syscall.SIGCONT)
	s.settled("w-1", "w-2", "w-3") // and gets its share of the new ones when it is back
}

// A StatefulSet is rolled: each process ends and comes back under its name.
func TestRestartMovesNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.startManager("manager-0")
	for _, id := range []string{"w-0", "w-1"} {
		s.startWorker(id, "--keep-on-stop")
	}
	s.createSecrets("tls", 40)
	s.settled("w-0", "w-1")
	s.churn("tls", 40)
	begun := time.Now()
	for i, id := range []string{"w-0", "w-1"} {
		s.processes[1+i].terminate()
		s.startWorker(id, "--keep-on-stop")
		s.eventually(id+" works again", func() error { return s.hasWorked(s.processes[len(s.processes)-1]) })
	}
	s.settled("w-0", "w-1")
	s.throughout(lease, "nothing moves", func() error {
		moves := timeline.Since(timeline.BetweenShards(s.line.Moves("secrets")), begun)
		return want(len(moves) == 0, "%d objects moved", len(moves))
	})
}

func TestTwoProcessesWithOneIdentity(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, workers := s.start("w-1", "w-2")
	s.createSecrets("tls", 40)
	s.settled("w-1", "w-2")
	s.churn("tls", 40)
	second := s.startWorker("w-1")
	s.throughout(lease*3/2, "the second process waits", func() error {
		return want(s.hasWorked(second) != nil && second.Running(), "it works, or has ended")
	})
	workers["w-1"].Kill()
	s.eventually("the second process takes over from the first", func() error { return s.hasWorked(second) })
	s.settled("w-1", "w-2")
}

// hasWorked is an error as long as a worker has not begun a reconcile.
func (s *system) hasWorked(worker *process) error {
	data, err := os.ReadFile(worker.journal)
	return firstError(err, want(strings.Contains(string(data), `"start"`), "nothing in its journal"))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// lastingFor makes the ring's Leases last so long.
func lastingFor(d time.Duration) option {
	return config(func(c *v1Spec) { c.HealthCheckInterval = &metav1.Duration{Duration: d} })
}
