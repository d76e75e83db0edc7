package memapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// delete removes an object, or marks it when it has finalizers.
func (s *Server) delete(t *table, r *Request) (reply, error) {
	options, err := r.deleteOptions()
	if err != nil {
		return reply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := t.objects[objectKey(r.Namespace, r.Name)]
	if old == nil {
		return reply{}, apierrors.NewNotFound(t.GVR().GroupResource(), r.Name)
	}
	left, err := s.remove(t, r, old, options)
	if err != nil {
		return reply{}, err
	}
	if left != nil {
		return one(http.StatusOK, left, r.form), nil
	}
	body, err := json.Marshal(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{Name: old.name, Group: t.Group, Kind: t.Plural,
			UID: typesUID(old)}})
	return reply{code: http.StatusOK, body: body}, err
}

// remove deletes old and returns nil, or returns what is left of it. The caller holds the lock.
func (s *Server) remove(t *table, r *Request, old *object, options *metav1.DeleteOptions) (*object, error) {
	if err := t.checkPreconditions(old, options.Preconditions); err != nil {
		return nil, err
	}
	if options.DryRun != nil {
		r.DryRun = true
	}
	if err := s.admitted(r, old, nil); err != nil {
		return nil, err
	}
	m := metadataOf(old.data)
	terminating := t.Group == "" && t.Plural == "namespaces" && s.options.StrictNamespaces
	if emptyList(m["finalizers"]) && !terminating {
		if r.DryRun {
			return nil, nil
		}
		_, err := s.commit(r, t, old, nil)
		return nil, err
	}
	if m["deletionTimestamp"] != nil {
		return old, nil
	}
	data := writable(old.data)
	m = metadataOf(data)
	m["deletionTimestamp"], m["deletionGracePeriodSeconds"] = timestamp(), int64(0)
	if generation, ok := m["generation"].(int64); ok {
		m["generation"] = generation + 1
	}
	if terminating {
		data["status"] = map[string]any{"phase": "Terminating"}
		delete(m, "deletionGracePeriodSeconds")
	}
	if r.DryRun {
		return t.seal(data, old.rv)
	}
	return s.commit(r, t, old, data)
}

func (t *table) checkPreconditions(old *object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	kind := schema.GroupResource{Group: t.Group, Resource: t.Kind}
	if p.UID != nil && string(*p.UID) != old.uid() {
		return apierrors.NewConflict(kind, old.name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). "+
			"The object might have been deleted and then recreated", *p.UID, old.uid()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != formatRV(old.rv) {
		return apierrors.NewConflict(kind, old.name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the "+
			"ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, formatRV(old.rv)))
	}
	return nil
}

// deleteCollection deletes what is selected, each object as a write of its own.
func (s *Server) deleteCollection(t *table, r *Request) (reply, error) {
	options, err := r.deleteOptions()
	if err != nil {
		return reply{}, err
	}
	sel, err := r.selection(t)
	if err != nil {
		return reply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []*object
	for _, o := range t.at(s.rv, r.Namespace, "") {
		if !sel.matches(o) {
			continue
		}
		if _, err := s.remove(t, r, o, options); err != nil {
			return reply{}, err
		}
		gone = append(gone, o)
	}
	return t.encodeList(metav1.ListMeta{ResourceVersion: formatRV(s.rv)}, gone, r.form)
}

// deleteOptions reads them from the body and from the query.
func (r *Request) deleteOptions() (*metav1.DeleteOptions, error) {
	options := &metav1.DeleteOptions{}
	body := r.body
	if r.contentType == "application/vnd.kubernetes.protobuf" && len(body) > 0 {
		b, err := fromProtobuf(body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		body = b
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, options); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
	}
	if len(options.DryRun) > 0 {
		r.DryRun = true
	}
	return options, nil
}

func (t *table) invalid(name, fieldName string, value any, message string) error {
	// The real server puts the plural where the kind should be.
	return apierrors.NewInvalid(schema.GroupKind{Group: t.Group, Kind: t.Plural}, name,
		field.ErrorList{field.Invalid(metaPath.Child(fieldName), value, message)})
}
