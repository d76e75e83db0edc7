package sharding

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/health"
)

// auditor proves, again and again, that every object of every target has a live owner that holds it. It looks at all of them, by
// lists and Leases of its own, at a bounded rate and with a bounded memory; it takes nothing from the finders, the mover or the tracker, as
// these are what it checks. What it has seen wrong twice, with some time in between, is a gap: it is told, and mended if possible.
//
// run is its only goroutine. Others may call configure, kick and latest.
type auditor struct {
	c      *ringController
	leases coordinationv1client.LeasesGetter
	rate   int           // objects per second
	rest   time.Duration // from the end of a pass to the beginning of the next

	settings atomic.Pointer[auditSettings]
	result   atomic.Pointer[auditResult]
	kicked   chan struct{}

	// indexed is how many roots the index may have.
	indexed int
	// Of run alone.
	witness    leaseWitness
	suspicions suspicions
	parts      uint64
	told       gapCounts // by the last Event
}

// auditSettings are what a ShardConfig says.
type auditSettings struct {
	timing     health.Timing
	drain      time.Duration
	generation int64
}

func (s auditSettings) dwell() auditDwell {
	grace := s.timing.LeaseDuration + 2*s.timing.RetryPeriod() + time.Second
	return auditDwell{grace: grace, handover: s.drain + grace, report: cacheLag}
}

// auditResult is what a complete pass has found. It is immutable.
type auditResult struct {
	generation        int64
	objects, children int64
	gaps              gapCounts
	// atLeast says that there are more gaps than could be remembered.
	atLeast bool
	// examples are the first few objects with gaps.
	examples []string
	// unreported is how many live shards do not say what they hold.
	unreported int
	// took is how long the pass lasted, without the time for which it held back.
	took time.Duration
	at   time.Time
}

// same says whether there is nothing new to tell.
func (r *auditResult) same(o *auditResult) bool {
	return o != nil && r.generation == o.generation && r.objects == o.objects && r.children == o.children && maps.Equal(r.gaps, o.gaps) &&
		r.unreported == o.unreported && r.atLeast == o.atLeast
}

const (
	defaultAuditRate     = 2000
	defaultAuditInterval = 2 * time.Minute
	// auditSoonest is the least time between two passes.
	auditSoonest = 5 * time.Second
)

// configure tells what the ShardConfig says now.
func (a *auditor) configure(s auditSettings) {
	before := a.settings.Swap(&s)
	if before == nil || before.generation != s.generation {
		a.kick()
	}
}

// kick asks for a pass. It never blocks.
func (a *auditor) kick() {
	select {
	case a.kicked <- struct{}{}:
	default:
	}
}

// latest returns what the last complete pass has found; nil before there was one.
func (a *auditor) latest() *auditResult { return a.result.Load() }

// run blocks until ctx is done.
func (a *auditor) run(ctx context.Context) {
	a.parts = 1
	failures := 0
	for ctx.Err() == nil {
		settings := a.settings.Load()
		if settings == nil || a.c.placer.load() == nil || a.c.targets.Load() == nil {
			a.await(ctx, a.rest) // the ring is not being served yet, or not any more
			continue
		}
		pass := newAuditPass(a, *settings)
		err := pass.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errTooManyRoots) {
			a.suspicions.abort()
			continue // with smaller parts
		}
		if err != nil {
			failures++
			a.suspicions.abort()
			a.c.metrics.auditErrors.WithLabelValues(a.c.ring).Inc()
			klog.FromContext(ctx).V(1).Info("The audit could not look at all objects, will try again", "err", err)
			pause(ctx, jitter(max(retryDelay(failures), auditSoonest)))
			continue
		}
		failures = 0
		wait, open := a.suspicions.end(time.Now(), settings.dwell().of)
		a.publish(ctx, pass.result)
		if !open || wait > a.rest {
			wait = a.rest
		}
		a.await(ctx, max(wait, auditSoonest))
	}
}

// await waits for a kick, or for d.
func (a *auditor) await(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(jitter(d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-a.kicked:
	}
}
