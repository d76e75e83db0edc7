package deploy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// all are the folders of the two systems.
var all = map[string][]string{
	"worker-statefulset": {"base/namespace", "base/access", "base/manager", "base/worker", "base/ring", "worker-statefulset"},
	"worker-deployment":  {"base/namespace", "base/access", "base/manager", "base/worker", "base/ring", "worker-deployment"},
}

// TestKustomizations wants every file in its folder's kustomization, and every folder in the system's.
func TestKustomizations(t *testing.T) {
	resources := func(folder string) []string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(folder, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var k struct {
			APIVersion string   `json:"apiVersion"`
			Kind       string   `json:"kind"`
			Resources  []string `json:"resources"`
		}
		if err := yaml.UnmarshalStrict(data, &k); err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		slices.Sort(k.Resources)
		return k.Resources
	}
	checked := 0
	for _, folder := range []string{"base/namespace", "base/access", "base/manager", "base/worker", "base/ring", "base/scaling", "worker-statefulset", "worker-deployment", "../../apis/crd"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, file := range files {
			if name := filepath.Base(file); name != "kustomization.yaml" {
				want = append(want, name)
			}
		}
		checked += len(want)
		for _, other := range all[folder] {
			if other != folder {
				want = append(want, "../"+other)
			}
		}
		if all[folder] != nil {
			want = append(want, "../../../apis/crd")
		}
		slices.Sort(want)
		if got := resources(folder); !slices.Equal(got, want) {
			t.Errorf("%s lists %v, want %v", folder, got, want)
		}
	}
	if checked < 20 {
		t.Errorf("only %d files", checked)
	}
}

// shippedRing is the ShardConfig in base/ring.
func shippedRing(t *testing.T) *shardv1.ShardConfig {
	t.Helper()
	data, err := os.ReadFile("base/ring/ring.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var ring shardv1.ShardConfig
	if err := yaml.UnmarshalStrict(data, &ring); err != nil {
		t.Fatal(err)
	}
	return &ring
}

// TestFenceIsThatOfTheRing makes the fence anew. Run "manager install --print" when this fails.
func TestFenceIsThatOfTheRing(t *testing.T) {
	ring := shippedRing(t)
	want, err := fence.YAML(ring, fence.Options{
		Managers: []string{fence.ServiceAccount("audit", "manager")}, Workers: []string{fence.ServiceAccount("audit", "worker")},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("base/ring/fence.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(got), "\n") // the first line says where it comes from
	if strings.TrimSpace(text) != strings.TrimSpace(string(want)) {
		t.Error("base/ring/fence.yaml is not the fence of base/ring/ring.yaml")
	}
}

// podTemplates are the templates of what runs, by kind and name.
func podTemplates(t *testing.T) map[string]corev1.PodTemplateSpec {
	t.Helper()
	templates := map[string]corev1.PodTemplateSpec{}
	for variant, folders := range all {
		objects, err := Objects(folders...)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			content, found, err := unstructured.NestedMap(o.Object, "spec", "template")
			if err != nil || !found {
				continue
			}
			var template corev1.PodTemplateSpec
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(content, &template, true); err != nil {
				t.Fatalf("%s %s: %v", variant, o.GetName(), err)
			}
			templates[o.GetKind()+"/"+o.GetName()] = template
		}
	}
	if len(templates) != 3 {
		t.Fatalf("%d things run, want a manager, a StatefulSet and a Deployment of workers", len(templates))
	}
	return templates
}

// TestRolesOfWorkers holds the Roles of the two variants against each other: the same verbs, and in one of them the names of the Pods that there
// can be.
func TestRolesOfWorkers(t *testing.T) {
	ring := shippedRing(t)
	var names []string
	for i := range ring.Spec.MaxShards {
		names = append(names, fmt.Sprintf("worker-%d", i))
	}
	verbs := map[string]map[string]bool{}
	for _, variant := range []string{"worker-statefulset", "worker-deployment"} {
		objects, err := Objects(variant)
		if err != nil {
			t.Fatal(err)
		}
		verbs[variant] = map[string]bool{}
		for _, o := range objects {
			if o.GetKind() != "Role" {
				continue
			}
			var role rbacv1.Role
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &role, true); err != nil {
				t.Fatal(err)
			}
			for _, rule := range role.Rules {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						verbs[variant][verb+" "+resource] = true
						var want []string
						if variant == "worker-statefulset" && resource != "shardconfigs" && verb != "create" {
							want = names
						}
						if !slices.Equal(rule.ResourceNames, want) {
							t.Errorf("%s: %s %s of %v, want %v", variant, verb, resource, rule.ResourceNames, want)
						}
					}
				}
			}
		}
	}
	if one, other := verbs["worker-statefulset"], verbs["worker-deployment"]; len(one) < 10 || !maps.Equal(one, other) {
		t.Errorf("workers may %v in a StatefulSet, and %v in a Deployment", one, other)
	}
}

// TestPodsOfTheRing wants the Pods of the workers where an autoscaler looks for them: under the selector that is in the status of their ring.
func TestPodsOfTheRing(t *testing.T) {
	for name, template := range podTemplates(t) {
		if of := template.Labels[sharding.RingLabel]; name != "Deployment/manager" && of != shippedRing(t).Name {
			t.Errorf("%s: the Pods have %s=%q", name, sharding.RingLabel, of)
		}
	}
}

// TestResources holds what the Pods ask for against what the architecture allows.
func TestResources(t *testing.T) {
	want := map[string][4]string{
		"Deployment/manager": {"100m", "128Mi", "500m", "512Mi"},
		"StatefulSet/worker": {"200m", "256Mi", "2", "2Gi"},
		"Deployment/worker":  {"200m", "256Mi", "2", "2Gi"},
	}
	for name, template := range podTemplates(t) {
		r := template.Spec.Containers[0].Resources
		got := [4]string{r.Requests.Cpu().String(), r.Requests.Memory().String(), r.Limits.Cpu().String(), r.Limits.Memory().String()}
		if got != want[name] {
			t.Errorf("%s: %v, want %v", name, got, want[name])
		}
	}
}
