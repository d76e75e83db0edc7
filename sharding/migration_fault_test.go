package sharding

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/memapi"
)

// stuckAt makes reconciles of one object wait until free is closed, whatever their context says.
func stuckAt(name string, free <-chan struct{}) ReconcileFunc {
	return func(_ context.Context, key types.NamespacedName) (Result, error) {
		if key.Name == name {
			<-free
		}
		return Result{}, nil
	}
}

// ringOf is a ring with 20 roots of a, whose reconcile functions the test gives.
func (s *sim) ringOf(onA, onB ReconcileFunc) (a, b *simWorker, m *simManager) {
	s.config()
	s.edit(configs, simNamespace, simRing, set(true, "spec", "rebalance", "dryRun")) // what is on a stays there
	a, b = s.worker("a", onA), s.worker("b", onB)
	s.settle(10 * time.Second)
	for _, n := range "0123456789abcdefghij" {
		s.labelledRoot("s"+string(n), "a")
	}
	m = s.runManager("m")
	s.settle(30 * time.Second)
	return a, b, m
}

func (s *sim) abort(name string) {
	s.Helper()
	client, err := versioned.NewForConfig(s.server.Config("user"))
	if err != nil {
		s.Fatal(err)
	}
	if err := client.ShardV1().ShardMigrations(simNamespace).Delete(s.ctx, name, metav1.DeleteOptions{}); err != nil {
		s.Fatal(err)
	}
}

// An object whose reconcile hangs keeps the migration in Transfer; deleting it takes everything back.
func TestMigrationIsAborted(t *testing.T) {
	simulate(t, func(s *sim) {
		free := make(chan struct{})
		s.ringOf(nil, nil)
		a2 := s.worker("c", stuckAt("stuck", free)) // a third shard, for an object that does not move
		_ = a2
		s.settle(20 * time.Second)
		s.labelledRoot("stuck", "c")
		s.settle(5 * time.Second)
		s.migrate("back", func(m *shardv1.ShardMigrationSpec) { m.Source, m.Target = "c", "b" })
		s.settle(10 * time.Second)
		wants(s, "while an object hangs", s.migration("back").Status.Phase, "Transfer")
		others := s.counts(secrets)["b"]
		s.abort("back")
		s.settle(10 * time.Second)
		wants(s, "the stuck object", s.ownership(secrets, "stuck"), "c")
		wants(s, "objects of b are what they were", s.counts(secrets)["b"] <= others, true)
		close(free)
		s.settle(10 * time.Second)
		wants(s, "the migration", s.outcome("back"), "none")
		wants(s, "objects in hand-over", s.counts(secrets)["→"], 0)
	})
}

// What has been moved goes back when the target can't go on: here, when somebody drains it.
func TestMigrationToATargetThatIsDrained(t *testing.T) {
	simulate(t, func(s *sim) {
		free := make(chan struct{})
		s.ringOf(stuckAt("sj", free), nil)
		s.migrate("m1", nil)
		s.settle(8 * time.Second)
		wants(s, "moved before", s.counts(secrets)["b"], 19)
		s.edit(instances, simNamespace, "b", set(true, "spec", "draining"))
		s.settle(10 * time.Second)
		close(free)
		s.settle(30 * time.Second)
		wants(s, "objects of a", s.counts(secrets)["a"], 20)
		if got := s.outcome("m1"); !strings.HasPrefix(got, "RolledBack TargetDraining") {
			t.Errorf("the migration: %s", got)
		}
	})
}

func TestMigrationDeadline(t *testing.T) {
	simulate(t, func(s *sim) {
		free := make(chan struct{})
		s.ringOf(stuckAt("sj", free), nil)
		s.migrate("late", func(m *shardv1.ShardMigrationSpec) { m.Deadline = &metav1.Time{Time: time.Now().Add(20 * time.Second)} })
		s.settle(15 * time.Second)
		wants(s, "moved before the deadline", s.counts(secrets)["b"], 19)
		s.settle(30 * time.Second)
		close(free)
		s.settle(5 * time.Second)
		wants(s, "the migration", s.outcome("late"), "RolledBack DeadlineExceeded 0/20 returned 20")
		wants(s, "objects of a", s.counts(secrets)["a"], 20)
		s.settle(2 * auditInterval)
		wants(s, "objects of a later", s.counts(secrets)["a"], 20)
	})
}

func TestMigrationWhoseSourceDies(t *testing.T) {
	simulate(t, func(s *sim) {
		a, _, _ := s.ringOf(func(ctx context.Context, key types.NamespacedName) (Result, error) {
			if key.Name == "sj" {
				<-ctx.Done()
			}
			return Result{}, ctx.Err()
		}, nil)
		s.worker("c", nil)
		s.settle(20 * time.Second)
		s.migrate("m1", nil)
		s.settle(3 * time.Second)
		wants(s, "moved before", s.counts(secrets)["b"], 19)
		a.kill()
		s.settle(2 * time.Minute)
		wants(s, "the migration", s.outcome("m1"), "Succeeded 20/20")
		wants(s, "what the dead shard owns", s.counts(secrets)["a"], 0)
	})
}

