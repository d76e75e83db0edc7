package sharding

import (
	"math"
	"time"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// LoadFunc measures how busy a shard is, in place of what the Worker measures: 1 is full, 0 is idle. NaN, an infinite or a
// negative number say that it is not known; then nothing is decided on it. Numbers in proportion to work up to 1, and above it where
// work waits, make the planner and the scaler right.
//
// The Worker calls it every two seconds on a goroutine of its own, and smooths what it returns. It must not block; if it panics, the load is
// not known.
type LoadFunc func() float64

// loadHalfLife is after which time earlier load counts half.
const loadHalfLife = 10 * time.Second

// loadLimits say what counts as full.
type loadLimits struct {
	queue int
	age   time.Duration
}

func loadLimitsOf(config *shardv1.ShardConfig) loadLimits {
	limits := loadLimits{int(shardv1.DefaultQueueLimit), shardv1.DefaultAgeLimit}
	if config == nil || config.Spec.Scaling == nil {
		return limits
	}
	if n := config.Spec.Scaling.QueueLimit; n > 0 {
		limits.queue = int(n)
	}
	if d := config.Spec.Scaling.AgeLimit.Duration; d > 0 {
		limits.age = d
	}
	return limits
}

// loadSample is what was measured in a period.
type loadSample struct {
	period, busy, capacity time.Duration // busy and capacity are goroutine time
	done, errors           int64
	waiting                int
	oldest                 time.Duration // for how long the oldest object has waited
	own                    *float64      // of the LoadFunc, if there is one
}

// loadSignal is the smoothed load of a shard. The zero value knows nothing.
type loadSignal struct {
	load         float64 // 1 is full
	known        bool
	busy         float64 // part of the capacity
	done, errors float64 // per second
	waiting      int
	oldest       time.Duration
	begun        bool
}

// next returns the signal after another period. What was before is forgotten with loadHalfLife. What waits is taken as
// it is at the end of the period.
func (s loadSignal) next(sample loadSample, limits loadLimits) loadSignal {
	if sample.period <= 0 || sample.capacity <= 0 {
		return s
	}
	seconds := sample.period.Seconds()
	kept := math.Exp2(-float64(sample.period) / float64(loadHalfLife))
	smooth := func(former, now float64) float64 { return kept*former + (1-kept)*now }
	busy := float64(sample.busy) / float64(sample.capacity)
	load := max(busy, float64(sample.waiting)/float64(max(1, limits.queue)), float64(sample.oldest)/float64(max(1, limits.age)))
	known := true
	if sample.own != nil {
		load = *sample.own
		known = load >= 0 && !math.IsInf(load, 1)
	}
	next := loadSignal{
		begun: true, known: known, busy: smooth(s.busy, busy), waiting: sample.waiting, oldest: sample.oldest,
		done: smooth(s.done, float64(sample.done)/seconds), errors: smooth(s.errors, float64(sample.errors)/seconds),
	}
	switch {
	case !known:
	case s.begun && !s.known:
		next.load = min(load, shardv1.MaxRatio) // it has just become known
	default:
		next.load = smooth(s.load, min(load, shardv1.MaxRatio))
	}
	return next
}

// callLoadFunc returns NaN if it panics.
func callLoadFunc(f LoadFunc) (load float64) {
	defer func() {
		if recover() != nil {
			load = math.NaN()
		}
	}()
	return f()
}

// loadReport is what a shard says of its load: the signal in steps, so that it does not change all the time.
type loadReport struct {
	known bool
	load  shardv1.Ratio
	work  shardv1.ShardWork
}

// loadResolution is the step of loads, in thousandths.
const loadResolution = 20

// report returns the signal in steps, nothing if it is not known. Values that differ from those of the former report by hardly a step stay, so that a load between two
// steps is not now the one and now the other; and what is nearly nothing is nothing, so that an idle shard has nothing to say.
func (s loadSignal) report(former loadReport) loadReport {
	if !s.known {
		return loadReport{}
	}
	return loadReport{known: true, load: steady(former.load, s.load), work: shardv1.ShardWork{
		Busy:            steady(former.work.Busy, s.busy),
		DonePerMinute:   steadyCount(former.work.DonePerMinute, s.done*60, 6),
		ErrorsPerMinute: steadyCount(former.work.ErrorsPerMinute, s.errors*60, 6),
		Waiting:         steadyCount(former.work.Waiting, float64(s.waiting), 10),
		OldestSeconds:   steadyCount(former.work.OldestSeconds, s.oldest.Seconds(), 5),
	}}
}

// idle says whether there is nothing that has to be confirmed from time to time.
func (r loadReport) idle() bool {
	return !r.known || r.load.IsZero() && r.work == shardv1.ShardWork{}
}

func steady(former shardv1.Ratio, now float64) shardv1.Ratio {
	milli := math.Floor(min(max(now, 0), shardv1.MaxRatio)*1000/loadResolution+0.5) * loadResolution
	if milli > 0 && math.Abs(now*1000-float64(former.Milli())) < loadResolution*3/4 {
		return former
	}
	ratio, err := shardv1.RatioFromMilli(int32(milli))
	if err != nil {
		return former
	}
	return ratio
}

// steadyCount keeps what differs by a quarter, or by few.
func steadyCount(former int64, now, few float64) int64 {
	const most = 1 << 40
	rounded := int64(min(max(now+0.5, 0), most))
	if rounded > 0 && math.Abs(now-float64(former)) <= max(few, float64(former)/4) {
		return former
	}
	return rounded
}
