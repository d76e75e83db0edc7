//go:build unix

// The command bench measures the whole system: a manager and workers as
// processes of their own, on a real API server on this machine. It prints
// Markdown, and with -json writes the same figures to a file.
//
//	go run ./internal/bench
//	go run ./internal/bench -only assign,join -objects 2000
//
// Where it says "bare loop", a client does nothing but as many label patches of
// the same form, with the same precondition, at the same concurrency, on the
// same server: what the API server itself costs. Everything is measured from
// outside, by watches of the labels. On a machine that is busy with something
// else the figures mean little; the ratios to the bare loop mean more.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings say how much is measured.
type settings struct {
	only     string
	jsonFile string
	logDir   string

	objects     int // of most measurements
	many        int // of the second memory measurement
	loops       int // repetitions of what is compared with the bare loop
	moving      int // objects with small states that migrate
	large       int // objects with large states that migrate; twice as many for comparison
	steps       int // how often load rises
	runs        int // repetitions of migrations
	rate        int // creates per second
	rateFor     time.Duration
	concurrency int // of the bare loop; that of the manager is its default
	lease       time.Duration
}

// measurement is one part of the benchmark, on a control plane of its own.
type measurement struct {
	name string
	run  func(context.Context, *cluster, settings) (table, error)
}

var measurements = []measurement{
	{"assign", measureAssign},
	{"latency", measureLatency},
	{"membership", measureMembership},
	{"memory", measureMemory},
	{"migrate", measureMigrate},
	{"migrate-large", measureLargeStates},
	{"scale", measureScale},
	{"speedup", measureSpeedup},
	{"operations", measureOperations},
}

func (s *settings) register(f *flag.FlagSet) {
	f.StringVar(&s.only, "only", "", "comma-separated: assign, latency, membership, memory, migrate, migrate-large, scale, speedup, operations; empty: all")
	f.StringVar(&s.jsonFile, "json", "", "file to write the figures to")
	f.StringVar(&s.logDir, "logs", "", "directory to keep the processes' logs in; empty: a temporary one")
	f.IntVar(&s.objects, "objects", 5000, "how many objects")
	f.IntVar(&s.many, "many", 50000, "how many objects for the second measurement of memory")
	f.IntVar(&s.loops, "loops", 3, "how many times to compare with the bare loop")
	f.IntVar(&s.moving, "moving", 1000, "how many objects with small states migrate")
	f.IntVar(&s.large, "large", 100, "how many objects with large states migrate, and twice as many for comparison")
	f.IntVar(&s.steps, "steps", 20, "how many times load rises for the measurement of scaling")
	f.IntVar(&s.runs, "runs", 5, "how many times they do")
	f.IntVar(&s.rate, "rate", 100, "creates per second for the measurement of latency")
	f.DurationVar(&s.rateFor, "rate-for", 20*time.Second, "how long to create at that rate")
	f.IntVar(&s.concurrency, "concurrency", 16, "parallel patches of the bare loop and of the manager")
	f.DurationVar(&s.lease, "lease", 15*time.Second, "healthCheckInterval of the ring")
}

func main() {
	var s settings
	s.register(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	chosen, err := choose(s.only)
	if err != nil {
		return err
	}
	programs, remove, err := build(ctx)
	if err != nil {
		return err
	}
	defer remove()
	result := report{Machine: describeMachine(), Begun: time.Now().UTC().Truncate(time.Second)}
	fmt.Print(result.Machine.markdown())
	for _, m := range chosen {
		fmt.Fprintf(os.Stderr, "%s: takes about %s when nothing else runs, and is given up after %s\n", m.name, s.estimate(m.name), limit)
		t, err := measure(ctx, m, programs, s)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		result.Tables = append(result.Tables, t)
		fmt.Print(t.markdown())
	}
	if s.jsonFile == "" {
		return nil
	}
	data, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.jsonFile, append(data, '\n'), 0o644)
}

func choose(only string) ([]measurement, error) {
	if only == "" {
		return measurements, nil
	}
	var chosen []measurement
	for _, name := range strings.Split(only, ",") {
		i := slices.IndexFunc(measurements, func(m measurement) bool { return m.name == name })
		if i < 0 {
			return nil, fmt.Errorf("-only: there is no measurement %q", name)
		}
		chosen = append(chosen, measurements[i])
	}
	return chosen, nil
}

// limit bounds a single measurement.
const limit = 8 * time.Minute

func measure(ctx context.Context, m measurement, programs map[string]string, s settings) (table, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("took too long"))
	defer cancel()
	begun := time.Now()
	c, err := startCluster(ctx, programs, s)
	if err != nil {
		return table{}, err
	}
	defer c.stop()
	t, err := m.run(ctx, c, s)
	if err != nil {
		return table{}, errors.Join(err, context.Cause(ctx))
	}
	t.Name, t.Took = m.name, time.Since(begun).Round(time.Second).String()
	return t, nil
}
