package health

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestHeartbeatOptionsAreChecked(t *testing.T) {
	good := HeartbeatOptions{Namespace: "shards", Name: "shard-1", Ring: "ring", Timing: second15}
	for _, c := range []struct {
		want   string
		change func(*HeartbeatOptions)
	}{
		{"Namespace", func(o *HeartbeatOptions) { o.Namespace = "" }},
		{"Namespace", func(o *HeartbeatOptions) { o.Namespace = "a/b" }},
		{"Name", func(o *HeartbeatOptions) { o.Name = "" }},
		{"Name", func(o *HeartbeatOptions) { o.Name = "manager/x" }},
		{"Ring", func(o *HeartbeatOptions) { o.Ring = "" }},
		{"Ring", func(o *HeartbeatOptions) { o.Ring = "Über" }},
		{"Timing", func(o *HeartbeatOptions) { o.Timing = Timing{} }},
		{"1h0m0s", func(o *HeartbeatOptions) { o.Timing.LeaseDuration = 2 * time.Hour }},
	} {
		o := good
		c.change(&o)
		if _, err := NewHeartbeat(newLeaseServer().as("a"), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got error %v, want one that names %s", o, err, c.want)
		}
	}
	if _, err := NewHeartbeat(nil, good); err == nil {
		t.Error("a nil client was accepted")
	}
	if _, err := NewHeartbeat(newLeaseServer().as("a"), good); err != nil {
		t.Error(err)
	}
}

func TestHeartbeatNormalLife(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := b.startWorker("shard-1", "a", func(o *HeartbeatOptions) {
			o.Labels = map[string]string{"extra": "label"}
			o.OwnerReferences = []metav1.OwnerReference{{Kind: "ShardInstance", Name: "shard-1"}}
		})
		b.pass(0)
		if !w.Active() || w.Check(b.ctx) != nil {
			t.Fatal("not active after the first request")
		}
		l := b.server.get("shard-1")
		if *l.Spec.HolderIdentity != w.Identity() || *l.Spec.LeaseDurationSeconds != 15 || *l.Spec.LeaseTransitions != 0 ||
			l.Labels[RingLabel] != "ring" || l.Labels["extra"] != "label" || len(l.OwnerReferences) != 1 {
			t.Errorf("unexpected Lease %+v", l)
		}
		if got := w.Deadline(); !got.Equal(b.start.Add(10 * time.Second)) {
			t.Errorf("deadline %v, want 10 s", got.Sub(b.start))
		}
		b.after(100*time.Second + time.Millisecond)
		if n := b.server.count("a", "update"); n != 50 {
			t.Errorf("%d renewals in 100 s, want one per 2 s", n)
		}
		if n := b.server.count("a", "get"); n != 1 {
			t.Errorf("%d reads, want 1: an undisturbed heartbeat only writes", n)
		}
		w.finish()
		if terms, causes := w.history(); terms != 1 || !slices.Equal(causes, []error{ErrStopped}) || w.err != nil || w.Active() {
			t.Errorf("terms %d, causes %v, err %v, active %v", terms, causes, w.err, w.Active())
		}
		if err := w.Run(b.ctx); !errors.Is(err, ErrRunning) {
			t.Errorf("a second Run returned %v", err)
		}
	})
}

