package memapi

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

// update answers a PUT.
func (s *Server) update(t *table, r *Request) (reply, error) {
	data, err := r.decode(t)
	if err != nil {
		return reply{}, err
	}
	m := metadataOf(data)
	if name := stringAt(m, "name"); name != r.Name {
		return reply{}, apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", name, r.Name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := t.objects[objectKey(r.Namespace, r.Name)]
	if uid := stringAt(m, "uid"); uid != "" && (old != nil || t.CreateOnUpdate) {
		if have := uidOf(old); have != uid {
			return reply{}, t.conflict(r.Name, fmt.Errorf("StorageError: invalid object, Code: 4, Key: /registry/%s/%s, "+
				"ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: %s, UID in object meta: %s",
				t.Plural, objectKey(r.Namespace, r.Name), uid, have))
		}
	}
	if old == nil {
		if !t.CreateOnUpdate || r.Subresource != "" {
			return reply{}, apierrors.NewNotFound(t.GVR().GroupResource(), r.Name)
		}
		delete(m, "resourceVersion")
		o, err := s.insert(t, r, data)
		if err != nil {
			return reply{}, err
		}
		return one(http.StatusCreated, o, r.form), nil
	}
	if m["managedFields"] == nil {
		if fields := metadataOf(old.data)["managedFields"]; fields != nil {
			m["managedFields"] = fields
		}
	}
	o, err := s.replace(t, r, old, data)
	if err != nil {
		return reply{}, err
	}
	return one(http.StatusOK, o, r.form), nil
}

// replace stores data, which the caller owns, in the place of old: the compare-and-swap of every
// update and patch. The caller holds the lock.
func (s *Server) replace(t *table, r *Request, old *object, data map[string]any) (*object, error) {
	if err := t.checkRevision(old, data); err != nil {
		return nil, err
	}
	m := metadataOf(data)
	if err := t.place(r, m); err != nil {
		return nil, err
	}
	data = t.isolate(r, old, data)
	m = metadataOf(data)
	m["resourceVersion"] = formatRV(old.rv)
	t.dropEmpty(data, m)
	if err := t.validate(old, data); err != nil {
		return nil, err
	}
	if r.Verb != "apply" {
		data = t.apply.track(old, data, r)
		m = metadataOf(data)
	}
	if !t.NoGeneration && t.specChanged(old.data, data) {
		generation, _ := m["generation"].(int64)
		m["generation"] = generation + 1
	}
	if err := s.admitted(r, old, data); err != nil {
		return nil, err
	}
	switch {
	case reflect.DeepEqual(data, old.data):
		return old, nil // The real server does not write what is there already.
	case r.DryRun:
		return t.seal(data, old.rv)
	case m["deletionTimestamp"] != nil && emptyList(m["finalizers"]):
		last, err := t.seal(data, old.rv)
		if err != nil {
			return nil, err
		}
		_, err = s.commit(r, t, old, nil)
		return last, err
	}
	return s.commit(r, t, old, data)
}

func (t *table) checkRevision(old *object, data map[string]any) error {
	rv := stringAt(metadataOf(data), "resourceVersion")
	switch {
	case (rv == "" || rv == "0") && t.UnconditionalUpdate:
		return nil
	case rv == "" || rv == "0":
		return t.invalid(old.name, "resourceVersion", 0, "must be specified for an update")
	case rv != formatRV(old.rv):
		return t.conflict(old.name, errModified)
	}
	return nil
}

// isolate gives what the write may change: everything but status and system metadata, or status alone.
func (t *table) isolate(r *Request, old *object, data map[string]any) map[string]any {
	m, was := metadataOf(data), metadataOf(old.data)
	if r.Subresource == "status" {
		if t.typed == nil { // Of a custom resource, nothing but the status.
			fields := m["managedFields"]
			m = shallow(was)
			setOrDelete(m, "managedFields", fields)
		}
		status := data["status"]
		data = shallow(old.data)
		data["metadata"] = m
		setOrDelete(data, "status", status)
	} else if t.Status {
		setOrDelete(data, "status", old.data["status"])
	}
	if stringAt(m, "uid") == "" {
		m["uid"] = was["uid"]
	}
	for _, key := range []string{"name", "namespace", "creationTimestamp", "generation", "deletionTimestamp",
		"deletionGracePeriodSeconds", "generateName"} {
		setOrDelete(m, key, was[key])
	}
	return data
}

// specChanged says whether anything but metadata and a separate status differs.
func (t *table) specChanged(a, b map[string]any) bool {
	differs := func(a, b map[string]any) bool {
		for k, v := range a {
			if k != "metadata" && (k != "status" || !t.Status) && !reflect.DeepEqual(v, b[k]) {
				return true
			}
		}
		return false
	}
	return differs(a, b) || differs(b, a)
}

func (s *Server) admitted(r *Request, old *object, data map[string]any) error {
	if len(s.admit) == 0 || r.Actor == "" {
		return nil
	}
	a := Admission{Request: *r, Old: old.unstructured(), New: asUnstructured(data)}
	for _, f := range s.admit {
		err := f(a)
		if err == nil {
			continue
		}
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			return err
		}
		return apierrors.NewForbidden(r.Resource.GroupResource(), r.Name, err)
	}
	return nil
}
