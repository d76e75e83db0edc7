//go:build unix

// The quickstart shows a sharded controller at work, in about two minutes: one
// manager and three workers as processes of their own, with an identity and few
// rights, divide 300 TLS Secrets among themselves on a real API server. Then a
// fourth worker joins, one is stopped, and one is killed. Then the work rises,
// the ring grows by itself, and shrinks again. Each step is checked.
//
// By default it starts a control plane of its own on loopback. With KUBECONFIG
// set it uses that cluster, in a namespace that it creates and deletes. With
// KEEP=1 everything keeps running at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// options are the flags.
type options struct {
	namespace, ring string
	secrets         int
	lease, pause    time.Duration
	keep            bool
}

func (o *options) register(set *flag.FlagSet) {
	set.StringVar(&o.namespace, "namespace", "shard-quickstart", "namespace to create and use")
	set.StringVar(&o.ring, "ring", "auditor", "name of the ring")
	set.IntVar(&o.secrets, "secrets", 300, "how many Secrets to create, 50 to 10000")
	set.DurationVar(&o.lease, "lease", 5*time.Second, "healthCheckInterval of the ring: how long a dead worker may go unnoticed")
	set.DurationVar(&o.pause, "pause", 3*time.Second, "how long to look at the result of a step")
	set.BoolVar(&o.keep, "keep", os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0", "keep everything running at the end; default with KEEP=1")
}

func (o *options) validate() error {
	var errs []error
	if o.secrets < 50 || o.secrets > 10000 {
		errs = append(errs, fmt.Errorf("--secrets: %d is not from 50 to 10000", o.secrets))
	}
	if o.lease < time.Second || o.lease > time.Minute {
		errs = append(errs, fmt.Errorf("--lease: %s is not from 1s to 1m", o.lease))
	}
	return errors.Join(errs...)
}

func main() {
	var o options
	set := flag.NewFlagSet("quickstart", flag.ExitOnError)
	o.register(set)
	_ = set.Parse(os.Args[1:]) // exits by itself
	if err := o.validate(); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(2)
	}
	klog.SetOutput(io.Discard) // what libraries have to say would tear the table
	klog.LogToStderr(false)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once, and with it its children
	screen := newScreen(os.Stdout)
	good, err := run(ctx, o, screen)
	if err != nil {
		screen.say("quickstart: %v", err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

// run takes the tour and cleans up. good says whether every check held.
func run(ctx context.Context, o options, screen *screen) (good bool, err error) {
	dir, err := os.MkdirTemp("", "shard-quickstart-")
	if err != nil {
		return false, err
	}
	defer func() {
		if ctx.Err() == nil && (err != nil || !good) {
			screen.say("Logs and journals: %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	}()
	screen.say("Building the manager and the worker, and starting the control plane ...")
	building, stopBuilding := context.WithCancel(ctx)
	build := startBuild(building, dir)
	defer func() {
		stopBuilding()
		_, _ = build() // has ended before its directory goes
	}()
	cluster, err := openCluster(ctx, o.namespace, dir, screen)
	if err != nil {
		return false, err
	}
	defer cluster.stop()
	stage, err := newStage(cluster, o)
	if err != nil {
		return false, err
	}
	crew := &crew{dir: dir, namespace: o.namespace, ring: o.ring, fenced: cluster.fenced(), identity: cluster.identity}
	defer crew.kill()
	defer func() { err = errors.Join(err, cleanUp(ctx, stage, crew, screen)) }()
	begin := time.Now()
	screen.say("API server %s: installing the CRDs, creating %d TLS Secrets in namespace %s ...", stage.admin.Host, o.secrets, o.namespace)
	if err := stage.set(ctx); err != nil {
		return false, err
	}
	if crew.programs, err = build(); err != nil {
		return false, err
	}
	screen.say("Ready after %.1fs. The tour:", time.Since(begin).Seconds())
	return perform(ctx, stage, crew, screen)
}

// startBuild begins to build the programs; the result waits for its end.
func startBuild(ctx context.Context, dir string) func() (map[string]string, error) {
	var programs map[string]string
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		programs, err = buildPrograms(ctx, dir)
	}()
	return func() (map[string]string, error) {
		<-done
		return programs, err
	}
}

// perform takes the tour.
func perform(ctx context.Context, stage *stage, crew *crew, screen *screen) (good bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	observer, err := observe(ctx, stage.admin, stage.ring, stage.namespace)
	if err != nil {
		return false, err
	}
	begin := time.Now()
	t := &tour{options: stage.options, screen: screen, crew: crew, observer: observer, writeCost: stage.writeCost, stopped: set{}}
	t.scaler = &localScaler{
		kube: stage.kube, shards: stage.shards, crew: crew, namespace: stage.namespace, ring: stage.ring, stopped: t.stopped, say: screen.say,
	}
	t.renewal = &renewal{kube: stage.kube, namespace: stage.namespace, secrets: stage.secrets}
	if err := t.run(ctx); err != nil {
		return false, err
	}
	text, good := summary(t.outcomes, time.Since(begin))
	screen.print("\n" + text)
	if stage.keep {
		some := slices.Min(slices.Collect(maps.Keys(crew.live())))
		screen.print("\n" + hints(stage.kubeconfig, stage.namespace, stage.ring, some, secretName(6)))
		t.scaleOn(ctx)
	}
	return good, nil
}

// cleanUp ends the tour in a cluster that stays. It goes on after Ctrl-C, but
// not for long.
func cleanUp(ctx context.Context, stage *stage, crew *crew, screen *screen) error {
	if stage.embedded || !stage.made {
		return nil // all goes with the control plane, or nothing is there
	}
	screen.say("Cleaning up: the ring, the processes, the roles, namespace %s; the CRDs stay ...", stage.namespace)
	return stage.strike(context.WithoutCancel(ctx), crew.retire)
}
