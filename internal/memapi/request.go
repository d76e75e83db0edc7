package memapi

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"
)

// Request says what an actor asked for.
type Request struct {
	// Actor is the name given to Server.Client.
	Actor string
	// N counts the requests of this actor, from 1.
	N int64
	// Verb is get, list, watch, create, update, patch, apply, delete or deletecollection; for a path that
	// is no resource it is the HTTP method in lower case.
	Verb string
	// Resource, Subresource, Namespace and Name say what of; empty where they do not apply.
	Resource              schema.GroupVersionResource
	Subresource           string
	Namespace, Name, Path string
	// Manager is the field manager that the request named, or the first part of its User-Agent.
	Manager string
	// DryRun says that nothing is to be stored.
	DryRun bool
	// Time is when the request left the actor.
	Time time.Time

	method      string
	contentType string
	body        []byte
	query       url.Values
	form        form
	stream, nth uint64 // where its faults are drawn from
}

// parse reads the HTTP request. It closes its body.
func parse(actor string, n int64, hr *http.Request) (*Request, error) {
	r := &Request{Actor: actor, N: n, Time: time.Now(), method: hr.Method, query: hr.URL.Query(), Path: hr.URL.Path}
	if hr.Body != nil {
		body, err := io.ReadAll(hr.Body)
		_ = hr.Body.Close()
		if err != nil {
			return nil, err
		}
		r.body = body
	}
	r.contentType, _, _ = strings.Cut(hr.Header.Get("Content-Type"), ";")
	r.route(strings.Split(strings.Trim(hr.URL.Path, "/"), "/"))
	r.Verb = r.verb()
	r.DryRun = len(r.query["dryRun"]) > 0
	if r.Manager = r.query.Get("fieldManager"); r.Manager == "" {
		r.Manager, _, _ = strings.Cut(hr.UserAgent(), "/")
	}
	return r, nil
}

// route splits /api/v1/... and /apis/group/version/... into resource, namespace, name and subresource.
func (r *Request) route(p []string) {
	switch {
	case len(p) > 2 && p[0] == "api":
		r.Resource.Version, p = p[1], p[2:]
	case len(p) > 3 && p[0] == "apis":
		r.Resource.Group, r.Resource.Version, p = p[1], p[2], p[3:]
	default:
		return
	}
	if len(p) > 2 && p[0] == "namespaces" && p[2] != "status" && p[2] != "finalize" {
		r.Namespace, p = p[1], p[2:]
	}
	r.Resource.Resource = p[0]
	if len(p) > 1 {
		r.Name = p[1]
	}
	if len(p) > 2 {
		r.Subresource = strings.Join(p[2:], "/")
	}
}

func (r *Request) verb() string {
	if r.Resource.Resource == "" {
		return strings.ToLower(r.method)
	}
	watch, _ := strconv.ParseBool(r.query.Get("watch"))
	switch r.method {
	case http.MethodGet:
		switch {
		case watch:
			return "watch"
		case r.Name == "":
			return "list"
		}
		return "get"
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		if strings.HasPrefix(r.contentType, "application/apply-patch") {
			return "apply"
		}
		return "patch"
	case http.MethodDelete:
		if r.Name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return strings.ToLower(r.method)
}

// negotiate reads the Accept header: JSON always, in full or as PartialObjectMetadata.
func negotiate(accept string) (form, error) {
	if accept == "" {
		return formFull, nil
	}
	for clause := range strings.SplitSeq(accept, ",") {
		media, params, _ := strings.Cut(strings.TrimSpace(clause), ";")
		if media != "application/json" && media != "*/*" && media != "application/*" {
			continue
		}
		switch {
		case strings.Contains(params, "as=PartialObjectMetadata"):
			return formPartial, nil
		case strings.Contains(params, "as="):
			continue
		}
		return formFull, nil
	}
	return 0, &apierrors.StatusError{ErrStatus: notAcceptable()}
}

// decode reads the body as an object of the given kind into a tree that the caller owns.
func (r *Request) decode(t *table) (map[string]any, error) {
	body := r.body
	if r.contentType == "application/vnd.kubernetes.protobuf" {
		b, err := fromProtobuf(body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		body = b
	}
	data, err := decodeTree(body)
	if err != nil {
		return nil, apierrors.NewBadRequest("the object provided is unrecognized (must be of type " + t.Kind + "): " + err.Error())
	}
	return data, t.checkKind(data)
}

// checkKind fills in a missing apiVersion and kind, and refuses others than the table's.
func (t *table) checkKind(data map[string]any) error {
	gv := t.GVK().GroupVersion().String()
	if v := stringAt(data, "apiVersion"); v != "" && v != gv {
		return apierrors.NewBadRequest("the API version in the data (" + v + ") does not match the expected API version (" + gv + ")")
	}
	if k := stringAt(data, "kind"); k != "" && k != t.Kind && t.typed == nil {
		return apierrors.NewInvalid(schema.GroupKind{Group: t.Group, Kind: k}, stringAt(metadataOf(data), "name"),
			field.ErrorList{field.Invalid(field.NewPath("kind"), k, "must be "+t.Kind)})
	} else if k != "" && k != t.Kind {
		return apierrors.NewBadRequest(k + " in version \"" + t.Version + "\" cannot be handled as a " + t.Kind)
	}
	data["apiVersion"], data["kind"] = gv, t.Kind
	metadataOf(data)
	return nil
}

// fromProtobuf turns the protobuf form of a built-in kind into JSON.
func fromProtobuf(body []byte) ([]byte, error) {
	obj, gvk, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		return nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(*gvk)
	return jsonOf(obj)
}

// selection is what a list or a watch asks for.
type selection struct {
	namespace string
	labels    labels.Selector
	fields    []fieldTerm
	empty     bool
}

type fieldTerm struct {
	path   []string
	value  string
	negate bool
}

func (r *Request) selection(t *table) (selection, error) {
	s := selection{namespace: r.Namespace}
	var err error
	if s.labels, err = labels.Parse(r.query.Get("labelSelector")); err != nil {
		return s, apierrors.NewBadRequest(err.Error())
	}
	parsed, err := fields.ParseSelector(r.query.Get("fieldSelector"))
	if err != nil {
		return s, apierrors.NewBadRequest(err.Error())
	}
	if r.Name != "" {
		s.fields = append(s.fields, fieldTerm{path: []string{"metadata", "name"}, value: r.Name})
	}
	for _, q := range parsed.Requirements() {
		if !t.selectable(q.Field) {
			return s, t.notSelectable(q.Field)
		}
		s.fields = append(s.fields, fieldTerm{path: strings.Split(q.Field, "."), value: q.Value,
			negate: q.Operator == "!="})
	}
	s.empty = s.labels.Empty() && len(s.fields) == 0
	return s, nil
}

func (t *table) notSelectable(name string) error {
	if t.typed == nil || len(t.SelectableFields) > 0 {
		return apierrors.NewBadRequest("field label not supported: " + name)
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%q is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", name))
}

func (t *table) selectable(field string) bool {
	if field == "metadata.name" || field == "metadata.namespace" {
		return true
	}
	for _, f := range t.SelectableFields {
		if f == field {
			return true
		}
	}
	return false
}

// matches says whether o, which may be nil, is selected.
func (s *selection) matches(o *object) bool {
	if o == nil || (s.namespace != "" && o.namespace != s.namespace) {
		return false
	}
	if s.empty {
		return true
	}
	if !s.labels.Matches(o.labels) {
		return false
	}
	for _, f := range s.fields {
		if (fieldAt(o.data, f.path) == f.value) == f.negate {
			return false
		}
	}
	return true
}