func TestMigrationWhoseTargetDies(t *testing.T) {
	simulate(t, func(s *sim) {
		free := make(chan struct{})
		_, b, _ := s.ringOf(stuckAt("sj", free), nil)
		s.migrate("m1", nil)
		s.settle(8 * time.Second)
		wants(s, "moved before", s.counts(secrets)["b"], 19)
		b.kill()
		s.settle(time.Minute)
		close(free)
		s.settle(time.Minute)
		wants(s, "the migration", s.outcome("m1"), "RolledBack TargetLost 0/20 returned 20")
		wants(s, "objects of a", s.counts(secrets)["a"], 20)
	})
}

// The manager is killed again and again; its successors go on from what is written down.
func TestMigrationOutlivesItsManagers(t *testing.T) {
	simulate(t, func(s *sim) {
		_, _, m := s.ringOf(nil, nil)
		moved := map[string]int{}
		s.server.OnCommit(func(e memapi.Event) {
			if e.Resource == secrets && e.Old != nil && e.New != nil && e.Old.GetLabels()[OwnerLabel(simRing)] != e.New.GetLabels()[OwnerLabel(simRing)] {
				moved[e.New.GetName()]++
			}
		})
		s.migrate("m1", func(m *shardv1.ShardMigrationSpec) { m.ObjectsPerSecond = ptrTo[int32](1) })
		for i := range 6 {
			s.settle(4 * time.Second)
			m.kill()
			m = s.runManager("m" + string(rune('1'+i)))
			s.settle(25 * time.Second)
		}
		s.settle(time.Minute)
		wants(s, "the migration", s.outcome("m1"), "Succeeded 20/20")
		for _, n := range "0123456789abcdefghij" {
			wants(s, "each object moved once", moved["s"+string(n)], 1)
		}
		wants(s, "objects of b", s.counts(secrets)["b"], 20)
	})
}

// At most two writes for a root without state, and three for one with; and nothing else is written on objects.
func TestMigrationWrites(t *testing.T) {
	for name, stateful := range map[string]bool{"without state": false, "with state": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				var all ledgers
				a, b := all.of("a"), all.of("b")
				if stateful {
					s.keeps(a)
					s.keeps(b)
				} else {
					s.worker("a", nil)
					s.worker("b", nil)
				}
				s.settle(10 * time.Second)
				for _, n := range "0123456789" {
					s.child("c"+string(n), "a", s.labelledRoot("s"+string(n), "a"))
				}
				s.runManager("m")
				s.settle(30 * time.Second)
				counts := s.rootWrites()
				s.migrate("m1", nil)
				s.settle(10 * time.Second)
				wants(s, "the migration", s.outcome("m1"), "Succeeded 10/10")
				wants(s, "drain writes", counts["m"], 10)
				wants(s, "hand-over writes", counts["a"], 10)
				acknowledged := 0
				if stateful {
					acknowledged = 10
					wants(s, "what b knows of an object", b.of("s3"), "a b")
				}
				wants(s, "acknowledgements", counts["b"], acknowledged)
			})
		})
	}
}

// The target can't use the states: everything goes back, with its state, and the migration says which and why.
func TestMigrationOfRefusedStates(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		a, b := all.of("a"), all.of("b")
		b.refuses(TerminalError(errors.New("not today")))
		s.keeps(a)
		s.keeps(b)
		s.settle(10 * time.Second)
		for _, n := range "0123456789" {
			s.labelledRoot("s"+string(n), "a")
		}
		s.runManager("m")
		s.settle(30 * time.Second)
		s.migrate("m1", nil)
		s.settle(20 * time.Second)
		wants(s, "the migration", s.outcome("m1"), "Failed NotAllMoved 0/10 returned 10 failed 10")
		wants(s, "objects of a", s.counts(secrets)["a"], 10)
		wants(s, "what a knows of an object", a.of("s3"), "a")
		failures := s.migration("m1").Status.Failures
		if len(failures) != 10 || failures[0].Reason != "ImportFailed" || !strings.Contains(failures[0].Message, "not today") {
			t.Errorf("failures: %+v", failures)
		}
		s.settle(3 * auditInterval)
		wants(s, "objects of a later", s.counts(secrets)["a"], 10)
	})
}

// The source can't hand out a state: the object stays, and the others move.
func TestMigrationOfDeclinedObjects(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		a, b := all.of("a"), all.of("b")
		a.exportErr = TerminalError(errors.New("too deep"))
		s.keeps(a)
		s.keeps(b)
		s.settle(10 * time.Second)
		s.labelledRoot("s0", "a")
		s.runManager("m")
		s.settle(30 * time.Second)
		s.migrate("m1", nil)
		s.settle(20 * time.Second)
		wants(s, "the migration", s.outcome("m1"), "Failed NotAllMoved 0/1 returned 1 failed 1")
		wants(s, "the object", s.ownership(secrets, "s0"), "a")
	})
}

