package memapi

import (
	"reflect"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// keepTimes gives data back with old's managedFields when the two differ in times only, as the real
// server does: a write that changes nothing must not count as one.
func keepTimes(old, data map[string]any) map[string]any {
	was, now := metadataOf(old)["managedFields"], metadataOf(data)["managedFields"]
	if was != nil && now != nil && reflect.DeepEqual(timeless(was), timeless(now)) {
		metadataOf(data)["managedFields"] = was
	}
	return data
}

func timeless(fields any) []any {
	list, _ := fields.([]any)
	out := make([]any, 0, len(list))
	for _, f := range list {
		entry, _ := f.(map[string]any)
		entry = shallow(entry)
		delete(entry, "time")
		out = append(out, entry)
	}
	return out
}

// decodeApplied reads an applied object, JSON or YAML.
func decodeApplied(body []byte) (map[string]any, error) {
	if config, err := decodeTree(body); err == nil {
		return config, nil
	}
	body, err := yaml.YAMLToJSONStrict(body)
	if err != nil {
		return nil, err
	}
	return decodeTree(body)
}

func typesUID(o *object) types.UID { return types.UID(o.uid()) }
