package sharding

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

var migrations = schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardmigrations"}

// migrate creates a ShardMigration from a to b; change adapts it.
func (s *sim) migrate(name string, change func(*shardv1.ShardMigrationSpec)) {
	s.Helper()
	spec := shardv1.ShardMigrationSpec{Ring: simRing, Source: "a", Target: "b", Reason: shardv1.MigrationManual}
	if change != nil {
		change(&spec)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec)
	if err != nil {
		s.Fatal(err)
	}
	s.create(migrations, map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardMigration",
		"metadata": map[string]any{"name": name, "namespace": simNamespace}, "spec": content})
}

func (s *sim) migration(name string) *shardv1.ShardMigration {
	s.Helper()
	object := s.server.Get(migrations, simNamespace, name)
	if object == nil {
		return nil
	}
	var m shardv1.ShardMigration
	if err := fromUnstructured(object, &m); err != nil {
		s.Fatal(err)
	}
	return &m
}

// outcome renders how a migration is: "Succeeded 20/20", with what is not zero of the rest.
func (s *sim) outcome(name string) string {
	s.Helper()
	m := s.migration(name)
	if m == nil {
		return "none"
	}
	n := m.Status.Objects
	text := m.Status.Phase
	if m.Status.Reason != "" {
		text += " " + m.Status.Reason
	}
	text += fmt.Sprintf(" %d/%d", n.Moved, n.Total)
	for _, more := range []struct {
		name string
		n    int64
	}{{"moving", n.Moving}, {"verifying", n.Verifying}, {"returned", n.Returned}, {"failed", n.Failed}, {"gone", n.Gone}} {
		if more.n != 0 {
			text += fmt.Sprintf(" %s %d", more.name, more.n)
		}
	}
	return text
}

// recorded returns the records of the manager's own plans, in alphabetical order.
func (s *sim) recorded() string {
	var list []string
	for _, object := range s.server.List(migrations, simNamespace, nil) {
		m := s.migration(object.GetName())
		if m.Spec.Reason != shardv1.MigrationManual {
			list = append(list, fmt.Sprintf("%s %s→%s %s", m.Spec.Reason, m.Spec.Source, m.Spec.Target, m.Status.Phase))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// twoShards is a ring of a and b with n roots of a, and a child of each.
func (s *sim) twoShards(n int) (a, b *simWorker) {
	s.config()
	a, b = s.worker("a", nil), s.worker("b", nil)
	s.settle(10 * time.Second)
	for i := range n {
		name := fmt.Sprintf("s%03d", i)
		s.child("c"+name, "a", s.labelledRoot(name, "a"))
	}
	s.settle(time.Second)
	return a, b
}

// labelledRoot is a root that its owner keeps: by a pin, as the strategy may want it elsewhere.
func (s *sim) labelledRoot(name, owner string) *unstructured.Unstructured {
	s.Helper()
	return s.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{
		"name": name, "namespace": "ns", "labels": map[string]any{OwnerLabel(simRing): owner, PinLabel(simRing): owner},
	}})
}

func TestMigrationByHand(t *testing.T) {
	simulate(t, func(s *sim) {
		s.twoShards(20)
		s.runManager("m")
		s.settle(30 * time.Second)
		wants(s, "objects of a", s.counts(secrets)["a"], 20)
		s.migrate("all", nil)
		s.settle(10 * time.Second)
		wants(s, "the migration", s.outcome("all"), "Succeeded 20/20")
		wants(s, "objects of b", s.counts(secrets)["b"], 20)
		wants(s, "children away from their roots", s.astray(), 0)
		m := s.migration("all")
		wants(s, "finalizers", len(m.Finalizers), 0)
		wants(s, "Ready", meta.IsStatusConditionTrue(m.Status.Conditions, shardv1.ConditionReady), true)
		wants(s, "started before it finished", m.Status.Started != nil && !m.Status.Finished.Before(m.Status.Started), true)
		s.settle(2 * auditInterval)
		wants(s, "objects of b after the mover's next looks", s.counts(secrets)["b"], 20)
	})
}

func TestMigrationSelections(t *testing.T) {
	for name, test := range map[string]struct {
		selection shardv1.MigrationSelection
		outcome   string
		moved     int
	}{
		"all":      {shardv1.MigrationSelection{All: true}, "Succeeded 20/20", 20},
		"count":    {shardv1.MigrationSelection{Count: ptrTo[int64](7)}, "Succeeded 7/7", 7},
		"names":    {shardv1.MigrationSelection{Objects: []shardv1.MigrationObject{{Namespace: "ns", Name: "s003"}, {Namespace: "ns", Name: "s004", Resource: "secrets"}}}, "Succeeded 2/2", 2},
		"unknown":  {shardv1.MigrationSelection{Objects: []shardv1.MigrationObject{{Namespace: "ns", Name: "s003"}, {Namespace: "ns", Name: "nobody"}}}, "Failed ObjectsNotAtSource 0/0", 0},
		"resource": {shardv1.MigrationSelection{Objects: []shardv1.MigrationObject{{Namespace: "ns", Name: "cs003", Resource: "configmaps"}}}, "Failed InvalidSelection 0/0", 0},
		"everywhere": {shardv1.MigrationSelection{HashRanges: []shardv1.HashRange{{Start: 0, End: 1<<32 - 1}}},
			"Succeeded 20/20", 20},
		"label": {shardv1.MigrationSelection{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}},
			"Failed NothingSelected 0/0", 0},
		"bad label": {shardv1.MigrationSelection{LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "not a value"}}},
			"Failed InvalidSelector 0/0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.twoShards(20)
				s.runManager("m")
				s.settle(30 * time.Second)
				s.migrate("some", func(spec *shardv1.ShardMigrationSpec) { spec.Selection = &test.selection })
				s.settle(20 * time.Second)
				wants(s, "the migration", s.outcome("some"), test.outcome)
				wants(s, "objects of b", s.counts(secrets)["b"], test.moved)
			})
		})
	}
}

func ptrTo[T any](v T) *T { return &v }

func TestMigrationsThatMakeNoSense(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(*shardv1.ShardMigrationSpec)
		outcome string
	}{
		"unknown source": {func(m *shardv1.ShardMigrationSpec) { m.Source = "x" }, "Failed UnknownSource 0/0"},
		"unknown target": {func(m *shardv1.ShardMigrationSpec) { m.Target = "x" }, "Failed UnknownTarget 0/0"},
		"past deadline":  {func(m *shardv1.ShardMigrationSpec) { m.Deadline = &metav1.Time{Time: time.Now().Add(-time.Hour)} }, "RolledBack DeadlineExceeded 0/0"},
		"reserved":       {func(m *shardv1.ShardMigrationSpec) { m.Reason = shardv1.MigrationRebalance }, "Failed ReservedReason 0/0"},
		"dry run":        {func(m *shardv1.ShardMigrationSpec) { m.DryRun = true }, "Succeeded 0/20"},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.twoShards(20)
				s.runManager("m")
				s.settle(30 * time.Second)
				s.migrate("odd", test.change)
				s.settle(10 * time.Second)
				wants(s, "the migration", s.outcome("odd"), test.outcome)
				wants(s, "objects of a", s.counts(secrets)["a"], 20)
				if test.outcome[:6] == "Failed" && s.migration("odd").Status.LastError == "" {
					t.Error("it does not say why")
				}
				if s.migration("odd").Spec.DryRun && len(s.migration("odd").Status.WouldMove) != 10 {
					t.Errorf("would move: %v", s.migration("odd").Status.WouldMove)
				}
			})
		})
	}
}
