package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

var leasesOf = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}

// pretend makes a shard without a process: its Lease is renewed, or not, and nobody does anything with its objects.
func (w *world) pretend(id string, alive bool) {
	w.Helper()
	lease := func() map[string]any {
		return map[string]any{
			"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
			"metadata": metadataOf("sys", id, "labels", map[string]any{"shard.io/ring": "r"}),
			"spec":     map[string]any{"holderIdentity": id + "_1", "renewTime": metav1.NowMicro().UTC().Format(metav1.RFC3339Micro)},
		}
	}
	w.create(leasesOf, lease())
	w.create(shardsOf, map[string]any{
		"apiVersion": "shard.io/v1", "kind": "ShardInstance", "metadata": metadataOf("sys", id), "spec": map[string]any{"shardId": id, "ring": "r"},
		"status": map[string]any{"served": []any{map[string]any{"resource": "secrets"}}},
	})
	if !alive {
		return
	}
	w.all.Go(func() {
		for {
			select {
			case <-w.ctx.Done():
				return
			case <-time.After(2 * time.Second):
				w.edit(leasesOf, "sys", id, func(o *unstructured.Unstructured) { o.Object["spec"] = lease()["spec"] })
			}
		}
	})
}

// owned creates a root with a child, both owned as is right.
func (w *world) owned(name, shard string, labels ...string) {
	w.Helper()
	set := map[string]any{sharding.OwnerLabel("r"): shard}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		set[key] = value
	}
	w.root(name, "labels", set, "annotations", map[string]any{sharding.EpochAnnotation("r"): "1"})
	w.label(configMaps, name+"-child", sharding.OwnerLabel("r"), shard)
}

// abandoned is a ring of pretended shards without a manager: a and b are alive, c is not. The target selects Secrets without tier=lead.
func (w *world) abandoned(objects int) {
	w.Helper()
	w.ring("r", map[string]any{"targets": []any{map[string]any{
		"resource": "secrets", "controlled": []any{map[string]any{"resource": "configmaps"}},
		"labelSelector":     map[string]any{"matchExpressions": []any{map[string]any{"key": "tier", "operator": "NotIn", "values": []any{"lead"}}}},
		"namespaceSelector": map[string]any{"matchLabels": map[string]any{"team": "x"}},
	}}})
	w.create(namespaces, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": metadataOf("", "ns", "labels", map[string]any{"team": "x"})})
	w.pretend("a", true)
	w.pretend("b", true)
	w.pretend("c", false)
	for i := range objects {
		w.owned(fmt.Sprintf("fine-%03d", i), []string{"a", "b"}[i%2])
	}
}

// plant makes one object of each kind of gap.
func (w *world) plant() {
	w.Helper()
	owner, drain := sharding.OwnerLabel("r"), sharding.DrainLabel("r")
	w.owned("no-owner", "a")
	w.label(secrets, "no-owner", owner, "")
	w.owned("owner-unknown", "nobody")
	w.owned("owner-lost", "c")
	w.owned("target-lost", "a", drain+"=c")
	w.owned("stuck", "a", drain+"=b")
	w.owned("not-selected", "a", "tier=lead")
	w.owned("no-epoch", "a")
	w.edit(secrets, "ns", "no-epoch", func(o *unstructured.Unstructured) {
		o.SetAnnotations(map[string]string{sharding.EpochAnnotation("r"): "many"})
	})
	w.owned("child-without", "a")
	w.label(configMaps, "child-without-child", owner, "")
	w.owned("child-elsewhere", "a")
	w.label(configMaps, "child-elsewhere-child", owner, "b")
	w.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": metadataOf("other", "in-no-namespace-of-the-ring",
		"labels", map[string]any{owner: "a"}, "annotations", map[string]any{sharding.EpochAnnotation("r"): "1"})})
	w.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": metadataOf("ns", "state", "labels", map[string]any{sharding.StateLabel: "r"})})
}

// verified runs verify, and returns what it says with its gaps as "kind object".
func (w *world) verified(code int, args ...string) (verifyReport, []string) {
	w.Helper()
	r := w.run(append([]string{"verify", "-ojson"}, args...)...)
	var report verifyReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != code {
		w.Fatalf("exit code %d, want %d: %v\n%s%s", r.code, code, err, r.out, r.err)
	}
	var gaps []string
	for _, g := range report.Gaps {
		gaps = append(gaps, g.Kind+" "+g.Object)
	}
	return report, gaps
}

