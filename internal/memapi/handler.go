package memapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// reply is what the server answers: a body, or a watch.
type reply struct {
	code  int
	body  []byte
	watch *watcher
}

// serve answers a request that has reached the server.
func (s *Server) serve(ctx context.Context, c *Client, r *Request) reply {
	if r.Resource.Resource == "" {
		return s.discover(r)
	}
	rep, err := s.dispatch(ctx, c, r)
	if err != nil {
		return failure(err)
	}
	return rep
}

func (s *Server) dispatch(ctx context.Context, c *Client, r *Request) (reply, error) {
	t, err := s.table(r)
	if err != nil {
		return reply{}, err
	}
	switch r.Verb {
	case "get":
		return s.get(c, t, r)
	case "list":
		return s.list(c, t, r)
	case "watch":
		return s.watch(ctx, c, t, r)
	case "create":
		return s.create(t, r)
	case "update":
		return s.update(t, r)
	case "patch":
		return s.patch(t, r)
	case "apply":
		return s.applyPatch(t, r)
	case "delete":
		return s.delete(t, r)
	case "deletecollection":
		return s.deleteCollection(t, r)
	}
	return reply{}, apierrors.NewMethodNotSupported(t.GVR().GroupResource(), r.Verb)
}

// table finds what the path names, and refuses scopes and subresources that are not served.
func (s *Server) table(r *Request) (*table, error) {
	s.mu.Lock()
	t := s.tables[r.Resource]
	s.mu.Unlock()
	known := t != nil && (r.Subresource == "" || (r.Subresource == "status" && t.Status && r.Name != ""))
	scoped := known && (!t.ClusterScoped || r.Namespace == "") &&
		(t.ClusterScoped || r.Namespace != "" || r.Verb == "list" || r.Verb == "watch")
	if t != nil && t.typed == nil && r.Subresource == "status" && !known && r.Name != "" {
		return nil, apierrors.NewNotFound(t.GVR().GroupResource(), r.Name)
	}
	if !scoped {
		return nil, notServed(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
	}
	if r.Subresource != "" && (r.Verb == "create" || r.Verb == "delete") {
		return nil, apierrors.NewMethodNotSupported(t.GVR().GroupResource(), r.Verb)
	}
	return t, nil
}

// failure is the answer that carries err.
func failure(err error) reply {
	st := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		st = status.Status()
	}
	st.Kind, st.APIVersion = "Status", "v1"
	body, _ := json.Marshal(st)
	return reply{code: int(st.Code), body: body}
}

func one(code int, o *object, f form) reply {
	return reply{code: code, body: append(o.encode(make([]byte, 0, len(o.body)+len(o.table.prefix)), f), '\n')}
}

// http makes the response that a transport returns.
func (rep reply) http(hr *http.Request, contentType string) *http.Response {
	resp := &http.Response{
		Status:     strconv.Itoa(rep.code) + " " + http.StatusText(rep.code),
		StatusCode: rep.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:  http.Header{"Content-Type": {contentType}, "Cache-Control": {"no-cache, private"}},
		Request: hr,
	}
	if rep.watch != nil {
		resp.Body, resp.ContentLength = rep.watch, -1
		return resp
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(rep.body)), int64(len(rep.body))
	if rep.code >= 400 {
		var st metav1.Status
		if json.Unmarshal(rep.body, &st) == nil && st.Details != nil && st.Details.RetryAfterSeconds > 0 {
			resp.Header.Set("Retry-After", strconv.Itoa(int(st.Details.RetryAfterSeconds)))
		}
	}
	return resp
}

// notServed is an error that names no object.
func notServed(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason,
		Message: message, Details: &metav1.StatusDetails{}}}
}

func notAcceptable() metav1.Status {
	return metav1.Status{Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: application/json"}
}

func jsonOf(v any) ([]byte, error) { return json.Marshal(v) }

// decodeTree reads one JSON object; whole numbers become int64.
func decodeTree(body []byte) (map[string]any, error) {
	var data map[string]any
	if err := utiljson.Unmarshal(body, &data); err != nil {
		return nil, err
	}
	if data == nil {
		return nil, errors.New("want a JSON object")
	}
	return data, nil
}
