package sharding

import (
	"fmt"
	"net/http"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// writeGate lets the requests of some clients that change something through only while it is open. It is asked right before a request
// is sent, below all wrappers of the client: nothing that takes time comes after it.
type writeGate struct {
	open func() bool
	// err is wrapped by the error of a request that was refused.
	err     error
	refused func()
	writing atomic.Int64 // requests on their way
}

// guard returns a copy of cfg whose clients go through the gate.
func (g *writeGate) guard(cfg *rest.Config) *rest.Config {
	guarded := rest.CopyConfig(cfg)
	outer := guarded.WrapTransport
	guarded.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		next = &gatedTransport{g, next}
		if outer != nil {
			next = outer(next)
		}
		return next
	}
	return guarded
}

// idle says whether no request that changes something is on its way. It is for who has closed the gate.
func (g *writeGate) idle() bool { return g.writing.Load() == 0 }

type gatedTransport struct {
	*writeGate
	next http.RoundTripper
}

func (t *gatedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	if !changes(request) {
		return t.next.RoundTrip(request)
	}
	t.writing.Add(1) // before the look, so that whoever closes the gate and then sees it idle has seen the last one
	defer t.writing.Add(-1)
	if !t.open() {
		t.refused()
		closeBody(request)
		return nil, fmt.Errorf("%w: %s %s is not sent", t.err, request.Method, request.URL.Path)
	}
	return t.next.RoundTrip(request)
}

// closeBody does what a RoundTripper has to do with a request that it does not send.
func closeBody(request *http.Request) {
	if request.Body != nil {
		_ = request.Body.Close()
	}
}
