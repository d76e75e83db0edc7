package sharding

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// ErrFenced is wrapped by the error of a request that [Worker.FencedConfig] refused. It never reached the API server.
var ErrFenced = errors.New("fenced: this shard may not act on the object")

// FencedConfig returns a copy of cfg, or if that is nil of the config that NewWorker got, whose clients refuse to change what this
// shard may not act on, with an error that wraps ErrFenced. An operator should make every client from it that it writes with: it
// closes the moment between a check and the request, stops a process that was paused in the middle of a reconcile, and stops what
// a reconcile has left behind. Refused are
//
//   - all writes with the context of a reconcile that has lost the right to act;
//   - whatever the context: writes to a root, its status or another subresource, unless this shard is active, the cache shows it
//     as the owner, and the object is not just being handed over;
//   - whatever the context: writes to an object of a controlled resource. If it is in a cache of Controller.Children, it has to be of
//     this shard, and so has its root. If it is not, the context has to be that of a reconcile: it may be about to be created;
//   - deletions of collections of both, unless their label selector names this shard ([Worker.TweakListOptions]);
//   - all these as well, while this shard is not active, for creations of roots and children;
//   - writes to roots for which this worker has no Controller, as it can't know whose they are;
//   - writes to a path that is not understood, and all writes before Start has found the ring.
//
// Watches made through it wait while the API server is away, so that informers go on within a second when it is back.
//
// Not refused are requests that only read, dry runs, and writes to resources that the ring does not name, unless their context is
// that of a reconcile. A process with several workers passes the config through each of them: each refuses what is of its ring.
//
// It can't stop a request that had been sent before, and it goes by the name of a resource: only the API server sees through an
// object that it serves in two groups, a namespace that is deleted, or a subresource that is opened by GET (exec, attach,
// portforward, proxy).
func (w *Worker) FencedConfig(cfg *rest.Config) *rest.Config {
	if cfg == nil {
		cfg = w.config
	}
	fenced := rest.CopyConfig(cfg)
	base := basePath(cfg)
	fenced.Wrap(func(next http.RoundTripper) http.RoundTripper {
		next = &reconnecter{next}
		return &fence{next: next, base: base, permit: w.permits, refused: w.countFenced}
	})
	return w.trail.watch(fenced)
}

func (w *Worker) countFenced() { w.metrics.fencedWrites.WithLabelValues(w.options.Ring).Inc() }

type fence struct {
	next    http.RoundTripper
	base    string // of the paths of all requests
	permit  func(write, *grant) error
	refused func()
}

func (f *fence) RoundTrip(request *http.Request) (*http.Response, error) {
	if changes(request) {
		if err := f.check(request); err != nil {
			f.refused()
			closeBody(request)
			return nil, err
		}
	}
	return f.next.RoundTrip(request)
}

func (f *fence) check(request *http.Request) error {
	granted := grantOf(request.Context())
	if granted != nil {
		if err := granted.check(); err != nil {
			return err
		}
	}
	what, ok := parseWrite(request, f.base)
	if !ok {
		return fmt.Errorf("%w: can't tell what %s %s writes to", ErrFenced, request.Method, request.URL.Path)
	}
	if err := f.permit(what, granted); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFenced, what, err)
	}
	return nil
}

// changes says whether a request may change what is stored: reads and dry runs do not.
func changes(request *http.Request) bool {
	switch request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return !isDryRun(request)
}

// isDryRun says whether the API server will store nothing.
func isDryRun(request *http.Request) bool {
	return strings.Contains(request.URL.RawQuery, "dryRun") && request.URL.Query().Get("dryRun") == metav1.DryRunAll
}
