package health

import "time"

// State is what an observer knows about a shard.
type State string

const (
	// Unknown: there is no evidence. The Lease is missing, or has just been seen
	// for the first time, or another manager holds it. Not dead: nothing is taken
	// from the shard; and not alive: nothing is given to it.
	Unknown State = "Unknown"
	// Alive: a heartbeat was seen within the last three retry periods.
	Alive State = "Alive"
	// Silent: no heartbeat for three retry periods. Gets nothing new, keeps what it has.
	Silent State = "Silent"
	// Dead: the record has not changed for the whole lease duration while the
	// observer was connected, a read begun after that, and less than a retry
	// period ago, has confirmed it, and nothing held the verdict back. Also: this manager holds the Lease.
	Dead State = "Dead"
	// Released: the holder gave the Lease up by itself.
	Released State = "Released"
)

// Hold is why nobody is declared dead at present. It is empty when deaths are
// declared as they are found.
type Hold string

const (
	// HoldNone: nothing is held back.
	HoldNone Hold = ""
	// HoldDisconnected: no read has succeeded for three retry periods, or ever.
	HoldDisconnected Hold = "Disconnected"
	// HoldStarting: connected for less than one lease duration.
	HoldStarting Hold = "Starting"
	// HoldMassSilence: more than 55 % of the shards, and at least two, fell
	// silent together; the fault is more likely the observer's.
	HoldMassSilence Hold = "MassSilence"
)

// Observation is one look at one Lease.
type Observation struct {
	// Record that was seen, unless Missing.
	Record Record
	// Missing: there is no Lease of this name.
	Missing bool
	// Begun is when the read that saw this was started. Zero for an event of a
	// watch, which may be old news and therefore confirms nothing.
	Begun time.Time
}

// Transition is a change of a shard's state.
type Transition struct {
	ID       string
	From, To State // From is empty for a shard that was not known; To for one that was forgotten
}

// Verdict is the outcome of Detector.Evaluate.
type Verdict struct {
	// Transitions since the last evaluation, by ID.
	Transitions []Transition
	// Confirm names the shards that are dead if a read of their Lease, begun
	// now, finds nothing new. Sorted.
	Confirm []string
	// Hold says whether deaths are held back; Silent and Members are the count
	// behind HoldMassSilence.
	Hold            Hold
	Silent, Members int
	// Next is when time alone may change the verdict; zero: never.
	Next time.Time
}

// Detector decides which shards are alive. It is a value that is told what was
// seen and when, and has no clock, no goroutine and no lock: not safe for
// concurrent use. All times given to it come from one monotonic clock and do
// not go backwards.
//
// It is a timeout detector: complete (a shard that has stopped is declared dead)
// and, like any detector in an asynchronous system, only as accurate as its
// timeout; see Chandra and Toueg, "Unreliable failure detectors for reliable
// distributed systems", 1996. What makes a wrong verdict harmless is not here
// but in the Lease: the compare-and-swap that follows a verdict fails if the
// shard has renewed, and the shard has stopped itself before, if it has not.
type Detector struct {
	timing Timing
	self   string
	shards map[string]*shard

	lastRead  time.Time // start of the last successful read; zero: none
	connected time.Time // since when reads have been succeeding without a gap
	unhealthy time.Time // last failed write
	mass      massSilence
}

// shard is what is known about one.
type shard struct {
	state    State
	reported State // as of the last evaluation
	since    time.Time

	record    Record
	missing   bool
	changed   time.Time // when the record was first seen as it is now
	confirmed time.Time // start of the latest read that found it unchanged
	expected  bool      // somebody asked for this name
	seen      bool      // has been alive under these eyes
	cleared   bool      // patience with its part in a mass silence is over
}

// NewDetector makes a Detector. self is the holder identity under which the
// observer itself takes Leases; it may be empty for one that never does.
func NewDetector(t Timing, self string) (*Detector, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return &Detector{timing: t, self: self, shards: map[string]*shard{}}, nil
}

