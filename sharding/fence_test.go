package sharding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/health"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type closeNoter struct {
	io.Reader
	closed bool
}

func (c *closeNoter) Close() error { c.closed = true; return nil }

func TestFence(t *testing.T) {
	const root = "/api/v1/namespaces/ns/secrets/o"
	for _, test := range []struct {
		name    string
		method  string
		path    string
		granted bool // the context comes from a reconcile
		mayAct  bool
		cancel  error
		permit  error
		refused bool
	}{
		{name: "a write with the right to act", method: http.MethodPatch, path: root, granted: true, mayAct: true},
		{name: "a write after the deadline, before any timer has fired", method: http.MethodPatch, path: root, granted: true, refused: true},
		{name: "a write after the context was cancelled", method: http.MethodPut, path: root, granted: true, mayAct: true, cancel: health.ErrFenced, refused: true},
		{name: "a creation", method: http.MethodPost, path: "/api/v1/pods", granted: true, refused: true},
		{name: "a deletion", method: http.MethodDelete, path: root, granted: true, refused: true},
		{name: "a read", method: http.MethodGet, path: root, granted: true},
		{name: "a read of what is not understood", method: http.MethodGet, path: "/metrics"},
		{name: "a dry run", method: http.MethodPatch, path: root + "?dryRun=All", granted: true, permit: errNotOwned},
		{name: "what only looks like a dry run", method: http.MethodPatch, path: root + "?fieldManager=dryRun=All", permit: errNotOwned, refused: true},
		{name: "a write outside of a reconcile", method: http.MethodPatch, path: root},
		{name: "a write outside of a reconcile to what is not owned", method: http.MethodPatch, path: root, permit: errNotOwned, refused: true},
		{name: "a write in a reconcile to what is not owned", method: http.MethodPatch, path: root, granted: true, mayAct: true, permit: errNotOwned, refused: true},
		{name: "a write to what is not understood", method: http.MethodPost, path: "/", refused: true},
		{name: "and in a reconcile", method: http.MethodPost, path: "/secrets", granted: true, mayAct: true, refused: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			sent, refused := 0, 0
			f := &fence{
				permit: func(write, *grant) error { return test.permit }, refused: func() { refused++ },
				next: roundTripper(func(*http.Request) (*http.Response, error) {
					sent++
					return &http.Response{StatusCode: http.StatusOK}, nil
				}),
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if test.granted {
				ctx = &grant{Context: ctx, session: t.Context(), mayAct: func() bool { return test.mayAct }}
			}
			if test.cancel != nil {
				cancel(test.cancel)
			}
			body := &closeNoter{Reader: strings.NewReader("{}")}
			request, err := http.NewRequestWithContext(ctx, test.method, "http://server"+test.path, body)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.RoundTrip(request)
			if test.refused {
				if !errors.Is(err, ErrFenced) || sent != 0 || refused != 1 || !body.closed {
					t.Errorf("error %v, sent %d, counted %d, body closed %v", err, sent, refused, body.closed)
				}
				for _, cause := range []error{test.cancel, test.permit} {
					if cause != nil && !errors.Is(err, cause) {
						t.Errorf("error %v does not wrap the cause %v", err, cause)
					}
				}
			} else if err != nil || sent != 1 || refused != 0 {
				t.Errorf("error %v, sent %d, counted %d", err, sent, refused)
			}
		})
	}
}

// TestFencesOfSeveralWorkers: a config that went through two workers is refused what either of them refuses.
func TestFencesOfSeveralWorkers(t *testing.T) {
	sent := 0
	wire := roundTripper(func(*http.Request) (*http.Response, error) {
		sent++
		return &http.Response{StatusCode: http.StatusOK}, nil
	})
	refuses := func(resource string) func(http.RoundTripper) http.RoundTripper {
		return func(next http.RoundTripper) http.RoundTripper {
			return &fence{next: next, refused: func() {}, permit: func(w write, _ *grant) error {
				if w.resource.Resource == resource {
					return errNotOwned
				}
				return nil
			}}
		}
	}
	cfg := &rest.Config{}
	cfg.Wrap(refuses("secrets"))
	cfg.Wrap(refuses("pods"))
	transport := cfg.WrapTransport(wire)
	for path, want := range map[string]bool{"/api/v1/namespaces/n/secrets/o": false, "/api/v1/namespaces/n/pods/o": false, "/api/v1/namespaces/n/events/o": true} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, "http://server"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := sent
		if _, err = transport.RoundTrip(request); (err == nil) != want || (sent > before) != want {
			t.Errorf("%s: error %v, sent %v", path, err, sent > before)
		}
	}
}

