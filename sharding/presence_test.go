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
