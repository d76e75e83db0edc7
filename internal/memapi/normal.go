package memapi

import (
	"encoding/base64"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// dropEmpty removes what typed clients send for fields that are not set.
func (t *table) dropEmpty(data, m map[string]any) {
	if t.typed != nil {
		for k, v := range data {
			if set, ok := v.(map[string]any); ok && len(set) == 0 && k != "spec" && k != "status" {
				delete(data, k)
			}
		}
		encodeStringData(t, data)
	}
	for _, tree := range []map[string]any{data, m} {
		for k, v := range tree {
			if v == nil {
				delete(tree, k)
			}
		}
	}
	for _, key := range []string{"labels", "annotations"} {
		if set, ok := m[key].(map[string]any); ok && len(set) == 0 {
			delete(m, key)
		}
	}
	for _, key := range []string{"finalizers", "ownerReferences", "managedFields"} {
		if m[key] != nil && emptyList(m[key]) {
			delete(m, key)
		}
	}
}

// encodeStringData moves the stringData of a Secret into its data.
func encodeStringData(t *table, data map[string]any) {
	plain := mapAt(data, "stringData")
	if len(plain) == 0 || t.Group != "" || t.Plural != "secrets" {
		return
	}
	encoded := shallow(mapAt(data, "data"))
	for k, v := range plain {
		text, _ := v.(string)
		encoded[k] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	data["data"] = encoded
	delete(data, "stringData")
}

func emptyList(v any) bool {
	list, _ := v.([]any)
	return len(list) == 0
}

func setOrDelete(m map[string]any, key string, v any) {
	if v == nil {
		delete(m, key)
		return
	}
	m[key] = v
}

func mapAt(m map[string]any, key string) map[string]any {
	child, _ := m[key].(map[string]any)
	return child
}

func uidOf(o *object) string {
	if o == nil {
		return ""
	}
	return o.uid()
}

func (t *table) conflict(name string, err error) error {
	return apierrors.NewConflict(t.GVR().GroupResource(), name, err)
}
