package sharding

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// heldLease is an election Lease without an API server.
type heldLease struct {
	resourcelock.Interface
	record resourcelock.LeaderElectionRecord
	writes int
	fails  error
}

func (l *heldLease) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record := l.record
	return &record, nil, nil
}

func (l *heldLease) Update(_ context.Context, record resourcelock.LeaderElectionRecord) error {
	if l.fails == nil {
		l.record = record
		l.writes++
	}
	return l.fails
}

func (l *heldLease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.Update(ctx, record)
}

func record(holder string, transitions int) resourcelock.LeaderElectionRecord {
	return resourcelock.LeaderElectionRecord{HolderIdentity: holder, LeaderTransitions: transitions, LeaseDurationSeconds: 15}
}

// renewed is the record with a renewal so long after some moment.
func renewed(r resourcelock.LeaderElectionRecord, since time.Duration) resourcelock.LeaderElectionRecord {
	r.RenewTime = metav1.NewTime(time.Unix(1800000000, 0).Add(since))
	return r
}

// TestElectionLock holds the lock against what an elector of client-go does with it.
func TestElectionLock(t *testing.T) {
	const busy = true
	for name, test := range map[string]struct {
		lease resourcelock.LeaderElectionRecord // as the elector finds it
		fails error
		busy  bool
		steps func(context.Context, *electionLock) error
		want  string // of the Lease, the tenure, and the error
	}{
		"is won": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			return l.Update(ctx, record("me", 5))
		}, want: "me 5, term 5 open"},
		"is created": {steps: func(ctx context.Context, l *electionLock) error {
			return l.Create(ctx, record("me", 0))
		}, want: "me 0, term 0 open"},
		"can't be written": {lease: record("other", 4), fails: errBroken, steps: func(ctx context.Context, l *electionLock) error {
			return l.Update(ctx, record("me", 5))
		}, want: "other 4, term -1 closed, broken"},
		"is renewed": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			return errors.Join(l.Update(ctx, record("me", 5)), l.Update(ctx, record("me", 5)))
		}, want: "me 5, term 5 open"},
		"is won again after another has had it": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			return errors.Join(l.Update(ctx, record("me", 5)), l.Update(ctx, record("me", 7)))
		}, want: "me 5, term 5 closed, " + errSuperseded.Error()},
		"is deleted while it is held": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			return errors.Join(l.Update(ctx, record("me", 5)), l.Create(ctx, record("me", 0)))
		}, want: "me 5, term 5 closed, " + errSuperseded.Error()},
		"is given up": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			err := l.Update(ctx, record("me", 5))
			_, _, getErr := l.Get(ctx)
			return errors.Join(err, getErr, l.Update(ctx, record("", 5)))
		}, want: " 5, term 5 closed"},
		"is not given up while a write is on its way": {lease: record("other", 4), busy: busy, steps: func(ctx context.Context, l *electionLock) error {
			return errors.Join(l.Update(ctx, record("me", 5)), l.Update(ctx, record("", 5)))
		}, want: "me 5, term 5 closed"},
		"is not given up for another": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			err := l.Update(ctx, record("me", 5))
			l.Interface.(*heldLease).record = record("successor", 6)
			_, _, getErr := l.Get(ctx)
			return errors.Join(err, getErr, l.Update(ctx, record("", 6)))
		}, want: "successor 6, term 5 closed"},
		"is read as it was renewed": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			err := l.Update(ctx, renewed(record("me", 5), 0))
			l.Interface.(*heldLease).record = renewed(record("me", 5), -time.Millisecond) // rounded
			_, _, getErr := l.Get(ctx)
			return errors.Join(err, getErr, l.Update(ctx, renewed(record("me", 5), time.Second)))
		}, want: "me 5, term 5 open"},
		"comes from a backup": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			err := l.Update(ctx, renewed(record("me", 5), 0))
			l.Interface.(*heldLease).record = renewed(record("me", 5), -time.Minute)
			_, _, getErr := l.Get(ctx)
			return errors.Join(err, getErr)
		}, want: "me 5, term 5 closed, " + errWentBack.Error()},
		"is not renewed after the end": {lease: record("other", 4), steps: func(ctx context.Context, l *electionLock) error {
			err := l.Update(ctx, record("me", 5))
			l.tenure.end()
			return errors.Join(err, l.Update(ctx, record("me", 5)))
		}, want: "me 5, term 5 closed, " + errSuperseded.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			tenure := newTenure("me", time.Minute, nil, func() {})
			lease := &heldLease{record: test.lease, fails: test.fails}
			lock := &electionLock{Interface: lease, tenure: tenure, idle: func() bool { return !test.busy }}
			err := test.steps(t.Context(), lock)
			got := fmt.Sprintf("%s %d, term %d %s", lease.record.HolderIdentity, lease.record.LeaderTransitions, tenure.term(),
				map[bool]string{true: "open", false: "closed"}[tenure.open()])
			if err != nil {
				got += ", " + err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestTenureEndsByTheMonotonicClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenure := newTenure("me", 10*time.Second, nil, func() {})
		if tenure.open() {
			t.Error("open before it is won")
		}
		time.Sleep(3 * time.Second)
		tenure.renewed(5, time.Now().Add(-2*time.Second)) // the answer took two seconds
		time.Sleep(8*time.Second - 1)
		if !tenure.open() {
			t.Error("closed before the deadline")
		}
		time.Sleep(time.Nanosecond)
		if tenure.open() {
			t.Error("open at the deadline, which counts from the start of the renewal")
		}
		tenure.renewed(5, time.Now())
		if !tenure.open() {
			t.Error("closed after a renewal")
		}
		tenure.end()
		tenure.renewed(5, time.Now())
		if tenure.open() {
			t.Error("open after its end")
		}
	})
}