// A failure that is shorter than the deadline passes unnoticed; one that is
// longer ends the right at exactly the deadline, and a new term begins by itself.
func TestHeartbeatOutage(t *testing.T) {
	for _, f := range []struct {
		name string
		kind fault
	}{{"fails", fails}, {"hangs", hangs}, {"loses", loses}} {
		t.Run("short "+f.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				w := b.startWorker("shard-1", "a")
				b.after(time.Second)
				b.server.breakFor(f.kind)
				b.after(7 * time.Second)
				b.server.setFaults(nil)
				b.after(30 * time.Second)
				if terms, causes := w.history(); terms != 1 || len(causes) != 0 || !w.Active() {
					t.Errorf("terms %d, causes %v, active %v", terms, causes, w.Active())
				}
				if w.errors == 0 {
					t.Error("OnRenewError was not called")
				}
				w.finish()
			})
		})
		t.Run("long "+f.name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				w := b.startWorker("shard-1", "a")
				b.after(time.Second) // last renewal at 0: the answers of all later ones are lost
				b.server.breakFor(f.kind)
				b.after(10*time.Second - 1)
				if !w.Active() {
					t.Error("stopped before the deadline")
				}
				time.Sleep(time.Nanosecond)
				if w.Active() || !w.Deadline().IsZero() || w.Check(b.ctx) == nil {
					t.Error("active at the deadline")
				}
				b.after(100 * time.Second)
				b.server.setFaults(nil)
				b.after(104 * time.Second)
				if !w.Active() {
					t.Error("did not resume")
				}
				w.finish()
				terms, causes := w.history()
				if terms != 2 || !slices.Equal(causes, []error{ErrFenced, ErrStopped}) || w.ends[0] != 10*time.Second {
					t.Errorf("terms %d, causes %v, ended %v", terms, causes, w.ends)
				}
			})
		})
	}
}

// Active is exact although no timer has fired: the number is what counts.
func TestActiveNeedsNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRight(nil)
		r.extend(time.Now(), 10*time.Second)
		r.begin(context.Background())
		r.timer.Stop() // what a stopped process has: timers that have not fired
		time.Sleep(10*time.Second - 1)
		if !r.active() {
			t.Error("not active before the deadline")
		}
		time.Sleep(time.Nanosecond)
		if r.active() || !r.deadline().IsZero() {
			t.Error("active at the deadline")
		}
		// The answer to a request from before arrives first when it wakes up: the
		// Lease is ours again, but this term is not.
		r.extend(time.Now(), 10*time.Second)
		if r.active() {
			t.Error("a term came back to life after its end")
		}
		r.begin(context.Background())
		if !r.active() {
			t.Error("no new term")
		}
		r.end()
	})
}

// A new term waits for the work of the old one, and Active is false meanwhile.
func TestHeartbeatTermsDoNotOverlap(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := b.startWorker("shard-1", "a")
		w.frozen = make(chan struct{})
		b.after(time.Second)
		b.server.breakFor(fails)
		b.after(20 * time.Second)
		b.server.setFaults(nil)
		b.after(40 * time.Second)
		if terms, _ := w.history(); terms != 1 || w.Active() {
			t.Errorf("terms %d, active %v: the old work has not returned", terms, w.Active())
		}
		close(w.frozen)
		b.pass(0)
		if terms, _ := w.history(); terms != 2 || !w.Active() {
			t.Errorf("terms %d, active %v after the old work has returned", terms, w.Active())
		}
		w.finish()
	})
}

// While the work is finishing after a stop, the Lease is kept.
func TestHeartbeatRenewsUntilWorkHasEnded(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := b.startWorker("shard-1", "a")
		b.pass(0)
		second := b.startWorker("shard-1", "b")
		w.frozen = make(chan struct{})
		b.after(time.Second)
		w.stop()
		b.after(time.Minute)
		if !w.Active() || second.Active() {
			t.Errorf("first %v, second %v: the first has not finished", w.Active(), second.Active())
		}
		if _, causes := w.history(); !slices.Equal(causes, []error{ErrStopped}) {
			t.Errorf("causes %v", causes)
		}
		if err := w.Release(b.ctx); !errors.Is(err, ErrRunning) {
			t.Errorf("Release while running: %v", err)
		}
		close(w.frozen)
		<-w.done
		if w.Active() {
			t.Error("active after Run")
		}
		if err := w.Release(b.ctx); err != nil {
			t.Error(err)
		}
		b.pass(2 * time.Second)
		if !second.Active() {
			t.Error("the second has not got the released Lease within a retry period")
		}
		second.finish()
	})
}

