package fencing

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ProbeLease is the Lease that the policy lets nobody create. The label makes the policy look at it, whoever asks.
func ProbeLease(ring, ownerLabel string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: Probe(ring), Labels: map[string]string{ownerLabel: "probe"}}}
}

// ShardsProbeLease is the Lease that the policy Shards lets nobody create.
func ShardsProbeLease(ring string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: ShardsProbe(ring)}}
}
