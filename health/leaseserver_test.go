package health

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

var createOptions = metav1.CreateOptions{}

var leaseResource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// fault is what happens to a request.
type fault int

const (
	works  fault = iota
	fails        // the server answers 503 and does nothing
	hangs        // no answer, nothing done
	loses        // done, but the answer never arrives
	delays       // done 3 s later, when nobody waits for it any more
	slow         // done, and answered after 3 s
)

// leaseServer is a Lease API in memory: real compare-and-swap, resource
// versions, preconditions, label selectors, watches, and faults on demand.
type leaseServer struct {
	mu       sync.Mutex
	version  int64
	leases   map[string]*coordinationv1.Lease
	watchers map[*leaseWatch]bool
	history  []watch.Event
	oldest   int64 // versions before this are compacted away
	requests map[string]int
	faults   func(actor, verb string) fault
	stale    bool // watches deliver nothing
}

func newLeaseServer() *leaseServer {
	return &leaseServer{version: 1, leases: map[string]*coordinationv1.Lease{}, watchers: map[*leaseWatch]bool{}, requests: map[string]int{}}
}

// as returns the client of one actor.
func (s *leaseServer) as(actor string) coordinationv1client.LeasesGetter {
	return leasesOf{s: s, actor: actor}
}

// setFaults replaces the function that decides about requests; nil: all work.
func (s *leaseServer) setFaults(f func(actor, verb string) fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// breakFor makes all requests of the named actors end in f; of all without names.
func (s *leaseServer) breakFor(f fault, actors ...string) {
	s.setFaults(func(actor, _ string) fault {
		if len(actors) == 0 || slices.Contains(actors, actor) {
			return f
		}
		return works
	})
}

func (s *leaseServer) count(actor, verb string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[actor+" "+verb]
}

func (s *leaseServer) get(name string) *coordinationv1.Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[name].DeepCopy()
}

// edit changes a Lease behind everybody's back.
func (s *leaseServer) edit(name string, change func(*coordinationv1.Lease)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[name].DeepCopy()
	change(l)
	s.put(watch.Modified, l)
}

func (s *leaseServer) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[name] != nil {
		s.drop(name)
	}
}

// put stores l as the next version and tells the watchers. s.mu is held.
func (s *leaseServer) put(kind watch.EventType, l *coordinationv1.Lease) *coordinationv1.Lease {
	s.version++
	l.ResourceVersion = strconv.FormatInt(s.version, 10)
	old := s.leases[l.Name]
	s.leases[l.Name] = l
	s.send(watch.Event{Type: kind, Object: l.DeepCopy()}, old)
	return l.DeepCopy()
}

// backup returns a function that restores what is there now, versions included. A Lease that is created later is lost. Nobody is told.
func (s *leaseServer) backup() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, leases := s.version, map[string]*coordinationv1.Lease{}
	for name, l := range s.leases {
		leases[name] = l.DeepCopy()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.version, s.leases = version, leases
	}
}

func (s *leaseServer) drop(name string) {
	s.version++
	l := s.leases[name]
	delete(s.leases, name)
	last := l.DeepCopy()
	last.ResourceVersion = strconv.FormatInt(s.version, 10)
	s.send(watch.Event{Type: watch.Deleted, Object: last}, l)
}

func (s *leaseServer) send(e watch.Event, old *coordinationv1.Lease) {
	s.history = append(s.history, e)
	if s.stale {
		return
	}
	for w := range s.watchers {
		w.offer(e, old)
	}
}

// closeWatches ends all watches; with compact, they cannot go on where they were.
func (s *leaseServer) closeWatches(compact bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		close(w.events)
		delete(s.watchers, w)
	}
	if compact {
		s.version++
		s.oldest = s.version
	}
}

type leaseWatch struct {
	s        *leaseServer
	selector labels.Selector
	events   chan watch.Event
}

func (w *leaseWatch) offer(e watch.Event, old *coordinationv1.Lease) {
	l := e.Object.(*coordinationv1.Lease)
	matched := old != nil && w.selector.Matches(labels.Set(old.Labels))
	switch matches := w.selector.Matches(labels.Set(l.Labels)); {
	case !matches && !matched:
		return
	case !matches:
		e.Type = watch.Deleted
	}
	w.events <- e
}

func (w *leaseWatch) ResultChan() <-chan watch.Event { return w.events }
func (w *leaseWatch) Stop() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	delete(w.s.watchers, w)
}

type leasesOf struct {
	s     *leaseServer
	actor string
}

func (g leasesOf) Leases(namespace string) coordinationv1client.LeaseInterface {
	return leaseClient{s: g.s, actor: g.actor, namespace: namespace}
}

