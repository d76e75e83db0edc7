package sharding

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"k8s.io/client-go/rest"
)

// ErrFenced is wrapped by the error of a request that [Worker.FencedConfig] refused, since the reconcile that made it had lost the
// right to act. It never reached the API server.
var ErrFenced = errors.New("fenced: this shard may not act on the object any more")

type grantKey struct{}

// grant is the right of a reconcile to act: it ends with its context, or when mayAct says so, whichever is first. mayAct is exact
// in a process that wakes up from a pause, before any timer has fired.
type grant struct {
	ctx    context.Context
	mayAct func() bool
}

func withGrant(ctx context.Context, mayAct func() bool) context.Context {
	return context.WithValue(ctx, grantKey{}, &grant{ctx, mayAct})
}

func (g *grant) check() error {
	if cause := context.Cause(g.ctx); cause != nil {
		return fmt.Errorf("%w: %w", ErrFenced, cause)
	}
	if !g.mayAct() {
		return fmt.Errorf("%w: its Lease has not been renewed in time", ErrFenced)
	}
	return nil
}

// FencedConfig returns a copy of cfg whose clients refuse to change anything with the context of a reconcile that has lost the right
// to act, with an error that wraps ErrFenced. A client that a ReconcileFunc writes with should be made from it: it closes the moment
// between a check and the request, and stops a process that was paused in the middle of a reconcile. Requests that only read,
// and those whose context does not come from a reconcile, are not concerned.
//
// It can't stop a request that had been sent before: only the API server can.
func (w *Worker) FencedConfig(cfg *rest.Config) *rest.Config {
	fenced := rest.CopyConfig(cfg)
	fenced.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &fence{next: next, refused: func() { w.metrics.fencedWrites.WithLabelValues(w.options.Ring).Inc() }}
	})
	return fenced
}

type fence struct {
	next    http.RoundTripper
	refused func()
}

func (f *fence) RoundTrip(request *http.Request) (*http.Response, error) {
	if g, ok := request.Context().Value(grantKey{}).(*grant); ok && changes(request.Method) {
		if err := g.check(); err != nil {
			f.refused()
			if request.Body != nil {
				_ = request.Body.Close() // a RoundTripper closes the body also when it fails
			}
			return nil, err
		}
	}
	return f.next.RoundTrip(request)
}

func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}
