package memapi

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// Most applies repeat the one before: the same manager applies the same fields, with other values. The field managers take a
// millisecond for that, as they know nothing of it. Here it is recognised, and done by putting the values in their places: if
// the fields are the same as last time, still belong to the manager, and what changes belongs to nobody else. Everything else goes
// to the field managers, and TestAppliesAgain holds the one against the other.

// appliedBefore is what a manager applied last.
type appliedBefore struct {
	uid    string
	config map[string]any
	fields any // the fieldsV1 that came of it
}

type appliedKey struct{ object, subresource, manager string }

// remember notes what came of an apply by the field managers.
func (f *fieldManagers) remember(key appliedKey, config map[string]any, o *object) {
	_, entry := entryOf(o.data, key)
	f.before[key] = &appliedBefore{uid: o.uid(), config: config, fields: entry["fieldsV1"]}
}

// again gives the object after an apply that differs in values from the last one. The result shares what has not changed with old.
func (f *fieldManagers) again(key appliedKey, old *object, config map[string]any) (map[string]any, bool) {
	before := f.before[key]
	at, entry := entryOf(old.data, key)
	if before == nil || before.uid != old.uid() || entry == nil || !reflect.DeepEqual(entry["fieldsV1"], before.fields) {
		return nil, false
	}
	fields, _ := before.fields.(map[string]any)
	changes, ok := valuesChanged(nil, nil, fields, before.config, config)
	if !ok {
		return nil, false
	}
	data, changed := old.data, false
	entries, _ := metadataOf(old.data)["managedFields"].([]any)
	for _, c := range changes {
		for i, e := range entries {
			fields, _ := e.(map[string]any)["fieldsV1"].(map[string]any)
			if owned, whole := owns(fields, c.path); owned != (i == at) || owned && c.list && !whole {
				return nil, false
			}
		}
		next, did, found := withValue(data, c.path, c.value)
		if !found {
			return nil, false
		}
		data, changed = next.(map[string]any), changed || did
	}
	data = writable(data)
	if changed {
		entry = shallow(entry)
		entry["time"] = time.Now().UTC().Format(time.RFC3339)
		entries = slices.Clone(entries)
		entries[at] = entry
		slices.SortStableFunc(entries, compareEntries)
		metadataOf(data)["managedFields"] = entries
		data = keepTimes(old.data, data)
	}
	return data, true
}

// entryOf finds the manager's own entry among the managedFields.
func entryOf(data map[string]any, key appliedKey) (int, map[string]any) {
	entries, _ := metadataOf(data)["managedFields"].([]any)
	for i, e := range entries {
		entry, _ := e.(map[string]any)
		if stringAt(entry, "operation") == "Apply" && stringAt(entry, "manager") == key.manager && stringAt(entry, "subresource") == key.subresource {
			return i, entry
		}
	}
	return -1, nil
}

// compareEntries is the order in which the real server keeps managedFields. RFC 3339 in UTC sorts by time.
func compareEntries(a, b any) int {
	x, _ := a.(map[string]any)
	y, _ := b.(map[string]any)
	for _, key := range []string{"operation", "time", "manager", "apiVersion", "subresource"} {
		if c := cmp.Compare(stringAt(x, key), stringAt(y, key)); c != 0 {
			return c
		}
	}
	return 0
}

// step leads from a map to the value of a key, or from a list to the item that has these values of the keys which tell items apart.
type step struct {
	key  string
	item map[string]any
}

// field is the name of the step in fieldsV1.
func (s step) field() string {
	if s.item == nil {
		return "f:" + s.key
	}
	keys, _ := json.Marshal(s.item)
	return "k:" + string(keys)
}

// isOf says whether the step leads to this item.
func (s step) isOf(item any) bool {
	m, ok := item.(map[string]any)
	for key, value := range s.item {
		ok = ok && m[key] == value
	}
	return ok
}

