package fence

import (
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// ofShards is the policy that keeps a worker to the ShardInstance and the Lease of its own shard. It is a policy of its own, as its
// namespaceSelector keeps it away from all Leases of other namespaces, those of the nodes above all: it costs them nothing,
// and can't hinder them.
func ofShards(config *shardv1.ShardConfig, o Options) admissionv1.ValidatingAdmissionPolicySpec {
	fill := strings.NewReplacer(
		"$WORKERS", list(append(slices.Sorted(maps.Keys(o.Shards)), o.Workers...)), "$SHARDS", dictionary(o.Shards),
		"$PROBE", quote(fencing.ShardsProbe(config.Name)), "$FENCEPROBES", quote(fencing.Probe("")),
	)
	variables := []admissionv1.Variable{
		{Name: "lease", Expression: `request.resource.resource == "leases"`},
		{Name: "name", Expression: `oldObject == null ? request.?name.orValue("") : oldObject.metadata.name`}, // the request to delete a collection has none
		{Name: "probe", Expression: `variables.lease && variables.name == $PROBE`},
		{Name: "shard", Expression: shardOfCaller},
		// What a worker asks the fence with is for the fence to refuse.
		{Name: "fenceProbe", Expression: `variables.lease && request.operation == "CREATE" && request.?dryRun.orValue(false) && variables.name.startsWith($FENCEPROBES)`},
		{Name: "verdict", Expression: verdict(
			rule{`variables.probe`, fencing.ProbeRule, `"the policy for Leases and ShardInstances"`},
			rule{`variables.fenceProbe`, "", ""},
			rule{`variables.shard == ""`, "Unbound", `"the credential is not bound to a Pod, so nobody can tell which shard it is"`},
			rule{`variables.name != variables.shard`, "OtherShard", `"a worker writes the Lease and the ShardInstance of its own shard and no other"`},
		)},
	}
	for i := range variables {
		variables[i].Expression = fill.Replace(variables[i].Expression)
	}
	all := []admissionv1.OperationType{admissionv1.Create, admissionv1.Update, admissionv1.Delete}
	return admissionv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: ptr.To(admissionv1.Fail),
		MatchConstraints: &admissionv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: config.Namespace}},
			ResourceRules: []admissionv1.NamedRuleWithOperations{
				named([]string{"coordination.k8s.io"}, []string{"leases"}, all...),
				named([]string{shardv1.GroupName}, []string{"shardinstances", "shardinstances/*"}, all...),
			},
		},
		MatchConditions: []admissionv1.MatchCondition{{
			Name:       "by-a-worker",
			Expression: fill.Replace(`request.userInfo.username in $WORKERS || request.resource.resource == "leases" && request.operation == "CREATE" && request.?name.orValue("") == $PROBE`),
		}},
		Variables: variables,
		Validations: []admissionv1.Validation{{
			Expression: `variables.verdict == ""`,
			Message:    "fence of ring " + quote(config.Name) + ": not allowed",
			MessageExpression: quote("fence of ring "+quote(config.Name)+" ") + ` + variables.verdict + "the caller is " + ` +
				`(variables.shard == "" ? "of unknown shard" : "shard \"" + variables.shard + "\"") + " (" + request.userInfo.username + ")"`,
			Reason: ptr.To(metav1.StatusReasonForbidden),
		}},
	}
}