// The source can't hand out the state of an object whose child has gone already: the object rests until that is back.
func TestDeclinedObjectRestsUntilItsChildIsBack(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		a := all.of("a")
		a.exportErr = TerminalError(errors.New("too deep"))
		s.keeps(a)
		s.settle(10 * time.Second)
		s.child("child", "a", s.labelledRoot("s0", "a"))
		s.settle(10 * time.Second)
		s.took()
		s.label(secrets, "s0", DrainLabel(simRing), "b")
		s.settle(20 * time.Second)
		wants(s, "the object", s.ownership(secrets, "s0"), "a→b")
		wants(s, "its child", s.ownership(configMaps, "child"), "b")
		wants(s, "reconciles while the child is away", s.took(), "")
		s.label(secrets, "s0", DrainLabel(simRing), "")
		s.label(configMaps, "child", OwnerLabel(simRing), "a")
		s.settle(20 * time.Second)
		wants(s, "reconciles when it is back", s.tookOnce(), "a s0")
	})
}

// The target's first reconcile of an object without state fails for good: it goes back.
func TestMigrationOfAnObjectThatTheTargetCannotReconcile(t *testing.T) {
	simulate(t, func(s *sim) {
		s.ringOf(nil, func(_ context.Context, key types.NamespacedName) (Result, error) {
			if key.Name == "s7" {
				return Result{}, TerminalError(errors.New("never seen such a thing"))
			}
			return Result{}, nil
		})
		s.migrate("m1", nil)
		s.settle(20 * time.Second)
		wants(s, "the migration", s.outcome("m1"), "Failed NotAllMoved 19/20 returned 1 failed 1")
		wants(s, "the object", s.ownership(secrets, "s7"), "a@2")
		if f := s.migration("m1").Status.Failures; len(f) != 1 || f[0].Reason != "ReconcileFailed" || !strings.Contains(f[0].Message, "never seen") {
			t.Errorf("failures: %+v", f)
		}
	})
}

// One at a time: the second waits for the first, and says so.
func TestMigrationsTakeTurns(t *testing.T) {
	simulate(t, func(s *sim) {
		free := make(chan struct{})
		s.ringOf(stuckAt("sj", free), nil)
		s.migrate("m1", nil)
		s.settle(8 * time.Second)
		s.migrate("m2", func(m *shardv1.ShardMigrationSpec) { m.Source, m.Target = "b", "a" })
		s.settle(10 * time.Second)
		wants(s, "the second", s.migration("m2").Status.Phase, "Preparation")
		wants(s, "why", s.migration("m2").Status.Conditions[2].Reason, "Queued")
		close(free)
		s.settle(30 * time.Second)
		wants(s, "the first", s.outcome("m1"), "Succeeded 20/20")
		wants(s, "objects of a", s.counts(secrets)["a"], 20)
	})
}

// What the manager moves of its own accord is on record, and the records are few.
func TestPlansOfTheManagerAreOnRecord(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secrets(100)
		s.runManager("m")
		s.worker("a", nil)
		s.settle(time.Minute)
		wants(s, "records of the first assignment", s.recorded(), "")
		b := s.worker("b", nil)
		s.settle(30 * time.Second)
		wants(s, "after a join", s.recorded(), "Join →b Succeeded")
		for _, object := range s.server.List(migrations, simNamespace, nil) {
			n := s.migration(object.GetName()).Status.Objects
			if n.Moved != int64(s.counts(secrets)["b"]) || n.Total != n.Moved {
				t.Errorf("%+v; b owns %d", n, s.counts(secrets)["b"])
			}
		}
		b.stop()
		<-b.ended
		s.settle(time.Minute)
		wants(s, "after it left", s.recorded(), "Join →b Succeeded, Leave b→ Succeeded")
		c := s.worker("c", nil)
		s.settle(30 * time.Second)
		c.kill()
		s.settle(time.Minute)
		wants(s, "after a death", s.recorded(), "Join →b Succeeded, Join →c Succeeded, Leave b→ Succeeded, TakeOver c→ Succeeded")
		before := s.server.RequestCounts()
		s.settle(5 * time.Minute)
		for kind, n := range s.server.RequestCounts() {
			if kind.Resource == "shardmigrations" && kind.Verb != "watch" && kind.Verb != "list" && n != before[kind] {
				t.Errorf("%+v: %d while nothing happens", kind, n-before[kind])
			}
		}
		for range 8 {
			d := s.worker("d", nil)
			s.settle(30 * time.Second)
			d.stop()
			<-d.ended
			s.settle(30 * time.Second)
		}
		wants(s, "records", len(s.server.List(migrations, simNamespace, nil)), planHistory)
	})
}
