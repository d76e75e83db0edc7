package sharding

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func TestSelectors(t *testing.T) {
	owned := func(shard string) labels.Set { return labels.Set{"shard.io/auditor": shard, "app": "web"} }
	none := labels.Set{"app": "web", "shard.io/other": "a"}
	for _, test := range []struct {
		name     string
		selector labels.Selector
		text     string
		selects  []labels.Set
		not      []labels.Set
	}{
		{"one shard", ShardSelector("auditor", "a"), "shard.io/auditor=a", []labels.Set{owned("a")}, []labels.Set{owned("b"), none}},
		{"any shard", AnyShard("auditor"), "shard.io/auditor", []labels.Set{owned("a"), owned("b")}, []labels.Set{none}},
		{"unassigned", Unassigned("auditor"), "!shard.io/auditor", []labels.Set{none}, []labels.Set{owned("a")}},
		{"none of", ownedByNoneOf("auditor", []string{"b", "a"}), "shard.io/auditor notin (a,b)", []labels.Set{none, owned("c")}, []labels.Set{owned("a")}},
		{"none of nobody", ownedByNoneOf("auditor", nil), "", []labels.Set{none, owned("c")}, nil},
		{"a name that no label can have", ShardSelector("auditor", "-"), "", nil, []labels.Set{none, owned("-")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.selector.String(); got != test.text && test.selects != nil {
				t.Errorf("selector is %q, want %q", got, test.text)
			}
			for _, set := range test.selects {
				if !test.selector.Matches(set) {
					t.Errorf("does not select %v", set)
				}
			}
			for _, set := range test.not {
				if test.selector.Matches(set) && test.name != "a name that no label can have" {
					t.Errorf("selects %v", set)
				}
			}
		})
	}
}

func TestReadLabels(t *testing.T) {
	object := &metav1.ObjectMeta{
		Labels:      map[string]string{"shard.io/r": "a", "drain.shard.io/r": "b", "shard.io/empty": ""},
		Annotations: map[string]string{"epoch.shard.io/r": "7", "epoch.shard.io/bad": "many", "epoch.shard.io/negative": "-1"},
	}
	if owner, ok := OwnerOf(object, "r"); owner != "a" || !ok {
		t.Errorf("OwnerOf: %q, %v", owner, ok)
	}
	if target, ok := DrainTargetOf(object, "r"); target != "b" || !ok {
		t.Errorf("DrainTargetOf: %q, %v", target, ok)
	}
	for _, ring := range []string{"other", "empty"} {
		if _, ok := OwnerOf(object, ring); ok {
			t.Errorf("OwnerOf says that ring %s owns the object", ring)
		}
	}
	for ring, want := range map[string]int64{"r": 7, "bad": 0, "negative": 0, "other": 0} {
		if got := EpochOf(object, ring); got != want {
			t.Errorf("EpochOf ring %s: %d, want %d", ring, got, want)
		}
	}
}

func TestCopyOwner(t *testing.T) {
	root := &metav1.ObjectMeta{Labels: map[string]string{"shard.io/r": "a", "drain.shard.io/r": "b", "app": "web"}}
	child := &metav1.ObjectMeta{}
	CopyOwner(child, root, "r")
	if len(child.Labels) != 1 || child.Labels["shard.io/r"] != "a" {
		t.Errorf("child has %v", child.Labels)
	}
	orphan := &metav1.ObjectMeta{}
	CopyOwner(orphan, &metav1.ObjectMeta{}, "r")
	if orphan.Labels != nil {
		t.Errorf("child of an unassigned root has %v", orphan.Labels)
	}
}

func TestValidateNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	for name, ok := range map[string]bool{
		"a": true, "op-1": true, long: true,
		"": false, long + "a": false, "A": false, "a.b": false, "a_b": false, "-a": false, "a/b": false,
	} {
		if err := ValidateRing(name); (err == nil) != ok {
			t.Errorf("ValidateRing(%q): %v", name, err)
		}
		if err := ValidateShardID(name); (err == nil) != ok {
			t.Errorf("ValidateShardID(%q): %v", name, err)
		}
	}
}
