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

// StrangersLease is a Lease that is of no shard: the policy Shards refuses its creation to every worker that it knows. It does not
// refuse it to others, so the answer says more than that to the creation of ShardsProbeLease.
func StrangersLease() *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: NoShard}}
}
