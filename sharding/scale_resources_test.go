package sharding

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func TestResourcePatch(t *testing.T) {
	small := &shardv1.ComputeResources{Requests: list("cpu", "200m"), Limits: list("memory", "1Gi")}
	const smallText = `{"requests":{"cpu":"200m"},"limits":{"memory":"1Gi"}}`
	with := func(requests, limits corev1.ResourceList, written string) podTemplate {
		return podTemplate{container: "worker", resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}, written: written}
	}
	container := func(requests, limits string) string {
		return `"spec":{"template":{"spec":{"containers":[{"name":"worker","resources":{"limits":{` + limits + `},"requests":{` + requests + `}}}]}}}`
	}
	annotation := func(text string) string {
		value, _ := json.Marshal(orNil(text))
		return `{"metadata":{"annotations":{"shard.io/resources":` + string(value) + `}}`
	}
	for _, c := range []struct {
		name string
		want *shardv1.ComputeResources
		has  podTemplate
		patch,
		err string
	}{
		{"nothing wanted, nothing written", nil, with(list("cpu", "1"), nil, ""), "", ""},
		{"an empty wish is none", &shardv1.ComputeResources{}, with(list("cpu", "1"), nil, ""), "", ""},
		{"all new", small, with(nil, nil, ""), annotation(smallText) + "," + container(`"cpu":"200m"`, `"memory":"1Gi"`) + "}", ""},
		{"what is there already is not written", small, with(list("cpu", "0.2"), nil, ""), annotation(smallText) + "," + container(``, `"memory":"1Gi"`) + "}", ""},
		{"what is not named stays", small, with(list("cpu", "1", "memory", "5Mi"), list("memory", "1024Mi"), ""), annotation(smallText) + "," + container(`"cpu":"200m"`, ``) + "}", ""},
		{"all there, and not by us", small, with(list("cpu", "200m"), list("memory", "1Gi"), ""), annotation(smallText) + "}", ""},
		{"done", small, with(list("cpu", "200m"), list("memory", "1Gi"), smallText), "", ""},
		{"changed after us", small, with(list("cpu", "300m"), list("memory", "1Gi"), smallText), "", errChangedByOthers.Error()},
		{"wanted otherwise", &shardv1.ComputeResources{Requests: list("cpu", "1")}, with(list("cpu", "200m"), list("memory", "1Gi"), smallText),
			annotation(`{"requests":{"cpu":"1"}}`) + "," + container(`"cpu":"1"`, `"memory":null`) + "}", ""},
		{"not wanted any more", nil, with(list("cpu", "200m"), list("memory", "1Gi"), smallText), annotation("") + "," + container(`"cpu":null`, `"memory":null`) + "}", ""},
		{"not wanted any more, and changed after us", nil, with(list("cpu", "300m"), list("memory", "1Gi"), smallText), annotation("") + "," + container(``, `"memory":null`) + "}", ""},
		{"somebody else's annotation", small, with(nil, nil, "{"), annotation(smallText) + "," + container(`"cpu":"200m"`, `"memory":"1Gi"`) + "}", ""},
		{"no container", small, podTemplate{}, "", "the template has no container"},
	} {
		patch, err := resourcePatch(c.want, c.has)
		text := ""
		if patch != nil {
			data, err := json.Marshal(patch)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if text != c.patch {
			t.Errorf("%s: patch\n%s, want\n%s", c.name, text, c.patch)
		}
		if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

func TestTemplateOf(t *testing.T) {
	template := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "proxy"}, {Name: "worker", Resources: corev1.ResourceRequirements{Requests: list("cpu", "1")}},
	}}}
	workload := &metav1.ObjectMeta{Annotations: map[string]string{resourcesAnnotation: "x"}}
	if got := templateOf(workload, template); got.container != "proxy" || got.written != "x" {
		t.Errorf("%+v, want the first container", got)
	}
	template.Annotations = map[string]string{defaultContainer: "worker"}
	if got := templateOf(workload, template); got.container != "worker" || len(got.resources.Requests) != 1 {
		t.Errorf("%+v, want the one that is named", got)
	}
	if got := templateOf(workload, &corev1.PodTemplateSpec{}); got.container != "" {
		t.Errorf("%+v, want none", got)
	}
}

// TestResourcesReachTheTemplate, once: what somebody else writes after that stays, and is said.
func TestResourcesReachTheTemplate(t *testing.T) {
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(20)
		var load dial
		load.set(0.5)
		d := s.deploy(2, load.shard)
		container := map[string]any{"name": "worker", "image": "w"}
		s.edit(deployments, simNamespace, "w", set([]any{container}, "spec", "template", "spec", "containers"))
		s.edit(configs, simNamespace, simRing, set(map[string]any{"requests": map[string]any{"cpu": "200m"}}, "spec", "resources"))
		s.runManager("m")
		s.settle(time.Minute)
		cpu := func() any {
			containers, _, _ := unstructured.NestedSlice(s.server.Get(deployments, simNamespace, "w").Object, "spec", "template", "spec", "containers")
			text, _, _ := unstructured.NestedString(containers[0].(map[string]any), "resources", "requests", "cpu")
			return text
		}
		wants(s, "cpu", cpu(), any("200m"))
		wants(s, "condition", s.condition(shardv1.ConditionResourcesApplied), "True Applied")
		wants(s, "Events", len(s.eventNotes("ResourcesApplied")), 1)
		container["resources"] = map[string]any{"requests": map[string]any{"cpu": "300m"}}
		s.edit(deployments, simNamespace, "w", set([]any{container}, "spec", "template", "spec", "containers"))
		s.settle(10 * time.Minute)
		wants(s, "cpu after somebody else", cpu(), any("300m"))
		wants(s, "condition", s.condition(shardv1.ConditionResourcesApplied), "False ChangedByOthers")
		s.edit(configs, simNamespace, simRing, set(map[string]any{"requests": map[string]any{"cpu": "400m"}}, "spec", "resources"))
		s.settle(time.Minute)
		wants(s, "cpu after another wish", cpu(), any("400m"))
		s.edit(configs, simNamespace, simRing, func(o *unstructured.Unstructured) { unstructured.RemoveNestedField(o.Object, "spec", "resources") })
		s.settle(time.Minute)
		wants(s, "cpu without a wish", cpu(), any(""))
		wants(s, "condition", s.condition(shardv1.ConditionResourcesApplied), "none")
		wants(s, "replicas", fmt.Sprint(d.replicas), "[2]")
	})
}

func TestResourcesCondition(t *testing.T) {
	for _, c := range []struct {
		err   error
		waits string
		want  string
	}{
		{nil, "", "True Applied"},
		{nil, "Waiting.", "False Waiting"},
		{errChangedByOthers, "", "False ChangedByOthers"},
		{errors.New("no container"), "", "False Refused"},
	} {
		got := resourcesCondition("worker", c.err, c.waits)
		if text := string(got.Status) + " " + got.Reason; text != c.want || got.Message == "" {
			t.Errorf("%v: %s %q, want %s", c.err, text, got.Message, c.want)
		}
	}
}
