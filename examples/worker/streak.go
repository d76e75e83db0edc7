package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

const (
	// streakLimit is how many reconciles in a row have to fail until this worker calls itself ill. The library sets an object aside after
	// fewer, so a single bad one does not do it.
	streakLimit = 20
	// streakMemory is for how long that counts without another failure.
	streakMemory = 15 * time.Minute
)

// streak is the worker's own indicator of its health: when whatever it does fails, as it may not write reports any more or can't
// reach somebody, it should not get even more to do. It counts failures of reconciles in a row, over all objects.
type streak struct {
	mu       sync.Mutex
	failures int
	last     error
	at       time.Time
}

// note counts the result of a reconcile.
func (s *streak) note(err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.failures = 0
		return
	}
	s.failures++
	s.last, s.at = err, now
}

// check is nil unless everything has failed lately.
func (s *streak) check(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures < streakLimit || now.Sub(s.at) >= streakMemory {
		return nil
	}
	return fmt.Errorf("at least the last %d audits have failed, this one at last: %w", streakLimit, s.last)
}

// Healthy is for sharding.WorkerOptions.
func (s *streak) Healthy(context.Context) error { return s.check(time.Now()) }

// counted notes the results of next. What was cancelled says nothing.
func (s *streak) counted(next sharding.ReconcileFunc) sharding.ReconcileFunc {
	return func(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
		result, err := next(ctx, key)
		if ctx.Err() == nil {
			s.note(err, time.Now())
		}
		return result, err
	}
}
