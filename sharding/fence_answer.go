package sharding

import (
	"errors"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// fenceVerdict is what one check has found.
type fenceVerdict struct {
	status          metav1.ConditionStatus
	reason, message string
}

// passing says that the check has found nothing out, as the API server could not be asked.
func (v fenceVerdict) passing() bool { return v.status == "" }

// fenceAnswer reads the API server's answer to a dry run that the policy for objects has to refuse. answer is part of its message.
func fenceAnswer(err error, namespace, ring, answer string) fenceVerdict {
	if notRefused(err) {
		return fenceVerdict{metav1.ConditionFalse, "NotInForce",
			"A dry run that the ValidatingAdmissionPolicy " + fencing.Policy(namespace, ring) + " has to refuse was accepted: install the fence of the ring."}
	}
	_, refused := fencing.Refusal(err, namespace, ring)
	return refusalVerdict(err, refused, answer)
}

// shardsAnswer reads the API server's answer to a dry run that the policy for Leases and ShardInstances has to refuse.
func shardsAnswer(err error, namespace, ring, shard string) fenceVerdict {
	if notRefused(err) {
		return fenceVerdict{metav1.ConditionFalse, "ShardsNotInForce",
			"The API server refuses writes to objects of other shards, but a dry run that the ValidatingAdmissionPolicy " + fencing.Shards(namespace, ring) +
				" has to refuse was accepted: a worker can write Leases and ShardInstances of other shards. Install the fence of the ring."}
	}
	return refusalVerdict(err, fencing.RefusedAsStranger(err, namespace), fencing.StrangersAnswer(shard))
}

func notRefused(err error) bool { return err == nil || apierrors.IsAlreadyExists(err) }

// refusalVerdict reads an error. refused says that it is from the policy that was asked.
func refusalVerdict(err error, refused bool, answer string) fenceVerdict {
	if refused {
		if strings.Contains(err.Error(), answer) {
			return fenceVerdict{metav1.ConditionTrue, "InForce", "The API server refuses writes to objects of other shards."}
		}
		return fenceVerdict{metav1.ConditionFalse, "NotThisShard",
			"The fence does not take the worker's credential for that of this shard: its answer is " + bounded(err.Error())}
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code == http.StatusForbidden && !strings.Contains(err.Error(), "not yet ready to handle request") {
		return fenceVerdict{metav1.ConditionUnknown, "CannotCheck", "The dry run was refused by something else: " + bounded(err.Error())}
	}
	return fenceVerdict{message: err.Error()}
}

// bounded keeps messages of servers to a size that fits into a condition.
func bounded(text string) string {
	const most = 1024
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