func TestParseWrite(t *testing.T) {
	const none = "not understood"
	for _, test := range []struct{ base, request, want string }{
		{"", "PATCH /api/v1/namespaces/ns/secrets/o", "PATCH secrets ns/o"},
		{"", "PUT /api/v1/namespaces/ns/pods/o/status", "PUT pods/status ns/o"},
		{"", "POST /api/v1/namespaces/ns/pods/o/eviction", "POST pods/eviction ns/o"},
		{"", "PUT /api/v1/namespaces/ns/services/o/proxy/a/b", "PUT services/proxy/a/b ns/o"},
		{"", "DELETE /apis/apps/v1/namespaces/ns/deployments/o", "DELETE deployments.apps ns/o"},
		{"", "PATCH /apis/apps/v1/namespaces/ns/deployments/o/scale", "PATCH deployments.apps/scale ns/o"},
		{"", "PATCH /apis/storage.k8s.io/v1/storageclasses/o", "PATCH storageclasses.storage.k8s.io o"},
		{"", "POST /api/v1/namespaces/ns/secrets", "POST secrets ns/"},
		{"", "POST /apis/apps/v1/namespaces/ns/deployments/", "POST deployments.apps ns/"},
		{"", "POST /api/v1/secrets", "POST secrets"},
		{"", "DELETE /api/v1/namespaces/ns/secrets?labelSelector=a%3Db", "DELETE secrets ns/ where a=b"},
		{"", "DELETE /apis/example.org/v1/things", "DELETE things.example.org"},
		{"", "DELETE /api/v1/namespaces/ns", "DELETE namespaces ns"},
		{"", "PUT /api/v1/namespaces/ns/status", "PUT namespaces/status ns"},
		{"", "PUT /api/v1/namespaces/ns/finalize", "PUT namespaces/finalize ns"},
		{"", "POST /api/v1/namespaces", "POST namespaces"},
		{"/k8s/c-1", "PATCH /k8s/c-1/api/v1/namespaces/ns/secrets/o", "PATCH secrets ns/o"},
		{"/k8s/c-1", "PATCH /api/v1/namespaces/ns/secrets/o", none},
		{"", "PATCH /k8s/c-1/api/v1/namespaces/ns/secrets/o", none},
		{"", "PUT /api/v1/namespaces/ns/secrets", none},
		{"", "PATCH /api/v1/secrets", none},
		{"", "POST /", none},
		{"", "POST /api", none},
		{"", "POST /api/v1", none},
		{"", "POST /api/v1/", none},
		{"", "POST /apis/apps/v1", none},
		{"", "POST /apis//v1/things", none},
		{"", "DELETE /api/v1/watch/namespaces/ns/secrets/o", none},
		{"", "DELETE /api/v1/proxy/namespaces/ns/pods/o", none},
		{"", "DELETE /api/v1//secrets/o", none},
		{"", "DELETE /api/v1/namespaces//secrets/o", none},
		{"", "DELETE /api/v1/namespaces/ns/pods/../secrets/o", none},
		{"", "DELETE /api/v1/namespaces/ns/secrets/./o", none},
		{"", "DELETE /api/v1/namespaces/ns/secrets/o/..", none},
		{"", "POST /openid/v1/jwks", none},
	} {
		method, target, _ := strings.Cut(test.request, " ")
		request, err := http.NewRequestWithContext(t.Context(), method, "http://server"+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := none
		if w, ok := parseWrite(request, test.base); ok {
			if got = w.String(); w.selector != "" {
				got += " where " + w.selector
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.request, got, test.want)
		}
	}
}

// FuzzParseWrite: a path that is understood means one object, and saying its parts again gives the same.
func FuzzParseWrite(f *testing.F) {
	for _, path := range []string{"/api/v1/namespaces/ns/secrets/o/status", "/apis/apps/v1/deployments/o", "/api/v1/namespaces/a/b", "/apis/a/b/c/d/e/f/g"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://server", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.URL.Path = path
		w, ok := parseWrite(request, "")
		if !ok {
			return
		}
		said := "/api/v1"
		if w.resource.Group != "" {
			said = fmt.Sprintf("/apis/%s/v1", w.resource.Group)
		}
		if w.key.Namespace != "" {
			said += "/namespaces/" + w.key.Namespace
		}
		said += "/" + w.resource.Resource + "/" + w.key.Name
		if w.subresource != "" {
			said += "/" + w.subresource
		}
		request.URL.Path = said
		if again, ok := parseWrite(request, ""); !ok || again != w {
			t.Errorf("%q is read as %+v, which is written as %q and read as %+v, %v", path, w, said, again, ok)
		}
	})
}
