package v1

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPhaseOf(t *testing.T) {
	ready := func(status metav1.ConditionStatus, reason string) []metav1.Condition {
		return []metav1.Condition{
			{Type: ConditionStalled, Status: metav1.ConditionFalse, Reason: "None"},
			{Type: ConditionReady, Status: status, Reason: reason},
		}
	}
	for _, test := range []struct {
		name       string
		conditions []metav1.Condition
		want       string // of a shard that stays
		draining   string // of one that is draining
	}{
		{"no conditions yet", nil, PhasePending, PhaseDraining},
		{"other conditions only", ready("", "")[:1], PhasePending, PhaseDraining},
		{"alive", ready(metav1.ConditionTrue, ReasonAlive), PhaseRunning, PhaseDraining},
		{"alive for a reason of its own", ready(metav1.ConditionTrue, "Custom"), PhaseRunning, PhaseDraining},
		{"not ready yet", ready(metav1.ConditionFalse, "Joining"), PhasePending, PhaseDraining},
		{"not known", ready(metav1.ConditionUnknown, "NoLease"), PhasePending, PhaseDraining},
		{"silent", ready(metav1.ConditionUnknown, ReasonLeaseSilent), PhaseSilent, PhaseSilent},
		{"lost", ready(metav1.ConditionFalse, ReasonLeaseExpired), PhaseLost, PhaseLost},
		{"left", ready(metav1.ConditionFalse, ReasonLeaseReleased), PhaseTerminated, PhaseTerminated},
		{"reason of another status", ready(metav1.ConditionTrue, ReasonLeaseExpired), PhaseRunning, PhaseDraining},
	} {
		if got := PhaseOf(ShardInstanceSpec{}, test.conditions); got != test.want {
			t.Errorf("%s: phase %s, want %s", test.name, got, test.want)
		}
		if got := PhaseOf(ShardInstanceSpec{Draining: true}, test.conditions); got != test.draining {
			t.Errorf("%s, draining: phase %s, want %s", test.name, got, test.draining)
		}
		if got := PhaseOf(ShardInstanceSpec{Cordoned: true}, test.conditions); got != test.want {
			t.Errorf("%s, cordoned: phase %s, want %s", test.name, got, test.want)
		}
	}
}
