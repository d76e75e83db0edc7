//go:build unix

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/shard-io/shard-controller/examples/internal/journal"
)

const (
	// frame is the time between two looks at the ring.
	frame = 100 * time.Millisecond
	// quiet is how long nothing may have moved before a step is over.
	quiet = 1500 * time.Millisecond
	// stepLimit is the longest time for a step.
	stepLimit = 3 * time.Minute
)

// killed is the worker that is killed.
const killed = "worker-1"

// tour leads through the life of a ring, and judges each step.
type tour struct {
	options
	screen   *screen
	crew     *crew
	observer *observer
	// writeCost is what one of many writes takes on this API server.
	writeCost time.Duration
	stopped   set // shards that were stopped or killed on purpose
	scaler    *localScaler
	renewal   *renewal
	outcomes  []outcome
}

// step is one thing that happens to the ring.
type step struct {
	name string
	// act makes it happen.
	act func(ctx context.Context) error
	// meanwhile, if there is one, is called again and again until the step is over.
	meanwhile func(ctx context.Context) error
	// state, if there is one, says what a step that takes too long waits for.
	state func() string
	// over says what else must be the case before the step is over.
	over func(s snapshot) bool
	// judge checks what came of it.
	judge func(o *outcome, before, after snapshot)
}

// run makes all steps. An error means that one did not come to its end; what did
// not hold in those that did is in the outcomes.
func (t *tour) run(ctx context.Context) error {
	defer t.screen.leave()
	defer func() { _, _ = t.renewal.stop() }()
	for _, s := range []step{t.begin(), t.join("worker-4"), t.leave("worker-2"), t.die(killed), t.rise(), t.fall()} {
		if err := t.make(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := t.linger(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) begin() step {
	workers := []string{"worker-1", "worker-2", "worker-3"}
	return step{
		name: "a manager and three workers start",
		act: func(ctx context.Context) error {
			if err := t.crew.startManager(ctx); err != nil {
				return err
			}
			for _, id := range workers {
				if err := t.crew.startWorker(ctx, id); err != nil {
					return err
				}
			}
			return nil
		},
		over: func(s snapshot) bool { return everyoneHas(s, workers) },
		judge: func(o *outcome, _, _ snapshot) {
			if len(o.moves) != o.total {
				o.fail("%d of %d objects were assigned", len(o.moves), o.total)
			}
		},
	}
}

func (t *tour) join(id string) step {
	return step{
		name: id + " joins",
		act:  func(ctx context.Context) error { return t.crew.startWorker(ctx, id) },
		over: func(s snapshot) bool { return everyoneHas(s, []string{id}) },
		judge: func(o *outcome, _, _ snapshot) {
			o.joined(id, len(t.crew.live()))
		},
	}
}

func (t *tour) leave(id string) step {
	return step{
		name: id + " is stopped",
		act: func(context.Context) error {
			t.stopped[id] = true
			return t.crew.worker(id).Signal(syscall.SIGTERM)
		},
		over: func(snapshot) bool { return !t.crew.worker(id).Running() },
		judge: func(o *outcome, before, _ snapshot) {
			had, _ := before.ownedBy(id)
			o.left(id, had)
			if status := t.crew.worker(id).Status(); status != 0 {
				o.fail("%s ended with status %d instead of 0", id, status)
			}
		},
	}
}

func (t *tour) die(id string) step {
	return step{
		name: id + " is killed with -9",
		act: func(context.Context) error {
			t.stopped[id] = true
			t.crew.worker(id).Kill()
			return nil
		},
		over: func(snapshot) bool { return true },
		judge: func(o *outcome, before, _ snapshot) {
			had, _ := before.ownedBy(id)
			o.left(id, had)
			o.within(takeoverLimit(t.lease), time.Duration(2*had)*t.writeCost) // each Secret, and its report
		},
	}
}

// renewals is how many certificates are replaced per second while the load is high. A worker audits about 30 per second.
const renewals = 75

// enoughAfter is for how long the number of workers must have stayed, if it is not the largest. On a slow machine fewer certificates are renewed.
const enoughAfter = 20 * time.Second

func (t *tour) rise() step {
	return step{
		name: fmt.Sprintf("%d certificates are renewed per second, and the ring grows", renewals),
		act: func(ctx context.Context) error {
			t.scaler.started = len(t.crew.journalFiles())
			if err := t.scaler.deploy(ctx); err != nil {
				return err
			}
			return t.renewal.start(ctx, renewals)
		},
		meanwhile: t.scaler.sync, state: t.scaler.state,
		over: func(s snapshot) bool {
			enough := int(t.scaler.replicas) == maxShards || int(t.scaler.replicas) > minShards && time.Since(t.scaler.changed) > enoughAfter
			return enough && t.scaler.running() == int(t.scaler.replicas) && everyoneHas(s, slices.Sorted(maps.Keys(t.crew.live())))
		},
		judge: func(o *outcome, before, after snapshot) {
			o.grew(len(before.owners()), len(after.owners()))
			if t.renewal.count.Load() == 0 {
				o.fail("no certificate was renewed")
			}
		},
	}
}

func (t *tour) fall() step {
	var renewed int64
	return step{
		name: "nothing is renewed any more, and the ring shrinks",
		act: func(context.Context) (err error) {
			renewed, err = t.renewal.stop()
			return err
		},
		meanwhile: t.scaler.sync, state: t.scaler.state,
		over: func(snapshot) bool {
			return int(t.scaler.replicas) == minShards && len(t.crew.live()) == minShards
		},
		judge: func(o *outcome, before, after snapshot) {
			o.shrank(len(before.owners()), len(after.owners()))
			for id := range t.stopped {
				if p := t.crew.worker(id); id != killed && p.Status() != 0 {
					o.fail("%s ended with status %d instead of 0", id, p.Status())
				}
			}
			outdated, err := outdatedReports(context.Background(), t.scaler.kube, t.namespace)
			switch {
			case err != nil:
				o.fail("reading the reports: %v", err)
			case outdated > 0:
				o.fail("%d of %d reports are not about the certificate that there is, after %d renewals", outdated, o.total, renewed)
			default:
				t.screen.say("       %d certificates were renewed, and every report is about the one that there is now", renewed)
			}
		},
	}
}

func everyoneHas(s snapshot, ids []string) bool {
	for _, id := range ids {
		if n, _ := s.ownedBy(id); n == 0 {
			return false
		}
	}
	return true
}

// make makes a step: acts, watches until all is calm, judges, prints.
func (t *tour) make(ctx context.Context, s step) error {
	before := t.observer.snapshot()
	start := time.Now()
	if err := s.act(ctx); err != nil {
		return err
	}
	after, err := t.settle(ctx, s, start)
	t.screen.record(table(after.rows()))
	if err != nil {
		return err
	}
	o := outcome{name: s.name, moves: movesBetween(before, after), total: t.secrets, unowned: after.unowned(t.crew.live())}
	o.took = max(0, t.observer.lastChange().Sub(start))
	if err := t.readJournals(&o); err != nil {
		return err
	}
	o.always()
	s.judge(&o, before, after)
	t.outcomes = append(t.outcomes, o)
	t.screen.say("%s", o.line())
	for _, f := range o.failures {
		t.screen.say("       %s", f)
	}
	return nil
}

// settle watches the ring until the step is over and all is calm.
func (t *tour) settle(ctx context.Context, s step, start time.Time) (snapshot, error) {
	tick := time.NewTicker(frame)
	defer tick.Stop()
	for {
		now := t.observer.snapshot()
		t.screen.show(t.live(s.name, now, start))
		if now.calm(t.secrets, t.crew.live()) && s.over(now) && time.Since(t.observer.lastChange()) > quiet && time.Since(start) > quiet {
			return now, nil
		}
		if s.meanwhile != nil {
			if err := s.meanwhile(ctx); err != nil {
				return now, err
			}
		}
		if err := t.crew.check(t.stopped); err != nil {
			return now, err
		}
		if time.Since(start) > stepLimit {
			err := fmt.Errorf("not over after %s: %s", stepLimit, now.describe(t.secrets, t.crew.live()))
			if s.state != nil {
				err = fmt.Errorf("%w; %s", err, s.state())
			}
			return now, err
		}
		select {
		case <-ctx.Done():
			return now, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (t *tour) live(name string, s snapshot, start time.Time) string {
	return fmt.Sprintf("  %s ... %.1fs\n", name, time.Since(start).Seconds()) + table(s.rows())
}

// linger shows the ring for a moment, for those who look.
func (t *tour) linger(ctx context.Context) error {
	end := time.Now().Add(t.pause)
	for time.Now().Before(end) {
		t.screen.show(table(t.observer.snapshot().rows()))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(frame):
		}
	}
	return nil
}

// scaleOn goes on to do what the Deployment says, until ctx is done.
func (t *tour) scaleOn(ctx context.Context) {
	for ctx.Err() == nil {
		if err := t.scaler.sync(ctx); err != nil && ctx.Err() == nil {
			t.screen.say("       the local scaler: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(scalerRound):
		}
	}
}

// readJournals asks the workers' own journals what two of them did at once.
func (t *tour) readJournals(o *outcome) error {
	records, err := journal.ReadFiles(t.crew.journalFiles()...)
	if err != nil {
		return err
	}
	proof, err := journal.Check(records)
	if err != nil {
		return err
	}
	o.overlaps = proof.OverlappingObjects()
	for _, overlap := range proof.Overlaps[:min(3, len(proof.Overlaps))] {
		o.fail("%s", overlap)
	}
	if n := len(proof.Regressions); n > 0 {
		o.fail("%d objects went back to an earlier epoch", n)
	}
	if proof.Objects != t.secrets {
		o.fail("the journals know %d objects instead of %d", proof.Objects, t.secrets)
	}
	return nil
}
