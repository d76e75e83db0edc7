package sharding

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
)

// patient is an application whose health a test decides on.
type patient struct {
	err     atomic.Pointer[error]
	hangs   atomic.Bool
	panics  atomic.Bool
	calls   atomic.Int32
	atOnce  atomic.Int32
	doubled atomic.Bool
}

func (p *patient) say(err error) { p.err.Store(&err) }

func (p *patient) Healthy(ctx context.Context) error {
	p.calls.Add(1)
	if p.atOnce.Add(1) > 1 {
		p.doubled.Store(true)
	}
	defer p.atOnce.Add(-1)
	if p.panics.Load() {
		panic("no pulse")
	}
	if p.hangs.Load() {
		<-ctx.Done()
		time.Sleep(10 * time.Second) // and does not care
	}
	if err := p.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (p *patient) option(o *WorkerOptions, _ *Controller) { o.Healthy = p.Healthy }

func healthCondition(s *sim, id string) string {
	c := meta.FindStatusCondition(s.instance(id).Status.Conditions, conditionHealthy)
	if c == nil {
		return ""
	}
	return string(c.Status) + " " + c.Message
}

func TestShardThatIsNotHealthyGetsNothingNew(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		p := &patient{}
		a := s.worker("a", nil, p.option)
		s.worker("b", nil)
		s.settle(time.Minute)
		s.secrets(20)
		s.settle(10 * time.Second)
		before := s.counts(secrets)
		if before["a"] == 0 || before["b"] == 0 {
			t.Fatalf("both should have some: %v", before)
		}
		wants(s, "condition", healthCondition(s, "a"), "True The application says that it is well.")
		wants(s, "condition of who does not say", healthCondition(s, "b"), "")

		p.say(errors.New("the database is away"))
		s.settle(2*statusInterval + time.Second)
		if got := healthCondition(s, "a"); !strings.HasPrefix(got, "False ") || !strings.HasSuffix(got, "the database is away") {
			t.Errorf("condition %q", got)
		}
		if err := a.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "the database is away") {
			t.Errorf("readiness: %v", err)
		}
		wants(s, "still active", a.Active(), true)
		for i := range 20 {
			s.secret("late"+strings.Repeat("x", i), "")
		}
		s.settle(time.Minute)
		after := s.counts(secrets)
		wants(s, "objects of the one that is not healthy", after["a"], before["a"])
		wants(s, "objects of the other", after["b"], before["b"]+20)

		p.say(nil)
		s.settle(statusInterval + time.Second)
		if got := healthCondition(s, "a"); !strings.HasPrefix(got, "False ") {
			t.Errorf("it is believed after one answer: %q", got)
		}
		s.settle(time.Minute)
		wants(s, "readiness", a.Check(t.Context()), nil)
		if got := s.counts(secrets)["a"]; got <= before["a"] {
			t.Errorf("%d objects when it is well again, want more than %d", got, before["a"])
		}
		calls := p.calls.Load()
		s.settle(time.Minute)
		wants(s, "calls in a minute", p.calls.Load()-calls, int32(time.Minute/statusInterval))
	})
}

func TestShardThatStartsUnhealthyGetsNothing(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		p := &patient{}
		p.panics.Store(true)
		s.worker("a", nil, p.option)
		s.secrets(5)
		s.settle(time.Minute)
		wants(s, "objects without an owner", s.counts(secrets)["-"], 5)
		if got := healthCondition(s, "a"); !strings.HasSuffix(got, "panicked: no pulse") {
			t.Errorf("condition %q", got)
		}
		p.panics.Store(false)
		s.settle(time.Minute)
		wants(s, "objects when it is well", s.counts(secrets)["a"], 5)
	})
}

func TestHealthThatHangs(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		p := &patient{}
		a := s.worker("a", nil, p.option)
		s.settle(10 * time.Second)
		p.hangs.Store(true)
		s.settle(healthTimeout + statusInterval)
		if err := a.Check(t.Context()); !errors.Is(err, errHealthTimeout) {
			t.Errorf("readiness: %v", err)
		}
		if got := healthCondition(s, "a"); !strings.Contains(got, "did not answer within 5s") {
			t.Errorf("condition %q", got)
		}
		s.settle(time.Minute)
		wants(s, "two calls at once", p.doubled.Load(), false)
		p.hangs.Store(false)
		s.settle(time.Minute)
		wants(s, "readiness when it answers again", a.Check(t.Context()), nil)
	})
}

// TestConditionOfAnEarlierProcess: the next version of the operator may not have an opinion any more.
func TestConditionOfAnEarlierProcess(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		p := &patient{}
		p.say(errors.New("ill"))
		w := s.worker("a", nil, p.option, func(o *WorkerOptions, _ *Controller) { o.KeepOnStop = true })
		s.settle(10 * time.Second)
		w.stop()
		s.settle(10 * time.Second)
		if got := healthCondition(s, "a"); !strings.HasPrefix(got, "False ") {
			t.Fatalf("condition %q", got)
		}
		s.process("a2", "a", nil)
		s.settle(10 * time.Second)
		wants(s, "condition", healthCondition(s, "a"), "")
	})
}

// TestHealthIsWrittenWhenItChanges: a message that is different each time is no reason to write each time.
func TestHealthIsWrittenWhenItChanges(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		p := &patient{}
		s.worker("a", nil, p.option)
		s.settle(30 * time.Second)
		before := s.writes("a")["apply shardinstances status"]
		s.settle(10 * time.Minute)
		wants(s, "writes while nothing changes", s.writes("a")["apply shardinstances status"]-before, int64(0))
		for i := range 60 {
			p.say(errors.New(strings.Repeat("!", i)))
			s.settle(10 * time.Second)
		}
		if n := s.writes("a")["apply shardinstances status"] - before; n < 5 || n > 11 {
			t.Errorf("%d writes in ten minutes of other messages, want about one a minute", n)
		}
	})
}