var planted = []string{
	"child-astray configmaps/ns/child-elsewhere-child",
	"child-unassigned configmaps/ns/child-without-child",
	"epoch secrets/ns/no-epoch",
	"handover-stuck secrets/ns/stuck",
	"handover-target secrets/ns/target-lost",
	"not-selected secrets/ns/not-selected",
	"not-selected secrets/other/in-no-namespace-of-the-ring",
	"owner-lost secrets/ns/owner-lost",
	"owner-unknown secrets/ns/owner-unknown",
	"unassigned secrets/ns/no-owner",
}

func TestVerifyFindsEveryKind(t *testing.T) {
	inMemory(t, func(w *world) {
		w.abandoned(700) // more than a page
		if report, gaps := w.verified(0); len(gaps) > 0 || report.Objects != 700 || report.Children != 700 || !slices.Equal(report.Live, []string{"a", "b"}) {
			t.Errorf("before: %+v", report)
		}
		w.plant()
		begun := time.Now()
		report, gaps := w.verified(1)
		if !slices.Equal(gaps, planted) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(gaps, "\n"), strings.Join(planted, "\n"))
		}
		// 8 of the planted roots are selected; the children of all but one are the ring's.
		if report.Objects != 708 || report.Moving != 2 || report.Total != int64(len(planted)) {
			t.Errorf("%+v", report)
		}
		// One lease to see that c is silent, then the drain timeout and the grace time.
		if took := time.Since(begun); took < 40*time.Second || took > 60*time.Second {
			t.Errorf("took %s", took)
		}
		w.expect(1, "verify --grace 0s --max-gaps 2", "KIND", "and 8 more", "10 gaps")
	})
}

// Roots in no namespace have children in any.
func TestClusterScopedRoots(t *testing.T) {
	inMemory(t, func(w *world) {
		w.ring("r", map[string]any{"targets": []any{map[string]any{
			"resource": "namespaces", "controlled": []any{map[string]any{"resource": "configmaps"}}, "labelSelector": map[string]any{"matchLabels": map[string]any{"team": "x"}},
		}}})
		w.pretend("a", true)
		w.pretend("b", true)
		owned := func(shard string) []any {
			return []any{"labels", map[string]any{sharding.OwnerLabel("r"): shard, "team": "x"}, "annotations", map[string]any{sharding.EpochAnnotation("r"): "1"}}
		}
		root := w.create(namespaces, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": metadataOf("", "ns", owned("a")...)})
		w.create(configMaps, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadataOf("ns", "child", append(owned("b"),
			"ownerReferences", []any{map[string]any{"apiVersion": "v1", "kind": "Namespace", "name": "ns", "uid": string(root.GetUID()), "controller": true}})...)})
		if _, gaps := w.verified(1); !slices.Equal(gaps, []string{"child-astray configmaps/ns/child"}) {
			t.Errorf("%v", gaps)
		}
		w.expect(1, "owner cm/ns/child", "namespaces/ns", "not with its root")
		w.expect(1, "owner ns/ns -n elsewhere", "namespaces/ns", "configmaps/ns/child")
		w.expect(1, "explain configmaps/ns/child", "of namespaces/ns", "It is not with its root")
		w.label(configMaps, "child", sharding.OwnerLabel("r"), "a")
		w.verified(0)
		w.expect(0, "owner cm/ns/child")
	})
}

// What is put right in time is no gap.
func TestVerifyWaitsForWhatIsOnItsWay(t *testing.T) {
	inMemory(t, func(w *world) {
		w.abandoned(10)
		w.plant()
		w.all.Go(func() {
			time.Sleep(20 * time.Second) // while c is waited for
			w.label(secrets, "no-owner", sharding.OwnerLabel("r"), "a")
			time.Sleep(5 * time.Second)
			w.label(secrets, "owner-lost", sharding.OwnerLabel("r"), "a")
			w.label(configMaps, "owner-lost-child", sharding.OwnerLabel("r"), "a")
			w.label(secrets, "stuck", sharding.DrainLabel("r"), "")
			if err := w.server.Delete(secrets, "ns", "owner-unknown"); err != nil {
				t.Error(err)
			}
			w.label(configMaps, "child-elsewhere-child", sharding.OwnerLabel("r"), "a")
		})
		_, gaps := w.verified(1)
		want := slices.DeleteFunc(slices.Clone(planted), func(g string) bool {
			for _, mended := range []string{"no-owner", "owner-lost", "stuck", "owner-unknown", "child-elsewhere"} {
				if strings.Contains(g, "/"+mended) {
					return true
				}
			}
			return false
		})
		if !slices.Equal(gaps, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(gaps, "\n"), strings.Join(want, "\n"))
		}
	})
}

