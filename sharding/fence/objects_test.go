package fence_test

import (
	"bytes"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding/fence"
)

func TestBadInput(t *testing.T) {
	config := func(change func(*shardv1.ShardConfig)) *shardv1.ShardConfig {
		c := auditor()
		change(c)
		return c
	}
	options := func(change func(*fence.Options)) fence.Options {
		o := identities()
		change(&o)
		return o
	}
	selector := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}
	target := func(change func(*shardv1.Target)) *shardv1.ShardConfig {
		return config(func(c *shardv1.ShardConfig) { change(&c.Spec.Targets[0]) })
	}
	good, who := auditor(), identities()
	tests := []struct {
		name    string
		config  *shardv1.ShardConfig
		options fence.Options
		err     string
	}{
		{"good", good, who, ""},
		{"no config", nil, who, "ShardConfig is required"},
		{"a ring that makes no label", config(func(c *shardv1.ShardConfig) { c.Name = "Not_A.Name" }), who, "metadata.name"},
		{"a ring that is too long", config(func(c *shardv1.ShardConfig) { c.Name = strings.Repeat("r", 64) }), who, "metadata.name"},
		{"the longest names", config(func(c *shardv1.ShardConfig) { c.Name, c.Namespace = strings.Repeat("r", 63), strings.Repeat("n", 63) }), who, ""},
		{"no namespace", config(func(c *shardv1.ShardConfig) { c.Namespace = "" }), who, "metadata.namespace"},
		{"no targets", config(func(c *shardv1.ShardConfig) { c.Spec.Targets = nil }), who, "spec.targets of ring \"auditor\" is empty"},
		{"everything", target(func(t *shardv1.Target) { t.Resource = "*" }), who, `spec.targets[0].resource "*"`},
		{"a subresource", target(func(t *shardv1.Target) { t.Resource = "pods/status" }), who, "spec.targets[0].resource"},
		{"a group that is none", target(func(t *shardv1.Target) { t.Group = "a b" }), who, "spec.targets[0].group"},
		{"a bad child", target(func(t *shardv1.Target) { t.Controlled[0].Resource = "" }), who, "spec.targets[0].controlled[0].resource"},
		{"a bad selector", target(func(t *shardv1.Target) { t.LabelSelector = selector }), who, "spec.targets[0].labelSelector"},
		{"a bad selector of namespaces", target(func(t *shardv1.Target) { t.NamespaceSelector = selector }), who, "spec.targets[0].namespaceSelector"},
		{"no manager", good, options(func(o *fence.Options) { o.Managers = nil }), "Managers is empty"},
		{"no worker", good, options(func(o *fence.Options) { o.Workers = nil }), "Workers and Shards are empty"},
		{"a worker of another kind is enough", good, options(func(o *fence.Options) { o.Workers, o.Shards = nil, map[string]string{"u": "a"} }), ""},
		{"a shard that is none", good, options(func(o *fence.Options) { o.Shards = map[string]string{"u": "A.B"} }), `Shards["u"]`},
		{"an empty username", good, options(func(o *fence.Options) { o.Workers = []string{""} }), "Workers: a username is empty"},
		{"a username with a line break", good, options(func(o *fence.Options) { o.Workers = []string{"a\nb"} }), "control characters"},
		{"a username that is not UTF-8", good, options(func(o *fence.Options) { o.Workers = []string{"a\xff"} }), "not UTF-8"},
		{"one for both", good, options(func(o *fence.Options) { o.Workers = o.Managers }), "is in Managers and Workers"},
		{"a subresource that is none", good, options(func(o *fence.Options) { o.Unchecked = []string{"pods"} }), "Unchecked"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			objects, err := fence.Objects(tc.config, tc.options)
			switch {
			case tc.err == "" && (err != nil || len(objects) != 4):
				t.Errorf("%d objects, %v", len(objects), err)
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err) || objects != nil):
				t.Errorf("%d objects, error %v; want one with %q", len(objects), err, tc.err)
			}
		})
	}
}

func TestNamesNeverCollide(t *testing.T) {
	seen := map[string]string{}
	for _, ring := range []string{"a", "a-b", "b", "fence", "shard"} {
		for _, namespace := range []string{"a", "b", "a-b", "b-fence"} {
			name := fence.Name(namespace, ring)
			if other, taken := seen[name]; taken {
				t.Errorf("%s/%s and %s are both %s", namespace, ring, other, name)
			}
			seen[name] = namespace + "/" + ring
		}
	}
}

func TestSameInputSameObjects(t *testing.T) {
	o := identities()
	o.Shards = map[string]string{"u": "a", "v": "b", "w": "c", "x": "d"}
	o.RestoreLabels = true
	first, err := fence.YAML(auditor(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(first, []byte("\nkind: ")); got != 6 {
		t.Errorf("%d documents, want 6", got)
	}
	for _, not := range []string{"status", "creationTimestamp"} {
		if bytes.Contains(first, []byte("\n"+not)) || bytes.Contains(first, []byte("  "+not+":")) {
			t.Errorf("%s is in it", not)
		}
	}
	for range 20 {
		again, err := fence.YAML(auditor(), o)
		if err != nil || !bytes.Equal(first, again) {
			t.Fatalf("not the same again, %v:\n%s\n%s", err, first, again)
		}
	}
}

func TestFailsClosed(t *testing.T) {
	objects, err := fence.Objects(auditor(), identities())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(objects); i += 2 {
		policy, binding := objects[i].(*admissionv1.ValidatingAdmissionPolicy), objects[i+1].(*admissionv1.ValidatingAdmissionPolicyBinding)
		if *policy.Spec.FailurePolicy != admissionv1.Fail {
			t.Errorf("%s: failurePolicy is %s", policy.Name, *policy.Spec.FailurePolicy)
		}
		if len(binding.Spec.ValidationActions) != 1 || binding.Spec.ValidationActions[0] != admissionv1.Deny ||
			binding.Spec.PolicyName != policy.Name || binding.Name != policy.Name {
			t.Errorf("the binding of %s is %+v", policy.Name, binding)
		}
	}
}
