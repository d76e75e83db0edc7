package sharding

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSessionFromManyGoroutines closes sessions while goroutines come and go: nobody is inside when close has returned, nor comes in after.
func TestSessionFromManyGoroutines(t *testing.T) {
	for round := range 200 {
		s := newSession(context.Background())
		var inside, visits atomic.Int64
		var closed atomic.Bool
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for s.enter() {
					inside.Add(1)
					if closed.Load() {
						t.Errorf("round %d: somebody came in after it was closed", round)
					}
					visits.Add(1)
					inside.Add(-1)
					s.leave()
				}
			})
		}
		for visits.Load() < int64(round) {
			time.Sleep(time.Microsecond)
		}
		s.close()
		closed.Store(true)
		if n := inside.Load(); n > 0 {
			t.Errorf("round %d: %d are inside of a closed session", round, n)
		}
		all.Wait()
	}
}

func TestSessionWaitsForWhoIsInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(t.Context())
		begun := time.Now()
		for i := range 3 {
			if !s.enter() {
				t.Fatal("it is not open")
			}
			time.AfterFunc(time.Duration(i)*time.Second, s.leave)
		}
		time.AfterFunc(time.Second/2, func() {
			if s.enter() {
				t.Error("it lets somebody in while it closes")
			}
		})
		s.close()
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("it was closed after %s, want 2s", took)
		}
	})
}