func TestHeartbeatSecondProcess(t *testing.T) {
	inBubble(t, func(b *bubble) {
		first := b.startWorker("shard-1", "a")
		b.after(time.Second)
		second := b.startWorker("shard-1", "b")
		b.after(10 * time.Minute)
		if !first.Active() || second.Active() {
			t.Fatalf("first %v, second %v", first.Active(), second.Active())
		}
		first.kill("a")
		killed := time.Since(b.start)
		for !second.Active() {
			b.pass(100 * time.Millisecond)
		}
		if waited := time.Since(b.start) - killed; waited < 13*time.Second || waited > 19*time.Second {
			t.Errorf("waited %v for a Lease of 15 s", waited)
		}
		if *b.server.get("shard-1").Spec.LeaseTransitions != 1 {
			t.Error("no transition was counted")
		}
		// Releasing what is another's does nothing.
		if err := first.Release(b.ctx); err != nil || *b.server.get("shard-1").Spec.HolderIdentity != second.Identity() {
			t.Error("the first released the second's Lease", err)
		}
		second.finish()
	})
}

// TestReleaseOfALeaseInDoubt: somebody deletes the Lease of a process that acts and can't be reached. The second creates it anew, and stops while it waits for the first: it does not
// release what it has not been given, so the third waits, too.
func TestReleaseOfALeaseInDoubt(t *testing.T) {
	for name, give := range map[string]func(w *worker, ctx context.Context) error{
		"release": func(w *worker, ctx context.Context) error { return w.Release(ctx) },
		"delete":  func(w *worker, ctx context.Context) error { return w.Delete(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				first := b.startWorker("shard-1", "a")
				b.after(time.Minute)
				b.server.setFaults(func(who, verb string) fault {
					if who == "a" {
						return hangs
					}
					return works
				})
				b.server.remove("shard-1")
				second := b.startWorker("shard-1", "b", func(o *HeartbeatOptions) { o.Fresh = false })
				b.pass(2 * time.Second)
				second.stop()
				<-second.done
				if err := give(second, b.ctx); err != nil {
					t.Error(err)
				}
				third := b.startWorker("shard-1", "c", func(o *HeartbeatOptions) { o.Fresh = false })
				for range 100 {
					b.pass(100 * time.Millisecond)
					if first.Active() && third.Active() {
						t.Fatal("two act")
					}
				}
				b.pass(time.Minute)
				if !third.Active() {
					t.Error("the third does not act when the first must have stopped")
				}
				third.finish()
				first.finish()
			})
		})
	}
}

// Two processes on a server that fails, hangs and loses answers all the time.
func TestHeartbeatNeverTwo(t *testing.T) {
	for seed := range 16 {
		inBubble(t, func(b *bubble) {
			b.server.setFaults(seededFaults(seed, 30))
			a, c := b.startWorker("shard-1", "a"), b.startWorker("shard-1", "b")
			for range 20 {
				b.pass(20 * time.Second)
				if seed%2 == 0 {
					b.server.remove("shard-1")
				}
			}
			b.server.setFaults(nil)
			b.pass(40 * time.Second)
			if a.Active() == c.Active() {
				t.Errorf("seed %d: %v %v: want one", seed, a.Active(), c.Active())
			}
			a.finish()
			c.finish()
		})
	}
}

func TestHeartbeatLeaseDeleted(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := b.startWorker("shard-1", "a")
		b.after(time.Second)
		b.server.remove("shard-1")
		b.after(2*time.Second + 1)
		if l := b.server.get("shard-1"); l == nil || *l.Spec.HolderIdentity != w.Identity() {
			t.Error("the Lease was not created again")
		}
		b.after(30 * time.Second)
		if terms, _ := w.history(); terms != 1 || !w.Active() {
			t.Error("the right to act was interrupted")
		}
		w.finish()
	})
}

