package kustomize

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const deploy = "../../examples/deploy"

// identity names an object.
func identity(o map[string]any) string {
	meta, _ := o["metadata"].(map[string]any)
	namespace, _ := meta["namespace"].(string)
	name, _ := meta["name"].(string)
	kind, _ := o["kind"].(string)
	return kind + " " + namespace + "/" + name
}

// written are the objects in the files of these folders, by identity.
func written(t *testing.T, folders ...string) map[string]map[string]any {
	t.Helper()
	objects := map[string]map[string]any{}
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, error %v", folder, err)
		}
		for _, file := range files {
			if filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for document := range strings.SplitSeq(string(data), "\n---\n") {
				var o map[string]any
				if err := yaml.Unmarshal([]byte(document), &o); err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				if o != nil { // a file may begin with ---
					objects[identity(o)] = o
				}
			}
		}
	}
	return objects
}

// scaled are the objects of worker-deployment as the patches of worker-deployment-scaled change them.
func scaled(objects map[string]map[string]any) map[string]map[string]any {
	delete(objects["Deployment audit/worker"]["spec"].(map[string]any), "replicas")
	objects["ShardConfig audit/certaudit"]["spec"].(map[string]any)["workload"] = map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}
	return objects
}

func TestRendering(t *testing.T) {
	parts := []string{"../../apis/crd", deploy + "/base/namespace", deploy + "/base/access", deploy + "/base/manager", deploy + "/base/worker", deploy + "/base/ring"}
	for variant, want := range map[string]map[string]map[string]any{
		"worker-statefulset":       written(t, append(parts, deploy+"/worker-statefulset")...),
		"worker-deployment":        written(t, append(parts, deploy+"/worker-deployment")...),
		"worker-deployment-scaled": scaled(written(t, append(parts, deploy+"/worker-deployment", deploy+"/base/scaling")...)),
	} {
		rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(deploy, variant))
		if err != nil {
			t.Fatalf("%s: %v", variant, err)
		}
		if rendered.Size() != len(want) || len(want) < 20 {
			t.Errorf("%s: %d objects, want %d", variant, rendered.Size(), len(want))
		}
		for _, resource := range rendered.Resources() {
			got, err := resource.Map()
			if err != nil {
				t.Fatal(err)
			}
			text, err := yaml.Marshal(got) // so that numbers are of the same types
			if err != nil {
				t.Fatal(err)
			}
			var o map[string]any
			if err := yaml.Unmarshal(text, &o); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(o, want[identity(o)]) {
				t.Errorf("%s: %s is not as it is written", variant, identity(o))
			}
		}
	}
}
