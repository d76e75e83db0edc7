package health

import (
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// Every renewal differs from the one before, even on a wall clock that stands
// still, and leaves alone what it was made from.
func TestHoldAlwaysDiffers(t *testing.T) {
	l := &coordinationv1.Lease{}
	for i, holder := range []string{"a_1", "a_1", "a_1", "a_2"} {
		before := l.DeepCopy()
		next := hold(l, holder, second15, t0)
		if RecordOf(next).sameBeat(RecordOf(l)) || RecordOf(next).Renewed == RecordOf(l).Renewed {
			t.Errorf("write %d is no heartbeat", i)
		}
		if RecordOf(l) != RecordOf(before) {
			t.Error("the original was changed")
		}
		l = next
	}
	r := RecordOf(l)
	if r.Holder != "a_2" || r.Transitions != 1 || r.LeaseDuration != 15*time.Second || r.heldByManager() {
		t.Errorf("record %+v", r)
	}
	if RecordOf(released(l)).Holder != "" {
		t.Error("not released")
	}
}

func TestIdentitiesDiffer(t *testing.T) {
	a, b := identity("shard-1"), identity("shard-1")
	if a == b || !strings.HasPrefix(a, "shard-1_") {
		t.Errorf("%s and %s", a, b)
	}
}
