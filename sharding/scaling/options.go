package scaling

import (
	"fmt"
	"math"
	"time"
)

// Defaults of Options.
const (
	DefaultMin           = 1
	DefaultMax           = 10
	DefaultUpThreshold   = 0.8
	DefaultDownThreshold = 0.3
	DefaultTolerance     = 0.1
	DefaultSustained     = 30 * time.Second
	DefaultCooldown      = 5 * time.Minute
	DefaultMaxStepUp     = 4
	DefaultMaxStepDown   = 1
	DefaultUpPeriod      = 30 * time.Second
	DefaultDownPeriod    = time.Minute
	DefaultStaleAfter    = time.Minute
)

// Options say when shards are added and removed. The zero value of a field means its default.
type Options struct {
	// Min and Max are the fewest and the most shards: counts from 1, defaults 1 and 10.
	Min, Max int
	// UpThreshold is the mean load above which shards are added, DownThreshold the one below which they are removed. Loads, where 1 is a
	// full shard; above 0 up to 1; defaults 0.8 and 0.3. DownThreshold * (Min+1) must be below UpThreshold * Min.
	UpThreshold, DownThreshold float64
	// Tolerance is how far a load or a metric may be beyond its threshold without consequence: a part of the threshold, from 0 up to 1,
	// default 0.1. Below 0 means none.
	Tolerance float64
	// Sustained is how long shards must be needed before they are added, default 30 s. Cooldown is how long they must not be needed before
	// they are removed, default 5 min.
	Sustained, Cooldown time.Duration
	// MaxStepUp is how many shards are added at most within UpPeriod, defaults 4 and 30 s. MaxStepDown is how many are removed at most within
	// DownPeriod, defaults 1 and 1 min.
	MaxStepUp, MaxStepDown int
	UpPeriod, DownPeriod   time.Duration
	// QueueLimit is how many objects may wait per shard, on average. Above it a shard is added, one at a time and only as long as the queue
	// does not get shorter. 0 means that queues do not count.
	QueueLimit float64
	// ConsolidateBelow removes shards although the load is above DownThreshold, as long as those that stay have at most this load: the
	// policy of those who pay. From DownThreshold up to UpThreshold, better a tenth below it; 0 means never.
	ConsolidateBelow float64
	// StaleAfter is the age from which a load is unknown, default 1 min.
	StaleAfter time.Duration
	// Horizon is how long it takes until a shard that is decided on has taken its share over: its start, and the moves. Models are asked for
	// the demand of that time, with Sustained on top. 0 means that nothing is forecast.
	Horizon time.Duration
	// Models forecast the demand; default one Trend. The largest forecast of those that are good counts. They are the states to begin with:
	// one that has learnt may be put here again by the next process.
	Models []Model
}

func (o *Options) setDefaults() {
	set(&o.Min, DefaultMin)
	set(&o.Max, max(DefaultMax, o.Min))
	set(&o.UpThreshold, DefaultUpThreshold)
	set(&o.DownThreshold, DefaultDownThreshold)
	set(&o.Tolerance, DefaultTolerance)
	set(&o.Sustained, DefaultSustained)
	set(&o.Cooldown, DefaultCooldown)
	set(&o.MaxStepUp, DefaultMaxStepUp)
	set(&o.MaxStepDown, DefaultMaxStepDown)
	set(&o.UpPeriod, DefaultUpPeriod)
	set(&o.DownPeriod, DefaultDownPeriod)
	set(&o.StaleAfter, DefaultStaleAfter)
	if o.Tolerance < 0 {
		o.Tolerance = 0
	}
	if o.Models == nil && o.Horizon > 0 {
		o.Models = []Model{Trend{}}
	}
}

// set gives a field its default.
func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) validate() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"Sustained", o.Sustained}, {"Cooldown", o.Cooldown}, {"UpPeriod", o.UpPeriod}, {"DownPeriod", o.DownPeriod}, {"StaleAfter", o.StaleAfter},
		{"Horizon", o.Horizon},
	} {
		if d.value < 0 || d.value > 24*time.Hour {
			return fmt.Errorf("scaling: %s: %v, must be from 0 to 24h", d.name, d.value)
		}
	}
	switch {
	case o.Min < 1:
		return fmt.Errorf("scaling: Min: %d, must be at least 1", o.Min)
	case o.Max < o.Min:
		return fmt.Errorf("scaling: Max: %d, must not be below Min, which is %d", o.Max, o.Min)
	case o.Max > 1<<20:
		return fmt.Errorf("scaling: Max: %d, must be at most %d", o.Max, 1<<20)
	case !(o.UpThreshold > 0 && o.UpThreshold <= 1):
		return fmt.Errorf("scaling: UpThreshold: %v, must be above 0 and at most 1", o.UpThreshold)
	case !(o.DownThreshold > 0 && o.DownThreshold < o.UpThreshold):
		return fmt.Errorf("scaling: DownThreshold: %v, must be above 0 and below UpThreshold, which is %v", o.DownThreshold, o.UpThreshold)
	case !(o.DownThreshold*float64(o.Min+1) < o.UpThreshold*float64(o.Min)):
		return fmt.Errorf("scaling: DownThreshold: %v, must be below %.3g: with Min %d, removing a shard can overload those that stay",
			o.DownThreshold, o.UpThreshold*float64(o.Min)/float64(o.Min+1), o.Min)
	case !(o.Tolerance <= 1):
		return fmt.Errorf("scaling: Tolerance: %v, must be from 0 to 1", o.Tolerance)
	case o.MaxStepUp < 1:
		return fmt.Errorf("scaling: MaxStepUp: %d, must be at least 1", o.MaxStepUp)
	case o.MaxStepDown < 1:
		return fmt.Errorf("scaling: MaxStepDown: %d, must be at least 1", o.MaxStepDown)
	case !(o.QueueLimit >= 0) || math.IsInf(o.QueueLimit, 1):
		return fmt.Errorf("scaling: QueueLimit: %v, must be a number from 0", o.QueueLimit)
	case o.ConsolidateBelow != 0 && !(o.ConsolidateBelow >= o.DownThreshold && o.ConsolidateBelow <= o.UpThreshold):
		return fmt.Errorf("scaling: ConsolidateBelow: %v, must be from DownThreshold to UpThreshold, which are %.3g and %.3g",
			o.ConsolidateBelow, o.DownThreshold, o.UpThreshold)
	}
	return o.validateModels()
}

func (o Options) validateModels() error {
	names := map[string]bool{}
	for i, model := range o.Models {
		switch {
		case model == nil:
			return fmt.Errorf("scaling: Models[%d]: must not be nil", i)
		case names[model.Name()]:
			return fmt.Errorf("scaling: Models[%d]: %q is there twice, names must be unique", i, model.Name())
		}
		names[model.Name()] = true
	}
	return nil
}
