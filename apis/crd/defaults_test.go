package crd_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"github.com/shard-io/shard-controller/apis/shard/v1"
)

// Defaults as the server gives them: written out here once more, so that a default that changes by accident is seen.
func TestDefaults(t *testing.T) {
	cfg := server(t)
	typed, untyped := clients(t, cfg)
	ns := namespace(t, cfg)

	config := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "shard.io/v1", "kind": "ShardConfig", "metadata": map[string]any{"name": "empty"}, "spec": map[string]any{}}}
	instance := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "shard.io/v1", "kind": "ShardInstance", "metadata": map[string]any{"name": "empty"}, "spec": map[string]any{"shardId": "empty"}}}
	for _, object := range []*unstructured.Unstructured{config, instance} {
		if err := createUntyped(t.Context(), untyped, ns, object); err != nil {
			t.Fatal(err)
		}
	}
	gotConfig, err := typed.ShardV1().ShardConfigs(ns).Get(t.Context(), "empty", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gotInstance, err := typed.ShardV1().ShardInstances(ns).Get(t.Context(), "empty", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	seconds := func(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Second} }
	wantConfig := v1.ShardConfigSpec{
		MinShards: 1, MaxShards: 10,
		ScaleUpThreshold: ratio(t, 0.8), ScaleDownThreshold: ratio(t, 0.3),
		LoadBalanceStrategy: "consistent-hash",
		HealthCheckInterval: ptr.To(seconds(30)),
		Rebalance:           &v1.Rebalance{Tolerance: ratio(t, 0.1), Interval: seconds(30), Rounds: 2, MaxMovesPerRound: 1000, CooldownPeriod: seconds(600)},
		Scaling: &v1.Scaling{Tolerance: ratio(t, 0.1), SustainedPeriod: seconds(30), CooldownPeriod: seconds(300),
			MaxStepUp: 4, MaxStepDown: 1, UpPeriod: seconds(30), DownPeriod: seconds(60), QueueLimit: 1000, AgeLimit: seconds(60),
			StaleAfter: seconds(60), Forecast: v1.ForecastTrend, Horizon: seconds(60)},
		Handover: &v1.Handover{DrainTimeout: seconds(30), MaxInFlight: 200},
	}
	if diff := cmp.Diff(wantConfig, gotConfig.Spec); diff != "" {
		t.Errorf("empty ShardConfig (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(v1.ShardInstanceSpec{ShardID: "empty", Weight: 1}, gotInstance.Spec); diff != "" {
		t.Errorf("empty ShardInstance (-want +got):\n%s", diff)
	}

	// In process, the same.
	var inProcess v1.ShardConfig
	inProcess.SetDefaults()
	if diff := cmp.Diff(gotConfig.Spec, inProcess.Spec); diff != "" {
		t.Errorf("SetDefaults of ShardConfig (-server +in process):\n%s", diff)
	}
	shard := v1.ShardInstance{Spec: v1.ShardInstanceSpec{ShardID: "empty"}}
	shard.SetDefaults()
	if diff := cmp.Diff(gotInstance.Spec, shard.Spec); diff != "" {
		t.Errorf("SetDefaults of ShardInstance (-server +in process):\n%s", diff)
	}
}

// A ShardConfig in which everything is set to something else than its default comes back as it was, from the server and from
// SetDefaults.
func TestDefaultsChangeNothingThatIsSet(t *testing.T) {
	cfg := server(t)
	typed, _ := clients(t, cfg)
	ns := namespace(t, cfg)
	want := full(t)
	got, err := typed.ShardV1().ShardConfigs(ns).Create(t.Context(), want.DeepCopy(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Spec, got.Spec); diff != "" {
		t.Errorf("from the server (-want +got):\n%s", diff)
	}
	inProcess := want.DeepCopy()
	inProcess.SetDefaults()
	if diff := cmp.Diff(want.Spec, inProcess.Spec); diff != "" {
		t.Errorf("from SetDefaults (-want +got):\n%s", diff)
	}
}

// full returns a ShardConfig with every field of its spec set, none to its default.
func full(t *testing.T) *v1.ShardConfig {
	minutes := func(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Minute} }
	example := &v1.ShardConfig{}
	decodeInto(t, "shardconfig.yaml", example)
	return &v1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "full"},
		Spec: v1.ShardConfigSpec{
			MinShards: 3, MaxShards: 12, Shards: ptr.To[int32](4),
			ScaleUpThreshold: ratio(t, 0.75), ScaleDownThreshold: ratio(t, 0.25),
			LoadBalanceStrategy: "example.com/mine",
			HealthCheckInterval: ptr.To(minutes(1)),
			Resources:           example.Spec.Resources,
			Targets: []v1.Target{{
				Resource:          "secrets",
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
				LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
					{Key: "c", Operator: metav1.LabelSelectorOpIn, Values: []string{"d", "e"}}}},
				Controlled: []v1.ControlledResource{{Resource: "configmaps"}, {Group: "apps", Resource: "deployments"}},
			}, {
				Group: "example.com", Resource: "widgets",
			}},
			Workload:  &v1.WorkloadReference{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "worker"},
			Rebalance: &v1.Rebalance{Tolerance: ratio(t, 0.2), Interval: minutes(2), Rounds: 3, MaxMovesPerRound: 5, CooldownPeriod: minutes(6), DryRun: true},
			Scaling: &v1.Scaling{Tolerance: ratio(t, 0.05), SustainedPeriod: minutes(3), CooldownPeriod: minutes(4),
				MaxStepUp: 2, MaxStepDown: 3, UpPeriod: minutes(7), DownPeriod: minutes(8), QueueLimit: 9, AgeLimit: minutes(10),
				ConsolidateBelow: ratio(t, 0.6), StaleAfter: minutes(11), Forecast: v1.ForecastBoth, Horizon: minutes(12), DryRun: true},
			Handover: &v1.Handover{DrainTimeout: minutes(5), MaxInFlight: 7},
		},
	}
}

func ratio(t *testing.T, f float64) v1.Ratio {
	t.Helper()
	r, err := v1.RatioFrom(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