// stepsTo returns the steps to the items of a list, or nil if fields, which has the list, does not tell its items apart.
func stepsTo(list []any, fields map[string]any) []step {
	steps := make([]step, 0, len(list))
	for name := range fields {
		var keys map[string]any
		if quoted, ok := strings.CutPrefix(name, "k:"); !ok || json.Unmarshal([]byte(quoted), &keys) != nil {
			continue
		}
		for _, item := range list {
			s := step{item: map[string]any{}}
			m, _ := item.(map[string]any)
			for key := range keys {
				s.item[key] = m[key]
			}
			steps = append(steps, s)
		}
		return steps // what tells one item apart does so for all of them
	}
	return nil
}

// valueChange is a new value at a path.
type valueChange struct {
	path  []step
	value any
	list  bool // which must be one that is owned as a whole
}

// valuesChanged appends where b differs from a, if it has the same fields: the same keys, scalars, lists that have the same items in the
// same order, and other lists. The fields are those of a.
func valuesChanged(list []valueChange, path []step, fields, a, b map[string]any) ([]valueChange, bool) {
	if len(a) != len(b) {
		return nil, false
	}
	for key, x := range a {
		y, has := b[key]
		if !has {
			return nil, false
		}
		var ok bool
		if list, ok = valueChanged(list, path, fields, step{key: key}, x, y); !ok {
			return nil, false
		}
	}
	return list, true
}

// valueChanged does so for what is a step from path, and from its fields.
func valueChanged(list []valueChange, path []step, fields map[string]any, s step, x, y any) ([]valueChange, bool) {
	path = append(path[:len(path):len(path)], s)
	fields, _ = fields[s.field()].(map[string]any)
	switch x := x.(type) {
	case nil:
		return nil, false
	case map[string]any:
		y, isMap := y.(map[string]any)
		if !isMap || len(x) == 0 {
			return list, isMap && len(y) == 0
		}
		return valuesChanged(list, path, fields, x, y)
	case []any:
		y, isList := y.([]any)
		if reflect.DeepEqual(x, y) {
			return list, true
		}
		if !isList || len(x) == 0 || len(y) == 0 {
			return nil, false
		}
		steps := stepsTo(x, fields)
		if steps == nil {
			return append(list, valueChange{path, y, true}), true
		}
		if len(x) != len(y) {
			return nil, false
		}
		for i, s := range steps {
			var ok bool
			if list, ok = valueChanged(list, path, fields, s, x[i], y[i]); !ok || !s.isOf(y[i]) {
				return nil, false
			}
		}
		return list, true
	}
	if y == nil || reflect.TypeOf(x) != reflect.TypeOf(y) {
		return nil, false
	}
	if x != y {
		list = append(list, valueChange{path, y, false})
	}
	return list, true
}

// owns says whether fieldsV1 has the path, or one above it as a whole; and whether that is all that it has there.
func owns(fields map[string]any, path []step) (owned, whole bool) {
	for _, s := range path {
		next, has := fields[s.field()].(map[string]any)
		if !has {
			return false, false
		}
		if len(next) == 0 {
			return true, true
		}
		fields = next
	}
	return true, false
}

// withValue copies tree as far as it changes when the value at the path is replaced. It says whether that changes anything, and whether
// the path leads to a value of the same type at all.
func withValue(tree any, path []step, value any) (next any, changed, found bool) {
	if len(path) == 0 {
		if reflect.TypeOf(tree) != reflect.TypeOf(value) {
			return nil, false, false
		}
		return value, !reflect.DeepEqual(tree, value), true
	}
	s := path[0]
	if s.item == nil {
		m, _ := tree.(map[string]any)
		child, changed, found := withValue(m[s.key], path[1:], value)
		if !found || !changed {
			return tree, changed, found
		}
		m = shallow(m)
		m[s.key] = child
		return m, true, true
	}
	list, _ := tree.([]any)
	at := slices.IndexFunc(list, s.isOf)
	if at < 0 {
		return nil, false, false
	}
	child, changed, found := withValue(list[at], path[1:], value)
	if !found || !changed {
		return tree, changed, found
	}
	list = slices.Clone(list)
	list[at] = child
	return list, true, true
}

// bare is an applied configuration without its preconditions.
func bare(config map[string]any) map[string]any {
	c := runtime.DeepCopyJSON(config)
	delete(metadataOf(c), "resourceVersion")
	delete(metadataOf(c), "uid")
	return c
}