func TestTenureDoubtsARingThatWasLedWhenTheLeaseIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lock := func() *electionLock {
			return &electionLock{Interface: &heldLease{}, tenure: newTenure("me", 10*time.Second, nil, func() {})}
		}
		created, taken := lock(), lock()
		if err := errors.Join(created.Create(t.Context(), record("me", 0)), taken.Update(t.Context(), record("me", 3))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		for _, c := range []struct {
			name      string
			tenure    *tenure
			ledBefore bool
			want      time.Duration
		}{
			{"new Lease, ring that others led", created.tenure, true, 10 * time.Second},
			{"new Lease, new ring", created.tenure, false, 0},
			{"Lease that was taken", taken.tenure, true, 0},
			{"no election", nil, true, 0},
		} {
			if got := c.tenure.doubt(c.ledBefore, 15*time.Second); got != c.want {
				t.Errorf("%s: waits for %s, want %s", c.name, got, c.want)
			}
		}
	})
}

func TestTenureAsksWhoLeadsWhenItMeetsALaterTerm(t *testing.T) {
	lease := func(holder string, transitions int32) *coordinationv1.Lease {
		return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseTransitions: &transitions}}
	}
	for name, test := range map[string]struct {
		seen  int64
		lease *coordinationv1.Lease
		err   error // of the read
		asks  int
		fails bool
		open  bool
	}{
		"an earlier term":                        {seen: 4, open: true},
		"its own":                                {seen: 5, open: true},
		"none":                                   {seen: noTerm, open: true},
		"a later one, that leads":                {seen: 6, lease: lease("other", 6), asks: 1, fails: true},
		"a later one, of a Lease that was lost":  {seen: 6, lease: lease("me", 5), asks: 1, open: true},
		"a later one, and its own name again":    {seen: 6, lease: lease("me", 7), asks: 1, fails: true},
		"a later one, and the server is away":    {seen: 6, err: errBroken, asks: 1, fails: true, open: true},
		"a later one, and nobody has the Lease":  {seen: 6, lease: lease("", 6), asks: 1, fails: true},
		"a later one, and the Lease says little": {seen: 6, lease: &coordinationv1.Lease{}, asks: 1, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			asked, stopped := 0, false
			tenure := newTenure("me", time.Minute, func(context.Context) (*coordinationv1.Lease, error) {
				asked++
				return test.lease, test.err
			}, func() { stopped = true })
			tenure.renewed(5, time.Now())
			err := tenure.precedes(t.Context(), test.seen)
			if (err != nil) != test.fails || tenure.open() != test.open || stopped == test.open || asked != test.asks {
				t.Errorf("error %v, open %v, stopped %v, asked %d times", err, tenure.open(), stopped, asked)
			}
			if test.fails && test.err == nil && !errors.Is(err, ErrNotLeading) {
				t.Errorf("error %v does not wrap ErrNotLeading", err)
			}
		})
	}
}