// SetTiming changes the timing. Times already measured stay valid.
func (d *Detector) SetTiming(t Timing) error {
	if err := t.Validate(); err != nil {
		return err
	}
	d.timing = t
	return nil
}

// Read reports a read of the Leases that succeeded: begun is when it was
// started. Only reads make an observer connected, and a gap of three retry
// periods between them disconnects it. What such a read saw is observed first.
func (d *Detector) Read(begun, now time.Time) {
	if !d.connectedAt(now) {
		d.connected = now
		d.unclear()
	}
	if begun.After(d.lastRead) {
		d.lastRead = begun
	}
}

func (d *Detector) connectedAt(now time.Time) bool {
	return !d.lastRead.IsZero() && now.Sub(d.lastRead) <= d.timing.SilentAfter()
}

// WriteFailed reports a write of the observer that the server failed or did not
// answer. It prolongs a freeze.
func (d *Detector) WriteFailed(now time.Time) { d.unhealthy = now }

// Gap reports that events may have been missed. A Lease that is missing may
// have existed meanwhile, so its absence is measured anew.
func (d *Detector) Gap(now time.Time) {
	for _, s := range d.shards {
		if s.missing {
			s.changed = now
		}
	}
}

// Expect makes the Detector judge a name whether or not a Lease of it has been
// seen: it is missing from now on until one is.
func (d *Detector) Expect(id string, now time.Time) {
	s := d.shards[id]
	if s == nil {
		s = &shard{state: Unknown, since: now, missing: true, changed: now}
		d.shards[id] = s
	}
	s.expected = true
}

// Forget takes Expect back, and drops what is known about a name that has no
// Lease. As long as there is one, the name stays known.
func (d *Detector) Forget(id string) {
	s := d.shards[id]
	if s == nil {
		return
	}
	s.expected = false
	if s.missing {
		delete(d.shards, id)
	}
}

// Observe takes in what was seen of one Lease.
func (d *Detector) Observe(id string, o Observation, now time.Time) {
	s := d.shards[id]
	if s == nil {
		if o.Missing {
			return
		}
		s = &shard{state: Unknown, since: now, missing: true, changed: now}
		d.shards[id] = s
	}
	switch {
	case o.Missing:
		d.observeMissing(s, now)
	case s.missing || !s.record.sameBeat(o.Record):
		s.missing, s.record, s.changed, s.cleared, s.confirmed = false, o.Record, now, false, time.Time{}
		s.set(d.stateOnChange(s, now), now)
	default:
		s.record = o.Record // the duration may have been edited
	}
	if !o.Begun.IsZero() && !o.Begun.Before(s.changed) && o.Begun.After(s.confirmed) {
		s.confirmed = o.Begun
	}
}

func (d *Detector) observeMissing(s *shard, now time.Time) {
	if s.missing {
		return
	}
	s.missing, s.changed, s.cleared, s.confirmed = true, now, false, time.Time{}
	if planted("missing-is-dead") {
		s.set(Dead, now)
	}
	if s.state != Released && s.state != Dead {
		s.set(Unknown, now)
	}
}

// stateOnChange is the state of a shard whose record has just been seen to
// change.
func (d *Detector) stateOnChange(s *shard, now time.Time) State {
	switch {
	case s.record.Holder == "":
		return Released
	case s.record.Holder == d.self:
		return Dead
	case s.record.heldByManager():
		return Unknown
	case !d.connectedAt(now):
		return Unknown // it changed at some time before we looked; that may be long ago
	}
	s.seen = true
	return Alive
}

func (s *shard) set(state State, now time.Time) {
	if s.state != state {
		s.state, s.since = state, now
	}
}

// State returns the state of a shard as of the last Observe or Evaluate, and
// since when it has been in it: Unknown and the zero time for a name that is
// not known.
func (d *Detector) State(id string) (State, time.Time) {
	s := d.shards[id]
	if s == nil {
		return Unknown, time.Time{}
	}
	return s.state, s.since
}
