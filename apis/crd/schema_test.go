package crd_test

import (
	"bytes"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/apis/crd"
)

// The rules that keep an API small enough for its server and clear to its users: every field is described, by its own name first, and
// every list, map, string and number has a bound.
func TestSchemaIsBoundedAndDescribed(t *testing.T) {
	objects, err := crd.Objects()
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		versions, _, _ := unstructured.NestedSlice(object.Object, "spec", "versions")
		properties, _, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties")
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"spec", "status"} {
			schema := properties[field].(map[string]any)
			checkDescribed(t, object.GetKind()+"."+field, field, schema)
			checkBounded(t, object.GetName()+":"+field, schema)
		}
	}
}

func checkDescribed(t *testing.T, path, name string, schema map[string]any) {
	t.Helper()
	if description, _ := schema["description"].(string); !strings.HasPrefix(description, name+" ") {
		t.Errorf("%s: the description begins with %.30q; want the field's name", path, description)
	}
}

// checkBounded walks a schema. It leaves out what Kubernetes itself defines: conditions and label selectors.
func checkBounded(t *testing.T, path string, schema map[string]any) {
	t.Helper()
	has := func(key string) bool { return schema[key] != nil }
	switch {
	case has("x-kubernetes-int-or-string"):
		if !has("pattern") {
			t.Errorf("%s: a quantity without pattern", path)
		}
	case schema["type"] == "string":
		if !has("maxLength") && !has("enum") && !has("format") {
			t.Errorf("%s: a string without maxLength", path)
		}
	case schema["type"] == "integer":
		if !has("minimum") || (!has("maximum") && schema["format"] != "int64") || !has("format") {
			t.Errorf("%s: an integer without minimum, maximum or format", path)
		}
	case schema["type"] == "number":
		if !has("minimum") || !has("maximum") {
			t.Errorf("%s: a number without minimum or maximum", path)
		}
	case schema["type"] == "array":
		if !has("maxItems") || !has("x-kubernetes-list-type") {
			t.Errorf("%s: a list without maxItems or list type", path)
		}
		if !strings.HasSuffix(path, ".conditions") {
			checkBounded(t, path+"[]", schema["items"].(map[string]any))
		}
	case has("additionalProperties"):
		if !has("maxProperties") {
			t.Errorf("%s: a map without maxProperties", path)
		}
		checkBounded(t, path+"{}", schema["additionalProperties"].(map[string]any))
	case schema["type"] == "object":
		properties, _ := schema["properties"].(map[string]any)
		for name, property := range properties {
			checkDescribed(t, path+"."+name, name, property.(map[string]any))
			if !strings.HasSuffix(name, "Selector") {
				checkBounded(t, path+"."+name, property.(map[string]any))
			}
		}
	case schema["type"] != "boolean":
		t.Errorf("%s: type %v is not known to this test", path, schema["type"])
	}
}

func TestYAMLIsObjects(t *testing.T) {
	objects, err := crd.Objects()
	if err != nil {
		t.Fatal(err)
	}
	documents := bytes.Split(bytes.TrimPrefix(crd.YAML(), []byte("---\n")), []byte("\n---\n"))
	if len(documents) != len(objects) || len(objects) != 3 {
		t.Fatalf("%d documents and %d objects; want 3 of each", len(documents), len(objects))
	}
	for i, document := range documents {
		var parsed unstructured.Unstructured
		if err := yaml.Unmarshal(document, &parsed.Object); err != nil {
			t.Fatal(err)
		}
		for _, difference := range missing("", parsed.Object, objects[i].Object) {
			t.Errorf("document %d: %s", i, difference)
		}
	}
	// Callers own what they get.
	crd.YAML()[0] = 'x'
	objects[0].SetName("changed")
	again, err := crd.Objects()
	if err != nil || again[0].GetName() == "changed" || crd.YAML()[0] == 'x' {
		t.Error("a caller's change shows in what the next caller gets")
	}
}
