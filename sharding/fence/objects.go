package fence

import (
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// namespaceLabel is, beside [sharding.RingLabel], on all objects of a fence: the namespace of the ring.
const namespaceLabel = "shard.io/ring-namespace"

// Name is the name of the policy of a ring, of its binding, and of the policy that restores labels and its binding. That of the policy for
// Leases and ShardInstances has "shards" instead of "fence" in it. The ring and the namespace of its ShardConfig are in both, so the
// fences of two rings never touch.
func Name(namespace, ring string) string { return fencing.Policy(namespace, ring) }

// Objects returns the fence of the ring: a ValidatingAdmissionPolicy for the objects of the ring and one for the Leases and
// ShardInstances of its shards, each with its binding, and with [Options.RestoreLabels] a MutatingAdmissionPolicy and its
// binding, in the order in which they are to be created. It is a pure function: same arguments, same objects. It
// returns an error that names what is wrong in config or options.
//
// The fence depends on the name, the namespace, the targets and the workload of the config: it is made anew when one of them changes.
func Objects(config *shardv1.ShardConfig, o Options) ([]runtime.Object, error) {
	if err := checkConfig(config); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	objects := bound(config, Name(config.Namespace, config.Name), validating(config, o))
	objects = append(objects, bound(config, fencing.Shards(config.Namespace, config.Name), ofShards(config, o))...)
	if o.RestoreLabels {
		name := Name(config.Namespace, config.Name)
		meta := metadata(config, name)
		objects = append(objects,
			&admissionv1.MutatingAdmissionPolicy{
				TypeMeta:   typeOf("MutatingAdmissionPolicy"),
				ObjectMeta: meta,
				Spec:       restoring(config, o),
			},
			&admissionv1.MutatingAdmissionPolicyBinding{
				TypeMeta:   typeOf("MutatingAdmissionPolicyBinding"),
				ObjectMeta: meta,
				Spec:       admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name},
			})
	}
	return objects, nil
}

// bound is a policy of this name with its binding.
func bound(config *shardv1.ShardConfig, name string, spec admissionv1.ValidatingAdmissionPolicySpec) []runtime.Object {
	return []runtime.Object{
		&admissionv1.ValidatingAdmissionPolicy{
			TypeMeta:   typeOf("ValidatingAdmissionPolicy"),
			ObjectMeta: metadata(config, name),
			Spec:       spec,
		},
		&admissionv1.ValidatingAdmissionPolicyBinding{
			TypeMeta:   typeOf("ValidatingAdmissionPolicyBinding"),
			ObjectMeta: metadata(config, name),
			Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			},
		},
	}
}

func typeOf(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: kind}
}

func metadata(config *shardv1.ShardConfig, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:   name,
		Labels: map[string]string{sharding.RingLabel: config.Name, namespaceLabel: config.Namespace},
	}
}

func validating(config *shardv1.ShardConfig, o Options) admissionv1.ValidatingAdmissionPolicySpec {
	condition, usually, variables := rules(config, o)
	probe := named([]string{"coordination.k8s.io"}, []string{"leases"}, admissionv1.Create)
	probe.ResourceNames = []string{fencing.Probe(config.Name)}
	return admissionv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: ptr.To(admissionv1.Fail),
		MatchConstraints: &admissionv1.MatchResources{
			ResourceRules: append(resourceRules(config, admissionv1.Create, admissionv1.Update, admissionv1.Delete), probe),
		},
		MatchConditions: []admissionv1.MatchCondition{{Name: "concerns-the-ring", Expression: condition}},
		Variables:       variables,
		Validations: []admissionv1.Validation{{ // the message is evaluated whether or not it is needed, with variables of its own
			Expression:        usually + ` || variables.verdict == ""`,
			Message:           "fence of ring " + quote(config.Name) + ": not allowed",
			MessageExpression: usually + ` ? "" : ` + quote("fence of ring "+quote(config.Name)+" ") + ` + variables.verdict + (variables.probe ? ": " : "") + variables.caller`,
			Reason:            ptr.To(metav1.StatusReasonForbidden),
		}},
	}
}

// resourceRules match roots and children with all their subresources, one rule for each group.
func resourceRules(config *shardv1.ShardConfig, operations ...admissionv1.OperationType) []admissionv1.NamedRuleWithOperations {
	_, all := resourcesOf(config)
	var groups []string
	byGroup := map[string][]string{}
	for _, name := range all {
		group, resource, _ := strings.Cut(name, "/")
		if !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
		byGroup[group] = append(byGroup[group], resource, resource+"/*")
	}
	var rules []admissionv1.NamedRuleWithOperations
	for _, group := range groups {
		rules = append(rules, named([]string{group}, byGroup[group], operations...))
	}
	return rules
}

func named(groups, resources []string, operations ...admissionv1.OperationType) admissionv1.NamedRuleWithOperations {
	return admissionv1.NamedRuleWithOperations{RuleWithOperations: admissionv1.RuleWithOperations{
		Operations: operations,
		Rule:       admissionv1.Rule{APIGroups: groups, APIVersions: []string{"*"}, Resources: resources},
	}}
}
