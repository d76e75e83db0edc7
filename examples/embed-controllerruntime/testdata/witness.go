package main

import (
	"context"
	"errors"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/shard-io/shard-controller/examples/internal/journal"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

var (
	witness *journal.Writer
	keys    = ring.NewPrefix("apps", "Deployment")
)

// run opens the journal, and has every request that a reconcile makes written down.
func run(ctx context.Context, cfg *rest.Config, o options) (err error) {
	if witness, err = journal.Open(os.Getenv("WITNESS_JOURNAL"), os.Getenv("WITNESS_SHARD")); err != nil {
		return err
	}
	cfg.Wrap(journal.Transport)
	return unwitnessedRun(ctx, cfg, o)
}

// Reconcile writes down when it begins and ends. It takes its time, so that two at once would meet.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (_ ctrl.Result, err error) {
	uid, epoch := "", int64(0)
	var deployment appsv1.Deployment
	if err := r.Get(ctx, request.NamespacedName, &deployment); err == nil {
		uid, epoch = string(deployment.UID), sharding.EpochOf(&deployment, operator)
	}
	run, err := witness.Begin(keys.Key(request.Namespace, request.Name), uid, epoch)
	if err != nil {
		return ctrl.Result{}, err
	}
	defer func() { err = errors.Join(err, run.End(ctx.Err() != nil)) }()
	time.Sleep(20 * time.Millisecond)
	return r.unwitnessedReconcile(journal.NewContext(ctx, run), request)
}
