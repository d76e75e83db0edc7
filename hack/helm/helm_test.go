package helm

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

const deploy = "../../examples/deploy"

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // Helm says of each link to a definition that it is one
	os.Exit(m.Run())
}

// objectsOf adds what is in these documents, by kind, namespace and name.
func objectsOf(t *testing.T, into map[string]map[string]any, from, documents string) {
	t.Helper()
	for document := range strings.SplitSeq("\n"+documents, "\n---\n") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		if o == nil {
			continue
		}
		meta, _ := o["metadata"].(map[string]any)
		namespace, _ := meta["namespace"].(string)
		kind, _ := o["kind"].(string)
		name, _ := meta["name"].(string)
		key := kind + " " + namespace + "/" + name
		if into[key] != nil || kind == "" || name == "" {
			t.Fatalf("%s: %q is there twice, or without kind or name", from, key)
		}
		into[key] = o
	}
}

// written are the objects of a variant. That kustomize makes just these of its folder is what the test in hack/kustomize is about.
func written(t *testing.T, variant string) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	data, err := os.ReadFile(filepath.Join(deploy, variant, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var kustomization struct{ Resources []string }
	if err := yaml.Unmarshal(data, &kustomization); err != nil {
		t.Fatal(err)
	}
	for _, resource := range kustomization.Resources {
		path := filepath.Join(deploy, variant, resource)
		files := []string{path}
		if filepath.Ext(path) != ".yaml" {
			if files, err = filepath.Glob(filepath.Join(path, "*.yaml")); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range files {
			if filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			objectsOf(t, all, file, string(data))
		}
	}
	return all
}

// rendered are the objects of the chart with these values, given as YAML.
func rendered(t *testing.T, text string) (map[string]map[string]any, error) {
	t.Helper()
	chart, err := loader.Load(filepath.Join(deploy, "chart"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	all, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: "release", Namespace: "default"}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	made := map[string]map[string]any{}
	for _, definition := range chart.CRDObjects() {
		objectsOf(t, made, definition.Filename, string(definition.File.Data))
	}
	for name, text := range files {
		objectsOf(t, made, name, text)
	}
	return made, nil
}

func same(t *testing.T, what string, got, want map[string]map[string]any) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if want[key] == nil {
			t.Errorf("%s: %s is made by the chart alone", what, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		switch {
		case got[key] == nil:
			t.Errorf("%s: %s is missing in the chart", what, key)
		case !reflect.DeepEqual(got[key], want[key]):
			a, _ := yaml.Marshal(got[key])
			b, _ := yaml.Marshal(want[key])
			t.Errorf("%s: %s is\n%s\nwant\n%s", what, key, a, b)
		}
	}
}

// scaled is what the patches of worker-deployment-scaled make of the objects of a variant; hack/kustomize holds it to them.
func scaled(t *testing.T, objects map[string]map[string]any, kind string) map[string]map[string]any {
	t.Helper()
	workers, ring := objects[kind+" audit/worker"], objects["ShardConfig audit/certaudit"]
	if workers == nil || ring == nil {
		t.Fatal("there are no workers, or no ring")
	}
	delete(workers["spec"].(map[string]any), "replicas")
	ring["spec"].(map[string]any)["workload"] = map[string]any{"apiVersion": "apps/v1", "kind": kind, "name": "worker"}
	data, err := os.ReadFile(filepath.Join(deploy, "base/scaling/role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objectsOf(t, objects, "base/scaling", string(data))
	return objects
}

func TestChartMakesWhatKustomizeMakes(t *testing.T) {
	for variant, values := range map[string]string{"worker-statefulset": "", "worker-deployment": "worker: {kind: Deployment}"} {
		got, err := rendered(t, values)
		if err != nil {
			t.Fatal(err)
		}
		want := written(t, variant)
		if len(want) < 20 {
			t.Fatalf("%s: only %d objects", variant, len(want))
		}
		same(t, variant, got, want)
	}
	for kind, variant := range map[string]string{"StatefulSet": "worker-statefulset", "Deployment": "worker-deployment"} {
		got, err := rendered(t, "{scaling: true, worker: {kind: "+kind+"}}")
		if err != nil {
			t.Fatal(err)
		}
		same(t, variant+", scaled", got, scaled(t, written(t, variant), kind))
	}
}

// TestValues changes everything that can be changed, and looks for what has not followed.
func TestValues(t *testing.T) {
	standard, err := rendered(t, "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := rendered(t, `
namespace: {name: "2024", create: false}
access: false
fence: false
manager: {image: r/m@sha256:1, replicas: 3, args: [--v=2], resources: {limits: {memory: 1Gi}, requests: null}}
worker: {image: r/w:2, replicas: 0, args: ["--log-format=json"], resources: {requests: {cpu: "3"}}}
ring: {name: "77", settings: {maxShards: 3, minShards: 1, healthCheckInterval: 1m}}
`)
	if err != nil {
		t.Fatal(err)
	}
	own := maps.Clone(got)
	maps.DeleteFunc(own, func(key string, _ map[string]any) bool { return strings.HasPrefix(key, "CustomResourceDefinition") })
	text, err := yaml.Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	for _, stale := range []string{`\baudit\b`, `ring=certaudit`, `registry\.local`, `AdmissionPolicy`, `require-fence`, `aggregate-to`, `worker-3`} {
		if found := regexp.MustCompile(stale).Find(text); found != nil {
			t.Errorf("%s is in it still", found)
		}
	}
	gone := []string{
		"ClusterRole /shard-admin", "ClusterRole /shard-edit", "ClusterRole /shard-view", "Namespace /audit",
		"ValidatingAdmissionPolicy /certaudit.audit.fence.shard.io", "ValidatingAdmissionPolicy /certaudit.audit.shards.shard.io",
		"ValidatingAdmissionPolicyBinding /certaudit.audit.fence.shard.io", "ValidatingAdmissionPolicyBinding /certaudit.audit.shards.shard.io",
	}
	names := strings.NewReplacer(" audit/certaudit", " 2024/77", " audit/", " 2024/", "/audit-", "/2024-")
	want := map[string]bool{}
	for key := range standard {
		if !slices.Contains(gone, key) {
			want[names.Replace(key)] = true
		}
	}
	for key := range got {
		if !want[key] {
			t.Errorf("%s is new", key)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("%s is missing", key)
	}
	at := func(key string, path ...any) any {
		var value any = got[key]
		for _, step := range path {
			switch v := value.(type) {
			case map[string]any:
				value = v[step.(string)]
			case []any:
				value = v[step.(int)]
			}
		}
		return value
	}
	pod := []any{"spec", "template", "spec", "containers", 0}
	for what, pair := range map[string][2]any{
		"replicas of the manager": {at("Deployment 2024/manager", "spec", "replicas"), 3.0},
		"replicas of the worker":  {at("StatefulSet 2024/worker", "spec", "replicas"), 0.0},
		"image of the manager":    {at("Deployment 2024/manager", append(pod, "image")...), "r/m@sha256:1"},
		"arguments of the worker": {at("StatefulSet 2024/worker", append(pod, "args")...),
			[]any{"--ring=77", "--probe-address=:8081", "--metrics-address=:8080", "--keep-on-stop", "--log-format=json"}},
		"limits of the manager": {at("Deployment 2024/manager", append(pod, "resources", "limits")...), map[string]any{"cpu": "500m", "memory": "1Gi"}},
		"names in the Role":     {at("Role 2024/worker", "rules", 2, "resourceNames"), []any{"worker-0", "worker-1", "worker-2"}},
		"shards of the ring":    {at("ShardConfig 2024/77", "spec", "maxShards"), 3.0},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
}

// TestScaledNames wants the names of a scaled ring to follow the values, too.
func TestScaledNames(t *testing.T) {
	got, err := rendered(t, `{scaling: true, namespace: {name: "2024"}, worker: {kind: Deployment, replicas: 99}, ring: {name: "77"}}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"Role 2024/manager-scaling", "RoleBinding 2024/manager-scaling", "ShardConfig 2024/77"} {
		if text, err := yaml.Marshal(got[key]); got[key] == nil || err != nil || strings.Contains(string(text), "namespace: audit") {
			t.Errorf("%s: error %v\n%s", key, err, text)
		}
	}
}

func TestValuesThatAreWrong(t *testing.T) {
	for values, want := range map[string]string{
		"workers: {replicas: 1}":                      "workers",
		"worker: {kind: DaemonSet}":                   "/worker/kind",
		"worker: {replicas: -1}":                      "/worker/replicas",
		"worker: {replicas: 11}":                      "worker.replicas must be at most ring.settings.maxShards",
		"namespace: {name: Audit}":                    "/namespace/name",
		`ring: {name: 'a"b'}`:                         "/ring/name",
		"ring: {name: a.b}":                           "/ring/name",
		"ring: {settings: {maxShards: many}}":         "/ring/settings/maxShards",
		"ring: {settings: {targets: []}}":             "/ring/settings/targets",
		"fence: maybe":                                "/fence",
		"scaling: 3":                                  "/scaling",
		"ring: {settings: {workload: {}}}":            "/ring/settings/workload",
		"manager: {args: [v=2]}":                      "/manager/args",
		"manager: {resources: {limits: null}}":        "/manager/resources",
		"worker: {kind: Deployment, replicas: twice}": "/worker/replicas",
	} {
		if _, err := rendered(t, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", values, err, want)
		}
	}
}
