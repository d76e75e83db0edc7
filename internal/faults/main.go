//go:build unix

// The command faults does to real processes on a real API server what happens
// to processes, and counts the writes of former owners that the API server
// accepts. It prints Markdown, and with -json writes the same to a file.
//
//	go run ./internal/faults
//	go run ./internal/faults -quick
//	go run ./internal/faults -only pauses,kills -logs /tmp/faults
//
// There are three arms: without any fence (the control: the fault has to show,
// or the trials prove nothing), with the API server's fence alone, and with that of
// the process before it. docs/faults.md says how it is judged.
//
// The exit status is 0 if all is as promised, 1 if something is not, and 3 if
// the run is invalid: the control arm did not show the fault, or something that
// was to be tried did not come to pass. 2 is for wrong flags and for faults of
// the trials themselves.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/shard-io/shard-controller/apis/crd"
	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/controlplane"
)

// settings say how much is tried.
type settings struct {
	only     string
	arms     string
	jsonFile string
	logDir   string

	races, pauses, kills, restarts, handovers, rounds, compactions int
	outage                                                         time.Duration

	lease   time.Duration
	work    time.Duration // between look and write
	slack   float64       // what durations may exceed their limits by, as a factor
	anchors int           // shards that live through an arm
	width   int           // shards that something is done to at once
}

// full is what make faults does, quick what make test does: some things are left out there.
var (
	full = settings{
		races: 300, pauses: 60, kills: 60, restarts: 20, handovers: 200, rounds: 3, compactions: 3, outage: 2 * time.Minute,
		lease: 5 * time.Second, work: 50 * time.Millisecond, slack: 1, anchors: 6, width: 5,
	}
	quick = settings{
		races: 8, pauses: 2, kills: 2, restarts: 1, handovers: 10, rounds: 1,
		lease: 4 * time.Second, work: 50 * time.Millisecond, slack: 4, anchors: 3, width: 2,
	}
)

func main() {
	s := full
	if slices.Contains(os.Args[1:], "-quick") || slices.Contains(os.Args[1:], "--quick") {
		s = quick // the other flags change that
	}
	flag.Bool("quick", false, "few of everything")
	flag.StringVar(&s.only, "only", "", "comma-separated: "+strings.Join(phaseNames(), ", ")+"; empty: all")
	flag.StringVar(&s.arms, "arms", "", "comma-separated: "+strings.Join(armNames(), ", ")+"; empty: all")
	flag.StringVar(&s.jsonFile, "json", "", "file to write the figures to")
	flag.StringVar(&s.logDir, "logs", "", "directory to keep the logs in; empty: a temporary one")
	flag.IntVar(&s.races, "races", s.races, "objects that are relabelled under a hammering owner, per arm")
	flag.IntVar(&s.pauses, "pauses", s.pauses, "shards that are stopped and continued, per arm")
	flag.IntVar(&s.kills, "kills", s.kills, "shards that are killed")
	flag.IntVar(&s.restarts, "restarts", s.restarts, "how many times the API server is killed")
	flag.IntVar(&s.handovers, "handovers", s.handovers, "idle objects that are handed over")
	flag.IntVar(&s.rounds, "rounds", s.rounds, "how many times each of the single faults is caused")
	flag.IntVar(&s.compactions, "compactions", s.compactions, "how many times a shard misses a compaction")
	flag.DurationVar(&s.outage, "outage", s.outage, "how long the API server is away")
	flag.DurationVar(&s.lease, "lease", s.lease, "healthCheckInterval of the rings")
	flag.DurationVar(&s.work, "work", s.work, "time between the look and the write of a reconcile")
	flag.Float64Var(&s.slack, "slack", s.slack, "factor by which durations may exceed their limits: for a machine that has other things to do")
	flag.IntVar(&s.anchors, "anchors", s.anchors, "shards that nothing is done to")
	flag.IntVar(&s.width, "width", s.width, "shards that something is done to at the same time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := run(ctx, s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		stop()
		os.Exit(2)
	}
	fmt.Print(r.markdown())
	os.Exit(map[string]int{good: 0, violated: 1, invalid: 3}[r.verdict()])
}

func (s settings) validate() error {
	for _, list := range []struct {
		flag, value string
		known       []string
	}{{"-only", s.only, phaseNames()}, {"-arms", s.arms, armNames()}} {
		for _, name := range strings.Split(list.value, ",") {
			if list.value != "" && !slices.Contains(list.known, name) {
				return fmt.Errorf("%s: there is nothing of the name %q; there are %s", list.flag, name, strings.Join(list.known, ", "))
			}
		}
	}
	switch {
	case s.anchors < 3:
		return fmt.Errorf("-anchors: %d is less than 3", s.anchors)
	case s.width < 1 || s.width >= s.anchors:
		return fmt.Errorf("-width: %d is not from 1 to one less than -anchors, and if most shards are silent none is taken for dead", s.width)
	case s.slack < 1:
		return fmt.Errorf("-slack: %v is less than 1", s.slack)
	case s.lease < 2*time.Second:
		return fmt.Errorf("-lease: %s is less than 2s", s.lease)
	}
	return nil
}

