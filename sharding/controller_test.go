package sharding

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// anInformer is one that is never started.
func anInformer() cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(&cache.ListWatch{}, nil, 0, cache.Indexers{})
}

func reconcileNothing(context.Context, types.NamespacedName) (Result, error) { return Result{}, nil }

func TestControllerIsValidated(t *testing.T) {
	batch := func(context.Context, []types.NamespacedName) []Outcome { return nil }
	valid := func(change func(*Controller)) Controller {
		c := Controller{Informer: anInformer(), Reconcile: reconcileNothing}
		change(&c)
		return c
	}
	for _, test := range []struct {
		controller Controller
		wrong      string // the field that the error names
	}{
		{valid(func(c *Controller) {}), ""},
		{valid(func(c *Controller) { c.Informer = nil }), "Informer"},
		{valid(func(c *Controller) { c.Reconcile = nil }), "Reconcile"},
		{valid(func(c *Controller) { c.ReconcileBatch = batch }), "ReconcileBatch"},
		{valid(func(c *Controller) { c.BatchSize = -1 }), "BatchSize"},
		{valid(func(c *Controller) { c.Concurrency = -1 }), "Concurrency"},
		{valid(func(c *Controller) { c.MaxFailures = -1 }), "MaxFailures"},
		{valid(func(c *Controller) { c.MaxPanics = -1 }), "MaxPanics"},
		{valid(func(c *Controller) { c.MinBackoff = -1 }), "MinBackoff"},
		{valid(func(c *Controller) { c.MaxBackoff = -1 }), "MaxBackoff"},
		{valid(func(c *Controller) { c.SetAsideRetry = -1 }), "SetAsideRetry"},
		{valid(func(c *Controller) { c.MinBackoff, c.MaxBackoff = time.Hour, time.Second }), "MinBackoff"},
		{valid(func(c *Controller) {
			c.Children = map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "pods"}: nil}
		}), "Children[pods]"},
	} {
		_, err := test.controller.complete()
		if (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("want an error about %q, got %v", test.wrong, err)
		}
	}
}

func TestControllerDefaults(t *testing.T) {
	c, err := Controller{Informer: anInformer(), Reconcile: reconcileNothing}.complete()
	if err != nil {
		t.Fatal(err)
	}
	if c.Concurrency != 4 || c.BatchSize != 1 || c.MinBackoff != 50*time.Millisecond || c.MaxBackoff != time.Minute ||
		c.MaxFailures != 15 || c.MaxPanics != 3 || c.SetAsideRetry != 10*time.Minute {
		t.Errorf("defaults are not as documented: %+v", c)
	}
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		low, high time.Duration
		want      []time.Duration // of one failure, two, and so on
	}{
		{50 * time.Millisecond, 300 * time.Millisecond, []time.Duration{50e6, 100e6, 200e6, 300e6, 300e6}},
		{time.Second, time.Second, []time.Duration{time.Second, time.Second}},
		{1, math.MaxInt64, []time.Duration{1, 2, 4}},
	} {
		controller := Controller{MinBackoff: c.low, MaxBackoff: c.high}
		for i, want := range c.want {
			if got := controller.backoff(i + 1); got != want {
				t.Errorf("%s to %s: %s after %d failures, want %s", c.low, c.high, got, i+1, want)
			}
		}
		if got := controller.backoff(1000); got != c.high {
			t.Errorf("%s to %s: %s after 1000 failures", c.low, c.high, got)
		}
	}
}

func TestTerminalError(t *testing.T) {
	if TerminalError(nil) != nil {
		t.Error("TerminalError(nil) is not nil")
	}
	cause := errors.New("bad spec")
	if err := TerminalError(cause); !errors.Is(err, cause) || err.Error() != "bad spec" {
		t.Errorf("got %v", err)
	}
}

func TestFailures(t *testing.T) {
	a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Name: "b"}
	f := newFailures(3, 2)
	for i, want := range []bool{false, false, true, true} {
		if count, aside := f.add(a, false); count != i+1 || aside != want {
			t.Errorf("error %d: count %d, aside %v", i+1, count, aside)
		}
	}
	for i, want := range []bool{false, true} {
		if _, aside := f.add(b, true); aside != want {
			t.Errorf("panic %d: aside %v", i+1, aside)
		}
	}
	if f.setAside() != 2 || !f.isAside(a) || !f.isAside(b) {
		t.Errorf("%d set aside, want both", f.setAside())
	}
	f.clear(a)
	f.clear(a)
	if f.setAside() != 1 || f.isAside(a) {
		t.Errorf("%d set aside after clear, want 1", f.setAside())
	}
	if count, aside := f.add(a, false); count != 1 || aside {
		t.Errorf("after clear: count %d, aside %v", count, aside)
	}
}
