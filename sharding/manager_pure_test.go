package sharding

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/ring"
)

// anInstance returns a ShardInstance; words are draining, cordoned, ranges like 0-9.
func anInstance(name string, words ...string) *shardv1.ShardInstance {
	i := &shardv1.ShardInstance{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: shardv1.ShardInstanceSpec{ShardID: name, Weight: 1}}
	for _, word := range words {
		var r shardv1.HashRange
		switch {
		case word == "draining":
			i.Spec.Draining = true
		case word == "cordoned":
			i.Spec.Cordoned = true
		case strings.HasPrefix(word, "single:"):
			if _, err := fmt.Sscanf(word, "single:%d-%d", &r.Start, &r.End); err != nil {
				panic(err)
			}
			i.Spec.HashRange = &r
		default:
			if _, err := fmt.Sscanf(word, "%d-%d", &r.Start, &r.End); err != nil {
				panic(err)
			}
			i.Spec.HashRanges = append(i.Spec.HashRanges, r)
		}
	}
	return i
}

func TestStandings(t *testing.T) {
	now := time.Now()
	const grace = 15 * time.Second
	plain := anInstance("s")
	draining := anInstance("s", "draining")
	for _, c := range []struct {
		name  string
		fact  shardFact
		want  standing
		check string // member, eligible, live, in this order, as letters
	}{
		{"alive", shardFact{instance: plain, state: health.Alive}, standingServing, "mel"},
		{"alive and cordoned", shardFact{instance: anInstance("s", "cordoned"), state: health.Alive, member: true}, standingServing, "m-l"},
		{"alive, ShardInstance deleted", shardFact{instance: plain, deleted: true, state: health.Alive, member: true}, standingServing, "m-l"},
		{"alive, never had a ShardInstance", shardFact{state: health.Alive}, standingPending, "---"},
		{"alive and draining", shardFact{instance: draining, state: health.Alive, member: true}, standingDraining, "--l"},
		{"silent", shardFact{instance: plain, state: health.Silent, member: true}, standingServing, "m-l"},
		{"silent and draining", shardFact{instance: draining, state: health.Silent}, standingDraining, "--l"},
		{"dead, Lease not taken", shardFact{instance: plain, state: health.Dead, member: true}, standingLost, "m-l"},
		{"dead, known by a label only", shardFact{state: health.Dead}, standingLost, "---"},
		{"dead and taken", shardFact{instance: plain, state: health.Dead, member: true, taken: true}, standingGone, "---"},
		{"released just now", shardFact{instance: plain, state: health.Released, since: now.Add(-time.Second), member: true}, standingServing, "m-l"},
		{"released long ago", shardFact{instance: plain, state: health.Released, since: now.Add(-grace), member: true}, standingLost, "m-l"},
		{"released while draining", shardFact{instance: draining, state: health.Released, since: now}, standingLost, "--l"},
		{"released, empty", shardFact{instance: draining, state: health.Released, since: now, emptied: true}, standingGone, "---"},
		{"released, empty, but something has turned up", shardFact{instance: draining, state: health.Released, since: now, emptied: true, stray: true}, standingLost, "--l"},
		{"released, nothing but its Lease is left", shardFact{state: health.Released, since: now.Add(-grace)}, standingLost, "---"},
		{"released, nothing is left", shardFact{state: health.Released, since: now.Add(-grace), missing: true}, standingGone, "---"},
		{"released, never a member", shardFact{instance: plain, state: health.Released, since: now}, standingPending, "---"},
		{"unknown, was a member", shardFact{instance: plain, state: health.Unknown, member: true}, standingServing, "m-l"},
		{"unknown, new", shardFact{instance: plain, state: health.Unknown}, standingPending, "---"},
		{"unknown, was a member, to be heard soon", shardFact{instance: plain, state: health.Unknown, member: true, unheard: true}, standingServing, "m-l"},
		{"unknown and draining", shardFact{instance: draining, state: health.Unknown}, standingDraining, "--l"},
		{"unknown, taken", shardFact{instance: plain, state: health.Unknown, taken: true, member: true}, standingGone, "---"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fact.id = "s"
			m := membershipOf([]shardFact{c.fact}, grace, now)
			if m.standings["s"] != c.want {
				t.Errorf("standing is %s, want %s", m.standings["s"], c.want)
			}
			got := []byte("---")
			if len(m.members) > 0 {
				got[0] = 'm'
			}
			if m.ready > 0 {
				got[1] = 'e'
			}
			if m.live()["s"] {
				got[2] = 'l'
			}
			if string(got) != c.check {
				t.Errorf("member, eligible, live: %s, want %s", got, c.check)
			}
			if waiting := c.fact.state == health.Released && (c.want == standingServing || c.want == standingPending); waiting != (m.recheck > 0) {
				t.Errorf("looks again after %s", m.recheck)
			}
		})
	}
}

