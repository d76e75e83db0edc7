package sharding

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
)

// loadReporter turns what the processors measure into what the status says. It is used by one goroutine.
type loadReporter struct {
	w      *Worker
	signal loadSignal
	last   time.Time
	report loadReport

	detail   workDetail
	detailAt time.Time // of the last look that has found objects
	detailOf int64     // how many
}

// look takes in what was measured since it was called last.
func (l *loadReporter) look(now time.Time) {
	sample := loadSample{period: now.Sub(l.last)}
	for _, p := range l.w.processors {
		busy, done, errors := p.busy.take(now)
		sample.busy, sample.done, sample.errors = sample.busy+busy, sample.done+done, sample.errors+errors
		sample.capacity += sample.period * time.Duration(p.controller.Concurrency)
		waiting, oldest := p.queue.look(now)
		sample.waiting, sample.oldest = sample.waiting+waiting, max(sample.oldest, oldest)
		l.w.metrics.waiting.WithLabelValues(l.w.options.Ring, p.target.name()).Set(float64(waiting))
		l.w.metrics.waitingOldest.WithLabelValues(l.w.options.Ring, p.target.name()).Set(oldest.Seconds())
	}
	if f := l.w.options.Load; f != nil {
		own := callLoadFunc(f)
		sample.own = &own
	}
	if !l.last.IsZero() {
		l.signal = l.signal.next(sample, loadLimitsOf(l.w.ring.get()))
		l.report = l.signal.report(l.report)
	}
	l.last = now
}

// refresh is after which time a load is written again although it has not changed: others take it for unknown when it is old. That there is
// none need not be confirmed, the Lease does that.
func (l *loadReporter) refresh() time.Duration {
	return staleAfter(l.w.ring.get()) / 2
}

// apply is the part of the status that is about load. What is not known is absent.
func (r loadReport) apply() *applyv1.ShardInstanceStatusApplyConfiguration {
	status := applyv1.ShardInstanceStatus()
	if !r.known {
		return status
	}
	work := applyv1.ShardWork()
	if r.work.Busy.Milli() > 0 {
		work.WithBusy(r.work.Busy)
	}
	for _, count := range []struct {
		n   int64
		set func(int64) *applyv1.ShardWorkApplyConfiguration
	}{
		{r.work.DonePerMinute, work.WithDonePerMinute}, {r.work.ErrorsPerMinute, work.WithErrorsPerMinute},
		{r.work.Waiting, work.WithWaiting}, {r.work.OldestSeconds, work.WithOldestSeconds},
	} {
		if count.n > 0 {
			count.set(count.n)
		}
	}
	status.WithLoad(r.load)
	if r.work != (shardv1.ShardWork{}) {
		status.WithWork(work)
	}
	return status
}

// started notes that a reconcile begins, and returns when.
func (p *processor) started() time.Time {
	now := time.Now()
	p.busy.begin(now)
	return now
}

// measured notes that a reconcile of the objects has ended.
func (p *processor) measured(began time.Time, keys ...types.NamespacedName) {
	now := time.Now()
	took := now.Sub(began)
	p.busy.end(now)
	for _, key := range keys {
		p.work.add(p.target.prefix.Hash(key.Namespace, key.Name), took/time.Duration(len(keys)))
	}
	p.series.observe(p, took)
}

// count notes how the reconcile of an object has ended.
func (p *processor) count(result reconcileResult) {
	p.busy.count(result)
	p.series.count(p, result)
}
