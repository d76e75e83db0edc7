package sharding

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/memapi"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// memories notes when status.forecastMemory of the ring is written.
type memories struct {
	mu    sync.Mutex
	times []time.Time
}

func (s *sim) memories() *memories {
	m := &memories{}
	text := func(o *unstructured.Unstructured) string {
		if o == nil {
			return ""
		}
		text, _, _ := unstructured.NestedString(o.Object, "status", "forecastMemory")
		return text
	}
	s.server.OnCommit(func(e memapi.Event) {
		if e.Resource == configs && text(e.Old) != text(e.New) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.times = append(m.times, e.Time)
		}
	})
	return m
}

func (m *memories) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.times)
}

// hourly is a load that depends on the time of the day.
func hourly(load func(time.Time) float64) func(o *WorkerOptions, c *Controller) {
	return func(o *WorkerOptions, _ *Controller) { o.Load = func() float64 { return load(time.Now()) } }
}

// atNine is 0.4, and 0.94 for twenty minutes from 9:00 on.
func atNine(now time.Time) float64 {
	if day := now.Sub(now.Truncate(24 * time.Hour)); day >= 9*time.Hour && day < 9*time.Hour+20*time.Minute {
		return 0.94
	}
	return 0.4
}

// TestSeasonOutlivesItsLeader: one leader sees the load of the first morning and goes home, one of the second morning dies before it comes, and the
// next one, which has seen nothing, calls for a shard in time.
func TestSeasonOutlivesItsLeader(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(map[string]any{"sustainedPeriod": "10s", "cooldownPeriod": "1m", "horizon": "2m", "forecast": "Seasonal"})
		s.edit(configs, simNamespace, simRing, set(0.7, "spec", "scaleUpThreshold"))
		written := s.memories()
		midnight := time.Now().Truncate(24 * time.Hour)
		clock := func(day, hour, minute int) time.Duration {
			return time.Until(midnight.AddDate(0, 0, day).Add(time.Duration(hour*60+minute) * time.Minute))
		}
		time.Sleep(clock(0, 8, 20))
		workers := []*simWorker{s.worker("a", nil, hourly(atNine)), s.worker("b", nil, hourly(atNine))}
		first := s.runManager("m1")
		s.settle(clock(0, 9, 41))
		if n := written.count(); n < 3 || n > 5 {
			t.Errorf("written %d times in an hour in which everything is new, want at most once in a quarter of an hour", n)
		}
		for _, w := range workers {
			w.stop()
			<-w.ended
		}
		first.stop()
		<-first.ended
		onFirstDay := written.count()

		time.Sleep(clock(1, 8, 20))
		s.process("a2", "a", nil, hourly(atNine))
		s.process("b2", "b", nil, hourly(atNine))
		s.settle(clock(1, 8, 25)) // until their loads, which begin at 0, are what they are
		second := s.runManager("m2")
		s.settle(clock(1, 8, 50))
		wants(s, "written while nothing is new", written.count(), onFirstDay)
		wants(s, "decision", s.configStatus().LastScaling.Reason, string(scaling.WithinThresholds))
		second.kill()
		s.runManager("m3")
		s.until(9*time.Minute, func(c shardv1.ShardConfigStatus) bool { return c.DesiredShards > 2 })
		if status, early := s.configStatus(), clock(1, 9, 0); status.DesiredShards != 3 || early < 30*time.Second {
			t.Errorf("%v before the load comes: %s, want it Predicted a minute and more before", early, s.scaling())
		}
		s.edit(configs, simNamespace, simRing, set("Trend", "spec", "scaling", "forecast"))
		s.settle(time.Minute)
		wants(s, "what is written down for other models", s.configStatus().ForecastMemory, "")
	})
}

// climbs is a load that rises by 0.02 a minute from 0.3.
func climbs() func(o *WorkerOptions, c *Controller) {
	begun := time.Now()
	return hourly(func(now time.Time) float64 { return 0.3 + 0.02*now.Sub(begun).Minutes() })
}

// TestTrendIsHandedOver: a leader that stops in good order leaves what it has learnt, and the next one goes on with it in its first rounds.
func TestTrendIsHandedOver(t *testing.T) {
	for name, spoil := range map[string]func(s *sim){
		"as it was left": nil,
		"damaged": func(s *sim) {
			o := s.server.Get(configs, simNamespace, simRing)
			set(strings.Replace(s.configStatus().ForecastMemory, "-1.", "-7.", 1), "status", "forecastMemory")(o)
			if _, err := s.server.Update(configs, o, "status"); err != nil {
				s.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.scalingSpec(map[string]any{"sustainedPeriod": "10s", "cooldownPeriod": "1m", "horizon": "2m"})
				written := s.memories()
				first := s.runManager("m1")
				s.worker("a", nil, climbs())
				s.worker("b", nil, climbs())
				s.settle(14 * time.Minute)
				wants(s, "written within a quarter of an hour", written.count(), 0)
				s.settle(13*time.Minute + 30*time.Second)
				before := written.count()
				first.stop()
				<-first.ended
				wants(s, "written at the end", written.count()-before, 1)
				if spoil != nil {
					spoil(s)
				}
				log := &logbook{}
				quiet := s.ctx
				s.ctx = s.logTo(log)
				s.runManager("m2")
				s.ctx = quiet
				s.settle(50 * time.Second)
				last := s.configStatus().LastScaling
				wants(s, "the decision is that of the next leader", time.Since(last.Time.Time) < time.Minute, true)
				says := fmt.Sprint(last.Reason, " ", strings.Contains(fmt.Sprint(log.take()), "can't be used"))
				wants(s, "the next leader", says, map[bool]string{true: "Predicted false", false: "WithinThresholds true"}[spoil == nil])
			})
		})
	}
}

// TestIdleRingKeepsNothing: where there is no load, there is nothing to write down, neither in time nor at the end.
func TestIdleRingKeepsNothing(t *testing.T) {
	for _, load := range []float64{0, math.NaN()} {
		simulate(t, func(s *sim) {
			s.scalingSpec(map[string]any{"forecast": "Both"})
			written := s.memories()
			m := s.runManager("m")
			s.worker("a", nil, hourly(func(time.Time) float64 { return load }))
			s.settle(50 * time.Minute)
			m.stop()
			<-m.ended
			wants(s, fmt.Sprintf("written at a load of %v", load), written.count(), 0)
		})
	}
}
