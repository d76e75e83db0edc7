package sharding

import (
	"context"
	"sync"
)

// stateBudget bounds the bytes of states that one controller has in its hands on behalf of moves, however many objects move: exported and not yet
// written, or read from Secrets and not yet imported. It grants in the order in which it was asked, so a large state is not overtaken for
// ever by small ones.
type stateBudget struct {
	limit int

	mu      sync.Mutex
	used    int
	waiting []*budgetWaiter
}

type budgetWaiter struct {
	bytes   int
	granted chan struct{}
}

// leastBudget is what states may take at least, however small MaxSize is.
const leastBudget = 1 << 20

// newStateBudget returns the budget for states of at most maxSize bytes: that of four of the largest.
func newStateBudget(maxSize int) *stateBudget {
	return &stateBudget{limit: max(leastBudget, 4*maxSize)}
}

// acquire waits until there is room for so many bytes, of which there are never more than the limit. They are to be given back by release.
func (b *stateBudget) acquire(ctx context.Context, bytes int) error {
	b.mu.Lock()
	if len(b.waiting) == 0 && b.used+bytes <= b.limit {
		b.used += bytes
		b.mu.Unlock()
		return nil
	}
	w := &budgetWaiter{bytes, make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.waiting {
		if other == w {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			b.grant()
			return context.Cause(ctx)
		}
	}
	return nil // it was granted at the same moment
}

func (b *stateBudget) release(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= bytes
	b.grant()
}

// grant is called with the lock.
func (b *stateBudget) grant() {
	for len(b.waiting) > 0 && b.used+b.waiting[0].bytes <= b.limit {
		b.used += b.waiting[0].bytes
		close(b.waiting[0].granted)
		b.waiting = b.waiting[1:]
	}
}
