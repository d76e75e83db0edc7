package sharding

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

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
	for _, test := range []struct {
		name    string
		method  string
		granted bool // the context comes from a reconcile
		mayAct  bool
		cancel  error
		refused bool
	}{
		{name: "a write with the right to act", method: http.MethodPatch, granted: true, mayAct: true},
		{name: "a write after the deadline, before any timer has fired", method: http.MethodPatch, granted: true, refused: true},
		{name: "a write after the context was cancelled", method: http.MethodPut, granted: true, mayAct: true, cancel: health.ErrFenced, refused: true},
		{name: "a creation", method: http.MethodPost, granted: true, refused: true},
		{name: "a deletion", method: http.MethodDelete, granted: true, refused: true},
		{name: "a read", method: http.MethodGet, granted: true},
		{name: "a write outside of a reconcile", method: http.MethodPatch},
	} {
		t.Run(test.name, func(t *testing.T) {
			sent, refused := 0, 0
			f := &fence{refused: func() { refused++ }, next: roundTripper(func(*http.Request) (*http.Response, error) {
				sent++
				return &http.Response{StatusCode: http.StatusOK}, nil
			})}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if test.granted {
				ctx = withGrant(ctx, func() bool { return test.mayAct })
			}
			if test.cancel != nil {
				cancel(test.cancel)
			}
			body := &closeNoter{Reader: strings.NewReader("{}")}
			request, err := http.NewRequestWithContext(ctx, test.method, "http://server/", body)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.RoundTrip(request)
			if test.refused {
				if !errors.Is(err, ErrFenced) || sent != 0 || refused != 1 || !body.closed {
					t.Errorf("error %v, sent %d, counted %d, body closed %v", err, sent, refused, body.closed)
				}
				if test.cancel != nil && !errors.Is(err, test.cancel) {
					t.Errorf("error %v does not wrap the cause %v", err, test.cancel)
				}
			} else if err != nil || sent != 1 || refused != 0 {
				t.Errorf("error %v, sent %d, counted %d", err, sent, refused)
			}
		})
	}
}
