package budget

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func deployment(wish string, replicas ...int32) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	if wish != "" {
		d.Annotations = map[string]string{Annotation: wish}
	}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	for _, n := range replicas {
		d.Spec.Replicas = &n
	}
	return d
}

func TestFor(t *testing.T) {
	for name, tc := range map[string]struct {
		deployment *appsv1.Deployment
		away       string // of the budget; empty: none
		err        string
	}{
		"a share":              {deployment("25%", 2), "25%", ""},
		"a number":             {deployment("3", 40), "3", ""},
		"none is asked for":    {deployment("", 5), "", ""},
		"one replica":          {deployment("25%", 1), "", ""},
		"no replica":           {deployment("25%", 0), "", ""},
		"replicas not said":    {deployment("25%"), "", ""},
		"none may be away":     {deployment("0", 5), "", `"0" leaves no Pod`},
		"no share may be away": {deployment("0%", 5), "", `"0%" leaves no Pod`},
		"a word":               {deployment("many", 5), "", "annotation " + Annotation},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := For(tc.deployment)
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if (got == nil) != (tc.away == "") {
				t.Fatalf("got %v", got)
			}
			if got != nil && (got.Namespace != "shop" || got.Name != "web" || got.Spec.Selector.MatchLabels["app"] != "web" || got.Spec.MaxUnavailable.String() != tc.away) {
				t.Errorf("got %s/%s %v", got.Namespace, got.Name, got.Spec)
			}
		})
	}
}

func TestForCopiesTheSelector(t *testing.T) {
	d := deployment("1", 2)
	got, err := For(d)
	if err != nil {
		t.Fatal(err)
	}
	got.Spec.Selector.MatchLabels["app"] = "other"
	if d.Spec.Selector.MatchLabels["app"] != "web" {
		t.Error("the selector is the Deployment's own")
	}
}
