package memapi

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Get gives the current object without going through a client; nil when there is none. The result
// is the caller's own.
func (s *Server) Get(gvr schema.GroupVersionResource, namespace, name string) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[gvr]
	if t == nil || t.objects[objectKey(namespace, name)] == nil {
		return nil
	}
	return t.objects[objectKey(namespace, name)].unstructured().DeepCopy()
}

// List gives the current objects of a namespace ("" for all) that the selector (nil: any) matches, in
// the order of namespace and name. They are shared with the server and must not be changed.
func (s *Server) List(gvr schema.GroupVersionResource, namespace string, selector labels.Selector) []*unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[gvr]
	if t == nil {
		return nil
	}
	var out []*unstructured.Unstructured
	for _, o := range t.at(s.rv, namespace, "") {
		if selector == nil || selector.Matches(o.labels) {
			out = append(out, o.unstructured())
		}
	}
	return out
}

// Create stores obj, typed or unstructured, as the test itself: without faults and without admission.
func (s *Server) Create(gvr schema.GroupVersionResource, obj runtime.Object) (*unstructured.Unstructured, error) {
	return s.direct(gvr, obj, "create", "")
}

// Update replaces an object as the test itself, with the same compare-and-swap as for clients; the
// subresource is "" or "status".
func (s *Server) Update(gvr schema.GroupVersionResource, obj runtime.Object, subresource string) (*unstructured.Unstructured, error) {
	return s.direct(gvr, obj, "update", subresource)
}

// Delete removes an object as the test itself, or marks it when it has finalizers.
func (s *Server) Delete(gvr schema.GroupVersionResource, namespace, name string) error {
	t, err := s.registered(gvr)
	if err != nil {
		return err
	}
	_, err = s.delete(t, &Request{Verb: "delete", Resource: gvr, Namespace: namespace, Name: name, Manager: "test"})
	return err
}

func (s *Server) direct(gvr schema.GroupVersionResource, obj runtime.Object, verb, subresource string) (*unstructured.Unstructured, error) {
	t, err := s.registered(gvr)
	if err != nil {
		return nil, err
	}
	body, err := jsonOf(obj)
	if err != nil {
		return nil, err
	}
	data, err := decodeTree(body)
	if err != nil {
		return nil, err
	}
	m := metadataOf(data)
	r := &Request{Verb: verb, Resource: gvr, Subresource: subresource, Namespace: stringAt(m, "namespace"), Manager: "test"}
	r.body = body
	var rep reply
	if verb == "create" {
		rep, err = s.create(t, r)
	} else {
		r.Name = stringAt(m, "name")
		rep, err = s.update(t, r)
	}
	if err != nil {
		return nil, err
	}
	out, err := decodeTree(rep.body)
	return asUnstructured(out), err
}

func (s *Server) registered(gvr schema.GroupVersionResource) (*table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tables[gvr]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("memapi: resource %v is not registered; name it in Options.Resources", gvr)
}
