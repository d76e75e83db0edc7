package memapi

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// openNamespace refuses a new object in a namespace that is missing or going. The caller holds the lock.
func (s *Server) openNamespace(t *table, m map[string]any) error {
	name := stringAt(m, "namespace")
	if !s.options.StrictNamespaces || name == "" || s.tables[namespaces] == nil {
		return nil
	}
	ns := s.tables[namespaces].objects[name]
	if ns == nil {
		return apierrors.NewNotFound(namespaces.GroupResource(), name)
	}
	if metadataOf(ns.data)["deletionTimestamp"] == nil {
		return nil
	}
	err := apierrors.NewForbidden(t.GVR().GroupResource(), stringAt(m, "name"),
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", name))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: "NamespaceTerminating", Field: "metadata.namespace",
		Message: fmt.Sprintf("namespace %s is being terminated", name)})
	return err
}

// EmptyNamespace does what the namespace controller does after a namespace was deleted: it deletes
// what is in it and, when nothing is left, the namespace. It says how many objects remain, because
// they have finalizers; call it again later.
func (s *Server) EmptyNamespace(name string) (int, error) {
	all := s.sortedTables()
	s.mu.Lock()
	defer s.mu.Unlock()
	left := 0
	for _, t := range all {
		if t.ClusterScoped {
			continue
		}
		for _, o := range t.at(s.rv, name, "") {
			r := &Request{Verb: "delete", Resource: t.GVR(), Namespace: name, Name: o.name, Manager: "test"}
			rest, err := s.remove(t, r, o, &metav1.DeleteOptions{})
			if err != nil {
				return left, err
			}
			if rest != nil {
				left++
			}
		}
	}
	t := s.tables[namespaces]
	if t == nil || left > 0 || t.objects[name] == nil {
		return left, nil
	}
	_, err := s.commit(&Request{Verb: "delete", Resource: namespaces, Name: name}, t, t.objects[name], nil)
	return 0, err
}