func TestStamped(t *testing.T) {
	fresh := &metav1.ObjectMeta{ResourceVersion: "5"}
	full := &metav1.ObjectMeta{
		ResourceVersion: "5", Labels: map[string]string{"shard.io/r": "a"},
		Annotations: map[string]string{"epoch.shard.io/r": "3", "term.shard.io/r": "6"},
	}
	for name, test := range map[string]struct {
		patch []byte
		term  int64
		want  string
	}{
		"assign": {ownPatch(fresh, "r", "a", nil), 7,
			`{"metadata":{"annotations":{"epoch.shard.io/r":"1","term.shard.io/r":"7"},"labels":{"shard.io/r":"a"},"resourceVersion":"5"}}`},
		"drain": {drainPatch(fresh, "r", "b"), 0,
			`{"metadata":{"annotations":{"term.shard.io/r":"0"},"labels":{"drain.shard.io/r":"b"},"resourceVersion":"5"}}`},
		"a clear leaves nothing": {clearPatch(full, "r"), 7,
			`{"metadata":{"resourceVersion":"5","labels":{"shard.io/r":null},"annotations":{"epoch.shard.io/r":null,"term.shard.io/r":null}}}`},
		"no election": {childPatch(fresh, "r", "a"), noTerm, `{"metadata":{"resourceVersion":"5","labels":{"shard.io/r":"a"}}}`},
		"something else in it": {[]byte(`{"metadata":{"resourceVersion":"5"},"spec":{"a":1}}`), 7,
			`{"metadata":{"annotations":{"term.shard.io/r":"7"},"resourceVersion":"5"},"spec":{"a":1}}`},
		"no patch of metadata": {[]byte(`[]`), 7, `[]`},
	} {
		if got := string(stamped(test.patch, "r", test.term)); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, test.want)
		}
	}
}

func TestTermOf(t *testing.T) {
	for text, want := range map[string]int64{
		"7": 7, "0": 0, "": noTerm, "x": noTerm, "-3": noTerm, "1e3": noTerm, "2147483647": 1<<31 - 1, "2147483648": noTerm,
	} {
		if got := termOf(&metav1.ObjectMeta{Annotations: map[string]string{"term.shard.io/r": text}}, "r"); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// pausedProcess holds back what a process does before it looks at the clock for the last time, as SIGSTOP may.
type pausedProcess struct {
	mu      sync.Mutex
	resumed chan struct{} // nil: it runs
	only    func(*http.Request) bool
	held    int
}

func (p *pausedProcess) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resumed = make(chan struct{})
}

func (p *pausedProcess) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.resumed)
	p.resumed = nil
}

func (p *pausedProcess) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		p.mu.Lock()
		resumed := p.resumed
		if p.only != nil && !p.only(request) {
			resumed = nil
		}
		if resumed != nil {
			p.held++
		}
		p.mu.Unlock()
		if resumed != nil {
			<-resumed
			request = request.WithContext(context.WithoutCancel(request.Context())) // it is past its last look at that, too
		}
		return next.RoundTrip(request)
	})
}

// runPausable is runManager for a process that can be paused.
func (s *sim) runPausable(name string) (*simManager, *pausedProcess) {
	s.Helper()
	process := &pausedProcess{}
	cfg := s.server.Config(name)
	cfg.Wrap(process.wrap)
	m, err := NewManager(cfg, ManagerOptions{Namespace: simNamespace, Identity: name})
	if err != nil {
		s.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.ctx)
	p := &simManager{Manager: m, client: s.server.Client(name), stop: stop, ended: make(chan struct{})}
	s.all.Go(func() {
		defer close(p.ended)
		if err := m.Run(ctx); err != nil {
			s.Errorf("manager %s: %v", name, err)
		}
	})
	return p, process
}

// judgeSuccession fails the test when the stale manager changes what its successor has written, from now on. It returns how many
// writes of the stale one took effect.
func (s *sim) judgeSuccession(stale, successor string) (late func() int) {
	type key struct {
		schema.GroupVersionResource
		name string
	}
	written := map[key]bool{}
	n := 0
	s.server.OnCommit(func(e memapi.Event) {
		if e.New == nil || e.Resource.Resource == "events" {
			return
		}
		k := key{e.Resource, e.New.GetName()}
		switch e.Actor {
		case successor:
			written[k] = true
		case stale:
			n++
			if written[k] {
				s.Errorf("%s %ss %s %s, which its successor has written", stale, e.Verb, e.Resource.Resource, e.New.GetName())
			}
		}
	})
	return func() int { return n }
}

