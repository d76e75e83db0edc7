package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Check is one thing that can be wrong with a process: nil means that it is
// not. It should return soon after its context is done. What its error says is
// shown to whoever may ask the probe.
type Check func(ctx context.Context) error

// The limits of Checks, unless set otherwise.
const (
	DefaultProbeBudget  = 80 * time.Millisecond
	DefaultCheckTimeout = 5 * time.Second
	DefaultMaxAge       = 10 * time.Second
)

// Checks answers liveness and readiness probes. The checks of a probe run side
// by side, and a probe answers within the budget whatever they do:
//
//   - a check that is done in time gives its result;
//   - one that is not goes on in the background, and the probe reports the
//     result of its latest complete run, if that ended no longer than MaxAge
//     ago, and otherwise fails it as timed out;
//   - no check runs twice at once: as long as it hangs, it is one goroutine.
//
// So a check that always takes longer than the budget is reported one probe
// late, and one that hangs fails after MaxAge at the latest. With no checks a
// probe succeeds. Create it with NewChecks; safe for concurrent use.
type Checks struct {
	// Budget is how long a probe waits for its checks. Default 80 ms.
	Budget time.Duration
	// Timeout is when the context of a check is done. Default 5 s.
	Timeout time.Duration
	// MaxAge is for how long a result may be used again. Default 10 s.
	MaxAge time.Duration

	mu        sync.Mutex
	liveness  []*runner
	readiness []*runner
}

// NewChecks makes Checks with the default limits and no check. The fields may be
// changed before the first probe.
func NewChecks() *Checks {
	return &Checks{Budget: DefaultProbeBudget, Timeout: DefaultCheckTimeout, MaxAge: DefaultMaxAge}
}

// AddLiveness adds a check whose failure means that the process should be
// restarted. The name, a path segment of letters, digits, '-', '_' and '.', must
// be new among the liveness checks.
func (c *Checks) AddLiveness(name string, check Check) error {
	return c.add(&c.liveness, "liveness", name, check)
}

// AddReadiness adds a check whose failure means that the process can not do its
// work at present. The name is as for AddLiveness.
func (c *Checks) AddReadiness(name string, check Check) error {
	return c.add(&c.readiness, "readiness", name, check)
}

func (c *Checks) add(to *[]*runner, kind, name string, check Check) error {
	if name == "" || name == "." || name == ".." || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return fmt.Errorf("health: %s check %q: the name must be of letters, digits, '-', '_' and '.'", kind, name)
	}
	if check == nil {
		return fmt.Errorf("health: %s check %q: the function is nil", kind, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range *to {
		if r.name == name {
			return fmt.Errorf("health: %s check %q exists already", kind, name)
		}
	}
	*to = append(*to, &runner{name: name, check: check})
	return nil
}

// outcome of a check in one probe.
type outcome struct {
	name string
	err  error
	age  time.Duration // of a result that was used again; 0: of this probe
}

var errTimedOut = errors.New("timed out")

// probe runs the given checks and waits for them for as long as the budget allows.
func (c *Checks) probe(runners []*runner) []outcome {
	budget := orDefault(c.Budget, DefaultProbeBudget)
	timeout := orDefault(c.Timeout, DefaultCheckTimeout)
	maxAge := orDefault(c.MaxAge, DefaultMaxAge)
	runs := make([]*checkRun, len(runners))
	for i, r := range runners {
		runs[i] = r.start(timeout)
	}
	timer := time.NewTimer(budget)
	defer timer.Stop()
	late := false
	outcomes := make([]outcome, len(runners))
	for i, r := range runners {
		if !late {
			select {
			case <-runs[i].done:
			case <-timer.C:
				late = true
			}
		}
		select {
		case <-runs[i].done:
			outcomes[i] = outcome{name: r.name, err: runs[i].err}
		default:
			outcomes[i] = r.earlier(maxAge)
		}
	}
	return outcomes
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// runner runs one check, never twice at once.
type runner struct {
	name  string
	check Check

	mu      sync.Mutex
	current *checkRun // in flight, or nil
	last    *checkRun // the latest that is complete, or nil
}

// checkRun is one run; err and ended are set before done is closed.
type checkRun struct {
	done  chan struct{}
	err   error
	ended time.Time
}

// start joins the run in flight, or begins one.
func (r *runner) start(timeout time.Duration) *checkRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil {
		return r.current
	}
	run := &checkRun{done: make(chan struct{})}
	r.current = run
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		run.err = r.call(ctx)
		run.ended = time.Now()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.current, r.last = nil, run
		close(run.done)
	}()
	return run
}

// call turns a panic of the check into its failure.
func (r *runner) call(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the check panicked: %v", p)
		}
	}()
	return r.check(ctx)
}

// earlier is the outcome for a check that is not done in time.
func (r *runner) earlier(maxAge time.Duration) outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil {
		if age := time.Since(r.last.ended); age <= maxAge {
			return outcome{name: r.name, err: r.last.err, age: max(age, 1)}
		}
	}
	return outcome{name: r.name, err: errTimedOut}
}
