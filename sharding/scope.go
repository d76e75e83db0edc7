package sharding

import (
	"context"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

// managerFieldManager is the field manager of everything that a Manager writes.
const managerFieldManager = "shard-manager"

// ringScope is what all who work on the objects of one ring share. It lives as long as a term serves the ring.
type ringScope struct {
	ring    string
	client  metadata.Interface
	placer  *placer
	gate    *gate
	metrics *managerMetrics
	tenure  *tenure
	trail   *trail
	targets atomic.Pointer[targetSet]
	// selected says whether an object of the target is the ring's, by the labels of its namespace. Its own labels have been looked
	// at by the server, or are by the caller.
	namespaces *namespaceSets
}

// patch writes a change of metadata that carries a resourceVersion, and adds the term to it. object is what the decision was based on:
// if a later leader has written that, nothing is written.
func (s *ringScope) patch(ctx context.Context, resource schema.GroupVersionResource, object metav1.Object, patch []byte,
) (*metav1.PartialObjectMetadata, error) {
	if err := s.tenure.precedes(ctx, termOf(object, s.ring)); err != nil {
		return nil, err
	}
	patch = stamped(patch, s.ring, s.tenure.term())
	written, err := s.client.Resource(resource).Namespace(object.GetNamespace()).Patch(ctx, object.GetName(), types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: managerFieldManager})
	s.trail.owned(s.ring, AuditTakenOver, resource.GroupResource(), object, patch, err)
	return written, err
}

// get reads from storage, not from a cache of the server.
func (s *ringScope) get(ctx context.Context, resource schema.GroupVersionResource, namespace, name string,
) (*metav1.PartialObjectMetadata, error) {
	return s.client.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
}

// gate bounds how many writes are on their way at the same time. Who has more to write waits, and so, page by page, does the
// server that is listing it.
type gate struct {
	ctx   context.Context // of the term: a write is not given up when a finder is restarted
	slots chan struct{}
	all   sync.WaitGroup
}

func newGate(ctx context.Context, width int) *gate {
	return &gate{ctx: ctx, slots: make(chan struct{}, width)}
}

// do runs f on a goroutine of its own as soon as there is room. It returns before f has, or with the cause of the end of ctx.
func (g *gate) do(ctx context.Context, f func(context.Context)) error {
	select {
	case g.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-g.ctx.Done():
		return context.Cause(g.ctx)
	}
	g.all.Go(func() {
		defer func() { <-g.slots }()
		f(g.ctx)
	})
	return nil
}

// wait returns when everything that was started has ended.
func (g *gate) wait() { g.all.Wait() }

// batch is a set of writes through a gate that are waited for together. The first error is kept; the others go on.
type batch struct {
	gate  *gate
	all   sync.WaitGroup
	count atomic.Int64 // of what went well
	once  sync.Once
	err   error
}

// do is gate.do, and remembers the first error of f.
func (b *batch) do(ctx context.Context, f func(context.Context) error) error {
	b.all.Add(1)
	err := b.gate.do(ctx, func(ctx context.Context) {
		defer b.all.Done()
		if err := f(ctx); err != nil {
			b.once.Do(func() { b.err = err })
			return
		}
		b.count.Add(1)
	})
	if err != nil {
		b.all.Done()
	}
	return err
}

// wait returns the first error when all have ended.
func (b *batch) wait() error {
	b.all.Wait()
	return b.err
}