// leaseClient is the part of the typed client that the package uses; the rest panics.
type leaseClient struct {
	coordinationv1client.LeaseInterface
	s                *leaseServer
	actor, namespace string
}

// do runs a request with its fault.
func do[T any](ctx context.Context, c leaseClient, verb string, run func() (T, error)) (T, error) {
	var none T
	c.s.mu.Lock()
	c.s.requests[c.actor+" "+verb]++
	f := works
	if c.s.faults != nil {
		f = c.s.faults(c.actor, verb)
	}
	c.s.mu.Unlock()
	locked := func() (T, error) {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		return run()
	}
	switch {
	case ctx.Err() != nil:
		return none, ctx.Err()
	case f == fails:
		return none, apierrors.NewServiceUnavailable("etcd has no leader")
	case f == loses:
		_, _ = locked()
	case f == delays:
		time.AfterFunc(3*time.Second, func() { _, _ = locked() })
	case f == works:
		return locked()
	case f == slow:
		select {
		case <-time.After(3 * time.Second):
			return locked()
		case <-ctx.Done():
		}
	}
	<-ctx.Done()
	return none, fmt.Errorf("%s: %w", verb, ctx.Err())
}

func (c leaseClient) Get(ctx context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	return do(ctx, c, "get", func() (*coordinationv1.Lease, error) {
		l, ok := c.s.leases[name]
		if !ok {
			return nil, apierrors.NewNotFound(leaseResource, name)
		}
		return l.DeepCopy(), nil
	})
}

func (c leaseClient) Create(ctx context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return do(ctx, c, "create", func() (*coordinationv1.Lease, error) {
		if c.s.leases[l.Name] != nil {
			return nil, apierrors.NewAlreadyExists(leaseResource, l.Name)
		}
		l := l.DeepCopy()
		l.Namespace, l.UID = c.namespace, types.UID(fmt.Sprintf("uid-%d", c.s.version))
		return c.s.put(watch.Added, l), nil
	})
}

func (c leaseClient) Update(ctx context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	return do(ctx, c, "update", func() (*coordinationv1.Lease, error) {
		old := c.s.leases[l.Name]
		switch {
		case old == nil:
			return nil, apierrors.NewNotFound(leaseResource, l.Name)
		case l.ResourceVersion == "":
			return nil, apierrors.NewBadRequest("an update without a resourceVersion")
		case old.ResourceVersion != l.ResourceVersion || old.UID != l.UID:
			return nil, apierrors.NewConflict(leaseResource, l.Name, fmt.Errorf("have %s, got %s", old.ResourceVersion, l.ResourceVersion))
		}
		return c.s.put(watch.Modified, l.DeepCopy()), nil
	})
}

func (c leaseClient) Delete(ctx context.Context, name string, o metav1.DeleteOptions) error {
	_, err := do(ctx, c, "delete", func() (*coordinationv1.Lease, error) {
		old := c.s.leases[name]
		if old == nil {
			return nil, apierrors.NewNotFound(leaseResource, name)
		}
		if p := o.Preconditions; p != nil && (*p.UID != old.UID || *p.ResourceVersion != old.ResourceVersion) {
			return nil, apierrors.NewConflict(leaseResource, name, fmt.Errorf("precondition failed"))
		}
		c.s.drop(name)
		return old, nil
	})
	return err
}

func (c leaseClient) List(ctx context.Context, o metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	return do(ctx, c, "list", func() (*coordinationv1.LeaseList, error) {
		selector, err := labels.Parse(o.LabelSelector)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		list := &coordinationv1.LeaseList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatInt(c.s.version, 10)}}
		for _, name := range slices.Sorted(maps.Keys(c.s.leases)) {
			if l := c.s.leases[name]; selector.Matches(labels.Set(l.Labels)) && (o.Limit == 0 || int64(len(list.Items)) < o.Limit) {
				list.Items = append(list.Items, *l.DeepCopy())
			}
		}
		return list, nil
	})
}

func (c leaseClient) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return do(ctx, c, "watch", func() (watch.Interface, error) {
		from, err := strconv.ParseInt(o.ResourceVersion, 10, 64)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if from < c.s.oldest {
			return nil, apierrors.NewResourceExpired("too old resource version")
		}
		selector, err := labels.Parse(o.LabelSelector)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		w := &leaseWatch{s: c.s, selector: selector, events: make(chan watch.Event, 10_000)}
		for _, e := range c.s.history {
			if v, _ := strconv.ParseInt(e.Object.(*coordinationv1.Lease).ResourceVersion, 10, 64); v > from {
				w.offer(e, nil)
			}
		}
		c.s.watchers[w] = true
		return w, nil
	})
}
