package sharding

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// ReconcileFunc brings the world in line with one root object that this shard owns.
//
// It runs on one of the controller's goroutines, never twice at a time for the same object, and never while another shard may
// act on it. ctx is cancelled when the right to act ends: because the shard lost its Lease, because the object is to be
// handed over and the drain timeout has passed, or because the worker stops; context.Cause tells which. It must return
// soon after that: the object is not handed over before it has. Writes made with ctx through a client from
// [Worker.FencedConfig] are refused from that moment on.
//
// It is called for a deleted object too, once, if this shard owned it until the end: the lister then has nothing for the key. An
// object that moved to another shard is not deleted, and causes no call.
type ReconcileFunc func(ctx context.Context, object types.NamespacedName) (Result, error)

// BatchReconcileFunc is a ReconcileFunc for up to Controller.BatchSize different objects at once. It returns one outcome for each
// object, in the same order. ctx is cancelled as soon as the right to act on any of them ends; the others are tried again.
type BatchReconcileFunc func(ctx context.Context, objects []types.NamespacedName) []Outcome

// Outcome is what a BatchReconcileFunc returns for one object.
type Outcome struct {
	Result Result
	Err    error
}

// Result says when an object is to be reconciled again if nothing happens to it; zero means not before it changes.
type Result struct {
	RequeueAfter time.Duration
}

// TerminalError wraps an error that trying again can't mend: the object is not reconciled again until it changes.
// It returns nil for nil.
func TerminalError(err error) error {
	if err == nil {
		return nil
	}
	return terminalError{err}
}

type terminalError struct{ error }

func (e terminalError) Unwrap() error { return e.error }

// Controller says how a Worker processes the root objects of one resource. The zero value of every optional field is
// the documented default.
type Controller struct {
	// Resource is the target of the ring that this controller serves, without its version. It may be left empty if
	// the ring has a single target.
	Resource schema.GroupResource

	// Informer caches the roots. It is to be restricted to this shard by Worker.TweakListOptions; the worker starts it
	// if nobody else has. Required.
	Informer cache.SharedIndexInformer

	// Children are informers for the resources that the ring's target lists as controlled, restricted by
	// Worker.TweakListOptions as well. With them, the first reconcile of an acquired root waits until its children are in the
	// cache. Resources that Reconcile does not read from a cache need not be listed.
	Children Children

	// Reconcile or ReconcileBatch is required, not both.
	Reconcile      ReconcileFunc
	ReconcileBatch BatchReconcileFunc

	// BatchSize is the most objects that ReconcileBatch gets at once. Default 16.
	BatchSize int

	// Concurrency is how many calls of Reconcile or ReconcileBatch run at the same time. Default 4.
	Concurrency int

	// MinBackoff and MaxBackoff bound the exponential delay before an object whose reconcile returned an error is tried again.
	// Defaults 50ms and 1m.
	MinBackoff, MaxBackoff time.Duration

	// State makes the processing state of the objects go with them from shard to shard. Optional.
	State *StateTransfer

	// MaxFailures is after how many errors in a row, and MaxPanics after how many panics in a row, an object is set aside: an Event
	// says so, and it is tried again only every SetAsideRetry. Defaults 15, 3 and 10m.
	MaxFailures, MaxPanics int
	SetAsideRetry          time.Duration

	guard *Guard // has the objects enqueued elsewhere, instead of Reconcile and ReconcileBatch
}

// Children are informers by the resources of the children that they cache.
type Children map[schema.GroupResource]cache.SharedIndexInformer

// backoff is how long an object waits that has failed n times in a row.
func (c *Controller) backoff(n int) time.Duration {
	d := c.MinBackoff
	for ; n > 1; n-- {
		if d > c.MaxBackoff/2 {
			return c.MaxBackoff
		}
		d *= 2
	}
	return d
}

// complete validates the controller and fills in the defaults.
func (c Controller) complete() (Controller, error) {
	if isNil(c.Informer) {
		return c, errors.New("controller: Informer is required")
	}
	if c.guard == nil && (c.Reconcile == nil) == (c.ReconcileBatch == nil) {
		return c, errors.New("controller: exactly one of Reconcile and ReconcileBatch is required")
	}
	for name, value := range map[string]*int{
		"BatchSize": &c.BatchSize, "Concurrency": &c.Concurrency, "MaxFailures": &c.MaxFailures, "MaxPanics": &c.MaxPanics,
	} {
		if *value < 0 {
			return c, fmt.Errorf("controller: %s is %d, must not be negative", name, *value)
		}
	}
	for name, value := range map[string]time.Duration{
		"MinBackoff": c.MinBackoff, "MaxBackoff": c.MaxBackoff, "SetAsideRetry": c.SetAsideRetry,
	} {
		if value < 0 {
			return c, fmt.Errorf("controller: %s is %s, must not be negative", name, value)
		}
	}
	for resource, informer := range c.Children {
		if isNil(informer) {
			return c, fmt.Errorf("controller: Children[%s] is nil, must be an informer", resource)
		}
	}
	if c.State != nil {
		state, err := c.State.complete()
		if err != nil {
			return c, err
		}
		c.State = &state
	}
	c.BatchSize = cmp.Or(c.BatchSize, 16)
	if c.ReconcileBatch == nil {
		c.BatchSize = 1
	}
	c.Concurrency = cmp.Or(c.Concurrency, 4)
	c.MaxFailures = cmp.Or(c.MaxFailures, 15)
	c.MaxPanics = cmp.Or(c.MaxPanics, 3)
	c.MinBackoff = cmp.Or(c.MinBackoff, 50*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, time.Minute)
	c.SetAsideRetry = cmp.Or(c.SetAsideRetry, 10*time.Minute)
	if c.MinBackoff > c.MaxBackoff {
		return c, fmt.Errorf("controller: MinBackoff is %s, must not exceed MaxBackoff, which is %s", c.MinBackoff, c.MaxBackoff)
	}
	return c, nil
}
