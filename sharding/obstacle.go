package sharding

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// obstacleLook is how often a worker that does not act looks for the reason; it logs a reason that is new, and every one again after
	// obstacleAgain.
	obstacleLook  = 5 * time.Second
	obstacleAgain = time.Minute

	// namedInFlight is how many of the objects whose reconciles do not return are named.
	namedInFlight = 3
)

// hindrance is the latest thing that went wrong where a worker tries again and again. The zero value is nothing.
type hindrance struct {
	mu   sync.Mutex
	text string
}

func (h *hindrance) set(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = text
}

func (h *hindrance) clear() { h.set("") }

func (h *hindrance) or(otherwise string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.text == "" {
		return otherwise
	}
	return h.text
}

// seldom keeps what comes again and again from filling a log. The zero value is ready.
type seldom struct {
	mu   sync.Mutex
	last time.Time
}

// due is true at first, and then once every obstacleAgain.
func (s *seldom) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && time.Since(s.last) < obstacleAgain {
		return false
	}
	s.last = time.Now()
	return true
}

// obstacle says why this process does not act, for people: what Worker.Check returns and the log says.
func (w *Worker) obstacle() string {
	heartbeat := w.heartbeat.Load()
	if how := w.ended.Load(); how != nil {
		return *how
	}
	switch {
	case !w.started.Load():
		return "Start has not been called"
	case !w.ring.served():
		return w.ringAbsent()
	case heartbeat == nil:
		return w.hindrance.or("it is starting")
	}
	if stuck := w.unreturned(); stuck != "" {
		return stuck
	}
	if err := heartbeat.Check(context.Background()); err != nil {
		return err.Error()
	}
	if !w.fenceCheck.holds() {
		return ErrUnfenced.Error()
	}
	for _, p := range w.processors {
		if missing := p.uncached(); len(missing) > 0 {
			return fmt.Sprintf("the cache of %s is not filled: %s", missing[0].GroupResource(), w.hindrance.or("its informer has not listed yet"))
		}
	}
	return w.hindrance.or("it is about to begin")
}

// uncached returns the resources whose caches are not filled.
func (p *processor) uncached() []schema.GroupVersionResource {
	var missing []schema.GroupVersionResource
	if !p.controller.Informer.HasSynced() {
		missing = append(missing, p.target.resource)
	}
	for _, child := range p.target.controlled {
		if informer := p.controller.Children[child.GroupResource()]; informer != nil && !informer.HasSynced() {
			missing = append(missing, child)
		}
	}
	return missing
}

func (w *Worker) ringAbsent() string {
	config, name := w.ring.get(), w.options.Namespace+"/"+w.options.Ring
	switch {
	case config != nil:
		return fmt.Sprintf("ShardConfig %s is being deleted", name)
	case w.ringListed():
		return fmt.Sprintf("there is no ShardConfig %s: create it, or correct WorkerOptions.Ring or Namespace", name)
	}
	return w.hindrance.or(fmt.Sprintf("ShardConfig %s has not been read yet", name))
}

func (w *Worker) ringListed() bool {
	informer := w.ringInformer.Load()
	return informer != nil && (*informer).HasSynced()
}

// ringUnread notes why the ShardConfig can't be read.
func (w *Worker) ringUnread(ctx context.Context, r *cache.Reflector, err error) {
	w.hindrance.set(explained(err))
	cache.DefaultWatchErrorHandler(ctx, r, err)
}

// explained adds to an answer of the API server what is to be done about it.
func explained(err error) string {
	switch {
	case apierrors.IsNotFound(err) && !strings.Contains(err.Error(), `"`): // of a path, not of an object
		return fmt.Sprintf("the CustomResourceDefinitions of shard.io are not installed, see package apis/crd: %v", err)
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("a role is missing, see docs/misuse.md: %v", err)
	case apierrors.IsUnauthorized(err):
		return fmt.Sprintf("the API server does not accept the credential: %v", err)
	}
	return err.Error()
}

// unreturned names reconciles that keep the shard from acting again, as they have not returned since it lost the right to act.
func (w *Worker) unreturned() string {
	if w.ending.Load() == nil {
		return ""
	}
	var names []string
	for _, p := range w.processors {
		names = append(names, p.roster.inFlight()...)
	}
	if len(names) == 0 {
		return ""
	}
	more := ""
	if n := len(names) - namedInFlight; n > 0 {
		names, more = names[:namedInFlight], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("reconciles that were cancelled have not returned: %s%s", strings.Join(names, ", "), more)
}

// reportObstacles logs why this process does not act, as long as it does not, until ctx is done.
func (w *Worker) reportObstacles(ctx context.Context) {
	var last string
	var logged time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(obstacleLook):
		}
		if w.Active() {
			last = ""
			continue
		}
		w.probe(ctx)
		if now := w.obstacle(); now != last || time.Since(logged) >= obstacleAgain {
			last, logged = now, time.Now()
			w.logger.Info("Shard is not active", "reason", now)
		}
	}
}

// probe asks for the objects whose caches are not filled, as an informer does not say what keeps it from listing.
func (w *Worker) probe(ctx context.Context) {
	if heartbeat := w.heartbeat.Load(); heartbeat == nil || !heartbeat.Active() {
		return
	}
	for _, p := range w.processors {
		if missing := p.uncached(); len(missing) > 0 {
			w.hindrance.clear()
			asking, cancel := context.WithTimeout(ctx, obstacleLook)
			_, err := w.objects(missing[0], metav1.NamespaceAll).List(asking, metav1.ListOptions{LabelSelector: w.Selector().String(), Limit: 1})
			cancel()
			if err != nil {
				w.hindrance.set(explained(err))
			}
			return
		}
	}
}

// warnOfForeign warns once of an informer that shows what this shard does not own, such as obj. It is called on the informer's goroutine.
func (p *processor) warnOfForeign(obj metav1.Object) {
	if p.foreign.Swap(true) {
		return
	}
	p.w.logger.Error(nil, "The informer is not restricted to this shard, so this process has the objects of all shards in its memory, and gets their events. "+
		"Nothing is done with them. Make it with Worker.TweakListOptions", "resource", p.target.name(), "for example", klog.KObj(obj))
}

// isNil sees through an interface that has a type and no value.
func isNil(value any) bool {
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Interface, reflect.Slice, reflect.Chan:
		return v.IsNil()
	}
	return false
}