// chosen says whether a list of names has this one; an empty list has all.
func chosen(list, name string) bool {
	return list == "" || slices.Contains(strings.Split(list, ","), name)
}

// world is what all arms share.
type world struct {
	settings settings
	plane    *controlplane.ControlPlane
	programs map[string]string
	dir      string
	audit    string // the path of the audit log
}

// run tries all that the settings want, and judges it.
func run(ctx context.Context, s settings) (r *report, err error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	w := &world{settings: s, dir: s.logDir}
	if w.dir == "" {
		dir, err := os.MkdirTemp("", "shard-faults-")
		if err != nil {
			return nil, err
		}
		defer func() {
			if r != nil && r.verdict() == good {
				_ = os.RemoveAll(dir)
				return
			}
			fmt.Fprintln(os.Stderr, "faults: what the processes have said is kept in", dir)
		}()
		w.dir = dir
	}
	begun := time.Now()
	r = &report{Machine: describeMachine(), Begun: begun.UTC().Truncate(time.Second), Lease: s.lease.String()}
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	defer w.plane.Stop()
	if err := w.playAll(ctx, r); err != nil {
		return nil, err
	}
	r.Took = time.Since(begun).Round(time.Second).String()
	if s.jsonFile == "" {
		return r, nil
	}
	data, err := json.MarshalIndent(struct {
		*report
		Verdict string `json:"verdict"`
	}{r, r.verdict()}, "", "  ")
	if err != nil {
		return nil, err
	}
	return r, os.WriteFile(s.jsonFile, append(data, '\n'), 0o644)
}

func (w *world) start(ctx context.Context) (err error) {
	bin := filepath.Join(w.dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	const module = "github.com/shard-io/shard-controller/"
	if w.programs, err = child.Build(ctx, bin, false, module+"examples/manager", module+"internal/faults/operator"); err != nil {
		return err
	}
	w.audit = filepath.Join(w.dir, "audit.log")
	w.plane, err = controlplane.Start(ctx, controlplane.Options{
		AuditLog: w.audit, AuditPolicy: auditPolicy, LogDir: w.dir,
		APIServerFlags: []string{"--audit-log-maxsize=1000000"}, // MB: or it begins a new file, and half of what was seen is not found
	})
	if err != nil {
		return err
	}
	if err := crd.Install(ctx, w.plane.Config()); err != nil {
		w.plane.Stop()
		return err
	}
	return nil
}

// playAll plays the arms. The two short ones play side by side: nothing is timed
// in them, and nothing is done to the API server.
func (w *world) playAll(ctx context.Context, r *report) error {
	for _, group := range [][]arm{{control, both}, {serverOnly}} {
		found := make([]report, len(group))
		err := parallel(ctx, len(group), len(group), func(ctx context.Context, i int) (err error) {
			if found[i], err = w.play(ctx, group[i]); err != nil {
				return fmt.Errorf("%s: %w", group[i].name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, f := range found {
			r.Trials = append(r.Trials, f.Trials...)
			r.Durations = append(r.Durations, f.Durations...)
			r.Checks = append(r.Checks, f.Checks...)
		}
	}
	return nil
}

// play plays one arm.
func (w *world) play(ctx context.Context, a arm) (report, error) {
	var mine []phase
	for _, p := range phases {
		if slices.Contains(p.arms, a) && p.count(w.settings) > 0 && chosen(w.settings.only, p.name) && chosen(w.settings.arms, a.name) {
			mine = append(mine, p)
		}
	}
	if len(mine) == 0 {
		return report{}, nil
	}
	s, err := newStage(ctx, w, a)
	if err != nil {
		return report{}, err
	}
	defer s.close()
	out := &outcome{}
	for _, p := range mine {
		begun := time.Now()
		err := s.playPhase(ctx, p, out)
		if ctx.Err() != nil {
			return report{}, fmt.Errorf("%s: %w", p.name, context.Cause(ctx))
		}
		out.ended(p, a, err)
		fmt.Fprintf(os.Stderr, "faults: %s: %s took %s\n", a.name, p.name, time.Since(begun).Round(100*time.Millisecond))
	}
	return s.conclude(ctx, out)
}

// playPhase plays one phase, and makes sure that the fence is as it is to be, before and after.
func (s *stage) playPhase(ctx context.Context, p phase, out *outcome) error {
	for i, f := range []func() error{nil, func() error { return p.play(ctx, s, out) }, nil} {
		if f != nil {
			if err := f(); err != nil {
				return err
			}
			continue
		}
		if is, err := s.fenced(ctx); err != nil || is != s.arm.server {
			return errors.Join(err, fmt.Errorf("look %d: the API server's fence is there: %v, want %v", i, is, s.arm.server))
		}
	}
	return nil
}
