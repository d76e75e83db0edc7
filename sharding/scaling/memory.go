package scaling

import (
	"slices"
	"time"
)

// Memory is what a [Scaler] remembers from one round to the next. The zero Memory remembers nothing; a manager's term
// begins with it, or with what [Restore] makes of what a former one has left. A Memory is a value: no method changes one, and it may be used again.
type Memory struct {
	now      time.Time // of the last round; zero: there was none
	shards   int       // wanted in the last round
	advice   []advice  // in order of time, as far as the windows reach
	changes  []change  // in order of time, as far as the periods reach
	queue    []sample  // in order of time, as far as Sustained reaches
	trackers []tracker
}

// advice is what the arithmetic of a round asked for.
type advice struct {
	at     time.Time
	shards int
}

// change is a change of the number of shards that was observed.
type change struct {
	at time.Time
	by int
}

// sample is how many objects waited.
type sample struct {
	at     time.Time
	queued float64
}

// Model returns the model of that name with what it has learnt, to be put into Options.Models by the next process. [Memory.Save] has that of the models
// of this package as text, and how good they were.
func (m Memory) Model(name string) (Model, bool) {
	for _, t := range m.trackers {
		if t.model.Name() == name {
			return t.model, true
		}
	}
	return nil, false
}

// begin notes that a round takes place.
func (m Memory) begin(o Options, in Input) Memory {
	gap := m.now.IsZero() || in.Now.Sub(m.now) > max(o.Sustained, time.Minute)
	if gap {
		m.advice, m.queue = []advice{{in.Now, in.Shards}}, nil
	}
	if m.trackers == nil {
		for _, model := range o.Models {
			m.trackers = append(m.trackers, tracker{model: model})
		}
	}
	if !m.now.IsZero() && in.Shards != m.shards {
		m.changes = append(slices.Clip(m.changes), change{in.Now, in.Shards - m.shards})
	}
	m.now, m.shards = in.Now, in.Shards
	m.changes = since(m.changes, in.Now.Add(-max(o.UpPeriod, o.DownPeriod)), func(c change) time.Time { return c.at })
	return m
}

// advised notes what the arithmetic asks for.
func (m Memory) advised(o Options, shards int) Memory {
	m.advice = append(slices.Clip(m.advice), advice{m.now, shards})
	m.advice = since(m.advice, m.now.Add(-max(o.Sustained, o.Cooldown)), func(a advice) time.Time { return a.at })
	return m
}

// queued notes how many objects wait, and returns by how many per second they get more.
func (m Memory) queued(o Options, queued float64) (after Memory, growth float64, known bool) {
	m.queue = append(slices.Clip(m.queue), sample{m.now, queued})
	m.queue = since(m.queue, m.now.Add(-o.Sustained), func(s sample) time.Time { return s.at })
	first := m.queue[0]
	seconds := m.now.Sub(first.at).Seconds()
	if seconds < o.Sustained.Seconds()/4 || seconds <= 0 {
		return m, 0, false
	}
	return m, (queued - first.queued) / seconds, true
}

// since returns those that are not before a time. The last one that is stays, as it was in force then.
func since[T any](list []T, from time.Time, at func(T) time.Time) []T {
	i := 0
	for i+1 < len(list) && !at(list[i+1]).After(from) {
		i++
	}
	return list[i:]
}

// lowest and highest return the extremes of what was asked for since a time.
func (m Memory) lowest(window time.Duration) int {
	least := m.advice[len(m.advice)-1].shards
	for _, a := range since(m.advice, m.now.Add(-window), func(a advice) time.Time { return a.at }) {
		least = min(least, a.shards)
	}
	return least
}

func (m Memory) highest(window time.Duration) int {
	most := m.advice[len(m.advice)-1].shards
	for _, a := range since(m.advice, m.now.Add(-window), func(a advice) time.Time { return a.at }) {
		most = max(most, a.shards)
	}
	return most
}

// added and removed count the shards that came or went within a period.
func (m Memory) added(period time.Duration) int {
	n := 0
	for _, c := range m.changes {
		if c.by > 0 && m.now.Sub(c.at) < period {
			n += c.by
		}
	}
	return n
}

func (m Memory) removed(period time.Duration) int {
	n := 0
	for _, c := range m.changes {
		if c.by < 0 && m.now.Sub(c.at) < period {
			n -= c.by
		}
	}
	return n
}
