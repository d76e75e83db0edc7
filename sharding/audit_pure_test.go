package sharding

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/health"
)

// aRoot has "owner", "owner→target" or "" on it, and an epoch.
func aRoot(ownership, epoch string) *metav1.PartialObjectMetadata {
	root := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "o", UID: "u", Labels: map[string]string{}, Annotations: map[string]string{}}}
	owner, target, draining := strings.Cut(ownership, "→")
	if owner != "" {
		root.Labels[OwnerLabel(simRing)] = owner
	}
	if draining {
		root.Labels[DrainLabel(simRing)] = target
	}
	if epoch != "" {
		root.Annotations[EpochAnnotation(simRing)] = epoch
	}
	return root
}

func aJudge() *judge {
	return &judge{
		ring: simRing,
		lives: func(shard string) liveness {
			return map[string]liveness{"live": livenessLive, "other": livenessLive, "narrow": livenessLive, "lost": livenessLost}[shard]
		},
		served: servedSets{"narrow": {schema.GroupResource{Resource: "pods"}: true}},
	}
}

func TestJudgeOfRoots(t *testing.T) {
	for _, c := range []struct {
		ownership, epoch string
		selected         bool
		want             []gapKind
	}{
		{"live", "1", true, nil},
		{"live→live", "1", true, nil},
		{"", "", true, []gapKind{gapUnassigned}},
		{"", "7", true, []gapKind{gapUnassigned}},
		{"lost", "1", true, []gapKind{gapOwnerLost}},
		{"ghost", "1", true, []gapKind{gapOwnerUnknown}},
		{"lost→live", "1", true, []gapKind{gapOwnerLost}},
		{"narrow", "1", true, []gapKind{gapNotServed}},
		{"live→other", "1", true, []gapKind{gapHandoverStuck}},
		{"live→lost", "1", true, []gapKind{gapHandoverTarget}},
		{"live→ghost", "1", true, []gapKind{gapHandoverTarget}},
		{"live", "", true, []gapKind{gapEpoch}},
		{"live", "seven", true, []gapKind{gapEpoch}},
		{"live", "-1", true, []gapKind{gapEpoch}},
		{"live", "99999999999999999999", true, []gapKind{gapEpoch}},
		{"ghost", "x", true, []gapKind{gapOwnerUnknown, gapEpoch}},
		{"", "", false, nil},
		{"live", "1", false, []gapKind{gapNotSelected}},
		{"→live", "", false, []gapKind{gapNotSelected}},
	} {
		got := aJudge().root(schema.GroupResource{Resource: "secrets"}, c.selected, aRoot(c.ownership, c.epoch))
		if !slices.Equal(got, c.want) {
			t.Errorf("%q, epoch %q, selected %t: got %v, want %v", c.ownership, c.epoch, c.selected, got, c.want)
		}
	}
}

func TestJudgeOfChildren(t *testing.T) {
	for owner, want := range map[string]gapKind{"live": "", "": gapChildUnassigned, "other": gapChildAstray} {
		if got := aJudge().child("live", aRoot(owner, "")); got != want {
			t.Errorf("child of %q whose root is of live: got %q, want %q", owner, got, want)
		}
	}
}

// TestSuspicions plays scripts: what each pass sees, some time after the one before, and what that proves.
func TestSuspicions(t *testing.T) {
	const dwell = 10 * time.Second
	type pass struct {
		after time.Duration
		state uint64 // 0: nothing is seen
		want  verdict
	}
	for name, script := range map[string][]pass{
		"seen again after the time":    {{0, 1, suspected}, {10 * time.Second, 1, newlyProven}, {time.Second, 1, stillProven}},
		"seen again too soon":          {{0, 1, suspected}, {9 * time.Second, 1, suspected}, {time.Second, 1, newlyProven}},
		"changed in between":           {{0, 1, suspected}, {10 * time.Second, 2, suspected}, {10 * time.Second, 2, newlyProven}},
		"gone in between":              {{0, 1, suspected}, {5 * time.Second, 0, suspected}, {5 * time.Second, 1, suspected}},
		"changed after it was proven":  {{0, 1, suspected}, {10 * time.Second, 1, newlyProven}, {time.Second, 2, suspected}},
		"comes back after it was gone": {{0, 1, suspected}, {10 * time.Second, 1, newlyProven}, {time.Second, 0, suspected}, {time.Second, 1, suspected}},
	} {
		var s suspicions
		now := time.Unix(1000, 0)
		for i, p := range script {
			now = now.Add(p.after)
			s.begin()
			if p.state != 0 {
				if got := s.raise(now, 7, gapUnassigned, p.state, dwell); got != p.want {
					t.Errorf("%s: pass %d: got %v, want %v", name, i, got, p.want)
				}
			}
			s.end(now, func(gapKind) time.Duration { return dwell })
		}
	}
}

