package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

func render(text func(io.Writer)) string {
	var out bytes.Buffer
	text(&out)
	return out.String()
}

// TestViews renders reports that are made of plain values.
func TestViews(t *testing.T) {
	facts := scene()
	facts.instances[1].Spec.Cordoned = true
	facts.instances[2].Spec.Draining = true
	facts.instances[2].Annotations = map[string]string{leavingAnnotation: "true"}
	drained := condition(conditionDrained, metav1.ConditionFalse, reasonNoTarget, "No other shard may receive the objects.")
	facts.instances[2].Status.Conditions = append(facts.instances[2].Status.Conditions, drained)
	running := shardv1.ShardMigration{
		ObjectMeta: metav1.ObjectMeta{Name: "manual-x", CreationTimestamp: metav1.NewTime(noon.Add(-time.Minute))},
		Spec:       shardv1.ShardMigrationSpec{Ring: "auditor", Source: "a", Target: "b", Reason: shardv1.MigrationManual},
		Status: shardv1.ShardMigrationStatus{
			Phase: "Transfer", Objects: shardv1.MigrationCounts{Total: 120, Moved: 40, Moving: 3, Verifying: 2},
		},
	}
	over, other := running, running
	over.Name, over.Status.Phase = "manual-y", "Failed"
	other.Name, other.Spec.Ring = "manual-z", "other"
	status := statusReport{Rings: []ringStatus{newRingStatus(facts, []shardv1.ShardMigration{running, over, other}, noon)}}

	over.Status.Reason, over.Status.LastError = "NotAllMoved", "1 of 120 objects was not moved."
	over.Status.Objects = shardv1.MigrationCounts{Total: 120, Moved: 119, Failed: 1}
	begun, finished := metav1.NewTime(noon), metav1.NewTime(noon.Add(3*time.Second))
	over.Status.Started, over.Status.Finished = &begun, &finished
	over.Status.Failures = []shardv1.MigrationFailure{{Object: "secrets/shop/x", Reason: "StateRefused", Message: "a version that\nnobody knows"}}
	trial := newMigrationReport(&running)
	trial.DryRun, trial.Status.WouldMove = true, []string{"secrets/shop/a", "secrets/shop/b"}

	broken := scene()
	broken.instances[0].Spec.HashRanges = nil
	broken.instances[1].Spec.Weight = 3
	brokenTable, faults := tableOf(broken)
	table, _ := tableOf(scene())
	empty := scene()
	empty.instances = nil

	for name, text := range map[string]func(io.Writer){
		"status.txt":             status.text,
		"status-none.txt":        statusReport{}.text,
		"ring.txt":               newRingReport(scene(), table, nil).text,
		"ring-broken.txt":        newRingReport(broken, brokenTable, faults).text,
		"ring-empty.txt":         newRingReport(empty, nil, nil).text,
		"migrate-failed.txt":     newMigrationReport(&over).text,
		"migrate-dry-run.txt":    trial.text,
		"rebalance.txt":          rebalanceOf(broken).text,
		"rebalance-settled.txt":  rebalanceReport{Objects: 1, Strategy: "least-loaded", Unknown: 1}.text,
		"verify.txt":             someGaps().text,
		"verify-all-is-well.txt": verifyReport{Namespace: "audit", Name: "auditor", Objects: 1, Children: 1, Live: []string{"a"}, Took: "1s"}.text,
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, render(text)) })
	}
	if got, want := progressOf(&running), "Transfer, 40 of 120 objects moved, 3 moving, 2 verifying"; got != want {
		t.Errorf("progress %q, want %q", got, want)
	}
	running.Status.Conditions = []metav1.Condition{condition(shardv1.ConditionStalled, metav1.ConditionTrue, "Queued", "It waits for manual-y.")}
	if got, want := progressOf(&running), "Transfer, It waits for manual-y."; got != want {
		t.Errorf("progress %q, want %q", got, want)
	}
}

