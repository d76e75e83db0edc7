package sharding

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func TestStateBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newStateBudget(leastBudget) // four of them
		var granted []string
		ask := func(ctx context.Context, name string, bytes int) {
			go func() {
				if b.acquire(ctx, bytes) == nil {
					granted = append(granted, name)
				}
			}()
			synctest.Wait()
		}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := fmt.Sprint(granted); got != want {
				t.Fatalf("granted %s, want %s", got, want)
			}
		}
		ask(t.Context(), "three", 3*leastBudget)
		impatient, cancel := context.WithCancel(t.Context())
		ask(impatient, "two", 2*leastBudget)
		ask(t.Context(), "one", leastBudget) // there is room, and somebody before it
		ask(t.Context(), "four", 4*leastBudget)
		expect("[three]")
		cancel() // who waits no more lets the next one through
		expect("[three one]")
		b.release(leastBudget)
		expect("[three one]")
		b.release(3 * leastBudget)
		expect("[three one four]")
		if b.release(4 * leastBudget); b.used != 0 || len(b.waiting) != 0 {
			t.Errorf("%d bytes are in use, %d wait", b.used, len(b.waiting))
		}
		cancel()
		if err := newStateBudget(0).acquire(impatient, leastBudget+1); !errors.Is(err, context.Canceled) {
			t.Errorf("more than there is was granted: %v", err)
		}
	})
}

// crowd is a ledger whose exports and imports take a second, and that counts how many there are at once.
type crowd struct {
	*ledger
	now, most atomic.Int64
}

func (c *crowd) during() (over func()) {
	n := c.now.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	time.Sleep(time.Second)
	return func() { c.now.Add(-1) }
}

func (c *crowd) Export(ctx context.Context, key types.NamespacedName) ([]byte, error) {
	defer c.during()()
	return c.ledger.Export(ctx, key)
}

func (c *crowd) Import(ctx context.Context, key types.NamespacedName, state State) error {
	defer c.during()()
	return c.ledger.Import(ctx, key, state)
}

// However many objects move, the states that are in the hands of source and target at once have a bound.
func TestStatesInFlightAreBounded(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		crowds := map[string]*crowd{}
		const objects = 12
		for i := range objects {
			s.secret(fmt.Sprint("o-", i), "a")
		}
		for _, id := range []string{"a", "b"} {
			c := &crowd{ledger: all.of(id)}
			c.pads(leastBudget - 100)
			crowds[id] = c
			s.process(id, id, c.Reconcile, func(_ *WorkerOptions, controller *Controller) {
				controller.Concurrency = objects
				controller.State = &StateTransfer{Exporter: c, Importer: c, Forgetter: c, MaxSize: leastBudget}
			})
		}
		s.settle(5 * time.Second)
		for i := range objects {
			s.label(secrets, fmt.Sprint("o-", i), DrainLabel(simRing), "b")
		}
		s.settle(time.Minute)
		for i := range objects {
			wants(s, fmt.Sprint("what b knows of o-", i), crowds["b"].of(fmt.Sprint("o-", i)), "a b")
		}
		wants(s, "exports at once", crowds["a"].most.Load(), int64(4))
		wants(s, "imports at once", crowds["b"].most.Load(), int64(4))
		wants(s, "Secrets that are left", s.stateSecrets(), 0)
	})
}
