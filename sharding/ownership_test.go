package sharding

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPatches(t *testing.T) {
	fresh := &metav1.ObjectMeta{ResourceVersion: "5"}
	draining := &metav1.ObjectMeta{
		ResourceVersion: "5",
		Labels:          map[string]string{"shard.io/r": "a", "drain.shard.io/r": "b", "app": "web"},
		Annotations:     map[string]string{"epoch.shard.io/r": "3", "children.shard.io/r": "pods=2"},
	}
	withdrawn := &metav1.ObjectMeta{ResourceVersion: "5", Annotations: map[string]string{"withdrawn.shard.io/r": "c"}}
	for name, test := range map[string]struct {
		got  []byte
		want string
	}{
		"assign": {ownPatch(fresh, "r", "a", nil),
			`{"metadata":{"resourceVersion":"5","labels":{"shard.io/r":"a"},"annotations":{"epoch.shard.io/r":"1"}}}`},
		"assign with children": {ownPatch(fresh, "r", "a", versions{"pods": "4", "deployments.apps": "3"}),
			`{"metadata":{"resourceVersion":"5","labels":{"shard.io/r":"a"},"annotations":{"children.shard.io/r":"deployments.apps=3,pods=4","epoch.shard.io/r":"1"}}}`},
		"hand over": {ownPatch(draining, "r", "b", nil),
			`{"metadata":{"resourceVersion":"5","labels":{"drain.shard.io/r":null,"shard.io/r":"b"},"annotations":{"children.shard.io/r":null,"epoch.shard.io/r":"4"}}}`},
		"drain": {drainPatch(fresh, "r", "b"),
			`{"metadata":{"resourceVersion":"5","labels":{"drain.shard.io/r":"b"}}}`},
		"undrain": {drainPatch(draining, "r", ""),
			`{"metadata":{"resourceVersion":"5","labels":{"drain.shard.io/r":null},"annotations":{"withdrawn.shard.io/r":"b"}}}`},
		"undrain what is not draining": {drainPatch(fresh, "r", ""),
			`{"metadata":{"resourceVersion":"5","labels":{"drain.shard.io/r":null}}}`},
		"take over after a request was withdrawn": {ownPatch(withdrawn, "r", "b", nil),
			`{"metadata":{"resourceVersion":"5","labels":{"shard.io/r":"b"},"annotations":{"epoch.shard.io/r":"1","withdrawn.shard.io/r":null}}}`},
		"clear after a request was withdrawn": {clearPatch(withdrawn, "r"),
			`{"metadata":{"resourceVersion":"5","annotations":{"withdrawn.shard.io/r":null}}}`},
		"child": {childPatch(draining, "r", "b"),
			`{"metadata":{"resourceVersion":"5","labels":{"shard.io/r":"b"}}}`},
		"clear": {clearPatch(draining, "r"),
			`{"metadata":{"resourceVersion":"5","labels":{"drain.shard.io/r":null,"shard.io/r":null},"annotations":{"children.shard.io/r":null,"epoch.shard.io/r":null}}}`},
		"clear another ring": {clearPatch(draining, "other"), ``},
	} {
		if diff := cmp.Diff(test.want, string(test.got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAwaitedChildren(t *testing.T) {
	for text, want := range map[string]versions{
		"":                              nil,
		"configmaps=12":                 {"configmaps": "12"},
		"configmaps=12,deployments.a=3": {"configmaps": "12", "deployments.a": "3"},
		"configmaps=9,configmaps=12":    {"configmaps": "12"},
		"configmaps=12,configmaps=9":    {"configmaps": "12"},
		"nonsense,=,a=,b=x,c=3":         {"c": "3"},
	} {
		root := &metav1.ObjectMeta{Annotations: map[string]string{"children.shard.io/r": text}}
		if diff := cmp.Diff(want, awaitedChildren(root, "r")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func FuzzAwaitedChildren(f *testing.F) {
	f.Add("configmaps=12,deployments.apps=3")
	f.Add("=,=1,,a==2")
	f.Fuzz(func(t *testing.T, text string) {
		once := awaitedChildren(&metav1.ObjectMeta{Annotations: map[string]string{"children.shard.io/r": text}}, "r")
		again := awaitedChildren(&metav1.ObjectMeta{Annotations: map[string]string{"children.shard.io/r": once.String()}}, "r")
		if len(once) != len(again) {
			t.Errorf("%q is read as %v, which is written as %q and read as %v", text, once, once, again)
		}
	})
}

func TestNewerThan(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"10", "9", true}, {"9", "10", false}, {"9", "9", false}, {"x", "9", true}, {"9", "x", true},
	} {
		if got := newerThan(test.a, test.b); got != test.want {
			t.Errorf("newerThan(%s, %s) is %v", test.a, test.b, got)
		}
	}
}
