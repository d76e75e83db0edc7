package scaling

// Reason says in one word why the number of shards changes, or why it stays.
type Reason string

// Reasons to change it.
const (
	// BelowMin and AboveMax: the number is brought inside of Options.Min and Max, at once.
	BelowMin Reason = "BelowMin"
	AboveMax Reason = "AboveMax"
	// External: Input.Wanted asks for it.
	External Reason = "External"
	// LoadHigh: the mean load has been above UpThreshold.
	LoadHigh Reason = "LoadHigh"
	// QueueLong: more objects wait than QueueLimit allows, and they do not get fewer.
	QueueLong Reason = "QueueLong"
	// MetricHigh: a metric has been above its target.
	MetricHigh Reason = "MetricHigh"
	// Predicted: the load is going to be above UpThreshold when a new shard would be ready.
	Predicted Reason = "Predicted"
	// LoadLow: the mean load has been below DownThreshold.
	LoadLow Reason = "LoadLow"
	// Consolidating: fewer shards can do it with a load below ConsolidateBelow.
	Consolidating Reason = "Consolidating"
)

// Reasons to keep it.
const (
	// WithinThresholds: nothing asks for a change.
	WithinThresholds Reason = "WithinThresholds"
	// StabilizingUp and StabilizingDown: a change is asked for, but not yet for long enough.
	StabilizingUp   Reason = "StabilizingUp"
	StabilizingDown Reason = "StabilizingDown"
	// RateLimited: as many shards as are allowed in the period have been added or removed.
	RateLimited Reason = "RateLimited"
	// AtMax and AtMin: a change is asked for that Options.Max or Min does not allow.
	AtMax Reason = "AtMax"
	AtMin Reason = "AtMin"
	// Indivisible: one object is so much of the load that more shards would not help.
	Indivisible Reason = "Indivisible"
	// KeptForForecast: shards are not needed now, but will be.
	KeptForForecast Reason = "KeptForForecast"
	// LoadUnknown and MetricUnknown: something is not known, and what is known asks for nothing.
	LoadUnknown   Reason = "LoadUnknown"
	MetricUnknown Reason = "MetricUnknown"
	// PlanInFlight, RollingOut and Frozen: see Blocks.
	PlanInFlight Reason = "PlanInFlight"
	RollingOut   Reason = "RollingOut"
	Frozen       Reason = "Frozen"
	// Invalid: the input was refused; the error says why.
	Invalid Reason = "Invalid"
)

// Decision is what a round has come to.
type Decision struct {
	// Current is Input.Shards.
	Current int
	// Desired is how many shards there should be: from Min to Max. Equal to Current when nothing is to be done.
	Desired int
	// Recommended is what the arithmetic of this round alone asks for, from Min to Max, before windows, rates and blocks.
	Recommended int
	// Reason says why in one word.
	Reason Reason
	// Text says why in a sentence, for Events and conditions.
	Text string
	// Load is the mean load over all shards that are wanted, where those that are starting count as idle. It counts only with LoadKnown.
	Load float64
	// LoadKnown: the load of every shard is known.
	LoadKnown bool
	// Demand is the sum of all loads that are known, in full shards. When shards are full, it includes what waits in growing queues.
	Demand float64
	// Forecasts are those of all models, used or not.
	Forecasts []Forecast
}

// Acts says whether the number is to change.
func (d Decision) Acts() bool { return d.Desired != d.Current }

// Forecast is what a model says of the demand at the horizon.
type Forecast struct {
	// Model is the name of the model.
	Model string
	// Demand is the forecast, in full shards. It counts only with Known: a model may not have learnt enough yet.
	Demand float64
	Known  bool
	// Error is the mean of how far its forecasts have been off, in full shards, and Naive the same for the forecast that the demand will be
	// what it is now.
	Error, Naive float64
	// Used: the forecast counts. It does not while the model is not better than Naive, or too few of its forecasts have come due.
	Used bool
}
