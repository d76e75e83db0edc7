package loadsim

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// horizon is how long it takes in the simulation until a new shard has taken its share over.
const horizon = defaultStartup + 15*time.Second

// Scenarios returns what the report is about, each with the scaler and the planner as they are by default, and a forecast by trend.
func Scenarios() []Scenario {
	list := []Scenario{
		{Name: "constant", Duration: 24 * time.Hour, Demand: Constant(3), Shards: 6},
		{Name: "noise", Duration: 24 * time.Hour, Demand: Constant(3), Shards: 6, Noise: 0.3},
		{Name: "step", Duration: time.Hour, Demand: Step(1, 3, 20*time.Minute), Shards: 2},
		{Name: "ramp", Duration: 2 * time.Hour, Demand: Ramp(1, 6, 30*time.Minute, 60*time.Minute), Shards: 2},
		{Name: "pareto", Duration: time.Hour, Demand: Constant(5), Shards: 10, Share: pareto(7, 1.3)},
		{Name: "hot-object", Duration: 2 * time.Hour, Demand: Ramp(1.2, 1.8, 30*time.Minute, 40*time.Minute), Shards: 2, Share: hot(0.6)},
		{Name: "slow-shard", Duration: time.Hour, Demand: Constant(5), Shards: 10, Speed: map[int]float64{3: 0.5}},
	}
	for i := range list {
		s := &list[i]
		s.Objects, s.Seed, s.Planner = 5000, 1, &balancer.PlannerOptions{}
		s.Decide = mustScaler(scaling.Options{Min: 2, Max: 20, Horizon: horizon})
	}
	return list
}

// Wave is some days of daily waves with spikes, which come at the same times every day, or earlier or later by up to astray.
func Wave(name string, days int, astray time.Duration, decide Decider) Scenario {
	return Scenario{
		Name: name, Duration: time.Duration(days) * 24 * time.Hour, Demand: Daily(1.5, 6, 0.5, astray), Objects: 5000, Shards: 4, Noise: 0.1, Seed: 1,
		Planner: &balancer.PlannerOptions{}, Decide: decide,
	}
}

// WaveScaler is a scaler for the wave: it wants a load of at most 0.72, consolidates, and learns what is the same every day.
func WaveScaler(sustained time.Duration) *Scaler {
	return mustScaler(scaling.Options{
		Min: 2, Max: 20, UpThreshold: 0.72, ConsolidateBelow: 0.72, Sustained: sustained, Horizon: horizon,
		Models: []scaling.Model{scaling.Trend{}, scaling.Seasonal{}},
	})
}

// Static is the scenario with as many shards as its highest demand needs, all the time.
func Static(s Scenario) Scenario {
	most := 0.0
	for at := Tick; at <= s.Duration; at += Tick {
		most = max(most, s.Demand(at))
	}
	s.Shards = int(math.Ceil(most / scaling.DefaultUpThreshold))
	s.Decide = Fixed(s.Shards)
	return s
}

// mustScaler is for options that are written down here.
func mustScaler(o scaling.Options) *Scaler {
	s, err := NewScaler(o)
	if err != nil {
		panic(err)
	}
	return s
}

// pareto returns shares of a Pareto distribution.
func pareto(seed uint64, alpha float64) func(int) float64 {
	rng := rand.New(rand.NewPCG(seed, 11))
	return func(int) float64 { return math.Pow(1-rng.Float64(), -1/alpha) }
}

// hot returns shares of which the first object has a part of all, with 5,000 objects.
func hot(part float64) func(int) float64 {
	return func(object int) float64 {
		if object == 0 {
			return 4999 * part / (1 - part)
		}
		return 1
	}
}
