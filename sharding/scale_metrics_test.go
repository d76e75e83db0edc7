package sharding

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// sourceFunc is a MetricSource.
type sourceFunc func(ctx context.Context) ([]scaling.Metric, error)

func (f sourceFunc) Metrics(ctx context.Context) ([]scaling.Metric, error) { return f(ctx) }

// backlog is a metric that was measured just now.
func backlog(value float64) []scaling.Metric {
	return []scaling.Metric{{Name: "backlog", Value: value, Target: 100, Total: true, At: time.Now()}}
}

// scaledBy runs two shards with a low load whose ring has a source. By their load alone, one of them would be removed.
func scaledBy(s *sim, source scaling.MetricSource) *simManager {
	s.scalingSpec(soon)
	s.secrets(20)
	m := s.runManager("m", func(o *ManagerOptions) { o.MetricSources = map[string]scaling.MetricSource{simRing: source} })
	var load dial
	load.set(0.1)
	s.worker("a", nil, load.shard)
	s.worker("b", nil, load.shard)
	return m
}

func TestMetricsScale(t *testing.T) {
	simulate(t, func(s *sim) {
		var value dial
		value.set(150)
		m := scaledBy(s, sourceFunc(func(context.Context) ([]scaling.Metric, error) {
			return backlog(math.Float64frombits(value.bits.Load())), nil
		}))
		s.settle(2 * time.Minute)
		wants(s, "for 1.5 shards", s.scaling(), "2 → 2 WithinThresholds")
		value.set(350)
		decided := s.until(time.Minute, func(c shardv1.ShardConfigStatus) bool { return c.DesiredShards == 4 })
		wants(s, "for 3.5 shards", s.scaling(), "2 → 4 MetricHigh")
		if decided > 20*time.Second {
			t.Errorf("decided after %v, want soon after the sustained period of 10 s", decided)
		}
		value.set(50)
		s.settle(3 * time.Minute)
		wants(s, "for half a shard", s.scaling(), "2 → 1 LoadLow")
		wants(s, "errors", testutil.ToFloat64(m.metrics.sourceErrors.WithLabelValues(simRing)), 0)
	})
}

// TestBadMetricSources: nothing is removed by half of what is to be known, and the status says what is missing. A ring whose source has mended
// goes on.
func TestBadMetricSources(t *testing.T) {
	stale := time.Hour
	for _, c := range []struct {
		name    string
		bad     sourceFunc
		message string
		counted bool
	}{
		{"fails", func(context.Context) ([]scaling.Metric, error) { return nil, errors.New("no route to host") }, "no route to host", true},
		{"waits for its context", func(ctx context.Context) ([]scaling.Metric, error) { <-ctx.Done(); return nil, ctx.Err() }, "does not return", true},
		{"panics", func(context.Context) ([]scaling.Metric, error) { panic("nil map") }, "panicked: nil map", true},
		{"forgets a metric", func(context.Context) ([]scaling.Metric, error) { return nil, nil }, "backlog is missing", true},
		{"has no target", func(context.Context) ([]scaling.Metric, error) {
			return []scaling.Metric{{Name: "backlog", Value: 1, At: time.Now()}}, nil
		}, "target of the metric backlog is 0", true},
		{"has a name twice", func(context.Context) ([]scaling.Metric, error) { return append(backlog(1), backlog(1)...), nil }, "backlog is there twice", true},
		{"NaN", func(context.Context) ([]scaling.Metric, error) { return backlog(math.NaN()), nil }, "NaN is no amount", false},
		{"infinite", func(context.Context) ([]scaling.Metric, error) { return backlog(math.Inf(1)), nil }, "+Inf is no amount", false},
		{"negative", func(context.Context) ([]scaling.Metric, error) { return backlog(-1), nil }, "-1 is no amount", false},
		{"enormous", func(context.Context) ([]scaling.Metric, error) { return backlog(1e300), nil }, "1e+300 would take 1e+298 shards", false},
		{"stale", func(context.Context) ([]scaling.Metric, error) {
			m := backlog(1)
			m[0].At = m[0].At.Add(-stale)
			return m, nil
		}, "too far from now", false},
		{"of the future", func(context.Context) ([]scaling.Metric, error) {
			m := backlog(1)
			m[0].At = m[0].At.Add(stale)
			return m, nil
		}, "too far from now", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				var good atomic.Bool
				good.Store(true)
				m := scaledBy(s, sourceFunc(func(ctx context.Context) ([]scaling.Metric, error) {
					if good.Load() {
						return backlog(50), nil
					}
					return c.bad(ctx)
				}))
				s.settle(20 * time.Second) // the name is known now
				good.Store(false)
				s.settle(10 * time.Minute)
				wants(s, "decision", s.scaling(), "2 → 2 MetricUnknown")
				if message := s.configStatus().LastScaling.Message; !strings.Contains(message, c.message) {
					t.Errorf("the status says %q, want %q", message, c.message)
				}
				wants(s, "counted", testutil.ToFloat64(m.metrics.sourceErrors.WithLabelValues(simRing)) > 0, c.counted)
				good.Store(true)
				s.settle(3 * time.Minute)
				wants(s, "when it has mended", s.scaling(), "2 → 1 LoadLow")
			})
		})
	}
}