// succession makes two managers and three shards, brings the first manager into the middle of a join, stops it by pause, and lets
// the second lead until it has taken over a shard that the first believes in.
func (s *sim) succession(pause func(*simManager, *pausedProcess)) (first, second *simManager, process *pausedProcess) {
	s.config()
	s.edit(configs, simNamespace, simRing, set(true, "spec", "rebalance", "dryRun")) // the next leader is not to move anything of its own accord
	for i, root := range s.secrets(120) {
		s.child(fmt.Sprintf("c%03d", i), "", root)
	}
	first, process = s.runPausable("m1")
	s.worker("a", nil)
	b := s.worker("b", nil)
	s.settle(30 * time.Second)
	second = s.runManager("m2")
	s.settle(time.Second)
	wants(s, "first leads", first.Leading(), true)
	first.client.SetFaults(slowly(50 * time.Millisecond))
	for _, shard := range []string{"a", "b"} {
		s.server.Client(shard).SetFaults(slowly(100 * time.Millisecond))
	}
	s.worker("c", nil)
	for range 1000 {
		s.settle(10 * time.Millisecond)
		if s.counts(secrets)["→"] > 3 {
			break
		}
	}
	if s.counts(secrets)["→"] == 0 {
		s.Fatal("there was no move to be interrupted")
	}
	pause(first, process)
	b.kill()
	s.settle(90 * time.Second)
	wants(s, "first leads while it is paused", first.Leading(), false)
	wants(s, "second leads", second.Leading(), true)
	wants(s, "objects of the dead shard", s.counts(secrets)["b"], 0)
	return first, second, process
}

// TestPausedLeaderWritesNothing: the leader is paused between its decisions and its requests, for longer than its Lease.
func TestPausedLeaderWritesNothing(t *testing.T) {
	simulate(t, func(s *sim) {
		first, second, process := s.succession(func(_ *simManager, p *pausedProcess) { p.pause() })
		if process.held == 0 {
			t.Fatal("nothing was held back")
		}
		before := s.epochs()
		writes := 0
		s.server.OnCommit(func(e memapi.Event) {
			if e.Actor == "m1" && e.Resource.Resource != "events" {
				writes++
				s.Errorf("it %ss %s %s", e.Verb, e.Resource.Resource, e.New.GetName())
			}
		})
		process.resume()
		s.settle(time.Minute)
		wants(s, "writes of the first after its pause", writes, 0)
		wants(s, "epochs", s.epochs(), before)
		wants(s, "first leads", first.Leading(), false)
		wants(s, "second leads", second.Leading(), true)
		wants(s, "children away from their roots", s.astray(), 0)
	})
}

// TestLeaderThatIsPausedOnTheWire: requests that were past every check arrive a minute and a half late.
func TestLeaderThatIsPausedOnTheWire(t *testing.T) {
	simulate(t, func(s *sim) {
		late := func() int { return 0 }
		first, second, _ := s.succession(func(m *simManager, _ *pausedProcess) {
			late = s.judgeSuccession("m1", "m2")
			m.client.Freeze()
		})
		before := late()
		first.client.Thaw()
		s.settle(2 * time.Minute)
		t.Logf("%d late writes took effect, on objects that had not changed", late()-before)
		wants(s, "second leads", second.Leading(), true)
		wants(s, "holder of the election", s.holder("shard-manager"), "m2")
		counts := s.counts(secrets)
		if counts["a"]+counts["c"] != 120 || counts["→"] != 0 {
			t.Errorf("owners: %v", counts)
		}
		wants(s, "children away from their roots", s.astray(), 0)
	})
}