// A process that finds no Lease cannot know whether somebody acts whose Lease
// was deleted a moment ago.
func TestHeartbeatFindsNoLease(t *testing.T) {
	restarted := func(o *HeartbeatOptions) { o.Fresh = false }
	t.Run("nobody there", func(t *testing.T) {
		inBubble(t, func(b *bubble) {
			w := b.startWorker("shard-1", "a", restarted)
			b.after(15*time.Second - 1)
			if w.Active() {
				t.Error("acts before a lease duration has passed")
			}
			b.after(15 * time.Second)
			if !w.Active() {
				t.Error("does not act")
			}
			w.finish()
		})
	})
	t.Run("deleted under a live holder", func(t *testing.T) {
		inBubble(t, func(b *bubble) {
			first := b.startWorker("shard-1", "a")
			b.after(time.Second)
			b.server.remove("shard-1")
			second := b.startWorker("shard-1", "b", restarted)
			b.after(3 * time.Second)
			if first.Active() || second.Active() {
				t.Errorf("first %v, second %v: the first has met the second's Lease, the second cannot know", first.Active(), second.Active())
			}
			b.after(17 * time.Second)
			if !second.Active() {
				t.Error("the second does not act")
			}
			first.finish()
			second.finish()
		})
	})
	t.Run("deleted under a partitioned holder, first answer lost", func(t *testing.T) {
		inBubble(t, func(b *bubble) {
			first := b.startWorker("shard-1", "a")
			b.after(time.Second)
			b.server.remove("shard-1")
			b.server.setFaults(func(actor, verb string) fault {
				switch {
				case actor == "a":
					return hangs
				case verb == "create":
					return loses
				}
				return works
			})
			second := b.startWorker("shard-1", "b", restarted)
			b.after(30 * time.Second)
			if first.Active() || !second.Active() {
				t.Errorf("first %v, second %v", first.Active(), second.Active())
			}
			first.finish()
			second.finish()
		})
	})
}

func TestHeartbeatForeignLease(t *testing.T) {
	for name, label := range map[string]map[string]string{"no label": nil, "another ring": {RingLabel: "other"}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				b.server.leases["shard-1"] = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "shard-1", Labels: label, ResourceVersion: "1"}}
				w := b.startWorker("shard-1", "a")
				<-w.done
				if !errors.Is(w.err, ErrForeignLease) || !strings.Contains(w.err.Error(), RingLabel) {
					t.Errorf("Run returned %v", w.err)
				}
				if b.server.get("shard-1").Spec.HolderIdentity != nil {
					t.Error("a foreign Lease was written")
				}
				if err := w.Delete(b.ctx); err != nil || b.server.get("shard-1") == nil {
					t.Error("a foreign Lease was deleted", err)
				}
			})
		})
	}
}

// Somebody who strips our label from a live Lease, or edits it otherwise, does
// not stop the shard; the next renewal puts it right.
func TestHeartbeatRepairsItsLease(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := b.startWorker("shard-1", "a")
		b.after(time.Second)
		b.server.edit("shard-1", func(l *coordinationv1.Lease) { l.Labels = map[string]string{"theirs": "x"} })
		b.after(3 * time.Second)
		if l := b.server.get("shard-1"); l.Labels[RingLabel] != "ring" || l.Labels["theirs"] != "x" {
			t.Errorf("labels %v", l.Labels)
		}
		if terms, _ := w.history(); terms != 1 || w.errors != 0 {
			t.Error("the heartbeat was disturbed")
		}
		w.finish()
	})
}

func TestHeartbeatDelete(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := b.startWorker("shard-1", "a")
		b.after(time.Second)
		w.finish()
		lost := 0
		b.server.setFaults(func(_, verb string) fault { // the first deletion fails after the release has worked
			if verb == "delete" && lost == 0 {
				lost++
				return fails
			}
			return works
		})
		if err := w.Delete(b.ctx); err != nil {
			t.Error(err)
		}
		if b.server.get("shard-1") != nil {
			t.Error("the Lease is still there")
		}
		b.server.breakFor(hangs)
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		defer cancel()
		if err := w.Release(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Release on a dead server returned %v", err)
		}
	})
}

