package sharding

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/health"
)

// serve runs everything until ctx is done and the shard has left or was put down. run is the context of what keeps running while
// a stopping worker hands its objects over.
func (w *Worker) serve(ctx, run context.Context, cancel context.CancelCauseFunc) error {
	var running sync.WaitGroup
	for _, p := range w.processors {
		startInformer(run, p.controller.Informer)
		for _, informer := range p.controller.Children {
			startInformer(run, informer)
		}
	}
	// The heartbeat ends before the processors do, so that no reconcile is interrupted without its context being cancelled.
	beating, stopHeartbeat := context.WithCancel(run)
	defer stopHeartbeat()
	heartbeatEnded := make(chan error, 1)
	heartbeat := w.heartbeat.Load()
	running.Go(func() { heartbeatEnded <- heartbeat.Run(beating) })
	working, stopWork := context.WithCancel(run)
	defer stopWork()
	for _, p := range w.processors {
		running.Go(func() { p.run(working) })
	}
	running.Go(func() { w.presence.run(working) })
	running.Go(func() { w.verifier.run(working) })
	running.Go(func() { w.fenceCheck.run(working) })
	running.Go(func() { w.wellness.run(working) })

	drained := false
	var err error
	select {
	case err = <-heartbeatEnded:
	case <-ctx.Done():
		w.logger.Info("Worker is stopping", "keepObjects", w.options.KeepOnStop)
		if !w.options.KeepOnStop {
			drained = w.presence.drain(run)
		}
		if !drained {
			w.saveStates(run)
		}
		stopHeartbeat()
		err = <-heartbeatEnded
	}
	stopWork()
	running.Wait()
	w.leave(run, heartbeat, drained)
	cancel(nil)
	return err
}

// leave gives the Lease up. A shard that has nothing left is removed with it.
func (w *Worker) leave(run context.Context, heartbeat *health.Heartbeat, drained bool) {
	ctx, cancel := context.WithTimeout(run, 5*time.Second)
	defer cancel()
	release := heartbeat.Release
	if drained {
		release = heartbeat.Delete
		if err := w.presence.remove(ctx); err != nil {
			w.logger.Error(err, "Removing the ShardInstance failed; the manager will do it")
		}
	}
	if err := release(ctx); err != nil {
		w.logger.Error(err, "Giving up the Lease failed; others will notice when it expires")
	}
	w.logger.Info("Worker has stopped", "drained", drained)
}

// startInformer starts an informer unless somebody has; in that case it is theirs to stop.
func startInformer(ctx context.Context, informer cache.SharedIndexInformer) {
	if s, ok := informer.(interface{ HasStarted() bool }); ok && s.HasStarted() {
		return
	}
	go informer.RunWithContext(ctx)
}
