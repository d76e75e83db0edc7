package sharding

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/shard-io/shard-controller/sharding/scaling"
)

func TestMetricsAreWellNamed(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m, err := newManagerMetrics(registry, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorkerMetrics(registry, "r", func() float64 { return 0.5 })
	if err != nil {
		t.Fatal(err)
	}
	m.begin("r")
	m.shards.WithLabelValues("r", "Alive").Set(3)
	m.unowned.WithLabelValues("r").Set(0)
	m.takeover.WithLabelValues("r").Observe(1)
	w.handover.WithLabelValues("r").Observe(1)
	w.reconciles.WithLabelValues("r", "secrets", "success").Inc()
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		// This name is older than the rule that a gauge must not end in _total, and part of the contract.
		if p.Metric != "shard_controller_shards_total" {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, family := range gathered {
		names = append(names, strings.TrimPrefix(family.GetName(), "shard_controller_"))
	}
	want := []string{
		"audit_errors_total", "double_owner_detected_total", "fenced_writes_total", "handover_forced_total", "handover_seconds",
		"lease_remaining_ratio", "lease_renew_errors_total", "manager_leading", "reconciles_total", "shard_active", "shards_total",
		"takeover_seconds", "unowned_objects",
	}
	if slices.Sort(names); !slices.Equal(names, want) {
		t.Errorf("metrics are %v, want %v", names, want)
	}
	if _, err := newWorkerMetrics(registry, "r", nil); err == nil {
		t.Error("a second Worker could use the same Registerer")
	}
}

// read returns the sum of all series of a metric that have the label value, any if that is "", and -1 if there is none.
func read(t *testing.T, registry *prometheus.Registry, metric, label string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, family := range families {
		if family.GetName() != "shard_controller_"+metric {
			continue
		}
		for _, m := range family.GetMetric() {
			matches := label == ""
			for _, l := range m.GetLabel() {
				matches = matches || l.GetValue() == label
			}
			if matches {
				sum, found = sum+m.GetGauge().GetValue()+m.GetCounter().GetValue(), true
			}
		}
	}
	if !found {
		return -1
	}
	return sum
}

// TestMetricsOfAShardThatCannotAct holds what alerts go by: a shard that has never been active is seen, and so is a Lease that runs out.
func TestMetricsOfAShardThatCannotAct(t *testing.T) {
	simulate(t, func(s *sim) {
		registry := prometheus.NewRegistry()
		s.worker("a", takes(time.Hour), func(o *WorkerOptions, _ *Controller) { o.Registerer = registry })
		s.settle(time.Minute)
		wants(s, "active before there is a ring", read(s.T, registry, "shard_active", simRing), 0)
		wants(s, "Lease before there is a ring", read(s.T, registry, "lease_remaining_ratio", simRing), 0)
		wants(s, "errors before there is any", read(s.T, registry, "lease_renew_errors_total", simRing), 0)
		s.config()
		for i := range 30 {
			s.secret(fmt.Sprintf("o%02d", i), "a")
		}
		s.settle(4 * time.Minute)
		wants(s, "active", read(s.T, registry, "shard_active", simRing), 1)
		if left := read(s.T, registry, "lease_remaining_ratio", simRing); left < 0.75 || left > 1 { // 2 s of 10 between renewals
			t.Errorf("%v of the Lease is left while it is renewed", left)
		}
		if waiting := read(s.T, registry, "waiting_objects", "secrets"); waiting != 25 && waiting != 26 {
			t.Errorf("%v of 30 objects wait, while 4 are reconciled for ever", waiting)
		}
		if oldest := read(s.T, registry, "waiting_oldest_seconds", "secrets"); oldest < 230 || oldest > 241 {
			t.Errorf("the oldest has waited for %v s, want 4 minutes", oldest)
		}
		s.server.SetDown(true)
		s.settle(7 * time.Second)
		if left := read(s.T, registry, "lease_remaining_ratio", simRing); left < 0.2 || left > 0.5 {
			t.Errorf("%v of the Lease is left 7 s after the API server went away", left)
		}
		s.settle(time.Minute)
		wants(s, "Lease in an outage", read(s.T, registry, "lease_remaining_ratio", simRing), 0)
		wants(s, "active in an outage", read(s.T, registry, "shard_active", simRing), 0)
	})
}

// TestMetricsOfManagers holds what alerts go by: one of two leads, counters are there before they count, dead shards are counted until they are
// taken over, and a scaler that may not go on says so.
func TestMetricsOfManagers(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.edit(configs, simNamespace, simRing, set(int64(2), "spec", "maxShards"))
		s.secrets(20)
		var registries []*prometheus.Registry
		for _, id := range []string{"m1", "m2"} {
			registry := prometheus.NewRegistry()
			registries = append(registries, registry)
			s.runManager(id, func(o *ManagerOptions) { o.Registerer = registry })
		}
		total := func(metric, label string) (sum float64) {
			for _, registry := range registries {
				sum += max(0, read(s.T, registry, metric, label))
			}
			return sum
		}
		var load dial
		load.set(1)
		s.worker("a", nil, load.shard)
		b := s.worker("b", nil, load.shard)
		s.settle(3 * time.Minute)
		wants(s, "leaders", total("manager_leading", ""), 1)
		wants(s, "manager that does not lead", min(read(s.T, registries[0], "manager_leading", ""), read(s.T, registries[1], "manager_leading", "")), 0)
		wants(s, "double owners", max(read(s.T, registries[0], "double_owner_detected_total", simRing), read(s.T, registries[1], "double_owner_detected_total", simRing)), 0)
		if rounds := total("scaling_rounds_total", string(scaling.AtMax)); rounds < 10 {
			t.Errorf("%v rounds of the scaler were AtMax with two full shards of two", rounds)
		}
		wants(s, "alive", total("shards_total", "Alive"), 2)
		b.kill()
		s.settle(simLease + 30*time.Second)
		wants(s, "alive", total("shards_total", "Alive"), 1)
		wants(s, "dead, and taken over", total("shards_total", "Dead"), 0)
		s.server.SetDown(true)
		s.settle(time.Minute)
		wants(s, "leaders in an outage", total("manager_leading", ""), 0)
	})
}