// A shorter timing binds the worker before anybody can have heard of it, also
// when the answer is lost.
func TestHeartbeatShorterTiming(t *testing.T) {
	inBubble(t, func(b *bubble) {
		long := Timing{LeaseDuration: time.Minute}
		w := b.startWorker("shard-1", "a", func(o *HeartbeatOptions) { o.Timing = long })
		b.after(time.Second)
		b.server.breakFor(loses)
		if err := w.SetTiming(Timing{}); err == nil {
			t.Error("an empty timing was accepted")
		}
		if err := w.SetTiming(second15); err != nil {
			t.Fatal(err)
		}
		b.pass(0)
		if l := b.server.get("shard-1"); *l.Spec.LeaseDurationSeconds != 15 {
			t.Errorf("the record says %d s; it should have been renewed at once", *l.Spec.LeaseDurationSeconds)
		}
		if got := w.Deadline().Sub(b.start); got != 11*time.Second {
			t.Errorf("deadline %v, want 10 s after the change", got)
		}
		b.server.breakFor(fails)
		b.after(11 * time.Second)
		if w.Active() {
			t.Error("active past the shorter deadline")
		}
		w.finish()
	})
}

func TestHeartbeatLongerTiming(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := b.startWorker("shard-1", "a")
		b.after(time.Second)
		b.server.breakFor(fails)
		if err := w.SetTiming(Timing{LeaseDuration: time.Minute}); err != nil {
			t.Fatal(err)
		}
		b.pass(0)
		if got := w.Deadline().Sub(b.start); got != 10*time.Second {
			t.Errorf("deadline %v: the longer one has not been agreed yet", got)
		}
		b.server.setFaults(nil)
		b.after(9 * time.Second)
		if got := w.Deadline().Sub(b.start); got < 41*time.Second {
			t.Errorf("deadline %v, want 40 s after a renewal", got)
		}
		w.finish()
	})
}

// A server that needs longer than a retry period for every answer keeps the
// heartbeat alive, as long as it answers within the request timeout.
func TestHeartbeatOnASlowServer(t *testing.T) {
	inBubble(t, func(b *bubble) {
		w := b.startWorker("shard-1", "a")
		b.after(time.Second)
		b.server.breakFor(slow)
		b.after(20 * time.Second)
		for time.Since(b.start) < 10*time.Minute {
			// An answer takes 3 s, and others count from when the Lease was written.
			if left := time.Until(w.Deadline()); left > 7*time.Second {
				t.Errorf("it may act for %v more, want what is left of 10 s since the request", left)
				break
			}
			b.pass(100 * time.Millisecond)
		}
		if terms, causes := w.history(); terms != 1 || len(causes) != 0 || !w.Active() {
			t.Errorf("terms %d, causes %v, active %v", terms, causes, w.Active())
		}
		w.finish()
	})
}

// A process whose API server goes back to an earlier state ends, within a retry period, and one that is started then acts, as it did before or after the
// lease duration that the restored record is waited for.
func TestHeartbeatRestoredFromABackup(t *testing.T) {
	for name, lost := range map[string]bool{"the Lease is older": false, "the Lease is lost": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				var restore func()
				if lost {
					restore = b.server.backup()
				}
				first := b.startWorker("shard-1", "a")
				b.after(20 * time.Second)
				if !lost {
					restore = b.server.backup()
				}
				b.after(40*time.Second + time.Second)
				if !first.Active() {
					t.Error("not active before")
				}
				restore()
				b.pass(second15.RetryPeriod())
				select {
				case <-first.done:
				default:
					t.Fatal("goes on after the API server went back")
				}
				if !errors.Is(first.err, errWentBack) || first.Active() {
					t.Errorf("error %v, active %v", first.err, first.Active())
				}
				if _, causes := first.history(); !slices.Equal(causes, []error{ErrFenced}) {
					t.Errorf("causes %v", causes)
				}
				next := b.startWorker("shard-1", "b", func(o *HeartbeatOptions) { o.Fresh = false })
				b.pass(2 * second15.LeaseDuration)
				if !next.Active() {
					t.Error("the next process does not act")
				}
				next.finish()
			})
		})
	}
}
