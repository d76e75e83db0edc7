package scaling

import (
	"fmt"
	"strings"
)

// Scaler decides how many shards there should be. It is immutable and safe for concurrent use; what it remembers is a [Memory], which its
// caller keeps.
//
// The arithmetic is that of the HorizontalPodAutoscaler of Kubernetes (kubernetes.io, "Horizontal Pod Autoscaling", sections "Algorithm details" and
// "Configurable scaling behavior"): the number times the ratio of what is to what should be, rounded up; nothing within a tolerance; what is not
// known counts against the direction in which it would go; the least that was asked for in one window, the most in another; limited rates.
type Scaler struct{ o Options }

// New returns a scaler, or an error that names the wrong option and says what would be right.
func New(o Options) (*Scaler, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Scaler{o}, nil
}

// Options returns the options with their defaults.
func (s *Scaler) Options() Options { return s.o }

// Decide says how many shards there should be. It is to be called in rounds of a few seconds, a good part of Options.Sustained, by whoever has the
// memory that the last call returned; the memory that is passed in is unchanged.
//
// Wrong input (a time that goes backwards, negative numbers of shards, a metric without a target) is an error that names the field; the decision
// holds, and the memory is the former one. Values that are unknown are no error.
func (s *Scaler) Decide(m Memory, in Input) (Decision, Memory, error) {
	if err := check(m, in); err != nil {
		return Decision{Current: in.Shards, Desired: s.clamp(in.Shards), Recommended: s.clamp(in.Shards), Reason: Invalid, Text: err.Error()}, m, err
	}
	m = m.begin(s.o, in)
	x := s.observe(&m, in)
	d := Decision{Current: in.Shards, Desired: in.Shards, Load: x.load(), LoadKnown: len(x.missing) == 0, Demand: x.demand}
	m, d.Forecasts = m.forecast(s.o, x)
	ask := s.arithmetic(x, d.Forecasts)
	d.Recommended = s.clamp(ask.shards)
	m = m.advised(s.o, ask.shards)
	d.Desired, d.Reason, d.Text = s.settle(m, in, ask)
	return d, m, nil
}

func check(m Memory, in Input) error {
	switch {
	case in.Now.IsZero():
		return fmt.Errorf("scaling: Now: must not be the zero time")
	case in.Now.Before(m.now):
		return fmt.Errorf("scaling: Now: %v is before the last round, which was at %v", in.Now, m.now)
	case in.Shards < 0:
		return fmt.Errorf("scaling: Shards: %d, must not be negative", in.Shards)
	case in.Wanted < 0:
		return fmt.Errorf("scaling: Wanted: %d, must not be negative; 0 for none", in.Wanted)
	}
	for i, metric := range in.Metrics {
		if !(metric.Target > 0) || metric.Target > maxValue {
			return fmt.Errorf("scaling: Metrics[%d].Target (%s): %v, must be a number above 0", i, metric.Name, metric.Target)
		}
	}
	for i, l := range in.Loads {
		if !(l.Weight >= 0) || l.Weight > maxValue {
			return fmt.Errorf("scaling: Loads[%d].Weight (%s): %v, must be a positive number, or 0 for 1", i, l.ID, l.Weight)
		}
	}
	return nil
}

func (s *Scaler) clamp(shards int) int { return min(max(shards, s.o.Min), s.o.Max) }

// ask is what something asks for.
type ask struct {
	shards int
	reason Reason
	text   string
}

// settle says what becomes of what is asked for.
func (s *Scaler) settle(m Memory, in Input, a ask) (int, Reason, string) {
	current := in.Shards
	if in.Wanted > 0 {
		n := s.clamp(in.Wanted)
		return n, External, fmt.Sprintf("%d shards are asked for from outside, %d are within the limits", in.Wanted, n)
	}
	switch {
	case current < s.o.Min:
		return s.o.Min, BelowMin, fmt.Sprintf("%d shards are fewer than the minimum of %d", current, s.o.Min)
	case current > s.o.Max:
		return s.o.Max, AboveMax, fmt.Sprintf("%d shards are more than the maximum of %d", current, s.o.Max)
	}
	if reason, text := blocked(in.Blocked); reason != "" {
		return current, reason, text
	}
	switch {
	case a.shards > current:
		return s.up(m, current, a)
	case a.shards < current:
		return s.down(m, current, a)
	}
	return current, a.reason, a.text
}

func blocked(b Blocks) (Reason, string) {
	switch {
	case b.Frozen:
		return Frozen, "so many shards are silent that their health is not believed"
	case b.PlanInFlight:
		return PlanInFlight, "a plan is being carried out"
	case b.RollingOut:
		return RollingOut, "members are being replaced or restarted"
	}
	return "", ""
}

// up adds shards: the least that was asked for while they must be needed, as many as may be added.
func (s *Scaler) up(m Memory, current int, a ask) (int, Reason, string) {
	least := m.lowest(s.o.Sustained)
	room := min(s.o.MaxStepUp-m.added(s.o.UpPeriod), max(1, current))
	switch {
	case current == s.o.Max:
		return current, AtMax, a.text + "; there are as many as are allowed"
	case least <= current:
		return current, StabilizingUp, fmt.Sprintf("%s; not for %v yet", a.text, s.o.Sustained)
	case room <= 0:
		return current, RateLimited, fmt.Sprintf("%s; %d have been added in the last %v", a.text, m.added(s.o.UpPeriod), s.o.UpPeriod)
	}
	return min(least, current+room, s.o.Max), a.reason, a.text
}

// down removes shards: down to the most that was asked for while they must not be needed, as many as may be removed.
func (s *Scaler) down(m Memory, current int, a ask) (int, Reason, string) {
	most := m.highest(s.o.Cooldown)
	room := s.o.MaxStepDown - m.removed(s.o.DownPeriod)
	switch {
	case current == s.o.Min:
		return current, AtMin, a.text + "; there are as few as are allowed"
	case most >= current:
		return current, StabilizingDown, fmt.Sprintf("%s; not for %v yet", a.text, s.o.Cooldown)
	case room <= 0:
		return current, RateLimited, fmt.Sprintf("%s; %d have been removed in the last %v", a.text, m.removed(s.o.DownPeriod), s.o.DownPeriod)
	}
	return max(most, current-room, s.o.Min), a.reason, a.text
}

// list joins names for a text, as many as fit.
func list(names []string) string {
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
	}
	return strings.Join(names, ", ")
}