// verifyWith runs verify with other bounds for its memory.
func (w *world) verifyWith(v *verifying) verifyReport {
	w.Helper()
	var report verifyReport
	s, out := w.session()
	s.output = "json"
	if err := v.run(w.ctx, s); exitCode(err) > exitFound {
		w.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		w.Fatal(err)
	}
	return report
}

// With room for few roots and few suspects, the same is found, in more passes.
func TestVerifyInLittleMemory(t *testing.T) {
	inMemory(t, func(w *world) {
		w.abandoned(100)
		w.plant()
		want := w.verifyWith(&verifying{grace: -1, shown: 100, kept: 100, index: 1 << 10})
		for _, index := range []int{1, 3, 50} {
			got := w.verifyWith(&verifying{grace: -1, shown: 100, kept: 100, index: index})
			if got.Objects != want.Objects || got.Children != want.Children || !slices.Equal(got.Gaps, want.Gaps) {
				t.Errorf("index of %d: %+v, want %+v", index, got, want)
			}
		}
		got := w.verifyWith(&verifying{grace: -1, shown: 100, kept: 4, index: 3})
		if got.Total != want.Total || len(got.Gaps) != 4 {
			t.Errorf("4 suspects: %+v", got)
		}
	})
}

func TestRootIndexDivides(t *testing.T) {
	whole := map[uint64]bool{}
	for parts, seen := []part{{1, 0}}, 0; len(parts) > 0; seen++ {
		if seen > 100 {
			t.Fatal("there is no end")
		}
		x := &rootIndex{part: parts[0], most: 10, owners: map[uint64]string{}}
		for i := range 200 {
			x.add(types.UID(fmt.Sprint("uid-", i)), "a")
		}
		if len(x.owners) > 10 {
			t.Errorf("%d owners in %+v", len(x.owners), x.part)
		}
		for hash := range x.owners {
			if whole[hash] {
				t.Errorf("%x is there twice", hash)
			}
			whole[hash] = true
		}
		parts = append(x.divided, parts[1:]...)
	}
	if len(whole) != 200 {
		t.Errorf("%d of 200 roots were in some part", len(whole))
	}
}

func TestWitness(t *testing.T) {
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	w := newWitness(15 * time.Second)
	say := func(seconds int, records map[string]leaseRecord) string {
		w.observe(at(seconds), records)
		var living []string
		for _, shard := range []string{"a", "b", "c", "d"} {
			if w.lives(at(seconds), shard) {
				living = append(living, shard)
			}
		}
		return fmt.Sprint(living, w.undecided(at(seconds)))
	}
	for i, step := range []struct {
		at      int
		records map[string]leaseRecord
		want    string
	}{
		{0, map[string]leaseRecord{"a": {"a_1", "1"}, "b": {"b_1", "1"}, "c": {"manager/m", "1"}, "d": {"", "1"}}, "[] true"},
		{2, map[string]leaseRecord{"a": {"a_1", "2"}, "b": {"b_1", "1"}, "c": {"manager/m", "2"}, "d": {"", "1"}}, "[a] true"},
		{4, map[string]leaseRecord{"a": {"a_1", "2"}, "b": {"b_1", "2"}, "c": {"manager/m", "3"}, "d": {"", "1"}}, "[a b] false"},
		{18, map[string]leaseRecord{"a": {"a_1", "2"}, "b": {"b_1", "3"}}, "[b] true"},
		{20, map[string]leaseRecord{"a": {"a_1", "2"}, "b": {"manager/m", "4"}}, "[] true"},
		{22, map[string]leaseRecord{"a": {"a_2", "9"}, "b": {"b_2", "5"}}, "[a b] false"},
	} {
		if got := say(step.at, step.records); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	if w.known("c") || !w.known("a") {
		t.Error("known is what is there now")
	}
}
