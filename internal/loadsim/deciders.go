package loadsim

import (
	"math"
	"slices"
	"time"

	"github.com/shard-io/shard-controller/sharding/scaling"
)

// Scaler lets package scaling decide.
type Scaler struct {
	scaler *scaling.Scaler
	memory scaling.Memory
	last   scaling.Decision
}

// NewScaler returns a Scaler, or the error of its options.
func NewScaler(o scaling.Options) (*Scaler, error) {
	s, err := scaling.New(o)
	return &Scaler{scaler: s}, err
}

// Decide implements Decider.
func (s *Scaler) Decide(in scaling.Input) (int, string) {
	d, memory, err := s.scaler.Decide(s.memory, in)
	if err != nil {
		return in.Shards, err.Error()
	}
	s.memory, s.last = memory, d
	return d.Desired, string(d.Reason)
}

// Last returns the last decision.
func (s *Scaler) Last() scaling.Decision { return s.last }

// HPA decides as the HorizontalPodAutoscaler does with one resource metric and its default behaviour: every 15 s, the ratio of the mean load
// to the target, nothing within a tenth; upwards at most the double or four more at a time, with shards that are starting counted as idle; downwards
// the most that it has asked for in the last 5 minutes. Loads above 1 are 1 for it: that is what the use of a CPU is at most.
type HPA struct {
	// Min, Max and Target are as in its spec; Target is a load.
	Min, Max int
	Target   float64

	next time.Time
	asks []hpaAsk
}

type hpaAsk struct {
	at     time.Time
	shards int
}

// Decide implements Decider.
func (h *HPA) Decide(in scaling.Input) (int, string) {
	if in.Now.Before(h.next) {
		return in.Shards, "waits"
	}
	h.next = in.Now.Add(15 * time.Second)
	if h.asks == nil { // it begins with what it finds
		h.asks = []hpaAsk{{in.Now, in.Shards}}
	}
	asked := h.ask(in)
	h.asks = append(h.asks, hpaAsk{in.Now, asked})
	h.asks = slices.DeleteFunc(h.asks, func(a hpaAsk) bool { return in.Now.Sub(a.at) > 5*time.Minute })
	if asked > in.Shards {
		return min(asked, max(2*in.Shards, in.Shards+4), h.Max), "up"
	}
	for _, a := range h.asks {
		asked = max(asked, a.shards)
	}
	return max(h.Min, min(asked, in.Shards)), "down"
}

func (h *HPA) ask(in scaling.Input) int {
	sum, ready := 0.0, 0
	for _, l := range in.Loads {
		if !l.Starting {
			sum += min(1, l.Load)
			ready++
		}
	}
	if ready == 0 {
		return in.Shards
	}
	ratio := sum / float64(ready) / h.Target
	if math.Abs(ratio-1) <= 0.1 {
		return in.Shards
	}
	if ratio > 1 && ready < len(in.Loads) {
		if ratio = sum / float64(len(in.Loads)) / h.Target; ratio <= 1.1 {
			return in.Shards
		}
		return int(math.Ceil(ratio*float64(len(in.Loads)) - 1e-9))
	}
	return int(math.Ceil(ratio*float64(ready) - 1e-9))
}

// Fixed is a number of shards that never changes.
type Fixed int

// Decide implements Decider.
func (f Fixed) Decide(scaling.Input) (int, string) { return int(f), "fixed" }
