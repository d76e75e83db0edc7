package memapi

import (
	"encoding/json"
	"strconv"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// object is one stored version of an object. It is immutable: a write makes another one, and readers,
// history and watches share it.
type object struct {
	table     *table
	key       string // namespace/name, or name
	namespace string
	name      string
	rv        int64
	data      map[string]any
	labels    labels.Set
	body      []byte                 // JSON without apiVersion and kind
	partial   atomic.Pointer[[]byte] // JSON of {"metadata":...}, made when first asked for
}

func objectKey(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// seal turns data, which nobody may change any more, into a stored object of revision rv.
func (t *table) seal(data map[string]any, rv int64) (*object, error) {
	m := metadataOf(data)
	m["resourceVersion"] = formatRV(rv)
	bare := make(map[string]any, len(data))
	for k, v := range data {
		if k != "apiVersion" && k != "kind" {
			bare[k] = v
		}
	}
	body, err := json.Marshal(bare)
	if err != nil {
		return nil, err
	}
	namespace, name := stringAt(m, "namespace"), stringAt(m, "name")
	return &object{table: t, key: objectKey(namespace, name), namespace: namespace, name: name, rv: rv,
		data: data, labels: labelsAt(m), body: body}, nil
}

// as gives the same content under another revision: what a watch delivers for an object that is gone.
func (o *object) as(rv int64) *object {
	data := shallow(o.data)
	data["metadata"] = shallow(metadataOf(o.data))
	other, err := o.table.seal(data, rv)
	if err != nil { // The same content has been encoded before.
		panic(err)
	}
	return other
}

// unstructured shares the data of o: nobody may change it.
func (o *object) unstructured() *unstructured.Unstructured {
	if o == nil {
		return nil
	}
	return &unstructured.Unstructured{Object: o.data}
}

func (o *object) uid() string { return stringAt(metadataOf(o.data), "uid") }

// form says how objects are put on the wire.
type form int

const (
	formFull    form = iota // kind and apiVersion first
	formBare                // without kind and apiVersion: an item of a list of a built-in kind
	formPartial             // PartialObjectMetadata
)

// encode appends o in the given form to dst.
func (o *object) encode(dst []byte, f form) []byte {
	switch f {
	case formBare:
		return append(dst, o.body...)
	case formPartial:
		dst = append(dst, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1",`...)
		return append(dst, o.metadataJSON()[1:]...)
	default:
		dst = append(dst, o.table.prefix...)
		return append(dst, o.body[1:]...)
	}
}

func (o *object) metadataJSON() []byte {
	if p := o.partial.Load(); p != nil {
		return *p
	}
	b, err := json.Marshal(map[string]any{"metadata": o.data["metadata"]})
	if err != nil { // The same content has been encoded before.
		panic(err)
	}
	o.partial.Store(&b)
	return b
}

func formatRV(rv int64) string { return strconv.FormatInt(rv, 10) }

// metadataOf gives the metadata map of data, and puts an empty one there when it has none.
func metadataOf(data map[string]any) map[string]any {
	m, ok := data["metadata"].(map[string]any)
	if !ok {
		m = map[string]any{}
		data["metadata"] = m
	}
	return m
}

func stringAt(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

func labelsAt(meta map[string]any) labels.Set {
	raw, _ := meta["labels"].(map[string]any)
	set := make(labels.Set, len(raw))
	for k, v := range raw {
		set[k], _ = v.(string)
	}
	return set
}

func shallow(m map[string]any) map[string]any {
	c := make(map[string]any, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}

// writable copies data as deep as a write changes it by itself: the object and its metadata.
func writable(data map[string]any) map[string]any {
	c := shallow(data)
	c["metadata"] = shallow(metadataOf(data))
	return c
}

// fieldAt reads the string at a dotted path; "" when there is none.
func fieldAt(data map[string]any, path []string) string {
	for _, p := range path[:len(path)-1] {
		data, _ = data[p].(map[string]any)
	}
	return stringAt(data, path[len(path)-1])
}
