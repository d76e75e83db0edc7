package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/klog/v2"
)

// TrackerOptions say whose Leases a Tracker watches.
type TrackerOptions struct {
	// Namespace of the Leases and Ring they belong to. Both are needed.
	Namespace, Ring string
	// Identity names this manager, for people. A nonce is added to it. Needed,
	// without a slash.
	Identity string
	// Timing of the ring. Needed.
	Timing Timing
	// OnChange is called on Run's goroutine after the Snapshot has changed. It
	// must not block. May be nil.
	OnChange func()
}

func (o *TrackerOptions) validate() error {
	if msgs := validation.IsDNS1123Label(o.Namespace); len(msgs) > 0 {
		return fmt.Errorf("health: TrackerOptions.Namespace %q: %s", o.Namespace, strings.Join(msgs, "; "))
	}
	if err := checkRingName(o.Ring); err != nil {
		return fmt.Errorf("health: TrackerOptions.Ring %w", err)
	}
	if o.Identity == "" || strings.Contains(o.Identity, "/") {
		return fmt.Errorf("health: TrackerOptions.Identity %q: must not be empty or contain a slash", o.Identity)
	}
	if err := o.Timing.Validate(); err != nil {
		return fmt.Errorf("TrackerOptions.Timing: %w", err)
	}
	return nil
}

// ShardHealth is what a Tracker knows about one shard.
type ShardHealth struct {
	// State is what the detector says of the shard.
	State State
	// Since is when the State began, on the clock of this process.
	Since time.Time
	// Holder is the holder identity last seen; empty: released, or no Lease.
	Holder string
	// Held: this manager held the Lease when the snapshot was made. Ask
	// Tracker.Held before a write that depends on it.
	Held bool
	// Missing: there is no Lease of this name.
	Missing bool
	// Foreign: a Lease of this name exists that is not of this ring. No worker
	// can begin to act under that name while it does.
	Foreign bool
}

// Snapshot is the state of a Tracker at one moment. It is shared: do not change it.
type Snapshot struct {
	// Shards by shardId: every Lease of the ring and every expected name.
	Shards map[string]ShardHealth
	// Synced: the Leases have been listed at least once.
	Synced bool
	// Frozen: nobody is declared dead at present, because of Hold; Reason says
	// it in words.
	Frozen bool
	Hold   Hold
	Reason string
}

// Tracker observes the Leases of a ring for its manager, decides with a
// Detector who is dead, and takes and returns Leases. Safe for concurrent use.
type Tracker struct {
	leases   coordinationv1client.LeaseInterface
	options  TrackerOptions
	holder   string
	selector string
	base     time.Time

	snapshot atomic.Pointer[Snapshot]
	wake     chan struct{} // something was observed: evaluate
	relist   chan struct{} // the watch needs a list to start from
	listed   chan string   // ... and its resource version
	running  atomic.Bool

	readFailures int // in a row; of Run's goroutine alone

	mu       sync.Mutex
	timing   Timing
	detector *Detector
	entries  map[string]*entry
	gone     map[string]tombstone
	held     map[string]time.Duration // until when we hold it, since base
	resumed  map[string]bool          // see Resumed
	sequence int64                    // counts what watches and own writes brought
	synced   bool
	watching bool
	lastFull time.Time
	next     time.Time                // when the Detector wants to be asked again
	confirm  []string                 // what it wants to be read
	changed  bool                     // since OnChange was last called
	news     []Transition             // not logged yet
	writing  map[string]chan struct{} // by shard: closed when the write in progress is done
}

// entry is the latest Lease of a name.
type entry struct {
	lease    *coordinationv1.Lease // nil: none
	sequence int64                 // of the event that brought it
	foreign  bool
	asked    time.Time // when the server was last asked for it by name, to confirm a death
}

// tombstone remembers a Lease that this tracker deleted, against late news of it.
type tombstone struct {
	version  string
	sequence int64
}

// NewTracker checks the options and makes a Tracker; it talks to nobody.
func NewTracker(client coordinationv1client.LeasesGetter, o TrackerOptions) (*Tracker, error) {
	if client == nil {
		return nil, errors.New("health: NewTracker: client is nil")
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	holder := ManagerPrefix + identity(o.Identity)
	detector, err := NewDetector(o.Timing, holder)
	if err != nil {
		return nil, err
	}
	t := &Tracker{
		leases:   client.Leases(o.Namespace),
		options:  o,
		holder:   holder,
		selector: RingLabel + "=" + o.Ring,
		base:     time.Now(),
		wake:     make(chan struct{}, 1),
		relist:   make(chan struct{}, 1),
		listed:   make(chan string, 1),
		timing:   o.Timing,
		detector: detector,
		entries:  map[string]*entry{},
		gone:     map[string]tombstone{},
		held:     map[string]time.Duration{},
		resumed:  map[string]bool{},
		writing:  map[string]chan struct{}{},
	}
	t.snapshot.Store(&Snapshot{Frozen: true, Hold: HoldDisconnected, Reason: reason(Verdict{Hold: HoldDisconnected}, o.Timing)})
	return t, nil
}

// Identity is the holder identity under which this Tracker takes Leases.
func (t *Tracker) Identity() string { return t.holder }

// Snapshot returns what is known now. It never blocks and is never nil.
func (t *Tracker) Snapshot() *Snapshot { return t.snapshot.Load() }

// Check is nil when reads of the Leases have been succeeding: a readiness check.
func (t *Tracker) Check(context.Context) error {
	if s := t.Snapshot(); s.Hold == HoldDisconnected {
		return errors.New(s.Reason)
	}
	return nil
}

// SetTiming changes the timing, while running or before. A Lease whose record
// announces a longer duration keeps it.
func (t *Tracker) SetTiming(timing Timing) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.detector.SetTiming(timing); err != nil {
		return err
	}
	t.timing = timing
	t.poke()
	return nil
}

