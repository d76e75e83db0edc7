package loadsim

import (
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

func run(t testing.TB, s Scenario) Result {
	t.Helper()
	r, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// scenario returns the one of that name.
func scenario(t testing.TB, name string) Scenario {
	t.Helper()
	for _, s := range Scenarios() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no scenario %s", name)
	return Scenario{}
}

func (r Result) last() Point { return r.Points[len(r.Points)-1] }

// TestSteadyLoad checks that nothing happens under constant load and under noise.
func TestSteadyLoad(t *testing.T) {
	for _, name := range []string{"constant", "noise"} {
		s := scenario(t, name)
		if testing.Short() {
			s.Duration = time.Hour
		}
		r := run(t, s)
		if len(r.Changes) > 0 || len(r.Plans) > 2 || float64(r.last().Moved) > 0.001*float64(r.Objects)*s.Duration.Minutes()*2 {
			t.Errorf("%s: changes %v, plans %v, %d objects moved", name, r.Changes, r.Plans, r.last().Moved)
		}
	}
}

// TestNoisyImbalance checks that a ring which is out of balance gets even under noise and stays as it is then.
func TestNoisyImbalance(t *testing.T) {
	s := scenario(t, "pareto")
	s.Noise, s.Duration = 0.3, 8*time.Hour
	r := run(t, s)
	moved := float64(r.last().Moved) / float64(r.Objects) / (s.Duration.Minutes() * 2)
	if r.last().Imbalance > 1.1 || moved > 0.001 || len(r.Changes) > 0 {
		t.Errorf("imbalance %.3f, %.4f %% of the objects moved per round, plans %v, changes %v", r.last().Imbalance, 100*moved, r.Plans, r.Changes)
	}
}

// TestStepGoals triples the load at once, in rings of several sizes: the number is right within two decisions after the window, never more than
// one too high, and does not go down again within the cool-down.
func TestStepGoals(t *testing.T) {
	for _, before := range []float64{0.5, 1, 1.3, 1.5} {
		s := scenario(t, "step")
		s.Demand, s.Shards = Step(before, 3*before, 20*time.Minute), int(math.Ceil(before/0.7))
		right := int(math.Ceil(3*before/scaling.DefaultUpThreshold - 1e-9))
		r := run(t, s)
		decisions, most := 0, 0
		for _, change := range r.Changes {
			most = max(most, change.To)
			if decisions++; change.To >= right {
				break
			}
		}
		if decisions > 2 || len(r.Changes) == 0 || r.Changes[0].At > 21*time.Minute {
			t.Errorf("from %d shards to %d: %v", s.Shards, right, r.Changes)
		}
		for i, change := range r.Changes {
			most = max(most, change.To)
			if i > 0 && change.To < change.From && change.At-r.Changes[i-1].At < scaling.DefaultCooldown {
				t.Errorf("from %d shards to %d: goes back: %v", s.Shards, right, r.Changes)
			}
		}
		if last := r.last().Wanted; most > right+1 || last < right || last > right+1 {
			t.Errorf("from %d shards to %d: overshoots: %v", s.Shards, right, r.Changes)
		}
		if r.last().Backlog > 1 {
			t.Errorf("from %d shards to %d: %v waits at the end", s.Shards, right, r.last().Backlog)
		}
	}
}

// TestHotObject checks that no shards are added for an object that is more than a shard can do.
func TestHotObject(t *testing.T) {
	r := run(t, scenario(t, "hot-object"))
	if len(r.Changes) > 0 {
		t.Errorf("the changes are %v", r.Changes)
	}
	last := r.Points[len(r.Points)-1]
	if bound := 0.6 * 2; last.Imbalance > bound*1.05 {
		t.Errorf("the imbalance is %.3f, one object makes %.3f", last.Imbalance, bound)
	}
}

// TestUnevenShards checks that skewed objects and a slow shard are evened out in at most three plans.
func TestUnevenShards(t *testing.T) {
	for _, name := range []string{"pareto", "slow-shard"} {
		r := run(t, scenario(t, name))
		if first, last := r.Points[0].Imbalance, r.last().Imbalance; len(r.Plans) > 3 || first < 1.15 || last > 1.1 {
			t.Errorf("%s: imbalance %.3f → %.3f, plans %v", name, first, last, r.Plans)
		}
	}
}

// TestSlowShardJoins checks that a slow shard, once it has less, keeps less when others join: nothing has to be evened out again.
func TestSlowShardJoins(t *testing.T) {
	s := scenario(t, "slow-shard")
	s.Demand = Step(5, 9.5, 20*time.Minute)
	r := run(t, s)
	worst := 0.0
	for _, p := range r.Points {
		if p.At > 5*time.Minute {
			worst = max(worst, p.Imbalance)
		}
	}
	if len(r.Changes) == 0 || worst > 1.15 {
		t.Errorf("imbalance up to %.3f, changes %v, plans %v", worst, r.Changes, r.Plans)
	}
}

// TestWaveGoals compares days of waves with spikes with static peak sizing and with the HorizontalPodAutoscaler.
func TestWaveGoals(t *testing.T) {
	if testing.Short() {
		t.Skip("days")
	}
	const days = 5
	ours := run(t, Wave("ours", days, 0, WaveScaler(scaling.DefaultSustained)))
	hpa := run(t, Wave("hpa", days, 0, &HPA{Min: 2, Max: 20, Target: 0.7}))
	peak := run(t, Static(Wave("static", days, 0, nil)))
	text := ""
	for _, r := range []Result{ours, hpa, peak} {
		text += fmt.Sprintf("%s: %.0f shard-hours, overload %.3f %%, after the first day %.3f %%; ", r.Name, r.ShardHours, 100*r.Overload,
			100*r.OverloadSince(24*time.Hour))
	}
	t.Log(text)
	if ours.ShardHours > 0.8*peak.ShardHours || ours.Overload > 0.01 || ours.ShardHours > hpa.ShardHours || ours.Overload >= hpa.Overload ||
		ours.OverloadSince(24*time.Hour) > hpa.OverloadSince(24*time.Hour)/2 {
		t.Error(text)
	}
}

// TestPredictionHelps checks that forecasts leave less overload on a ramp than the same scaler without.
func TestPredictionHelps(t *testing.T) {
	with, without := scenario(t, "ramp"), scenario(t, "ramp")
	without.Decide = mustScaler(scaling.Options{Min: 2, Max: 20})
	a, b := run(t, with), run(t, without)
	if a.Overload > b.Overload || a.Delayed > b.Delayed || b.Overload == 0 {
		t.Errorf("overload %.4f with forecasts, %.4f without", a.Overload, b.Overload)
	}
}

// TestSameSeed checks that a scenario can be played again.
func TestSameSeed(t *testing.T) {
	play := func() Result {
		s := scenario(t, "ramp")
		s.Noise = 0.2
		return run(t, s)
	}
	if !reflect.DeepEqual(play(), play()) {
		t.Error("the same scenario has two outcomes")
	}
}

// TestConservation checks what the comparison stands on: no work gets lost, whatever moves, and shard-hours are counted.
func TestConservation(t *testing.T) {
	s := scenario(t, "step")
	s.Decide, s.Planner = Fixed(2), &balancer.PlannerOptions{}
	s.Demand = Step(1, 3, 20*time.Minute)
	r := run(t, s)
	// 2 shards do 2 of 3 from minute 20 to 60: 40 × 60 full-shard seconds wait.
	if want := 2400.0; math.Abs(r.last().Backlog-want) > want*0.02 || math.Abs(r.ShardHours-2) > 0.01 || math.Abs(r.Overload-2.0/3) > 0.01 {
		t.Errorf("backlog %v, %v shard-hours, overload %v", r.last().Backlog, r.ShardHours, r.Overload)
	}
	if _, err := Run(Scenario{Shards: 1, Duration: Tick, Demand: Constant(1), Planner: &balancer.PlannerOptions{Rounds: -1}}); err == nil {
		t.Error("wrong options of the planner are no error")
	}
	if _, err := NewScaler(scaling.Options{Min: -1}); err == nil {
		t.Error("wrong options of the scaler are no error")
	}
}

// TestHPA checks the stand-in for the HorizontalPodAutoscaler against its documented arithmetic.
func TestHPA(t *testing.T) {
	loads := func(n int, load float64, starting int) []scaling.ShardLoad {
		list := make([]scaling.ShardLoad, n)
		for i := range list {
			list[i] = scaling.ShardLoad{Load: load, Starting: i >= n-starting}
		}
		return list
	}
	for _, c := range []struct {
		shards, starting int
		load             float64
		want             int
	}{
		{4, 0, 0.5, 4}, {4, 0, 0.54, 4}, {4, 0, 0.46, 4}, {4, 0, 0.7, 6}, {4, 0, 0.2, 4}, {2, 0, 5, 4}, {10, 0, 0.9, 18}, {4, 2, 0.9, 4}, {4, 2, 1, 4}, {4, 1, 0.9, 6}, {20, 0, 1, 20},
	} {
		h := &HPA{Min: 1, Max: 20, Target: 0.5}
		got, _ := h.Decide(scaling.Input{Now: epoch, Shards: c.shards, Loads: loads(c.shards, c.load, c.starting)})
		if got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	h, now, shards := &HPA{Min: 1, Max: 20, Target: 0.5}, epoch, 4
	for range 61 { // five minutes of less load
		shards, _ = h.Decide(scaling.Input{Now: now, Shards: shards, Loads: loads(shards, 0.2, 0)})
		if now = now.Add(Tick); now.Sub(epoch) <= 5*time.Minute && shards != 4 {
			t.Fatalf("down after %v", now.Sub(epoch))
		}
	}
	for range 6 {
		shards, _ = h.Decide(scaling.Input{Now: now, Shards: shards, Loads: loads(shards, 0.2, 0)})
		now = now.Add(Tick)
	}
	if shards != 2 && shards != 1 {
		t.Errorf("after five minutes of less load there are %d", shards)
	}
}
