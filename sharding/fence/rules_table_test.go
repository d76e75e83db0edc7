package fence_test

import (
	"fmt"
	"maps"
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// ruleTable is testdata/rules.yaml, which explains itself.
type ruleTable struct {
	Rings      []shardv1.ShardConfig        `json:"rings"`
	Options    fence.Options                `json:"options"`
	Callers    map[string]ruleCaller        `json:"callers"`
	Namespaces map[string]map[string]string `json:"namespaces"`
	Cases      []ruleCase                   `json:"cases"`
}

type ruleCaller struct {
	User   string   `json:"user"`
	Pod    string   `json:"pod"`
	Groups []string `json:"groups"`
}

type ruleCase struct {
	Name      string     `json:"name"`
	Who       string     `json:"who"`
	Verb      string     `json:"verb"`
	Resource  string     `json:"resource"`
	Namespace string     `json:"namespace"`
	Object    string     `json:"object"`
	Before    *ruleState `json:"before"`
	After     *ruleState `json:"after"`
	Want      string     `json:"want"`
	Says      string     `json:"says"`
}

type ruleState struct {
	Owner       *string           `json:"owner"`
	Drain       *string           `json:"drain"`
	Epoch       *string           `json:"epoch"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Controller  string            `json:"controller"`
	Set         map[string]any    `json:"set"`
	Instead     map[string]any    `json:"instead"`
}

func readRules(t *testing.T) ruleTable {
	t.Helper()
	data, err := os.ReadFile("testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var table ruleTable
	if err := yaml.UnmarshalStrict(data, &table); err != nil {
		t.Fatal(err)
	}
	for i := range table.Cases {
		c := &table.Cases[i]
		if c.Object == "" {
			c.Object = fmt.Sprintf("case-%d", i+1)
		}
		if c.Namespace == "" {
			c.Namespace = "in"
		}
	}
	return table
}

// caseLabel is on every object of the table, for deletecollection.
const caseLabel = "case"

// bodies are minimal objects.
var bodies = map[string]map[string]any{
	"secrets":         {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"},
	"configmaps":      {"apiVersion": "v1", "kind": "ConfigMap"},
	"serviceaccounts": {"apiVersion": "v1", "kind": "ServiceAccount"},
	"storageclasses":  {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/none"},
	"pods": {"apiVersion": "v1", "kind": "Pod", "spec": map[string]any{
		"containers": []any{map[string]any{"name": "c", "image": "i"}},
	}},
	"replicationcontrollers": {"apiVersion": "v1", "kind": "ReplicationController", "spec": map[string]any{
		"replicas": int64(1), "selector": map[string]any{"x": "y"}, "template": map[string]any{
			"metadata": map[string]any{"labels": map[string]any{"x": "y"}},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "c", "image": "i"}}},
		},
	}},
}

// object is the object in this state, without what the server adds.
func (s *ruleState) object(c ruleCase, resource string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(bodies[resource])}
	o.SetName(c.Object)
	if resource != "storageclasses" {
		o.SetNamespace(c.Namespace)
	}
	labels, annotations := map[string]string{caseLabel: c.Object}, map[string]string{}
	maps.Copy(labels, s.Labels)
	maps.Copy(annotations, s.Annotations)
	set := func(into map[string]string, key string, value *string) {
		if value != nil {
			into[key] = *value
		}
	}
	set(labels, sharding.OwnerLabel("r-1"), s.Owner)
	set(labels, sharding.DrainLabel("r-1"), s.Drain)
	set(annotations, sharding.EpochAnnotation("r-1"), s.Epoch)
	o.SetLabels(labels)
	if len(annotations) > 0 {
		o.SetAnnotations(annotations)
	}
	if s.Controller != "" {
		o.SetOwnerReferences([]metav1.OwnerReference{controllerRef(s.Controller)})
	}
	merge(o.Object, runtime.DeepCopyJSON(s.Set))
	return o
}

// merge lays b over a.
func merge(a, b map[string]any) {
	for key, value := range b {
		inner, isMap := value.(map[string]any)
		if into, ok := a[key].(map[string]any); ok && isMap {
			merge(into, inner)
			continue
		}
		a[key] = value
	}
}