// aPlacement returns the placement of consistent hashing among shards, with the words after a colon as their state.
func aPlacement(t *testing.T, shards ...string) *placement {
	t.Helper()
	var list []balancer.Shard
	var members []ring.Member
	live := map[string]bool{}
	for _, text := range shards {
		id, state, _ := strings.Cut(text, ":")
		s := balancer.Shard{ID: id, Draining: state == "draining", Cordoned: state == "cordoned", Silent: state == "silent"}
		list = append(list, s)
		live[id] = true
		if !s.Draining {
			members = append(members, ring.Member{ID: id})
		}
	}
	table, err := ring.New(members)
	if err != nil {
		t.Fatal(err)
	}
	view, err := balancer.NewView(table, list)
	if err != nil {
		t.Fatal(err)
	}
	strategy, err := balancer.NewRegistry().New(balancer.ConsistentHash)
	if err != nil {
		t.Fatal(err)
	}
	return &placement{view: view, strategy: strategy, live: live, joined: map[string]bool{"new": true}}
}

func TestWantedFor(t *testing.T) {
	target := &rootTarget{prefix: ring.NewPrefix("", "Secret"), objects: labels.Everything()}
	for _, c := range []struct {
		name           string
		shards         []string
		owner, drainTo string
		excluded       bool
		want           wanted
		to             string
	}{
		{"where it belongs", []string{"a"}, "a", "", false, keep, ""},
		{"owner drains", []string{"a", "b:draining"}, "b", "", false, drain, "a"},
		{"on its way", []string{"a", "b:draining"}, "b", "a", false, keep, ""},
		{"on its way to the wrong one", []string{"a", "b:draining", "c:silent"}, "b", "c", false, drain, "a"},
		{"needs not move any more", []string{"a", "b:cordoned"}, "a", "b", false, abort, ""},
		{"nobody may receive", []string{"a:draining"}, "a", "", false, keep, ""},
		{"nobody may receive, not even its destination", []string{"a:draining", "b:silent"}, "a", "b", false, abort, ""},
		{"not selected any more", []string{"a"}, "a", "", true, release, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "o", Labels: map[string]string{OwnerLabel("r"): c.owner}}}
			if c.drainTo != "" {
				root.Labels[DrainLabel("r")] = c.drainTo
			}
			what, to, err := wantedFor(aPlacement(t, c.shards...), target, "r", !c.excluded, root)
			if err != nil || what != c.want || to != c.to {
				t.Errorf("wantedFor = %d to %q, %v; want %d to %q", what, to, err, c.want, c.to)
			}
		})
	}
}

func TestCauseOf(t *testing.T) {
	p := aPlacement(t, "a", "b:draining", "new")
	for _, c := range []struct{ owner, to, want string }{{"a", "new", causeJoin}, {"b", "new", causeDrain}, {"new", "a", causeRebalance}} {
		if got := causeOf(p, c.owner, c.to); got != c.want {
			t.Errorf("causeOf(%s → %s) = %s, want %s", c.owner, c.to, got, c.want)
		}
	}
}

func TestPlacerKeepsCountOfWritesOnTheirWay(t *testing.T) {
	p := newPlacer()
	if p.begin("a") {
		t.Error("a write began without a placement")
	}
	p.store(aPlacement(t, "a", "b"))
	if !p.begin("a") {
		t.Fatal("a may not receive")
	}
	p.store(aPlacement(t, "b"))
	if p.begin("a") {
		t.Error("a write began for a shard that is no part of the placement")
	}
	ended := make(chan error, 1)
	go func() { ended <- p.quiet(context.Background(), "a") }()
	select {
	case <-ended:
		t.Fatal("quiet returned while a write was on its way")
	case <-time.After(10 * time.Millisecond):
	}
	p.end("a", true)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := p.givenSince("a", false); n != 1 {
		t.Errorf("a was given %d", n)
	}
	if n := p.givenSince("a", true); n != 0 {
		t.Errorf("a was given %d after the reset", n)
	}
}

func TestObjectsWaitForAShardThatWillSoonBeHeard(t *testing.T) {
	target := &rootTarget{prefix: ring.NewPrefix("", "Secret"), objects: labels.Everything()}
	p := aPlacement(t, "a", "b")
	p.unheard = map[string]bool{"b": true}
	waiting := 0
	for i := range 100 {
		switch d, err := p.place(target.object("ns", fmt.Sprint(i), "")); {
		case errors.Is(err, errUnheard):
			waiting++
		case err != nil || d.Shard != "a":
			t.Errorf("placed on %q, %v", d.Shard, err)
		}
	}
	if waiting < 30 || waiting > 70 || p.eligible("b") || !p.canPlace() {
		t.Errorf("%d of 100 objects wait for the shard that is to get half of them", waiting)
	}
	delete(p.live, "a")
	p.unheard["a"] = true
	if p.canPlace() {
		t.Error("nobody has been heard, and yet objects can be placed")
	}
}

