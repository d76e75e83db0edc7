// Package fencing has the names by which the fence of a ring (package sharding/fence) and a worker that
// checks whether it is in force (package sharding) find each other.
package fencing

import (
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Policy is the name of the ValidatingAdmissionPolicy of a ring, and of its binding. Neither part can have a
// dot in it, so no two rings share a name.
func Policy(namespace, ring string) string { return ring + "." + namespace + ".fence.shard.io" }

// Shards is the name of the policy that keeps the workers of a ring to their own ShardInstances and Leases, and of its binding.
func Shards(namespace, ring string) string { return ring + "." + namespace + ".shards.shard.io" }

// ShardsProbe is the name of a Lease that the policy Shards lets nobody create, as Probe is for Policy.
func ShardsProbe(ring string) string { return "shards-probe." + ring }

// Probe is the name of a Lease in the ring's namespace that the policy lets nobody create: who tries it, as a dry run, learns
// whether the policy is in force. The dot keeps it apart from the Leases of shards.
func Probe(ring string) string { return "fence-probe." + ring }

// NoShard is a name that no shard has, as it is not a DNS label: no manager asks for a hand-over to it.
const NoShard = "fence.probe"

// ProbeRule begins the policy's answer to an attempt to create the probe.
const ProbeRule = "InForce"

// ProbeAnswer is what the policy says to an attempt of this shard to create the probe; only a caller that the policy
// takes for the shard gets this answer.
func ProbeAnswer(ring, shard string) string {
	return fmt.Sprintf("fence of ring %q [%s]: the caller is shard %q", ring, ProbeRule, shard)
}

// Refusal returns which rule of the ring's policy refused a request, and false if err is anything else: also a refusal by
// RBAC, by another policy, or by the same policy because it could not be evaluated.
func Refusal(err error, namespace, ring string) (rule string, ok bool) {
	return RefusalBy(err, Policy(namespace, ring), ring)
}

// RefusalBy is Refusal for one of the ring's policies by its name.
func RefusalBy(err error, policy, ring string) (rule string, ok bool) {
	status, isStatus := err.(apierrors.APIStatus) //nolint:errorlint // callers have the error of a client as it is
	if !isStatus || status.Status().Code != http.StatusForbidden {
		return "", false
	}
	message := status.Status().Message
	if !strings.Contains(message, "ValidatingAdmissionPolicy '"+policy+"'") {
		return "", false
	}
	_, after, found := strings.Cut(message, fmt.Sprintf("fence of ring %q [", ring))
	rule, _, closed := strings.Cut(after, "]")
	return rule, found && closed
}

// StrangersAnswer is part of what the policy Shards says to this shard when it refuses a write to what is another one's.
func StrangersAnswer(shard string) string { return fmt.Sprintf("the caller is shard %q (", shard) }

// RefusedAsStranger says whether a policy Shards in this namespace refused a request as one to what is another shard's. It
// may be that of any ring: rings can share their workers, the API server gives the answer of one policy, and the request is refused
// either way.
func RefusedAsStranger(err error, namespace string) bool {
	if err == nil {
		return false
	}
	_, after, _ := strings.Cut(err.Error(), "ValidatingAdmissionPolicy '")
	policy, _, _ := strings.Cut(after, "'")
	ring, found := strings.CutSuffix(policy, Shards(namespace, ""))
	_, refused := RefusalBy(err, policy, ring)
	return found && refused
}
