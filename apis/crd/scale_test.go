package crd_test

import (
	"context"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"

	"github.com/shard-io/shard-controller/apis/shard/v1"
)

// Scaling as an autoscaler and kubectl scale do it: they know the resource by name only.
func TestScale(t *testing.T) {
	cfg := server(t)
	typed, untyped := clients(t, cfg)
	ns := namespace(t, cfg)
	configs := typed.ShardV1().ShardConfigs(ns)
	if err := createUntyped(t.Context(), untyped, ns, manifest(t, "shardconfig.yaml")); err != nil {
		t.Fatal(err)
	}
	config, err := configs.Get(t.Context(), "example-config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config.Status = v1.ShardConfigStatus{Shards: 3, Selector: "app=worker"}
	if _, err := configs.UpdateStatus(t.Context(), config, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	disco, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))
	scales, err := scale.NewForConfig(cfg, mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(disco))
	if err != nil {
		t.Fatal(err)
	}
	resource, name := v1.Resource("shardconfigs"), "example-config"

	// As long as nobody has set the number, the server has no scale to show, which the field's comment says; kubectl scale sets it.
	if _, err := scales.Scales(ns).Get(t.Context(), resource, name, metav1.GetOptions{}); err == nil || !strings.Contains(err.Error(), ".spec.shards") {
		t.Errorf("scale before spec.shards is set: %v; want an error that names .spec.shards", err)
	}
	if _, err := scales.Scales(ns).Patch(t.Context(), shardConfigs, name, types.MergePatchType,
		[]byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	wantShards(t, configs.Get, 4)

	current, err := scales.Scales(ns).Get(t.Context(), resource, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if current.Status.Replicas != 3 || current.Status.Selector != "app=worker" || current.Spec.Replicas != 4 {
		t.Errorf("scale is %+v; want 4, status 3, app=worker", current)
	}
	current.Spec.Replicas = 5
	if _, err := scales.Scales(ns).Update(t.Context(), resource, current, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wantShards(t, configs.Get, 5)

	// The generated client has methods for it too.
	if _, err := configs.UpdateScale(t.Context(), name, &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns}, Spec: autoscalingv1.ScaleSpec{Replicas: 6}},
		metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	wantShards(t, configs.Get, 6)

	current.ResourceVersion = ""
	current.Spec.Replicas = 1001
	_, err = scales.Scales(ns).Update(t.Context(), resource, current, metav1.UpdateOptions{})
	if err == nil || !strings.Contains(err.Error(), "spec.shards") {
		t.Errorf("scaling to 1001: %v; want an error that names spec.shards", err)
	}
	wantShards(t, configs.Get, 6)
}

func wantShards(t *testing.T, get func(context.Context, string, metav1.GetOptions) (*v1.ShardConfig, error), want int32) {
	t.Helper()
	config, err := get(t.Context(), "example-config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if config.Spec.Shards == nil || *config.Spec.Shards != want {
		t.Errorf("spec.shards is %v; want %d", config.Spec.Shards, want)
	}
}
