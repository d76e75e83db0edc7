package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/klog/v2"
)

// verdict is what to do about a Lease.
type verdict int

const (
	mayHold  verdict = iota // ours, released, or silent for long enough: write it
	mustWait                // somebody else's
)

// rival remembers how long the record of another holder has been the same, by
// our own clock. It is pure: time is an argument.
type rival struct {
	record Record
	since  time.Time // when record was first seen; zero: there is no rival
}

// judge decides about a record that was read at now.
func (v *rival) judge(r Record, self string, t Timing, now time.Time) verdict {
	if r.Holder == self || r.Holder == "" {
		*v = rival{}
		return mayHold
	}
	if v.since.IsZero() || !v.record.sameBeat(r) {
		v.since = now
	}
	v.record = r
	if now.Sub(v.since) >= r.patience(t) || planted("steal-lease") {
		return mayHold
	}
	return mustWait
}

// claim gets and renews the Lease of one shard for one process. It is used by
// one goroutine.
type claim struct {
	leases   coordinationv1client.LeaseInterface
	options  *HeartbeatOptions
	identity string
	right    *right
	timing   func() Timing

	last  *coordinationv1.Lease // the Lease as we last wrote or read it; nil: read it first
	rival rival
	// newest is the latest version of the Lease that was read or written.
	newest string
	met    bool // the Lease has existed, as far as we know
	doubt  bool // we created it, or tried to, and its last holder may be acting
}

// waiting says for whom, nil if it does not have to wait.
func (c *claim) waiting() *string {
	var why string
	switch {
	case c.last == nil:
		why = fmt.Sprintf("it is held by %q: if that is no earlier process of this shard that is about to end, two have the same name", c.rival.record.Holder)
	case c.right.probation() > 0:
		why = "it had to be created anew, so whoever had it before may act for as long as it lasted"
	default:
		return nil
	}
	return &why
}

// tries bounds the requests of one attempt: more than a conflict, a read and a
// write are only needed when somebody else keeps writing to the Lease.
const tries = 4

// attempt renews the Lease, or takes it if it may. A nil error means that the
// Lease was renewed or that there is nothing to do but wait.
func (c *claim) attempt(ctx context.Context) error {
	var err error
	for range tries {
		if c.last == nil {
			read, err := c.leases.Get(ctx, c.options.Name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err):
				// Create it, below.
			case err != nil:
				return fmt.Errorf("read the Lease: %w", err)
			default:
				c.met = true
				if err := c.saw(read); err != nil {
					return err
				}
				if RecordOf(read).Holder != c.identity {
					if err := checkRing(read, c.options.Ring); err != nil {
						return err
					}
				}
				c.last = read
			}
		}
		if c.last != nil && c.rival.judge(RecordOf(c.last), c.identity, c.timing(), time.Now()) == mustWait {
			klog.FromContext(ctx).V(2).Info("The Lease is held by another; waiting", "holder", RecordOf(c.last).Holder)
			c.right.fence()
			c.last = nil // read it again next time
			return nil
		}
		if err = c.write(ctx); err == nil {
			return nil
		}
		// Somebody wrote before us, and that may have been ourselves: a write
		// whose answer was lost. Read, and go by what is there.
		if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
			break
		}
		c.last = nil
	}
	return fmt.Errorf("write the Lease: %w", err)
}

// write creates or updates the Lease with ourselves as the holder. The update
// carries the resource version of what was judged. After a creation we act at
// once if we were acting anyway, or nobody else can be. Otherwise the Lease may
// have been deleted under a holder that still acts, until its next renewal meets
// ours or its deadline passes: so we wait for a lease duration.
func (c *claim) write(ctx context.Context) error {
	timing, sent := c.timing(), time.Now()
	c.right.shorten(sent, timing.RenewDeadline())
	var written *coordinationv1.Lease
	var err error
	if c.last == nil {
		// Noted before it is sent: if the answer is lost, the next attempt finds a
		// Lease of ours and must not take it for more than it is.
		if c.doubt = c.doubt || !c.right.standing() && (c.met || !c.options.Fresh); c.doubt && !planted("no-doubt") {
			c.right.postpone(timing.LeaseDuration)
		}
		written, err = c.leases.Create(ctx, c.fresh(timing, sent), metav1.CreateOptions{})
	} else {
		next := hold(c.last, c.identity, timing, sent)
		next.Labels = c.labels(next.Labels)
		written, err = c.leases.Update(ctx, next, metav1.UpdateOptions{})
	}
	if err != nil {
		return err
	}
	if written == nil {
		return errors.New("the server answered without an object")
	}
	if err := c.saw(written); err != nil {
		return err
	}
	c.last, c.met = written, true
	if c.doubt && !planted("no-doubt") {
		c.right.postpone(timing.LeaseDuration)
		c.doubt = false
	}
	switch {
	case planted("count-from-answer"):
		sent = time.Now()
	case planted("no-margin"):
		timing.LeaseDuration = timing.LeaseDuration * 3 / 2
	}
	c.right.extend(sent, timing.RenewDeadline())
	return nil
}

// saw is told of every Lease that the API server answers with. Its version only grows, also when the Lease is deleted and created again; one
// that is older than another before shows that the storage went back. The caches of this process would go on with a later state than
// the truth, and take everything for old that is not.
func (c *claim) saw(l *coordinationv1.Lease) error {
	if c.newest != "" {
		if order, err := resourceversion.CompareResourceVersion(l.ResourceVersion, c.newest); err == nil && order < 0 {
			return fmt.Errorf("%w: the Lease %s/%s has version %s, and had %s", errWentBack, l.Namespace, l.Name, l.ResourceVersion, c.newest)
		}
	}
	c.newest = l.ResourceVersion
	return nil
}

func (c *claim) fresh(t Timing, now time.Time) *coordinationv1.Lease {
	return hold(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace:       c.options.Namespace,
		Name:            c.options.Name,
		Labels:          c.labels(nil),
		OwnerReferences: c.options.OwnerReferences,
	}}, c.identity, t, now)
}

// labels are the given ones with ours set.
func (c *claim) labels(old map[string]string) map[string]string {
	out := make(map[string]string, len(old)+len(c.options.Labels)+1)
	maps.Copy(out, old)
	maps.Copy(out, c.options.Labels)
	out[RingLabel] = c.options.Ring
	return out
}
