package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/klog/v2"
)

// HeartbeatOptions say which shard a Heartbeat speaks for.
type HeartbeatOptions struct {
	// Namespace and Name of the Lease; Name is the shardId. Both are needed.
	Namespace, Name string
	// Ring is the name of the ring, put on the Lease as RingLabel. Needed.
	Ring string
	// Labels are put on the Lease besides RingLabel, at each renewal.
	Labels map[string]string
	// OwnerReferences are put on a Lease that this Heartbeat creates.
	OwnerReferences []metav1.OwnerReference
	// Timing of the ring. Needed.
	Timing Timing
	// Fresh says that no other process can be acting for this shard if it has no
	// Lease, because the caller has just created the shard (a ShardInstance that
	// did not exist). The right to act then begins with the creation of the
	// Lease. Otherwise it begins one lease duration later: the Lease may be
	// missing by accident, and whoever had it may be acting still.
	Fresh bool
	// OnActive is called, on a goroutine of its own, each time the right to act
	// begins, and is expected to work until its context is done. The cause of
	// that is ErrFenced or ErrStopped. It should return soon then: the right
	// cannot begin anew before it has. A return while the context is not done
	// gives nothing up. May be nil: then only Active tells.
	OnActive func(ctx context.Context)
	// OnRenewError is called on Run's goroutine after an attempt to get or
	// renew the Lease that the API server failed or did not answer. It must not
	// block. May be nil.
	OnRenewError func(err error)
}

func (o *HeartbeatOptions) validate() error {
	if msgs := validation.IsDNS1123Label(o.Namespace); len(msgs) > 0 {
		return fmt.Errorf("health: HeartbeatOptions.Namespace %q: %s", o.Namespace, strings.Join(msgs, "; "))
	}
	if msgs := validation.IsDNS1123Subdomain(o.Name); len(msgs) > 0 {
		return fmt.Errorf("health: HeartbeatOptions.Name %q: must be the shardId: %s", o.Name, strings.Join(msgs, "; "))
	}
	if err := checkRingName(o.Ring); err != nil {
		return fmt.Errorf("health: HeartbeatOptions.Ring %w", err)
	}
	if err := o.Timing.Validate(); err != nil {
		return fmt.Errorf("HeartbeatOptions.Timing: %w", err)
	}
	return nil
}

func checkRingName(ring string) error {
	if msgs := validation.IsDNS1123Label(ring); len(msgs) > 0 {
		return fmt.Errorf("%q: must be the name of a ShardConfig: %s", ring, strings.Join(msgs, "; "))
	}
	return nil
}

// Heartbeat keeps the Lease of one shard for this process, and knows at any
// moment whether the process may act for the shard. Safe for concurrent use.
type Heartbeat struct {
	leases   coordinationv1client.LeaseInterface
	options  HeartbeatOptions
	identity string
	right    *right
	timing   atomic.Int64 // lease duration
	nudge    chan struct{}
	without  atomic.Pointer[string] // why the last attempt did not get the Lease
	resumed  atomic.Bool

	run      sync.Mutex    // held by Run, Release and Delete
	ran      bool          // guarded by run
	patience time.Duration // how long to wait for an answer, of Run alone
}