// Expect names shards that should have a Lease: those with a ShardInstance, and
// those that an owner label names. One that has none is Unknown, and Dead when
// that has lasted for a lease duration.
func (t *Tracker) Expect(ids ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		t.detector.Expect(id, time.Now())
	}
	t.evaluate()
}

// Forget takes Expect back. A shard that has a Lease stays known all the same.
func (t *Tracker) Forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detector.Forget(id)
	if e := t.entries[id]; e != nil && e.lease == nil {
		delete(t.entries, id)
	}
	t.evaluate()
}

// ReportWrite takes in the outcome of a write of the manager to the API server.
// A write that the server did not answer, or failed, prolongs a freeze; nil, and
// refusals such as conflicts, are signs of health.
func (t *Tracker) ReportWrite(err error) {
	if !isOutage(err) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detector.WriteFailed(time.Now())
	t.poke()
}

// Run observes until ctx is done, and returns nil then; ErrRunning when it is
// called twice. Leases that were taken over and not given back stay taken until
// they expire, which is what the next leader waits for.
func (t *Tracker) Run(ctx context.Context) error {
	if !t.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { t.watch(ctx) })
	wg.Go(func() { t.renew(ctx) })
	for ctx.Err() == nil {
		t.read(ctx)
		t.confirmDeaths(ctx)
		t.settle(ctx)
	}
	return nil
}

// settle evaluates as news arrive, until it is time to read again.
func (t *Tracker) settle(ctx context.Context) {
	read := time.NewTimer(t.currentTiming().RetryPeriod())
	defer read.Stop()
	for {
		t.mu.Lock()
		t.evaluate()
		pause := time.Until(t.next)
		urgent := len(t.confirm) > 0
		changed := t.changed
		news := t.news
		t.changed, t.news = false, nil
		t.mu.Unlock()
		for _, n := range news {
			klog.FromContext(ctx).V(2).Info("Shard health changed", "shard", n.ID, "from", n.From, "to", n.To)
		}
		if changed && t.options.OnChange != nil {
			t.options.OnChange()
		}
		if urgent && t.confirmDeaths(ctx) {
			continue
		}
		alarm := time.NewTimer(max(pause, time.Millisecond))
		select {
		case <-ctx.Done():
			alarm.Stop()
			return
		case <-read.C:
			alarm.Stop()
			return
		case <-alarm.C:
		case <-t.wake:
		}
		alarm.Stop()
	}
}

// poke makes Run evaluate soon.
func (t *Tracker) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *Tracker) currentTiming() Timing {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.timing
}

// evaluate asks the Detector and publishes the answer. t.mu is held.
func (t *Tracker) evaluate() {
	now := time.Now()
	v := t.detector.Evaluate(now)
	t.next, t.confirm = v.Next, v.Confirm
	if v.Next.IsZero() {
		t.next = now.Add(t.timing.LeaseDuration)
	}
	s := t.build(v, now)
	if old := t.snapshot.Load(); !old.equal(s) {
		t.snapshot.Store(s)
		t.changed = true
		t.poke()
	}
	t.news = append(t.news, v.Transitions...)
	if len(t.news) > 0 {
		t.poke()
	}
}

func (t *Tracker) build(v Verdict, now time.Time) *Snapshot {
	s := &Snapshot{Shards: map[string]ShardHealth{}, Synced: t.synced, Frozen: v.Hold != HoldNone, Hold: v.Hold, Reason: reason(v, t.timing)}
	for _, id := range t.detector.IDs() {
		h := ShardHealth{Missing: true}
		h.State, h.Since = t.detector.State(id)
		if e := t.entries[id]; e != nil {
			h.Foreign = e.foreign
			if e.lease != nil {
				h.Missing = false
				h.Holder = RecordOf(e.lease).Holder
			}
		}
		h.Held = now.Sub(t.base) < t.held[id]
		s.Shards[id] = h
	}
	return s
}

// equal ignores Reason, whose numbers change without anything happening.
func (s *Snapshot) equal(o *Snapshot) bool {
	if s.Synced != o.Synced || s.Hold != o.Hold || len(s.Shards) != len(o.Shards) {
		return false
	}
	for id, h := range s.Shards {
		if other, ok := o.Shards[id]; !ok || other != h {
			return false
		}
	}
	return true
}

func reason(v Verdict, t Timing) string {
	switch v.Hold {
	case HoldDisconnected:
		return fmt.Sprintf("no read of the Leases has succeeded within %v", t.SilentAfter())
	case HoldStarting:
		return fmt.Sprintf("connected for less than a lease duration of %v", t.LeaseDuration)
	case HoldMassSilence:
		return fmt.Sprintf("%d of %d shards are silent together", v.Silent, v.Members)
	}
	return ""
}