func TestSuspicionsOfOnePassProveNothing(t *testing.T) {
	var s suspicions
	now := time.Unix(1000, 0)
	s.begin()
	s.raise(now, 7, gapUnassigned, 1, 0)
	if got := s.raise(now.Add(time.Hour), 7, gapUnassigned, 1, 0); got != suspected {
		t.Error("an object that a pass came across twice was proven by that")
	}
	s.end(now, func(gapKind) time.Duration { return 0 })
	s.begin()
	s.abort()
	s.begin()
	if got := s.raise(now, 7, gapUnassigned, 1, 0); got != newlyProven {
		t.Error("a pass that was not completed made the audit forget")
	}
}

func TestSuspicionsAreBounded(t *testing.T) {
	var s suspicions
	now := time.Unix(1000, 0)
	proven := 0
	for range 3 {
		s.begin()
		for i := range 3 * maxSuspicions {
			if s.raise(now, element(i+1), gapUnassigned, 1, time.Minute) == newlyProven {
				proven++
			}
		}
		if len(s.known) != maxSuspicions || s.beyond != 2*maxSuspicions {
			t.Fatalf("%d are remembered and %d beyond, want %d and %d", len(s.known), s.beyond, maxSuspicions, 2*maxSuspicions)
		}
		wait, open := s.end(now, func(gapKind) time.Duration { return time.Minute })
		if !open || wait > time.Minute {
			t.Errorf("the next pass is to be after %s (%t), want within a minute", wait, open)
		}
		now = now.Add(time.Minute)
	}
	if proven != maxSuspicions {
		t.Errorf("%d proven, want %d", proven, maxSuspicions)
	}
}

func TestLeaseWitness(t *testing.T) {
	lease := func(name, holder string, renewed int) coordinationv1.Lease {
		at := metav1.NewMicroTime(time.Unix(int64(renewed), 0))
		return coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &at}}
	}
	const patience = 40 * time.Second
	now := time.Unix(1000, 0)
	var w leaseWitness
	for i := range 3 { // a minute apart; the clock of the shards is wrong by an hour, which is of no interest
		w.observe(now, []coordinationv1.Lease{
			lease("renews", "renews_1", 4600+i), lease("silent", "silent_1", 4600), lease("released", "", 4600+i),
			lease("taken", health.ManagerPrefix+"m", 4600+i),
			{ObjectMeta: metav1.ObjectMeta{Name: "empty"}},
		})
		want := map[string]liveness{"renews": livenessLive, "silent": livenessLost, "released": livenessLost, "taken": livenessLost, "empty": livenessLost, "ghost": livenessUnknown}
		if i == 0 {
			want["silent"] = livenessLive // nothing is known yet
		}
		for shard, want := range want {
			if got := w.lives(now, shard, patience); got != want {
				t.Errorf("look %d: %s is %d, want %d", i, shard, got, want)
			}
		}
		now = now.Add(time.Minute)
	}
	w.observe(now, nil)
	if len(w.seen) != 0 {
		t.Error("the witness remembers Leases that are gone")
	}
}

func TestRootIndex(t *testing.T) {
	x := newRootIndex()
	const n = 20000
	of := func(i int) element { return elementOf(types.UID(fmt.Sprint("root", i))) }
	for i := range n {
		x.add(of(i), fmt.Sprint("s", i%50))
	}
	for i := range n {
		if owner, ok := x.owner(of(i)); !ok || owner != fmt.Sprint("s", i%50) {
			t.Fatalf("root %d is of %q (%t), want s%d", i, owner, ok, i%50)
		}
	}
	for i := n; i < 2*n; i++ {
		if owner, ok := x.owner(of(i)); ok {
			t.Errorf("root %d is of %q, but was not added", i, owner)
		}
	}
}

// heldBy returns what shards report or have labels on: "a:1,2".
func heldBy(text ...string) holdingSet {
	set := holdingSet{}
	for _, part := range text {
		shard, list, _ := strings.Cut(part, ":")
		h := &holdings{}
		for _, e := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
			h.sketch.add(elementOf(types.UID(e)))
			h.count++
		}
		h.text = h.sketch.String()
		set[shard] = h
	}
	return set
}

