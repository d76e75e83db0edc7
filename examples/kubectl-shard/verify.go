package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/shard-io/shard-controller/health"
)

// verifyReport is what "verify" says.
type verifyReport struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Objects   int64    `json:"objects"`
	Children  int64    `json:"children"`
	Moving    int64    `json:"moving"` // in hand-over when they were looked at
	Live      []string `json:"liveShards"`
	Gaps      []gap    `json:"gaps"` // the first of them
	Total     int64    `json:"gapsTotal"`
	Missing   []string `json:"missing,omitempty"` // resources of the ring that the API server does not serve
	Audit     string   `json:"managersAudit,omitempty"`
	Took      string   `json:"took"`
}

// gap is something that is wrong, and was for as long as it may be.
type gap struct {
	Kind   string `json:"kind"`
	Object string `json:"object"`
	Owner  string `json:"owner,omitempty"`
	Text   string `json:"text"`
}

// verifying is the command line of "verify".
type verifying struct {
	grace time.Duration // negative: by the ring
	shown int
	kept  int // suspects that are looked at again
	index int // roots whose children are looked at together
}

// What bounds the memory: to some 13 MiB for the roots, and 3 for what looks wrong.
const (
	defaultIndex = 1 << 18
	defaultKept  = 10_000
)

func verifyCommand() *command {
	v := &verifying{index: defaultIndex, kept: defaultKept}
	return &command{
		name: "verify", least: 0, most: 0,
		short: "Look at all objects of a ring: owners, children and epochs",
		long: "Each object must have a live owner and a valid epoch, and each child be with its root. This lists the metadata of all objects of all targets,\n" +
			"page by page, and keeps no more than a few bytes of each. A shard is\n" +
			"alive if its Lease is renewed while this looks; no clocks are compared. What looks wrong is looked at again until it is right, or has been the same for a grace time.\n" +
			"The exit code is 1 if something is wrong. It needs the right to list the objects, namespaces (if a target selects them), and leases.",
		flags: func(set *flag.FlagSet) {
			set.DurationVar(&v.grace, "grace", -1, "for how long something must be wrong; default what the ring is allowed: a lease and a bit, more for hand-overs")
			set.IntVar(&v.shown, "max-gaps", 100, "how many gaps are shown")
		},
		run: func(ctx context.Context, s *session, _ []string) error {
			if v.shown < 1 {
				return usagef("--max-gaps: %d is not positive", v.shown)
			}
			return v.run(ctx, s)
		},
	}
}

func (v *verifying) run(ctx context.Context, s *session) error {
	begun := time.Now()
	config, err := s.ringConfig(ctx, true)
	if err != nil {
		return err
	}
	timing, drain, err := timesOf(config)
	if err != nil {
		return err
	}
	p := &verifyPass{session: s, ring: config.Name, config: config, witness: newWitness(timing.LeaseDuration), index: v.index}
	if p.facts, err = s.facts(ctx, config, false); err != nil {
		return err
	}
	var missing []string
	if p.targets, missing, err = s.cluster.targets(ctx, config); err != nil {
		return err
	}
	grace := v.graces(timing, drain)
	var left []suspect
	for range 2 { // when there was more than could be kept, what is left may still be on its way
		p.suspects = newSuspects(v.kept)
		if err := p.run(ctx, timing); err != nil {
			return err
		}
		if left, err = p.confirm(ctx, grace); err != nil {
			return err
		}
		if p.suspects.beyond() == 0 {
			break
		}
	}
	report := p.report(left, missing, v.shown)
	report.Took = time.Since(begun).Round(time.Millisecond).String()
	if err := s.print(report, report.text); err != nil || report.Total == 0 && len(missing) == 0 {
		return err
	}
	return errSaid
}

// graces says for how long something of a kind must be wrong.
func (v *verifying) graces(timing health.Timing, drain time.Duration) func(kind string) time.Duration {
	grace := timing.LeaseDuration + 2*timing.RetryPeriod() + time.Second // what an object may be without a live owner
	return func(kind string) time.Duration {
		switch {
		case v.grace >= 0:
			return v.grace
		case kind == gapHandoverStuck:
			return drain + grace
		}
		return grace
	}
}

func (r verifyReport) text(out io.Writer) {
	t := newTable("KIND", "OBJECT", "OWNER", "WHAT")
	for _, g := range r.Gaps {
		t.row(g.Kind, g.Object, g.Owner, g.Text)
	}
	for _, m := range r.Missing {
		t.row("not-served", m, "", "the API server does not serve it")
	}
	t.write(out)
	if more := r.Total - int64(len(r.Gaps)); more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	if len(t.rows) > 0 {
		fmt.Fprintln(out)
	}
	verdict := "all well"
	if n := r.Total + int64(len(r.Missing)); n > 0 {
		verdict = plural(n, "gap")
	}
	fmt.Fprintf(out, "%s/%s: %s and %s on %s, %d in hand-over: %s (%s)\n", r.Namespace, r.Name, plural(r.Objects, "object"),
		children(r.Children), plural(int64(len(r.Live)), "live shard"), r.Moving, verdict, r.Took)
	if r.Audit != "" {
		fmt.Fprintf(out, "The manager's own audit: %s\n", r.Audit)
	}
}

func children(n int64) string {
	if n == 1 {
		return "1 child"
	}
	return fmt.Sprintf("%d children", n)
}