// TestMetricSourceThatNeverReturns: it is left alone, nobody waits for it, not even the next term, and the ring holds.
func TestMetricSourceThatNeverReturns(t *testing.T) {
	simulate(t, func(s *sim) {
		var calls atomic.Int64
		release := make(chan struct{})
		defer close(release)
		m := scaledBy(s, sourceFunc(func(context.Context) ([]scaling.Metric, error) {
			calls.Add(1)
			<-release
			return nil, nil
		}))
		s.settle(10 * time.Minute)
		wants(s, "decision", s.scaling(), "2 → 2 MetricUnknown")
		wants(s, "calls", calls.Load(), 1)
		wants(s, "said so", strings.Contains(s.configStatus().LastScaling.Message, "does not return"), true)
		begin := time.Now()
		m.stop()
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("the manager took %v to stop", took)
		}
	})
}

// TestLoadAddsShardsWithoutMetrics: what is known may add.
func TestLoadAddsShardsWithoutMetrics(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(20)
		source := sourceFunc(func(context.Context) ([]scaling.Metric, error) { return nil, errors.New("away") })
		s.runManager("m", func(o *ManagerOptions) { o.MetricSources = map[string]scaling.MetricSource{simRing: source} })
		var load dial
		load.set(1)
		s.worker("a", nil, load.shard)
		s.worker("b", nil, load.shard)
		s.settle(2 * time.Minute)
		wants(s, "decision", s.scaling(), "2 → 3 LoadHigh")
	})
}

func TestCheckMetrics(t *testing.T) {
	many := make([]scaling.Metric, maxMetrics+1)
	for _, c := range []struct {
		name          string
		answer        []scaling.Metric
		names         []string
		metrics, know int
		err           string
	}{
		{"nothing to measure", nil, nil, 0, 0, ""},
		{"one", backlog(1), nil, 1, 1, ""},
		{"one of two", backlog(1), []string{"backlog", "age"}, 2, 1, "age is missing"},
		{"too many", many, []string{"backlog"}, 1, 0, "at most 100"},
		{"without a name", []scaling.Metric{{Value: 1, Target: 1, At: time.Now()}}, nil, 1, 0, "metric 0 of the source has no name"},
		{"a target of NaN", []scaling.Metric{{Name: "x", Target: math.NaN(), At: time.Now()}}, nil, 1, 0, "NaN"},
	} {
		metrics, _, err := checkMetrics(c.answer, c.names, nil)
		known := 0
		for _, m := range metrics {
			if !m.At.IsZero() {
				known++
			}
			if !(m.Target > 0) {
				t.Errorf("%s: %+v has no target", c.name, m)
			}
		}
		if len(metrics) != c.metrics || known != c.know {
			t.Errorf("%s: %+v, want %d of which %d are known", c.name, metrics, c.metrics, c.know)
		}
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}
