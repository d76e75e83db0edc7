package crd

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestIsEstablished(t *testing.T) {
	condition := func(kind, status string) any { return map[string]any{"type": kind, "status": status} }
	for name, c := range map[string]struct {
		status      any
		established bool
		fails       bool
	}{
		"no status":       {nil, false, false},
		"no conditions":   {map[string]any{}, false, false},
		"null conditions": {map[string]any{"conditions": nil}, false, false},
		"names accepted":  {map[string]any{"conditions": []any{condition("NamesAccepted", "True"), condition("Established", "False")}}, false, false},
		"established":     {map[string]any{"conditions": []any{condition("NamesAccepted", "True"), condition("Established", "True")}}, true, false},
		"names refused":   {map[string]any{"conditions": []any{condition("NamesAccepted", "False")}}, false, true},
	} {
		object := map[string]any{}
		if c.status != nil {
			object["status"] = c.status
		}
		established, err := isEstablished(&unstructured.Unstructured{Object: object})
		if established != c.established || (err != nil) != c.fails {
			t.Errorf("%s: established %v, error %v", name, established, err)
		}
	}
}
