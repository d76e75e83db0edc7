package health

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// massPercent is the share of the shards above which their silence is doubted.
const massPercent = 55

// massSilence is the freeze that follows when too many shards fall silent
// together.
type massSilence struct {
	since time.Time // zero: no freeze
	calm  time.Time // since when too few are silent to begin one; zero: not calm
}

// Evaluate says what follows from all that was observed until now.
func (d *Detector) Evaluate(now time.Time) Verdict {
	v := Verdict{}
	connected := d.connectedAt(now)
	if !connected {
		d.unclear()
	}
	for _, s := range d.shards {
		d.quieten(s, now, connected)
	}
	v.Silent, v.Members = d.count(now, connected)
	d.evaluateMass(&v, now, connected)
	v.Hold = d.hold(now, connected)
	for id, s := range d.shards {
		d.evaluateShard(id, s, &v, now, connected)
	}
	slices.Sort(v.Confirm)
	slices.SortFunc(v.Transitions, func(a, b Transition) int { return cmp.Compare(a.ID, b.ID) })
	if connected {
		v.wake(now, d.lastRead.Add(d.timing.SilentAfter()+1))
		v.wake(now, d.connected.Add(d.timing.LeaseDuration))
	}
	return v
}

// wake notes that the verdict may change at t.
func (v *Verdict) wake(now, t time.Time) {
	if t.After(now) && (v.Next.IsZero() || t.Before(v.Next)) {
		v.Next = t
	}
}

// quietSince is when the silence of a shard began, as far as the observer could
// have heard it: a time of being disconnected does not count.
func (d *Detector) quietSince(s *shard) time.Time {
	switch {
	case planted("compare-clocks") && !s.missing && s.record.Renewed != 0:
		return time.UnixMicro(s.record.Renewed)
	case planted("outage-is-silence"):
		return s.changed
	}
	if d.connected.After(s.changed) {
		return d.connected
	}
	return s.changed
}

// quieten lets a shard become silent.
func (d *Detector) quieten(s *shard, now time.Time, connected bool) {
	if !connected || s.missing || s.record.Holder == "" || s.record.heldByManager() {
		return
	}
	if (s.state == Alive || s.state == Unknown) && now.Sub(d.quietSince(s)) >= d.timing.SilentAfter() {
		s.set(Silent, now)
	}
}

// count returns how many of the shards that were alive under these eyes, and
// are neither dead nor gone, are silent.
func (d *Detector) count(now time.Time, connected bool) (silent, members int) {
	for _, s := range d.shards {
		if !s.seen || s.cleared || s.state == Dead || s.state == Released || !s.missing && s.record.heldByManager() {
			continue
		}
		members++
		if s.state == Silent || s.missing && connected && now.Sub(d.quietSince(s)) >= d.timing.SilentAfter() {
			silent++
		}
	}
	return silent, members
}

// evaluateMass begins and ends the freeze. It ends in calm: enough shards have
// been heard again for long enough that every live one must have been; or with
// patience: our own reads and writes have been healthy for two lease durations,
// so those who are silent now are silent for reasons of their own.
func (d *Detector) evaluateMass(v *Verdict, now time.Time, connected bool) {
	mass := v.Silent >= 2 && v.Silent*100 > massPercent*v.Members
	m := &d.mass
	if mass && m.since.IsZero() {
		m.since = now
	}
	if m.since.IsZero() {
		return
	}
	if mass {
		m.calm = time.Time{}
	} else if m.calm.IsZero() {
		m.calm = now
	}
	calmEnd := m.calm.Add(d.timing.SilentAfter())
	if !m.calm.IsZero() && connected && !now.Before(calmEnd) {
		*m = massSilence{}
		return
	}
	patienceEnd := latest(m.since, d.connected, d.unhealthy).Add(2 * d.timing.LeaseDuration)
	if connected && !now.Before(patienceEnd) {
		*m = massSilence{}
		d.clear(now)
		return
	}
	if connected {
		v.wake(now, patienceEnd)
		if !m.calm.IsZero() {
			v.wake(now, calmEnd)
		}
	}
}

// clear ends the doubt about everyone who would be dead by now. They no longer
// count, so that the silence of others is judged on its own.
func (d *Detector) clear(now time.Time) {
	for _, s := range d.shards {
		if !now.Before(d.quietSince(s).Add(d.patience(s))) {
			s.cleared = true
		}
	}
}

// unclear takes clear back, from those for whom nothing has followed from it
// yet: a connection that was lost since is evidence against ourselves again.
func (d *Detector) unclear() {
	for _, s := range d.shards {
		s.cleared = s.cleared && s.state == Dead
	}
}

func (d *Detector) hold(now time.Time, connected bool) Hold {
	switch {
	case !connected:
		return HoldDisconnected
	case planted("outage-is-silence"):
	case now.Sub(d.connected) < d.timing.LeaseDuration:
		return HoldStarting
	case !d.mass.since.IsZero():
		return HoldMassSilence
	}
	return HoldNone
}

// evaluateShard lets a shard die, asks for the read that must come before that,
// forgets one that is gone, and reports what has changed.
func (d *Detector) evaluateShard(id string, s *shard, v *Verdict, now time.Time, connected bool) {
	end := d.quietSince(s).Add(d.patience(s))
	mortal := s.state == Silent || s.state == Unknown
	if mortal && connected {
		v.wake(now, end)
		held := v.Hold == HoldStarting || v.Hold == HoldMassSilence && !s.cleared
		if !held && !now.Before(end) {
			if s.confirmed.Before(end) || now.Sub(s.confirmed) > d.timing.RetryPeriod() {
				v.Confirm = append(v.Confirm, id)
			} else {
				s.set(Dead, now)
			}
		}
	}
	if connected && (s.state == Alive || s.state == Unknown) {
		v.wake(now, d.quietSince(s).Add(d.timing.SilentAfter()))
	}
	gone := s.state == Released && s.missing && !s.expected
	if gone {
		v.wake(now, end)
	}
	if gone && !now.Before(end) {
		delete(d.shards, id)
		v.Transitions = append(v.Transitions, Transition{ID: id, From: s.reported})
		return
	}
	if s.state != s.reported {
		v.Transitions = append(v.Transitions, Transition{ID: id, From: s.reported, To: s.state})
		s.reported = s.state
	}
}

func (d *Detector) patience(s *shard) time.Duration {
	if s.missing {
		return d.timing.LeaseDuration
	}
	return s.record.patience(d.timing)
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

// IDs returns the known names, sorted.
func (d *Detector) IDs() []string { return slices.Sorted(maps.Keys(d.shards)) }

// quiet says whether a shard with a Lease has given no sign of life for two
// retry periods, so that it would be good to look for oneself.
func (d *Detector) quiet(id string, now time.Time) bool {
	s := d.shards[id]
	return s != nil && s.state != Released && s.state != Dead && now.Sub(d.quietSince(s)) >= 2*d.timing.RetryPeriod()
}
