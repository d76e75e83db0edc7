package sharding

import (
	"fmt"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// TestBusyObjectsMove has objects that are written more often than the manager takes from a list to its write.
func TestBusyObjectsMove(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		m := s.runManager("m")
		s.worker("a", nil)
		s.settle(20 * time.Second)
		const n = 40
		for i := range n {
			s.secret(fmt.Sprint("o", i), "")
		}
		s.settle(5 * time.Second)
		wants(s, "objects of the only shard", s.counts(secrets)["a"], n)
		m.client.SetFaults(memapi.Faults{MaxLatency: 300 * time.Millisecond})
		s.all.Go(func() {
			for i := 0; s.ctx.Err() == nil; i++ {
				s.label(secrets, fmt.Sprint("o", i%n), "hits", fmt.Sprint(i))
				pause(s.ctx, 200*time.Millisecond/n)
			}
		})
		s.worker("b", nil)
		s.settle(30 * time.Second)
		if moved := s.counts(secrets)["b"]; moved < n/4 {
			t.Errorf("%d of %d objects moved to a shard that has joined", moved, n)
		}
	})
}