// NewHeartbeat checks the options and makes a Heartbeat; it talks to nobody.
// Give it a client with a rate limit of its own: a heartbeat that queues behind
// the operator's requests comes too late.
func NewHeartbeat(client coordinationv1client.LeasesGetter, o HeartbeatOptions) (*Heartbeat, error) {
	if client == nil {
		return nil, errors.New("health: NewHeartbeat: client is nil")
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	h := &Heartbeat{
		leases:   client.Leases(o.Namespace),
		options:  o,
		identity: identity(o.Name),
		right:    newRight(o.OnActive),
		nudge:    make(chan struct{}, 1),
	}
	h.timing.Store(int64(o.Timing.LeaseDuration))
	return h, nil
}

// Identity is the holder identity that this Heartbeat writes: the shardId, an
// underscore, and a nonce that no other Heartbeat has.
func (h *Heartbeat) Identity() string { return h.identity }

// Resumed says whether, as of the last renewal, a manager had begun to give the
// objects of the shard away, and not come to the end as far as can be known:
// children may be elsewhere while their roots are not. It is to be asked before
// OnActive lets anything act; it stays true for as long as the Lease exists.
func (h *Heartbeat) Resumed() bool { return h.resumed.Load() }

// Active says whether this process may act for the shard now. It takes no lock,
// allocates nothing, and looks at the monotonic clock: a process that was
// stopped past its deadline gets false from the first call after it wakes up,
// whether or not any of its timers has fired yet.
func (h *Heartbeat) Active() bool { return h.right.active() }

// Deadline is when the right to act ends unless it is renewed, with a monotonic
// reading. It is zero when Active is false.
func (h *Heartbeat) Deadline() time.Time { return h.right.deadline() }

// Check is nil when Active is true: a readiness check for Checks. The error says
// who holds the Lease, or what the last attempt to get it failed with.
func (h *Heartbeat) Check(context.Context) error {
	if h.Active() {
		return nil
	}
	err := fmt.Errorf("the Lease %s/%s is not held by this process", h.options.Namespace, h.options.Name)
	if why := h.without.Load(); why != nil {
		err = fmt.Errorf("%w: %s", err, *why)
	}
	return err
}

// SetTiming changes the timing while running, or before. The next renewal,
// which is sent at once, tells others; a shorter right to act counts from
// before it is sent, a longer one from its success.
func (h *Heartbeat) SetTiming(t Timing) error {
	if err := t.Validate(); err != nil {
		return err
	}
	if h.timing.Swap(int64(t.LeaseDuration)) != int64(t.LeaseDuration) {
		select {
		case h.nudge <- struct{}{}:
		default:
		}
	}
	return nil
}

func (h *Heartbeat) currentTiming() Timing {
	return Timing{LeaseDuration: time.Duration(h.timing.Load())}
}

// Run gets the Lease, renews it every retry period, and calls OnActive as the
// right to act comes and goes. It returns nil when ctx is done and OnActive has
// returned; until that it keeps renewing, so that nobody takes the shard from
// work that is just being finished. It returns an error that wraps
// ErrForeignLease when the Lease belongs to something else, and ErrRunning when
// it is called a second time. It also returns an error when the API server has
// gone back to an earlier state, as when etcd is restored from a backup: the
// process should end then. Failing requests are retried for ever.
//
// Run leaves the Lease as it is: see Release.
func (h *Heartbeat) Run(ctx context.Context) error {
	if !h.run.TryLock() {
		return ErrRunning
	}
	defer h.run.Unlock()
	if h.ran {
		return ErrRunning
	}
	h.ran = true

	defer h.right.end()
	defer context.AfterFunc(ctx, h.right.stop)()
	c := &claim{leases: h.leases, options: &h.options, identity: h.identity, right: h.right, timing: h.currentTiming}
	done := ctx.Done()
	for {
		begun := time.Now()
		if err := h.attempt(ctx, c); err != nil {
			h.right.fence()
			h.right.wait()
			return err
		}
		if ctx.Err() == nil {
			h.right.begin(ctx)
		}
		pause := time.NewTimer(time.Until(begun.Add(h.currentTiming().RetryPeriod())))
		probation := time.NewTimer(h.right.probation())
	waiting:
		for {
			if ctx.Err() != nil {
				if !h.right.busy() {
					return nil
				}
				done = nil // seen; go on until the work has ended
			}
			select {
			case <-pause.C:
				break waiting
			case <-h.nudge:
				break waiting
			case <-h.right.idle:
			case <-probation.C:
			case <-done:
			}
			if ctx.Err() == nil {
				h.right.begin(ctx)
			}
		}
	}
}

// attempt makes one attempt. It returns only errors that end Run.
func (h *Heartbeat) attempt(ctx context.Context, c *claim) error {
	if h.right.busy() {
		ctx = context.WithoutCancel(ctx) // a stopping process keeps its Lease until its work has ended
	}
	logger := klog.FromContext(ctx).WithValues("lease", klog.KRef(h.options.Namespace, h.options.Name))
	timing, begun := h.currentTiming(), time.Now()
	ctx, cancel := context.WithTimeout(ctx, min(max(h.patience, timing.RetryPeriod()), timing.RequestTimeout()))
	defer cancel()
	err := c.attempt(klog.NewContext(ctx, logger))
	// A server that is slow gets more time at the next attempt; one that hangs only costs a retry period at first.
	h.patience = 2 * time.Since(begun)
	switch {
	case err == nil:
		h.without.Store(c.waiting())
		h.resumed.Store(c.last != nil && takeoverBegun(c.last))
		return nil
	case errors.Is(err, ErrForeignLease), errors.Is(err, errWentBack):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return nil // we are being stopped; that is no failure of the server
	}
	why := err.Error()
	h.without.Store(&why)
	logger.Error(err, "Could not renew the Lease; will try again", "active", h.Active())
	if h.options.OnRenewError != nil {
		h.options.OnRenewError(err)
	}
	return nil
}
