package sharding

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/memapi"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// dial is a load that a test sets.
type dial struct{ bits atomic.Uint64 }

func (d *dial) set(load float64) { d.bits.Store(math.Float64bits(load)) }

func (d *dial) shard(o *WorkerOptions, _ *Controller) {
	o.Load = func() float64 { return math.Float64frombits(d.bits.Load()) }
}

// scaling renders what the status says: "2 → 4 LoadHigh".
func (s *sim) scaling() string {
	status := s.configStatus()
	if status.LastScaling == nil {
		return "none"
	}
	return fmt.Sprintf("%d → %d %s", len(s.server.List(instances, "", nil)), status.DesiredShards, status.LastScaling.Reason)
}

// until returns after which time the status has something, in steps of a fifth of a second.
func (s *sim) until(limit time.Duration, has func(shardv1.ShardConfigStatus) bool) time.Duration {
	for passed := time.Duration(0); passed < limit; passed += 200 * time.Millisecond {
		if has(s.configStatus()) {
			return passed
		}
		s.settle(200 * time.Millisecond)
	}
	return limit
}

func (s *sim) scalingSpec(fields map[string]any) {
	s.config()
	s.edit(configs, simNamespace, simRing, set(fields, "spec", "scaling"))
}

var soon = map[string]any{"sustainedPeriod": "10s", "cooldownPeriod": "1m", "forecast": "None"}

func TestLoadStepIsSeenAtOnce(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(20)
		m := s.runManager("m")
		var load dial
		load.set(0.5)
		s.worker("a", nil, load.shard)
		s.worker("b", nil, load.shard)
		s.settle(2 * time.Minute)
		wants(s, "at half load", s.scaling(), "2 → 2 WithinThresholds")
		load.set(1)
		reported := s.until(time.Minute, func(shardv1.ShardConfigStatus) bool {
			return s.instance("a").Status.Load.Float64() > 0.9 && s.instance("b").Status.Load.Float64() > 0.9
		})
		seen := s.until(time.Minute, func(c shardv1.ShardConfigStatus) bool { return c.RecommendedShards > 2 })
		decided := s.until(time.Minute, func(c shardv1.ShardConfigStatus) bool { return c.DesiredShards > 2 })
		t.Logf("reported after %v, recommended %v later, decided %v after that", reported, seen, decided)
		if seen >= 5*time.Second {
			t.Errorf("recommended %v after the loads were written, want less than 5 s", seen)
		}
		if decided < 5*time.Second || decided >= 15*time.Second {
			t.Errorf("decided after %v, want within 5 s of the end of the sustained period of 10 s", decided)
		}
		wants(s, "status", s.scaling(), "2 → 3 LoadHigh")
		wants(s, "decisions counted", counted(m, "up", scaling.LoadHigh), 1)
		load.set(0.1)
		s.settle(3 * time.Minute)
		wants(s, "after a minute of little load", s.scaling(), "2 → 1 LoadLow")
		wants(s, "decisions counted", counted(m, "down", scaling.LoadLow), 1)
		s.settle(10 * time.Minute)
		wants(s, "the same decision again", counted(m, "down", scaling.LoadLow), 1)
		wants(s, "Events without a workload", len(s.server.List(eventsResource, "", nil)), 0)
	})
}

func counted(m *simManager, direction string, reason scaling.Reason) float64 {
	return testutil.ToFloat64(m.metrics.scalings.WithLabelValues(simRing, direction, string(reason)))
}

func TestUnknownLoadsHold(t *testing.T) {
	for name, bad := range map[string]float64{"NaN": math.NaN(), "infinite": math.Inf(1), "negative": -1} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.scalingSpec(soon)
				s.secrets(20)
				s.runManager("m")
				var good, odd dial
				good.set(0.1)
				odd.set(0.1)
				s.worker("a", nil, good.shard)
				s.worker("b", nil, odd.shard)
				s.settle(30 * time.Second)
				odd.set(bad)
				s.settle(10 * time.Minute)
				wants(s, "decision", s.scaling(), "2 → 2 LoadUnknown")
			})
		})
	}
}

// TestStaleLoadsHold: a shard goes on renewing its Lease, and its status does not get through any more.
func TestStaleLoadsHold(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(20)
		s.runManager("m")
		var load dial
		load.set(0.1)
		s.worker("a", nil, load.shard)
		s.worker("b", nil, load.shard)
		s.settle(30 * time.Second)
		var denied atomic.Bool
		denied.Store(true)
		s.server.Admit(func(a memapi.Admission) error {
			if denied.Load() && a.Request.Subresource == "status" && a.Request.Name == "b" && a.Request.Resource == instances {
				return errors.New("denied")
			}
			return nil
		})
		s.settle(10 * time.Minute)
		wants(s, "decision", s.scaling(), "2 → 2 LoadUnknown")
		wants(s, "message names the shard", strings.Contains(s.configStatus().LastScaling.Message, "b"), true)
		denied.Store(false)
		s.settle(3 * time.Minute)
		wants(s, "when it gets through again", s.scaling(), "2 → 1 LoadLow")
	})
}

func TestNumberFromOutsideDecides(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(20)
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(30 * time.Second)
		for _, c := range []struct {
			shards int64
			want   string
		}{{5, "2 → 5 External"}, {500, "2 → 10 External"}, {1, "2 → 1 External"}} {
			s.edit(configs, simNamespace, simRing, set(c.shards, "spec", "shards"))
			s.settle(12 * time.Second)
			wants(s, fmt.Sprint("spec.shards: ", c.shards), s.scaling(), c.want)
		}
	})
}

func TestThresholdsThatWouldFlapAreRefused(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.edit(configs, simNamespace, simRing, set(0.79, "spec", "scaleDownThreshold"))
		s.secrets(20)
		s.runManager("m")
		var load dial
		load.set(1)
		s.worker("a", nil, load.shard)
		s.settle(3 * time.Minute)
		status := s.configStatus()
		if d := status.LastScaling; d == nil || d.Reason != string(scaling.Invalid) || !strings.Contains(d.Message, "DownThreshold") {
			t.Errorf("last decision is %+v, want %s that names DownThreshold", d, scaling.Invalid)
		}
		wants(s, "desired", status.DesiredShards, int32(0))
		wants(s, "objects are assigned", s.counts(secrets)["a"], 20)
	})
}

// TestIdleRingWithMoreThanItNeedsIsQuiet: a recommendation that nobody follows is written once.
func TestIdleRingWithMoreThanItNeedsIsQuiet(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(20)
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(10 * time.Minute)
		wants(s, "decision", s.scaling(), "2 → 1 LoadLow")
		before := s.writes("m")
		s.settle(time.Hour)
		for kind, n := range s.writes("m") {
			if n -= before[kind]; n > 0 && kind != "update leases " {
				t.Errorf("in an idle hour: %d times %s", n, kind)
			}
		}
	})
}
