package crd_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/shard-io/shard-controller/apis/shard/v1"
	apply "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/generated/clientset/versioned/fake"
)

// Two appliers share a ShardConfig and a ShardInstance, and each takes something back again. The fake clientset ends with what the real
// server ends with: lists merged by their keys, atomic ones replaced, fields that nobody applies any more removed.
func TestFakeClientsetAppliesLikeTheServer(t *testing.T) {
	cfg := server(t)
	typed, _ := clients(t, cfg)
	wantConfig, wantInstance := applySteps(t, typed, namespace(t, cfg))
	gotConfig, gotInstance := applySteps(t, fake.NewClientset(), "default")

	if diff := cmp.Diff(wantConfig.Spec, gotConfig.Spec); diff != "" {
		t.Errorf("spec of ShardConfig (-server +fake):\n%s", diff)
	}
	ignoreTimes := cmpopts.IgnoreFields(metav1.Condition{}, "LastTransitionTime")
	if diff := cmp.Diff(wantInstance.Spec, gotInstance.Spec); diff != "" {
		t.Errorf("spec of ShardInstance (-server +fake):\n%s", diff)
	}
	if diff := cmp.Diff(wantInstance.Status, gotInstance.Status, ignoreTimes); diff != "" {
		t.Errorf("status of ShardInstance (-server +fake):\n%s", diff)
	}
	if diff := cmp.Diff(wantConfig.Labels, gotConfig.Labels); diff != "" {
		t.Errorf("labels (-server +fake):\n%s", diff)
	}

	// And that is what is meant to come out.
	if got := len(wantConfig.Spec.Targets); got != 2 {
		t.Errorf("%d targets; want 2", got)
	}
	if got := wantInstance.Spec.HashRanges; !cmp.Equal(got, []v1.HashRange{{Start: 5, End: 6}}) {
		t.Errorf("hash ranges %v; want only 5 to 6", got)
	}
	if got := len(wantInstance.Status.Conditions); got != 2 {
		t.Errorf("%d conditions; want 2", got)
	}
}

func applySteps(t *testing.T, client versioned.Interface, ns string) (*v1.ShardConfig, *v1.ShardInstance) {
	t.Helper()
	configs, instances := client.ShardV1().ShardConfigs(ns), client.ShardV1().ShardInstances(ns)

	// All defaults are set, as the fake clientset knows none.
	base := full(t).Spec
	first := apply.ShardConfig("ring", ns).WithLabels(map[string]string{"a": "1", "b": "2"}).WithSpec(apply.ShardConfigSpec().
		WithMinShards(base.MinShards).WithMaxShards(base.MaxShards).
		WithScaleUpThreshold(base.ScaleUpThreshold).WithScaleDownThreshold(base.ScaleDownThreshold).
		WithLoadBalanceStrategy("one").WithHealthCheckInterval(*base.HealthCheckInterval).
		WithRebalance(apply.Rebalance().WithTolerance(base.Rebalance.Tolerance).WithInterval(base.Rebalance.Interval).
			WithRounds(base.Rebalance.Rounds).WithMaxMovesPerRound(base.Rebalance.MaxMovesPerRound).
			WithCooldownPeriod(base.Rebalance.CooldownPeriod).WithDryRun(base.Rebalance.DryRun)).
		WithScaling(apply.Scaling().WithTolerance(base.Scaling.Tolerance).WithSustainedPeriod(base.Scaling.SustainedPeriod).
			WithCooldownPeriod(base.Scaling.CooldownPeriod).WithMaxStepUp(base.Scaling.MaxStepUp).WithMaxStepDown(base.Scaling.MaxStepDown).
			WithUpPeriod(base.Scaling.UpPeriod).WithDownPeriod(base.Scaling.DownPeriod).WithQueueLimit(base.Scaling.QueueLimit).
			WithAgeLimit(base.Scaling.AgeLimit).WithConsolidateBelow(base.Scaling.ConsolidateBelow).WithStaleAfter(base.Scaling.StaleAfter).
			WithForecast(base.Scaling.Forecast).WithHorizon(base.Scaling.Horizon).WithDryRun(base.Scaling.DryRun)).
		WithHandover(apply.Handover().WithDrainTimeout(base.Handover.DrainTimeout).WithMaxInFlight(base.Handover.MaxInFlight)).
		WithTargets(
			apply.Target().WithResource("secrets").WithControlled(apply.ControlledResource().WithResource("configmaps")),
			apply.Target().WithGroup("apps").WithResource("deployments")))
	second := apply.ShardConfig("ring", ns).WithSpec(apply.ShardConfigSpec().WithShards(5).
		WithTargets(apply.Target().WithGroup("").WithResource("secrets").
			WithLabelSelector(metaapply.LabelSelector().WithMatchLabels(map[string]string{"x": "y"}))))
	firstAgain := apply.ShardConfig("ring", ns).WithLabels(map[string]string{"a": "3"}).WithSpec(first.Spec)
	firstAgain.Spec.Targets = firstAgain.Spec.Targets[:1]
	firstAgain.Spec.Targets = append(firstAgain.Spec.Targets, *apply.Target().WithGroup("batch").WithResource("jobs"))

	var config *v1.ShardConfig
	for i, step := range []struct {
		manager string
		config  *apply.ShardConfigApplyConfiguration
	}{{"first", first}, {"second", second}, {"first", firstAgain}} {
		var err error
		if config, err = configs.Apply(t.Context(), step.config, metav1.ApplyOptions{FieldManager: step.manager, Force: true}); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}

	// Spec and status under two names: the fake, unlike the server, takes one name for one applier of both, and removes the spec when
	// only the status is applied.
	for i, ranges := range [][]*apply.HashRangeApplyConfiguration{
		{apply.HashRange().WithStart(1).WithEnd(2), apply.HashRange().WithStart(3).WithEnd(4)},
		{apply.HashRange().WithStart(5).WithEnd(6)},
	} {
		instance := apply.ShardInstance("shard", ns).WithSpec(apply.ShardInstanceSpec().WithShardID("shard").WithWeight(2).WithHashRanges(ranges...))
		if _, err := instances.Apply(t.Context(), instance, metav1.ApplyOptions{FieldManager: "ranges"}); err != nil {
			t.Fatalf("ranges %d: %v", i, err)
		}
	}
	condition := func(kind string) *metaapply.ConditionApplyConfiguration {
		return metaapply.Condition().WithType(kind).WithStatus(metav1.ConditionTrue).WithReason("R").WithMessage("").WithLastTransitionTime(metav1.Now())
	}
	var instance *v1.ShardInstance
	for i, step := range []struct {
		manager string
		status  *apply.ShardInstanceStatusApplyConfiguration
	}{
		{"manager", apply.ShardInstanceStatus().WithPhase(v1.PhaseRunning).WithConditions(condition(v1.ConditionReady), condition(v1.ConditionStalled))},
		{"worker", apply.ShardInstanceStatus().WithLoad(ratio(t, 0.65)).WithAssignedResources("a", "b").WithAssignedResourceCount(2)},
		{"worker", apply.ShardInstanceStatus().WithLoad(ratio(t, 0)).WithAssignedResources("c").WithConditions(condition("Mine"))},
		{"manager", apply.ShardInstanceStatus().WithPhase(v1.PhaseDraining).WithConditions(condition(v1.ConditionReady))},
	} {
		var err error
		instance, err = instances.ApplyStatus(t.Context(), apply.ShardInstance("shard", ns).WithStatus(step.status), metav1.ApplyOptions{FieldManager: step.manager})
		if err != nil {
			t.Fatalf("status %d: %v", i, err)
		}
	}
	return config, instance
}