// TestLeaderWhoseClockStoodStill: a suspended machine may stop its monotonic clock, so that no deadline passes while another leads.
// The first thing that it meets of a later term tells it, be that the ShardConfig or an object.
func TestLeaderWhoseClockStoodStill(t *testing.T) {
	for _, blind := range []bool{false, true} {
		t.Run(fmt.Sprintf("blind=%t", blind), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.edit(configs, simNamespace, simRing, set(true, "spec", "rebalance", "dryRun")) // it is to have no reason to write
				s.secrets(30)
				for _, id := range []string{"a", "b"} {
					s.worker(id, nil)
				}
				// For this one, half an hour is an instant.
				first := s.runManager("m1", func(o *ManagerOptions) {
					o.ElectionTiming = ElectionTiming{LeaseDuration: time.Hour, RenewDeadline: 50 * time.Minute, RetryPeriod: 30 * time.Minute}
				})
				s.settle(30 * time.Second)
				second := s.runManager("m2")
				s.settle(5 * time.Second)
				if blind {
					first.client.DelayWatches(time.Hour)
				}
				late := s.judgeSuccession("m1", "m2")
				s.edit(leases, simNamespace, "shard-manager", set("", "spec", "holderIdentity"))
				s.settle(5 * time.Second)
				wants(s, "second leads", second.Leading(), true)
				wants(s, "first leads as well", first.Leading(), blind)
				s.secret("x", "")
				s.settle(time.Second)
				wants(s, "term of the object", termOf(s.server.Get(secrets, "ns", "x"), simRing), 1)
				second.client.SetLink(memapi.Partitioned)
				s.label(secrets, "x", OwnerLabel(simRing), "")
				s.settle(2 * time.Minute)
				wants(s, "owner of what the first must not touch", s.ownership(secrets, "x"), "@1")
				wants(s, "first leads", first.Leading(), false)
				wants(s, "late writes of the first", late(), 0)
			})
		})
	}
}

// TestElectionLeaseDeleted: whoever creates it anew waits until the leader before must have stopped.
func TestElectionLeaseDeleted(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secrets(30)
		first := s.runManager("m1")
		s.worker("a", nil)
		s.settle(30 * time.Second)
		second := s.runManager("m2")
		s.settle(5 * time.Second)
		first.client.SetLink(memapi.Partitioned)
		if err := s.server.Delete(leases, simNamespace, "shard-manager"); err != nil {
			t.Fatal(err)
		}
		s.settle(5 * time.Second)
		wants(s, "second leads", second.Leading(), true)
		s.secret("early", "")
		s.settle(8 * time.Second)
		wants(s, "owner while the first may be writing", s.ownership(secrets, "early"), "")
		s.settle(20 * time.Second)
		wants(s, "owner when it can't be any more", s.ownership(secrets, "early"), "a@1")
		first.client.SetLink(memapi.Connected)
		s.settle(time.Minute)
		wants(s, "first leads", first.Leading(), false)
		term := s.server.Get(configs, simNamespace, simRing).GetAnnotations()[managerTermAnnotation]
		wants(s, "term on the ShardConfig", term, "0")
	})
}

// TestFirstManagerDoesNotWait: nobody has led a new ring.
func TestFirstManagerDoesNotWait(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "")
		s.worker("a", nil)
		s.settle(time.Minute)
		s.runManager("m")
		s.settle(5 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "a@1")
	})
}

func TestWritesOfAManagerCarryItsTerm(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.child("c", "", s.secret("o", ""))
		first := s.runManager("m1")
		s.worker("a", nil)
		s.settle(30 * time.Second)
		term := func(gvr schema.GroupVersionResource, name string) int64 {
			return termOf(s.server.Get(gvr, "ns", name), simRing)
		}
		wants(s, "term on the root", term(secrets, "o"), 0)
		wants(s, "term on the child", term(configMaps, "c"), 0)
		first.stop()
		<-first.ended
		s.runManager("m2")
		s.settle(10 * time.Second)
		s.secret("p", "")
		s.settle(time.Second)
		wants(s, "term of the next", term(secrets, "p"), 1)
		wants(s, "term on what it has not written", term(secrets, "o"), 0)
		s.edit(secrets, "ns", "o", set("12", "metadata", "annotations", TermAnnotation(simRing)))
		s.label(secrets, "o", OwnerLabel(simRing), "")
		s.settle(5 * time.Second)
		wants(s, "owner of an object with a term from the future", s.ownership(secrets, "o"), "a@2")
		wants(s, "its term then", term(secrets, "o"), 1)
	})
}

func TestElectionTimingInFractionsOfASecond(t *testing.T) {
	_, err := ManagerOptions{Namespace: "n", Identity: "i", ElectionTiming: ElectionTiming{
		LeaseDuration: 1900 * time.Millisecond, RenewDeadline: 1500 * time.Millisecond, RetryPeriod: time.Second,
	}}.complete()
	if err == nil || !strings.Contains(err.Error(), "ElectionTiming.LeaseDuration is 1.9s") {
		t.Errorf("got error %v, want one about LeaseDuration", err)
	}
}
