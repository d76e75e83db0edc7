package sharding

import (
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/health"
)

// liveness is how a shard is, as far as its Lease tells.
type liveness int

const (
	livenessUnknown liveness = iota // there is no Lease of that name in the ring
	livenessLost                    // it is there, and nobody renews it, or it is not a shard that holds it
	livenessLive
)

// leaseWitness judges by the Leases whether shards are alive. It is a second opinion, apart from health.Tracker: the audit must not
// believe what it is to check. Like that, it compares no clocks: what counts is for how long a record has been the same, in the
// time of the manager.
type leaseWitness struct {
	seen map[string]leaseSighting
}

type leaseSighting struct {
	record string
	since  time.Time // when it was first seen
	shard  bool      // held by a shard
}

// observe takes note of all Leases of the ring as they are now.
func (w *leaseWitness) observe(now time.Time, leases []coordinationv1.Lease) {
	seen := make(map[string]leaseSighting, len(leases))
	for i := range leases {
		spec := &leases[i].Spec
		holder := ""
		if spec.HolderIdentity != nil {
			holder = *spec.HolderIdentity
		}
		sighting := leaseSighting{
			record: fmt.Sprint(holder, microOf(spec.RenewTime), microOf(spec.AcquireTime), leases[i].UID), since: now,
			shard: holder != "" && !strings.HasPrefix(holder, health.ManagerPrefix),
		}
		if before, known := w.seen[leases[i].Name]; known && before.record == sighting.record {
			sighting.since = before.since
		}
		seen[leases[i].Name] = sighting
	}
	w.seen = seen
}

// lives says how a shard is. A record that is new to the witness gets the benefit of the doubt.
func (w *leaseWitness) lives(now time.Time, shard string, patience time.Duration) liveness {
	sighting, known := w.seen[shard]
	switch {
	case !known:
		return livenessUnknown
	case !sighting.shard || now.Sub(sighting.since) >= patience:
		return livenessLost
	}
	return livenessLive
}

// microOf tells times apart. A Lease need not have one.
func microOf(t *metav1.MicroTime) int64 {
	if t == nil {
		return 0
	}
	return t.UnixMicro()
}