// rebalanceOf looks at objects for each case that it tells apart.
func rebalanceOf(f *ringFacts) rebalanceReport {
	f.instances[2].Spec.Draining = true
	f.config.Status.LastPlan = &shardv1.Decision{Reason: "WithinTolerance", Message: "All are within 10 %.", Time: metav1.NewTime(noon)}
	r := newRebalancing(f)
	for i := range 40 {
		name := fmt.Sprintf("x-%d", i)
		r.look(secretsTarget(), object(name, "shard.io/R=a"))
		r.look(secretsTarget(), object(name, "shard.io/R=c"))
		r.look(secretsTarget(), object(name))
	}
	r.look(secretsTarget(), object("moving", "shard.io/R=a", "drain.shard.io/R=b"))
	r.look(secretsTarget(), object("pinned", "shard.io/R=a", "pin.shard.io/R=a"))
	r.look(secretsTarget(), object("declined", "shard.io/R=c", "refused.shard.io/R=c", `@refused.shard.io/R={"by":"c","declined":"a"}`))
	return r.report()
}

func someGaps() verifyReport {
	return verifyReport{
		Namespace: "audit", Name: "auditor", Objects: 1000, Children: 2000, Moving: 3, Live: []string{"a", "b"}, Total: 4, Missing: []string{"widgets.example.com"},
		Gaps: []gap{
			{gapEpoch, "secrets/shop/x", "a", `its epoch is "many"`}, {gapUnassigned, "secrets/shop/y", "", "it has no owner"},
		},
		Audit: "Covered=False, 4 unassigned.", Took: "41s",
	}
}

// TestExplain tells why objects are where they are: a section for each case.
func TestExplain(t *testing.T) {
	selecting := func(key, value string) labels.Selector { return labels.SelectorFromSet(labels.Set{key: value}) }
	slot := secretsTarget().prefix.Hash("shop", "x")
	table, _ := tableOf(scene())
	home := table.Owner(slot) // of the object x
	var others []string
	for _, id := range []string{"a", "b", "c"} {
		if id != home {
			others = append(others, id)
		}
	}
	away := others[0]
	migration := &shardv1.ShardMigration{
		ObjectMeta: metav1.ObjectMeta{Name: "manual-x"}, Spec: shardv1.ShardMigrationSpec{Source: home, Target: away},
		Status: shardv1.ShardMigrationStatus{Phase: "Succeeded"},
	}
	cases := []struct {
		name    string
		written []string
		change  func(*subject)
	}{
		{"at home", []string{"shard.io/R=" + home, "@epoch.shard.io/R=4"}, nil},
		{"away", []string{"shard.io/R=" + away, "@epoch.shard.io/R=4"}, nil},
		{"on its way", []string{"shard.io/R=" + away, "drain.shard.io/R=" + home, "@epoch.shard.io/R=4"}, nil},
		{"moved by hand", []string{"shard.io/R=" + away, "pin.shard.io/R=" + away, "migration.shard.io/R=manual-x.1234", "@epoch.shard.io/R=5"}, nil},
		{"pinned to a shard that does not exist", []string{"shard.io/R=" + home, "pin.shard.io/R=z", "@epoch.shard.io/R=5"}, nil},
		{"without an owner", nil, nil},
		{"without an owner, by round robin", nil, func(s *subject) { s.facts.config.Spec.LoadBalanceStrategy = "round-robin" }},
		{"by a strategy of somebody's", []string{"shard.io/R=" + home}, func(s *subject) { s.facts.config.Spec.LoadBalanceStrategy = "by-moon" }},
		{"by least load, which keeps what is placed", []string{"shard.io/R=" + away, "@epoch.shard.io/R=1"}, func(s *subject) { s.facts.config.Spec.LoadBalanceStrategy = "least-loaded" }},
		{"its shard is cordoned", []string{"shard.io/R=" + away, "@epoch.shard.io/R=1"}, func(s *subject) { s.facts.instance(home).Spec.Cordoned = true }},
		{"its owner drains", []string{"shard.io/R=" + away, "@epoch.shard.io/R=1"}, func(s *subject) { s.facts.instance(away).Spec.Draining = true }},
		{"its owner is lost", []string{"shard.io/R=e", "@epoch.shard.io/R=1"}, nil},
		{"its owner is silent", []string{"shard.io/R=d", "@epoch.shard.io/R=1"}, nil},
		{"its owner does not exist", []string{"shard.io/R=z", "@epoch.shard.io/R=1"}, nil},
		{"nobody may receive it", nil, func(s *subject) {
			for i := range s.facts.instances {
				s.facts.instances[i].Spec.Cordoned = true
			}
		}},
		{"its state was refused", []string{"shard.io/R=" + away, "refused.shard.io/R=" + away, `@refused.shard.io/R={"by":"` + away + `","from":"` + home + `","reason":"Version","message":"7 is too new"}`, "@state.shard.io/R={}"}, nil},
		{"it can't be handed over", []string{"shard.io/R=" + away, "refused.shard.io/R=" + away, `@refused.shard.io/R={"by":"` + away + `","declined":"` + home + `","reason":"ExportFailed"}`}, nil},
		{"a state was put aside", []string{"shard.io/R=" + home, "@unusable.shard.io/R={}"}, nil},
		{"not selected by its labels", nil, func(s *subject) { s.target.objects = selecting("tier", "gold") }},
		{"not selected any more", []string{"shard.io/R=" + home}, func(s *subject) {
			s.target.namespaces, s.target.selected = selecting("team", "x"), map[string]bool{"other": true}
		}},
		{"a child", []string{"shard.io/R=" + home}, func(s *subject) {
			s.isChild, s.root = true, object("x", "shard.io/R="+home, "@epoch.shard.io/R=2")
			s.ref = objectRef{configMaps, "shop", "x-report"}
		}},
		{"a child that is astray", []string{"shard.io/R=" + away}, func(s *subject) {
			s.isChild, s.root = true, object("x", "shard.io/R="+home, "@epoch.shard.io/R=2")
			s.ref = objectRef{configMaps, "shop", "x-report"}
		}},
		{"a child whose root is gone", []string{"shard.io/R=" + home}, func(s *subject) { s.isChild = true }},
		{"of no target", nil, func(s *subject) { s.target = nil }},
	}
	var b strings.Builder
	for _, c := range cases {
		s := &subject{ref: objectRef{secrets, "shop", "x"}, object: object("x", c.written...), facts: scene(), target: secretsTarget()}
		if c.change != nil {
			c.change(s)
		}
		e := s.explain(migration, noon)
		fmt.Fprintf(&b, "== %s\n%sfine: %t\n\n", c.name, render(e.text), e.Fine)
	}
	golden(t, "explain.txt", b.String())
}

