package sharding

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// The status counts all objects of a shard, and names the first of them in order, however many there are.
func TestStatusNamesTheFirstObjects(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		const objects = 2*listedResources + 150
		var want []string
		for i := range objects {
			name := fmt.Sprintf("o%03d", (i*7919)%objects)
			s.secret(name, "a")
			want = append(want, "ns/"+name)
		}
		slices.Sort(want)
		s.worker("a", nil)
		s.settle(10 * time.Second)
		status := s.instance("a").Status
		wants(s, "objects in the status", status.AssignedResourceCount, int64(objects))
		if !slices.Equal(status.AssignedResources, want[:listedResources]) {
			t.Errorf("the status names %d objects: %v", len(status.AssignedResources), status.AssignedResources)
		}
	})
}

// TestProcessThatWaitedTakesBackTheWishToLeave: a process that leaves could not hand its objects over in time, and another of the same shard, which
// was there already, goes on: then the shard is not leaving any more.
func TestProcessThatWaitedTakesBackTheWishToLeave(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		m := s.runManager("m")
		s.worker("b", nil)
		first := s.process("first", "a", nil)
		s.secrets(20)
		s.settle(time.Minute)
		s.process("second", "a", nil)
		s.settle(time.Minute)
		m.kill()
		first.stop()
		<-first.ended
		wants(s, "a wants to leave", s.instance("a").Spec.Draining, true)
		s.settle(2 * time.Minute)
		s.runManager("n")
		s.settle(2 * time.Minute)
		wants(s, "a wants to leave, as another process has begun", s.instance("a").Spec.Draining, false)
		wants(s, "that a owns something", s.counts(secrets)["a"] > 0, true)
	})
}
