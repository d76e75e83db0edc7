package memapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

// create stores a new object.
func (s *Server) create(t *table, r *Request) (reply, error) {
	data, err := r.decode(t)
	if err != nil {
		return reply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, err := s.insert(t, r, data)
	if err != nil {
		return reply{}, err
	}
	return one(http.StatusCreated, o, r.form), nil
}

// insert gives data its system metadata and stores it. The caller holds the lock.
func (s *Server) insert(t *table, r *Request, data map[string]any) (*object, error) {
	m := metadataOf(data)
	if rv := stringAt(m, "resourceVersion"); rv != "" && rv != "0" {
		return nil, errors.New("resourceVersion should not be set on objects to be created")
	}
	if err := t.place(r, m); err != nil {
		return nil, err
	}
	if err := s.nameNew(t, r, m); err != nil {
		return nil, err
	}
	for _, key := range []string{"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"} {
		delete(m, key)
	}
	m["uid"] = uuidOf(s.draw("uid"))
	m["creationTimestamp"] = timestamp()
	t.dropEmpty(data, m)
	t.prepare(data, m)
	if err := t.validate(nil, data); err != nil {
		return nil, err
	}
	if err := s.openNamespace(t, m); err != nil {
		return nil, err
	}
	if err := s.admitted(r, nil, data); err != nil {
		return nil, err
	}
	if t.objects[objectKey(stringAt(m, "namespace"), stringAt(m, "name"))] != nil {
		return nil, apierrors.NewAlreadyExists(t.GVR().GroupResource(), stringAt(m, "name"))
	}
	if r.DryRun {
		return t.dry(data)
	}
	return s.commit(r, t, nil, data)
}

// dry seals data without a revision of its own.
func (t *table) dry(data map[string]any) (*object, error) {
	o, err := t.seal(data, 0)
	if err != nil {
		return nil, err
	}
	o.body = bytes.Replace(o.body, []byte(`"resourceVersion":"0",`), nil, 1)
	return o, nil
}

// place puts the object into the namespace of the request.
func (t *table) place(r *Request, m map[string]any) error {
	ns := stringAt(m, "namespace")
	if ns != "" && ns != r.Namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	delete(m, "namespace")
	if r.Namespace != "" {
		m["namespace"] = r.Namespace
	}
	return nil
}

func (s *Server) nameNew(t *table, r *Request, m map[string]any) error {
	if r.Name != "" { // A PUT or an apply that creates.
		m["name"] = r.Name
		return nil
	}
	if stringAt(m, "name") != "" {
		return nil
	}
	prefix := stringAt(m, "generateName")
	if prefix == "" {
		return apierrors.NewInvalid(t.GVK().GroupKind(), "",
			field.ErrorList{field.Required(metaPath.Child("name"), "name or generateName is required")})
	}
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	name := []byte(prefix[:min(len(prefix), 58)])
	drawn := s.draw("name")
	for _, b := range drawn[:5] {
		name = append(name, alphabet[int(b)%len(alphabet)])
	}
	m["name"] = string(name)
	return nil
}

// prepare sets what the registry of the kind sets on a new object.
func (t *table) prepare(data, m map[string]any) {
	if t.Status {
		delete(data, "status")
	}
	if !t.NoGeneration {
		m["generation"] = int64(1)
	}
	if t.Group != "" {
		return
	}
	switch t.Plural {
	case "namespaces":
		labels := shallow(mapAt(m, "labels"))
		labels["kubernetes.io/metadata.name"] = m["name"]
		m["labels"] = labels
		data["status"] = map[string]any{"phase": "Active"}
	case "pods":
		data["status"] = map[string]any{"phase": "Pending"}
	case "secrets":
		if stringAt(data, "type") == "" {
			data["type"] = "Opaque"
		}
	}
}

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

// draw gives pseudo-random bytes that depend on the seed, the purpose and the number of draws before.
func (s *Server) draw(purpose string) [16]byte {
	var buf [16]byte
	binary.BigEndian.PutUint64(buf[:], s.options.Seed)
	s.draws++
	binary.BigEndian.PutUint64(buf[8:], s.draws)
	sum := sha256.Sum256(append(buf[:], purpose...))
	return [16]byte(sum[:16])
}

// uuidOf formats b as a UUID of version 4.
func uuidOf(b [16]byte) string {
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func timestamp() string { return time.Now().UTC().Format(time.RFC3339) }

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
