package fence

import (
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// dropped is the condition that a write takes the owner label off an object which has one. That is a manager's to do, and what
// everybody does who replaces an object by one of his own.
const dropped = `!(request.userInfo.username in $MANAGERS) && ` +
	`oldObject.?metadata.?labels[?$OWNER].orValue("") != "" && !object.?metadata.?labels[?$OWNER].hasValue()`

// restored is a JSON patch that puts back what the ring had written in one of the maps of metadata and is not there any more.
const restored = `(!has(oldObject.metadata.$MAP) || has(object.metadata.$MAP) ? [] : [JSONPatch{op: "add", path: "/metadata/$MAP", value: {}}]) + ` +
	`(!has(oldObject.metadata.$MAP) ? [] : oldObject.metadata.$MAP.map(k, ` +
	`(k == $OWNER || k.endsWith($SUFFIX)) && !(has(object.metadata.$MAP) && k in object.metadata.$MAP), ` +
	`JSONPatch{op: "add", path: "/metadata/$MAP/" + jsonpatch.escapeKey(k), value: oldObject.metadata.$MAP[k]}))`

// restoring puts the labels back. It is no part of the fence: whether it is there, or works, is all the same to what is refused.
func restoring(config *shardv1.ShardConfig, o Options) admissionv1.MutatingAdmissionPolicySpec {
	fill := strings.NewReplacer("$MANAGERS", list(o.Managers),
		"$OWNER", quote(sharding.OwnerLabel(config.Name)), "$SUFFIX", quote("."+sharding.OwnerLabel(config.Name)))
	spec := admissionv1.MutatingAdmissionPolicySpec{
		FailurePolicy:      ptr.To(admissionv1.Ignore),
		ReinvocationPolicy: admissionv1.IfNeededReinvocationPolicy, // another one may replace the object as well
		MatchConstraints:   &admissionv1.MatchResources{ResourceRules: resourceRules(config, admissionv1.Update)},
		MatchConditions:    []admissionv1.MatchCondition{{Name: "owner-label-dropped", Expression: fill.Replace(dropped)}},
	}
	for _, part := range []string{"annotations", "labels"} { // labels last: from then on nothing is missing
		expression := fill.Replace(strings.ReplaceAll(restored, "$MAP", part))
		spec.Mutations = append(spec.Mutations, admissionv1.Mutation{
			PatchType: admissionv1.PatchTypeJSONPatch, JSONPatch: &admissionv1.JSONPatch{Expression: expression},
		})
	}
	return spec
}