func TestStrategyThatAnswersNonsenseIsNotBelieved(t *testing.T) {
	p := aPlacement(t, "a:cordoned")
	p.strategy = stubborn("a")
	if d, err := p.place(balancer.Object{Key: "k"}); err == nil {
		t.Errorf("an object without an owner was placed on %q, which may not receive", d.Shard)
	}
	if d, err := p.place(balancer.Object{Key: "k", Owner: "a"}); err != nil || d.Shard != "a" {
		t.Errorf("an object that stays: %v, %v", d, err)
	}
}

type stubborn string

func (s stubborn) Place(*balancer.View, balancer.Object) (balancer.Decision, error) {
	return balancer.Decision{Shard: string(s)}, nil
}

func TestFlightIsBounded(t *testing.T) {
	sizes := []int{}
	f := newFlight(func(n int) { sizes = append(sizes, n) })
	f.setLimit(2)
	resource := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	for _, uid := range []types.UID{"1", "2", "2"} {
		if err := f.board(context.Background(), resource, uid); err != nil {
			t.Fatal(err)
		}
	}
	full, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := f.board(full, resource, "3"); err == nil {
		t.Error("a third one boarded")
	}
	f.leave("1")
	if err := f.board(context.Background(), resource, "3"); err != nil {
		t.Error(err)
	}
	f.prune(resource, time.Now().Add(time.Second))
	if f.size() != 0 || fmt.Sprint(sizes) != "[1 2 2 1 2 0]" {
		t.Errorf("size %d, sizes on the way %v", f.size(), sizes)
	}
}

func TestSlotTableFromInstances(t *testing.T) {
	const end = 1<<32 - 1
	half := fmt.Sprintf("0-%d", 1<<31-1)
	rest := fmt.Sprintf("%d-%d", 1<<31, end)
	members := []ring.Member{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}}
	byName := func(list ...*shardv1.ShardInstance) map[string]*shardv1.ShardInstance {
		m := map[string]*shardv1.ShardInstance{}
		for _, i := range list {
			m[i.Name] = i
		}
		return m
	}
	for _, c := range []struct {
		name      string
		instances []*shardv1.ShardInstance
		want      string // ranges of a after the next assignment
		outdated  int
	}{
		{"as it was written", []*shardv1.ShardInstance{anInstance("a", half), anInstance("b", rest)}, "[" + half + "]", 0},
		{"the other way round", []*shardv1.ShardInstance{anInstance("a", rest), anInstance("b", half)}, "[" + rest + "]", 0},
		{"b was not written", []*shardv1.ShardInstance{anInstance("a", half), anInstance("b")}, "[" + half + "]", 1},
		{"nothing was written", []*shardv1.ShardInstance{anInstance("a"), anInstance("b")}, "[" + half + "]", 2},
		{"by hand", []*shardv1.ShardInstance{anInstance("a", "single:0-1073741823"), anInstance("b", "single:1073741824-4294967295")},
			"[0-1073741823]", 0},
		{"by hand, with a gap", []*shardv1.ShardInstance{anInstance("a", "single:0-1073741823"), anInstance("b", "single:2147483648-4294967295")},
			"", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			prev, err := RingOf(c.instances)
			if prev == nil {
				t.Fatal(err)
			}
			next, err := nextTable(prev, members, byName(c.instances...), func() []balancer.SlotLoad { return nil })
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(next.Ranges("a")); c.want != "" && got != c.want {
				t.Errorf("a has %s, want %s", got, c.want)
			}
			if _, err := ring.FromRanges(next.Claims()); err != nil {
				t.Errorf("the table is not covered: %v", err)
			}
			if got := len(outdated(next, byName(c.instances...))); c.want != "" && got != c.outdated {
				t.Errorf("%d instances are to be written, want %d", got, c.outdated)
			}
			if again, err := nextTable(next, members, byName(c.instances...), func() []balancer.SlotLoad { return nil }); err != nil || again != next {
				t.Errorf("the same members make another table (%v)", err)
			}
		})
	}
}

