package main

import (
	"context"
	"errors"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/examples/internal/journal"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

var (
	witness *journal.Writer
	keys    = ring.NewPrefix("", "Secret")
)

// run opens the journal, and has every request that a sync makes written down.
func run(ctx context.Context, cfg *rest.Config, o options) (err error) {
	if witness, err = journal.Open(os.Getenv("WITNESS_JOURNAL"), os.Getenv("WITNESS_SHARD")); err != nil {
		return err
	}
	cfg.Wrap(journal.Transport)
	return unwitnessedRun(ctx, cfg, o)
}

// sync writes down when it begins and ends. It takes its time, so that two at once would meet.
func (c *controller) sync(ctx context.Context, name types.NamespacedName) (err error) {
	uid, epoch := "", int64(0)
	if secret, err := c.secrets.Secrets(name.Namespace).Get(name.Name); err == nil {
		uid, epoch = string(secret.UID), sharding.EpochOf(secret, operator)
	}
	run, err := witness.Begin(keys.Key(name.Namespace, name.Name), uid, epoch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.End(ctx.Err() != nil)) }()
	time.Sleep(20 * time.Millisecond)
	return c.unwitnessedSync(journal.NewContext(ctx, run), name)
}
