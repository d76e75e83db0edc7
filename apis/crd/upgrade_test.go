package crd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"github.com/shard-io/shard-controller/apis/crd"
)

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

func TestInstallAgainChangesNothing(t *testing.T) {
	cfg := server(t)
	_, client := clients(t, cfg)
	before := resourceVersions(t, client)
	for range 2 {
		if err := crd.Install(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	for name, version := range resourceVersions(t, client) {
		if version != before[name] {
			t.Errorf("%s went from resourceVersion %s to %s; want no write", name, before[name], version)
		}
	}
}

// An older schema, written by another tool, lacks a field and has one that is gone now. After Install, the objects are still there, the
// new field exists and the old one does not.
func TestInstallUpgrades(t *testing.T) {
	cfg := server(t)
	_, client := clients(t, cfg)
	ns := namespace(t, cfg)
	ctx := t.Context()

	definition, err := client.Resource(definitions).Get(ctx, "shardconfigs.shard.io", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	older := specProperties(t, definition)
	delete(older, "handover")
	older["former"] = map[string]any{"type": "string", "default": "x"}
	if _, err := client.Resource(definitions).Update(ctx, definition, metav1.UpdateOptions{FieldManager: "older"}); err != nil {
		t.Fatal(err)
	}
	object := manifest(t, "shardconfig.yaml")
	waitFor(t, "the older schema", func(ctx context.Context) bool { return hasField(ctx, t, client, ns, "former") })
	if err := createUntyped(ctx, client, ns, object); err != nil {
		t.Fatal(err)
	}

	if err := crd.Install(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	upgraded, err := client.Resource(definitions).Get(ctx, "shardconfigs.shard.io", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now := specProperties(t, upgraded)
	if now["handover"] == nil || now["former"] != nil {
		t.Errorf("after the upgrade: handover %v, former %v; want only handover", now["handover"] != nil, now["former"] != nil)
	}
	waitFor(t, "the new schema", func(ctx context.Context) bool { return hasField(ctx, t, client, ns, "handover") })
	got, err := client.Resource(shardConfigs).Namespace(ns).Get(ctx, object.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, difference := range missing("", object.Object, got.Object) {
		t.Errorf("object of the older schema: %s", difference)
	}
	if timeout, _, _ := unstructured.NestedString(got.Object, "spec", "handover", "drainTimeout"); timeout != "30s" {
		t.Errorf("handover.drainTimeout of the object from before is %q; want the default", timeout)
	}
}

func TestInstallEndsWithItsContext(t *testing.T) {
	cfg := server(t)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := crd.Install(ctx, cfg); err == nil || !strings.Contains(err.Error(), ".shard.io") {
		t.Errorf("with a context that has ended: %v; want an error that names a definition", err)
	}
}

// A kind that another definition of the group has taken is refused with the name of ours and the server's reason.
func TestInstallNamesTheDefinitionThatCannotBe(t *testing.T) {
	plane, client := ownServer(t)
	taken, err := crd.Objects()
	if err != nil {
		t.Fatal(err)
	}
	other := taken[0]
	other.SetName("others.shard.io")
	for field, value := range map[string]string{"plural": "others", "singular": "other"} {
		if err := unstructured.SetNestedField(other.Object, value, "spec", "names", field); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Resource(definitions).Create(t.Context(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the other definition", func(ctx context.Context) bool {
		_, err := client.Resource(schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "others"}).List(ctx, metav1.ListOptions{})
		return err == nil
	})
	err = crd.Install(t.Context(), plane)
	if err == nil || !strings.Contains(err.Error(), "shardconfigs.shard.io") || !strings.Contains(err.Error(), "already in use") {
		t.Errorf("Install: %v; want an error with shardconfigs.shard.io and the server's reason", err)
	}
}

// specProperties returns the properties of spec in the schema of a definition; changes to them change the definition.
func specProperties(t *testing.T, definition *unstructured.Unstructured) map[string]any {
	t.Helper()
	versions, _, _ := unstructured.NestedFieldNoCopy(definition.Object, "spec", "versions")
	properties, found, err := unstructured.NestedFieldNoCopy(versions.([]any)[0].(map[string]any),
		"schema", "openAPIV3Schema", "properties", "spec", "properties")
	if err != nil || !found {
		t.Fatalf("no properties of spec: %v", err)
	}
	return properties.(map[string]any)
}

// hasField reports whether the schema that the server uses now gives the field of spec a default, in a dry run.
func hasField(ctx context.Context, t *testing.T, client dynamic.Interface, ns, field string) bool {
	object := manifest(t, "shardconfig.yaml")
	object.SetName("dry")
	got, err := client.Resource(shardConfigs).Namespace(ns).Create(ctx, object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return false
	}
	_, found, _ := unstructured.NestedFieldNoCopy(got.Object, "spec", field)
	return found
}

func resourceVersions(t *testing.T, client dynamic.Interface) map[string]string {
	t.Helper()
	objects, err := crd.Objects()
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, object := range objects {
		got, err := client.Resource(definitions).Get(t.Context(), object.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		versions[object.GetName()] = got.GetResourceVersion()
	}
	return versions
}

func waitFor(t *testing.T, what string, condition func(ctx context.Context) bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true,
		func(ctx context.Context) (bool, error) { return condition(ctx), nil })
	if err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}
