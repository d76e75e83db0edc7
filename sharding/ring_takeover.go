package sharding

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/health"
)

// noteStray remembers that an object names an owner that is no live shard. It may be about to join, or be gone
// without a trace: the tracker is asked to look out for its Lease, and declares it dead when there is none for a lease duration.
func (c *ringController) noteStray(shard string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.strays[shard]; known || c.running[shard] || len(c.strays) >= maxStrays {
		return
	}
	c.strays[shard] = time.Now()
	if ValidateShardID(shard) == nil {
		c.tracker.Expect(shard)
	}
	c.kick()
}

// maxStrays bounds how many unknown owners are dealt with at a time.
const maxStrays = 1000

// startTakeovers starts one for every shard that is lost, if there is somebody to give its objects to. Else its Lease is left alone, so
// that a process of the shard itself can be the one that comes back.
func (c *ringController) startTakeovers(ctx context.Context, facts []shardFact, members membership, lease time.Duration) {
	if !c.placer.load().canPlace() {
		return // the first shard that can receive objects changes the facts
	}
	for _, fact := range facts {
		if members.standings[fact.id] == standingLost {
			c.startTakeover(ctx, fact.id, fact.since)
		}
	}
	for _, shard := range c.forsaken(lease) {
		c.startTakeover(ctx, shard, time.Now())
	}
}

// forsaken returns the strays that a Lease can say nothing about: their names can't be one, or there is a Lease of that name that
// is something else's. No worker can be active under such a name, and they have been known for a lease duration.
func (c *ringController) forsaken(lease time.Duration) []string {
	snapshot := c.tracker.Snapshot()
	if snapshot.Frozen {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for shard, since := range c.strays {
		known, tracked := snapshot.Shards[shard]
		beyond := ValidateShardID(shard) != nil || tracked && known.Foreign
		if wait := lease - time.Since(since); beyond && wait > 0 {
			time.AfterFunc(wait, c.kick)
		} else if beyond {
			list = append(list, shard)
		}
		if tracked && (known.State == health.Alive || known.State == health.Silent) {
			delete(c.strays, shard) // it has joined
		}
	}
	return list
}

func (c *ringController) startTakeover(ctx context.Context, shard string, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[shard] {
		return
	}
	c.running[shard] = true
	delete(c.strays, shard) // whatever has its label is dealt with now
	c.all.Go(func() {
		c.migrator.plans.takesOver(shard)
		moved, err := c.takeOver(ctx, shard)
		if ctx.Err() == nil {
			c.migrator.plans.tookOver(shard, moved, err)
		}
		c.mu.Lock()
		delete(c.running, shard)
		if err != nil {
			delete(c.taken, shard)
		}
		c.mu.Unlock()
		c.finishTakeover(ctx, shard, since, moved, err)
	})
}

// takeOver fences a shard that is lost, and gives its objects to others. It goes on until that is done, however often it is
// interrupted, unless the shard turns out to be alive.
func (c *ringController) takeOver(ctx context.Context, shard string) (moved int, err error) {
	t := &takeover{ringScope: c.ringScope, shard: shard}
	logger := klog.FromContext(ctx)
	for {
		if t.held, err = c.fence(ctx, shard); err != nil {
			return t.moved, err
		}
		t.apart = t.apart || c.tracker.Resumed(shard)
		c.mu.Lock()
		c.taken[shard] = true
		c.mu.Unlock()
		c.kick()
		// From here on the shard has no place in the ring. Its objects go to those who have.
		err = c.placer.await(ctx, func(p *placement) bool { return p != nil && !p.isLive(shard) })
		if err != nil {
			return t.moved, err
		}
		moved, err = t.run(ctx)
		if errors.Is(err, errNoReceiver) {
			return moved, errors.Join(err, c.giveBack(ctx, shard, false))
		}
		if !errors.Is(err, errNotHeld) || ctx.Err() != nil {
			return moved, err
		}
		logger.Info("The Lease of a dead shard could not be renewed; taking it again", "shard", shard, "objectsSoFar", moved)
	}
}

// fence takes the Lease of a lost shard, and tries until it has it or the shard turns out to be alive. It returns what says
// whether the Lease is held.
func (c *ringController) fence(ctx context.Context, shard string) (held func() bool, err error) {
	always := func() bool { return true }
	if ValidateShardID(shard) != nil {
		return always, nil // no Lease can be of that name
	}
	for failures := 1; ; failures++ {
		if planted("take-without-lease") {
			return always, nil
		}
		err := c.tracker.TakeOver(ctx, shard)
		switch {
		case err == nil:
			return func() bool { return c.tracker.Held(shard) }, nil
		case errors.Is(err, health.ErrForeignLease):
			return always, nil
		case errors.Is(err, health.ErrAlive) || ctx.Err() != nil:
			return nil, err
		}
		if failures == 1 {
			klog.FromContext(ctx).Error(err, "Taking the Lease of a dead shard failed, will try again", "shard", shard)
		}
		pause(ctx, jitter(min(retryDelay(failures), time.Second)))
	}
}

func (c *ringController) finishTakeover(ctx context.Context, shard string, since time.Time, moved int, err error) {
	logger := klog.FromContext(ctx)
	switch {
	case ctx.Err() != nil:
		return // the next leader finds the Lease expired, and goes on
	case errors.Is(err, errNoReceiver):
		logger.Info("Nobody can take over the objects of a dead shard", "shard", shard, "objectsSoFar", moved)
		time.AfterFunc(retryDelay(1), c.kick)
		return
	case errors.Is(err, health.ErrAlive):
		logger.Info("A shard that seemed dead is alive", "shard", shard)
		time.AfterFunc(retryDelay(1), c.kick) // not at once: what is known may still say otherwise
		return
	case err != nil:
		logger.Error(err, "Taking over failed, will try again", "shard", shard)
		time.AfterFunc(retryDelay(3), c.kick)
		return
	}
	if moved == 0 {
		logger.Info("Forgetting a dead shard that had no objects", "shard", shard)
	} else {
		c.observeTakeover(since)
		logger.Info("Took over a dead shard", "shard", shard, "objects", moved, "duration", time.Since(since))
		c.event(corev1.EventTypeWarning, "TookOver", "TakeOver", "Shard %s is dead; its %d objects have new owners.", shard, moved)
	}
	_ = c.giveBack(ctx, shard, true) // fails only at the end of the term
	c.kick()
}

// giveBack releases the Lease of a shard, or deletes it, and tries until that is done or ctx is.
func (c *ringController) giveBack(ctx context.Context, shard string, remove bool) error {
	for ctx.Err() == nil && ValidateShardID(shard) == nil {
		err := c.tracker.GiveBack(ctx, shard, remove)
		if err == nil || errors.Is(err, health.ErrNotHeld) {
			return nil
		}
		klog.FromContext(ctx).Error(err, "Giving back the Lease of a dead shard failed, will try again", "shard", shard)
		pause(ctx, retryDelay(3))
	}
	return ctx.Err()
}

// event records something on the ShardConfig of the ring.
func (c *ringController) event(kind, reason, action, note string, args ...any) {
	config, err := c.configs.Get(c.ring)
	if err != nil || c.recorder == nil {
		return
	}
	c.recorder.Eventf(config, nil, kind, reason, action, note, args...)
}
