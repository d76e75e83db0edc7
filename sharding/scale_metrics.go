package sharding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/sharding/scaling"
)

const (
	// metricInterval is the time from one call of a MetricSource to the next, metricTimeout what it has for each.
	metricInterval = 5 * time.Second
	metricTimeout  = 4 * time.Second
	// maxMetrics is how many metrics a source may have.
	maxMetrics = 100
	// sourceMetric stands for the metrics of a source that has not said yet what it measures.
	sourceMetric = "of the metric source"
)

// errSourceHangs: the source has not returned from a call although its context was done. It is not called again before.
var errSourceHangs = errors.New("the metric source does not return")

// metricSource is a MetricSource of a Manager. It outlives terms, so that a source that hangs is not called by the next term as well.
type metricSource struct {
	scaling.MetricSource
	busy atomic.Bool
}

// read calls the source, and does not wait for it any longer than ctx says, even if the source itself does.
func (s *metricSource) read(ctx context.Context) ([]scaling.Metric, error) {
	if !s.busy.CompareAndSwap(false, true) {
		return nil, errSourceHangs
	}
	type answer struct {
		metrics []scaling.Metric
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if r := recover(); r != nil {
				a = answer{err: fmt.Errorf("the metric source panicked: %v", r)}
			}
			s.busy.Store(false)
			answers <- a
		}()
		a.metrics, a.err = s.Metrics(ctx)
	}()
	select {
	case a := <-answers:
		return a.metrics, a.err
	case <-ctx.Done():
		return nil, errSourceHangs
	}
}

// metricReader asks the source of a ring again and again for one term. What it has learnt may be read at any time.
type metricReader struct {
	source *metricSource
	// changed is called when there is news.
	changed func()
	// failed is called for each call that failed, or brought something that can't be used.
	failed func()

	mu      sync.Mutex
	names   []string
	metrics []scaling.Metric
	err     error
}

// run returns when ctx is done.
func (r *metricReader) run(ctx context.Context) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, metricTimeout)
		metrics, err := r.source.read(limited)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err := r.note(metrics, err); err != nil {
			r.failed()
			klog.FromContext(ctx).V(1).Info("The metric source can't be used, the number of shards holds", "err", err)
		}
		pause(ctx, metricInterval)
	}
}

// note keeps what the source answered, and returns what is wrong with it.
func (r *metricReader) note(metrics []scaling.Metric, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	former, formerErr := r.metrics, r.err
	if err != nil {
		metrics = nil
	}
	r.metrics, r.names, r.err = checkMetrics(metrics, r.names, err)
	if r.changed != nil && (!slices.Equal(former, r.metrics) || fmt.Sprint(formerErr) != fmt.Sprint(r.err)) {
		r.changed()
	}
	return r.err
}

// latest returns what is known now, and why something is not. A reader that is nil knows of no metrics.
func (r *metricReader) latest() ([]scaling.Metric, error) {
	if r == nil {
		return nil, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names == nil {
		return []scaling.Metric{{Name: sourceMetric, Target: 1}}, r.err
	}
	return r.metrics, r.err
}

// checkMetrics makes of an answer what a Scaler takes: each metric that was ever seen is there, once, with a target. One that is
// missing or is no metric is there without a time, which means that it is not known. The error says what is wrong.
func checkMetrics(answer []scaling.Metric, names []string, err error) ([]scaling.Metric, []string, error) {
	if len(answer) > maxMetrics {
		answer, err = nil, fmt.Errorf("the metric source has %d metrics, must have at most %d", len(answer), maxMetrics)
	}
	byName := map[string]scaling.Metric{}
	wrong := func(format string, args ...any) {
		if err == nil {
			err = fmt.Errorf(format, args...)
		}
	}
	for i, metric := range answer {
		_, twice := byName[metric.Name]
		switch {
		case metric.Name == "":
			wrong("metric %d of the source has no name", i)
			metric = scaling.Metric{Name: sourceMetric, Target: 1}
		case twice:
			wrong("the metric %s is there twice", metric.Name)
			metric = scaling.Metric{Name: metric.Name, Target: 1}
		case !(metric.Target > 0) || metric.Target > 1e15:
			wrong("the target of the metric %s is %v, must be a number above 0", metric.Name, metric.Target)
			metric = scaling.Metric{Name: metric.Name, Target: 1}
		}
		byName[metric.Name] = metric
		if !slices.Contains(names, metric.Name) && len(names) < maxMetrics {
			names = append(slices.Clip(names), metric.Name)
		}
	}
	metrics := make([]scaling.Metric, 0, len(names))
	for _, name := range names {
		metric, there := byName[name]
		if !there {
			wrong("the metric %s is missing", name)
			metric = scaling.Metric{Name: name, Target: 1}
		}
		metrics = append(metrics, metric)
	}
	if len(names) == 0 && err == nil {
		names = []string{} // there are none, and that is known
	}
	return metrics, names, err
}