func TestReportsAgainstLabels(t *testing.T) {
	labelled := heldBy("a:1,2,3", "b:4,5", "c:6")
	reported := heldBy("a:1,2,3,4", "b:4", "c:6,9")
	d := compare(labelled, reported)
	if len(d.over) != 2 || len(d.under) != 1 || len(d.apart) != 0 {
		t.Fatalf("got %+v, want a and c with one too many, and b with one too few", d)
	}
	for _, c := range []struct {
		object, owner string
		holders       string
		kind          gapKind
	}{
		{"4", "b", "a and b", gapDoublyOwned},
		{"9", "", "c", gapHeldElsewhere},       // nobody's
		{"9", "b", "b and c", gapDoublyOwned},  // b does not deny it
		{"9", "silent", "c", gapHeldElsewhere}, // it says nothing
		{"5", "b", "", gapHeldElsewhere},       // not over at all
		{"4", "a", "a", gapHeldElsewhere},      // it is a's by now
	} {
		holders := d.holders(elementOf(types.UID(c.object)), c.owner, reported)
		if got := joinShards(holders); got != c.holders || heldKind(holders) != c.kind {
			t.Errorf("%s of %q: held by %q: %s, want %q: %s", c.object, c.owner, got, heldKind(holders), c.holders, c.kind)
		}
	}
}

func TestReportThatCannotBeCompared(t *testing.T) {
	many := make([]string, 3000)
	for i := range many {
		many[i] = fmt.Sprint("x", i)
	}
	d := compare(heldBy("a:"+strings.Join(many, ",")), heldBy("a:1"))
	if len(d.apart) != 1 || d.apart[0].labelled != 3000 || d.apart[0].held != 1 || len(d.over)+len(d.under) > 0 {
		t.Errorf("got %+v, want one shard apart, with 3000 and 1", d)
	}
	served := map[string]map[schema.GroupResource]servedHoldings{"a": {{Resource: "secrets"}: {count: 1, sketch: "damaged"}}}
	reports, unreported := reportsOf(served, schema.GroupResource{Resource: "secrets"}, []string{"a", "b"})
	if len(reports) != 0 || unreported != 2 {
		t.Errorf("%d reports, %d without; want both shards to count as silent", len(reports), unreported)
	}
}

func TestAuditConditions(t *testing.T) {
	before := []metav1.Condition{{Type: shardv1.ConditionCovered, Status: metav1.ConditionTrue, Reason: "Covered", Message: "of a former leader"}}
	full := &auditResult{generation: 4, objects: 10, children: 20, gaps: gapCounts{}}
	gaps := &auditResult{objects: 10, gaps: gapCounts{gapEpoch: 1, gapUnassigned: 2, gapDoublyOwned: 1}, examples: []string{"secrets ns/o"}, atLeast: true, unreported: 1}
	for _, c := range []struct {
		name    string
		result  *auditResult
		shards  bool
		have    []metav1.Condition
		covered string
		doubly  string
	}{
		{"nothing known", nil, true, nil, "Unknown NotAudited: The first audit is not complete yet.", "Unknown NotAudited"},
		{"a former leader knew", nil, true, before, "True Covered: of a former leader", "Unknown NotAudited"},
		{"no shards", full, false, nil, "False NoShards: There is no shard that objects could belong to.", "False NotSeen"},
		{"covered", full, true, before, "True Covered: All 10 objects have a live owner, and 20 children are with theirs.", "False NotSeen"},
		{"gaps", gaps, true, nil, "False Gaps: Of 10 objects and 0 children: at least 2 unassigned, 1 doubly-owned, 1 epoch. For example: secrets ns/o. " +
			"1 shards do not report what they hold.", "True Reported"},
	} {
		conditions := auditConditions(c.result, c.shards, c.have)
		covered, doubly := meta.FindStatusCondition(conditions, shardv1.ConditionCovered), meta.FindStatusCondition(conditions, shardv1.ConditionDoublyOwned)
		if got := fmt.Sprintf("%s %s: %s", covered.Status, covered.Reason, covered.Message); got != c.covered {
			t.Errorf("%s: got %s, want %s", c.name, got, c.covered)
		}
		if got := fmt.Sprintf("%s %s", doubly.Status, doubly.Reason); got != c.doubly {
			t.Errorf("%s: got %s, want %s", c.name, got, c.doubly)
		}
	}
}
