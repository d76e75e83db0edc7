package journal

import (
	"context"
	"net/http"
)

type runKey struct{}

// NewContext returns a context that carries the run. Requests that are made with
// it through Transport are recorded.
func NewContext(ctx context.Context, run *Run) context.Context {
	if run == nil {
		return ctx
	}
	return context.WithValue(ctx, runKey{}, run)
}

// FromContext returns the run that NewContext put in, or nil.
func FromContext(ctx context.Context) *Run {
	run, _ := ctx.Value(runKey{}).(*Run)
	return run
}

// Transport returns a round tripper that records every mutating request made
// on behalf of a run just before next sends it. It sends nothing once the
// request's context is done, and nothing that it could not record. It has the
// signature that rest.Config.Wrap wants, and requests without a run (watches,
// Leases, hand-overs) pass unchanged.
func Transport(next http.RoundTripper) http.RoundTripper {
	return roundTripper{next}
}

type roundTripper struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	run := FromContext(req.Context())
	if run == nil || reads(req.Method) {
		return t.next.RoundTrip(req)
	}
	err := context.Cause(req.Context())
	if err == nil {
		err = run.Act(req.Method + " " + req.URL.Path)
	}
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // a round tripper closes the body, also on errors
		}
		return nil, err
	}
	return t.next.RoundTrip(req)
}

// WrappedRoundTripper lets client-go find the transport below.
func (t roundTripper) WrappedRoundTripper() http.RoundTripper { return t.next }

func reads(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, "":
		return true
	}
	return false
}
