package loadsim

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// Tick is the time between two observations of the load, and between two decisions of the scaler.
const Tick = 5 * time.Second

// Scenario is what happens, and who decides.
type Scenario struct {
	// Name is a few words, as in a file name.
	Name string
	// Duration is how long it goes on.
	Duration time.Duration
	// Demand is the work that arrives at a time, in full shards.
	Demand func(at time.Duration) float64
	// Objects is how many objects share the demand, Share how much of it one of them has, relative to the others; nil for equal.
	Objects int
	Share   func(object int) float64
	// Shards is how many shards there are at the beginning, Speed how fast each of them is; 1 if it is not there.
	Shards int
	Speed  map[int]float64
	// Noise is the part by which the load of each shard is observed too high or too low at most, at each tick.
	Noise float64
	// Seed is what the noise is drawn from.
	Seed uint64
	// Decide says how many shards there should be. nil: as many as at the beginning.
	Decide Decider
	// Planner are the options of the move planner; nil for no planner.
	Planner *balancer.PlannerOptions
	// Startup is how long a shard takes to start, 45 s if it is 0.
	Startup time.Duration
}

// Decider decides how many shards there should be. The simulation calls it at every tick.
type Decider interface {
	// Decide returns the number and the reason; the number that is wanted now if nothing is to change.
	Decide(in scaling.Input) (shards int, reason string)
}

const (
	defaultStartup = 45 * time.Second
	slots          = 2048
	slotShift      = 64 - 11
	// itemsPerShard is how many items a full shard of speed 1 does in a second.
	itemsPerShard = 50
	// queueLimit is how many waiting items count as a load of 1, and halfLife is that of the smoothed load: both as in a worker.
	queueLimit = 1000
	halfLife   = 10 * time.Second
	// movesPerSecond is how many objects are handed over in a second, and planTime how long a plan takes besides.
	movesPerSecond = 400
	planTime       = 2 * time.Second
	// planInterval is the time from one round of the planner to the next.
	planInterval = 30 * time.Second
)

// Constant is a demand that never changes.
func Constant(demand float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return demand }
}

// Step is a demand that changes at once.
func Step(before, after float64, when time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		if at < when {
			return before
		}
		return after
	}
}

// Ramp is a demand that goes from one value to another between two times.
func Ramp(before, after float64, from, to time.Duration) func(time.Duration) float64 {
	return func(at time.Duration) float64 {
		part := min(1, max(0, float64(at-from)/float64(to-from)))
		return before + part*(after-before)
	}
}

// Daily is a wave from low at 4:00 to high at 16:00, with spikes: at 9:00, 13:00 and 21:30 it is more by spike (a part of it) for twenty minutes;
// it gets there in one. On each day each spike comes later or earlier by up to astray.
func Daily(low, high, spike float64, astray time.Duration) func(time.Duration) float64 {
	const day, rise, length = 24 * time.Hour, time.Minute, 20 * time.Minute
	return func(at time.Duration) float64 {
		today := at / day
		at %= day
		wave := (low+high)/2 - (high-low)/2*math.Cos(2*math.Pi*float64(at-4*time.Hour)/float64(day))
		for i, start := range []time.Duration{9 * time.Hour, 13 * time.Hour, 21*time.Hour + 30*time.Minute} {
			rng := rand.New(rand.NewPCG(uint64(today), uint64(i)))
			start += time.Duration((2*rng.Float64() - 1) * float64(astray))
			if in := at - start; in >= 0 && in < length {
				wave *= 1 + spike*min(1, float64(in)/float64(rise), float64(length-in)/float64(rise))
			}
		}
		return wave
	}
}