func TestSharedTarget(t *testing.T) {
	target := func(resource string, team string, controlled ...string) shardv1.Target {
		t := shardv1.Target{Resource: resource}
		if team != "" {
			t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": team}}
		}
		for _, c := range controlled {
			t.Controlled = append(t.Controlled, shardv1.ControlledResource{Resource: c})
		}
		return t
	}
	for _, c := range []struct {
		name string
		a, b shardv1.Target
		want string
	}{
		{"the same", target("secrets", ""), target("secrets", ""), "secrets"},
		{"different resources", target("secrets", ""), target("pods", ""), ""},
		{"one is a part of the other", target("secrets", ""), target("secrets", "x"), "secrets"},
		{"different values of a label", target("secrets", "x"), target("secrets", "y"), ""},
		{"a root here, a child there", target("secrets", "", "pods"), target("pods", ""), "pods"},
		{"a child here, a root there", target("pods", ""), target("secrets", "", "pods"), "pods"},
		{"children of both", target("secrets", "", "pods"), target("configmaps", "", "pods"), ""},
	} {
		resource, shared := sharedTarget([]shardv1.Target{c.a}, []shardv1.Target{c.b})
		if shared != (c.want != "") || resource.Resource != c.want {
			t.Errorf("%s: %v %v, want %q", c.name, resource, shared, c.want)
		}
	}
}

func TestInstanceStatus(t *testing.T) {
	for _, c := range []struct {
		name     string
		instance *shardv1.ShardInstance
		state    health.State
		standing standing
		drain    drainState
		want     string
	}{
		{"new", anInstance("s"), health.Unknown, standingPending, "", "Pending"},
		{"alive", anInstance("s"), health.Alive, standingServing, "", "Running Ready=True/Alive"},
		{"silent", anInstance("s"), health.Silent, standingServing, "", "Silent Ready=Unknown/LeaseSilent"},
		{"dead", anInstance("s"), health.Dead, standingGone, "", "Lost Ready=False/LeaseExpired"},
		{"released", anInstance("s"), health.Released, standingServing, "", "Terminated Ready=False/LeaseReleased"},
		{"draining", anInstance("s", "draining"), health.Alive, standingDraining, "", "Draining Ready=True/Alive Drained=False/ObjectsLeft"},
		{"drained", anInstance("s", "draining"), health.Alive, standingDraining, drainDone, "Draining Ready=True/Alive Drained=True/NothingLeft"},
		{"stuck", anInstance("s", "draining"), health.Alive, standingDraining, drainStuck, "Draining Ready=True/Alive Drained=False/NoTarget"},
	} {
		status := instanceStatusOf(shardFact{id: "s", instance: c.instance, state: c.state}, c.standing, c.drain)
		got := status.phase
		for _, condition := range status.conditions {
			got += fmt.Sprintf(" %s=%s/%s", condition.Type, condition.Status, condition.Reason)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if status.equals(c.instance) {
			t.Errorf("%s: an instance without a status has it already", c.name)
		}
		written := c.instance.DeepCopy()
		written.Status.Conditions, written.Status.Phase = status.conditions, status.phase
		if !status.equals(written) {
			t.Errorf("%s: what was written would be written again", c.name)
		}
	}
}

func TestManagerOptions(t *testing.T) {
	good := ManagerOptions{Namespace: "ns", Identity: "m"}
	for _, c := range []struct {
		name   string
		change func(*ManagerOptions)
		want   string // what the error names
	}{
		{"good", func(*ManagerOptions) {}, ""},
		{"no namespace", func(o *ManagerOptions) { o.Namespace = "" }, "Namespace"},
		{"no identity", func(o *ManagerOptions) { o.Identity = "" }, "Identity"},
		{"slash in the identity", func(o *ManagerOptions) { o.Identity = "a/b" }, "Identity"},
		{"wrong name of the Lease", func(o *ManagerOptions) { o.ElectionLease = "A_B" }, "ElectionLease"},
		{"deadline not below the duration", func(o *ManagerOptions) { o.ElectionTiming.RenewDeadline = 15 * time.Second }, "RenewDeadline"},
		{"retry not below the deadline", func(o *ManagerOptions) { o.ElectionTiming.RetryPeriod = 9 * time.Second }, "RetryPeriod"},
		{"negative concurrency", func(o *ManagerOptions) { o.Concurrency = -1 }, "Concurrency"},
	} {
		o := good
		c.change(&o)
		_, err := NewManager(&rest.Config{Host: "http://127.0.0.1:1"}, o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one that names %q", c.name, err, c.want)
		}
	}
	if _, err := NewManager(nil, good); err == nil {
		t.Error("no error without a config")
	}
	config := &rest.Config{Host: "http://127.0.0.1:1"}
	if m, err := NewManager(config, good); err != nil || m.config.QPS != -1 || config.QPS != 0 {
		t.Errorf("QPS of the manager %v, of the caller's config %v; want -1 and 0 (%v)", m.config.QPS, config.QPS, err)
	}
}