func TestOwnerView(t *testing.T) {
	child := func(name string) ownedObject {
		return ownedObject{Object: "configmaps/shop/" + name, Owner: "a"}
	}
	cases := []struct {
		name string
		s    subject
		fine bool
	}{
		{"owned, with children", subject{object: object("x", "shard.io/R=a", "@epoch.shard.io/R=4", "pin.shard.io/R=a"), children: []ownedObject{child("x-1"), child("x-2")}}, true},
		{"no owner", subject{object: object("x")}, false},
		{"a child that is astray", subject{object: object("x", "shard.io/R=a"), children: []ownedObject{{Object: "configmaps/shop/x-1", Note: "not with its root"}}}, false},
		{"in hand-over, a child goes first", subject{
			object:   object("x", "shard.io/R=a", "drain.shard.io/R=b", "migration.shard.io/R=m.1"),
			children: []ownedObject{{Object: "configmaps/shop/x-1", Owner: "b", Note: "not with its root"}},
		}, true},
		{"a child", subject{isChild: true, object: object("x-1", "shard.io/R=a"), root: object("x", "shard.io/R=a")}, true},
		{"a child elsewhere", subject{isChild: true, object: object("x-1", "shard.io/R=a"), root: object("x", "shard.io/R=b")}, false},
		{"an orphan", subject{isChild: true, object: object("x-1", "shard.io/R=a")}, false},
	}
	var b strings.Builder
	for _, c := range cases {
		c.s.facts, c.s.target, c.s.ref = scene(), secretsTarget(), objectRef{secrets, "shop", c.s.object.Name}
		report, fine := c.s.owner()
		if fine != c.fine {
			t.Errorf("%s: fine is %t, want %t", c.name, fine, c.fine)
		}
		fmt.Fprintf(&b, "== %s\n%s\n", c.name, render(report.text))
	}
	golden(t, "owner.txt", b.String())
}
