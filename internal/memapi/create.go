package memapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

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
