package sharding

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// resolvedTargets remembers for which ShardConfig the targets were resolved.
type resolvedTargets struct {
	generation int64
	failed     time.Time // of the last try that was not complete; zero if none
}

// servedFinders are the goroutines that find objects, and for what they were started.
type servedFinders struct {
	fingerprint string
	finders     []*finder
	cancel      context.CancelFunc
	all         *sync.WaitGroup
}

const (
	// resolveAgain is how often the API server is asked for a target that it does not serve.
	resolveAgain = 10 * time.Second
	// findAgain bounds how old the last list of unowned objects gets, which is the audit of promise P3, where leases are not longer.
	findAgain = 45 * time.Second
	// findSoon is the same while there are unowned objects.
	findSoon = 5 * time.Second
)

// findAgain is how long a finder that has found nothing relies on its watch: for as long as an object may be without a live owner anyway.
func (c *ringController) findAgain() time.Duration {
	if settings := c.audit.settings.Load(); settings != nil {
		return max(findAgain, settings.timing.LeaseDuration)
	}
	return findAgain
}

// resolveTargets brings the targets up to date with the ShardConfig. It returns when to try again.
func (c *ringController) resolveTargets(ctx context.Context, config *shardv1.ShardConfig, problems *ringProblems) time.Duration {
	current := c.targets.Load()
	due := !c.resolved.failed.IsZero() && time.Since(c.resolved.failed) >= resolveAgain
	if current == nil || config.Generation != c.resolved.generation || due {
		c.resolved = resolvedTargets{generation: config.Generation}
		next, err := c.discoverTargets(ctx, config.Spec.Targets)
		switch {
		case err != nil:
			c.resolved.failed = time.Now()
			c.resolved.generation = 0
			problems.targets = err
			klog.FromContext(ctx).Error(err, "Resolving the targets failed, will try again")
			if current == nil {
				c.targets.Store(&targetSet{})
			}
		default:
			if len(next.missing) > 0 {
				c.resolved.failed = time.Now()
			}
			c.targets.Store(next)
			current = next
		}
	}
	if current != nil {
		problems.missing = current.missing
	}
	if c.resolved.failed.IsZero() {
		return 0
	}
	return resolveAgain
}

// serve starts the finders and the mover, and starts them anew when what they look for has changed.
func (c *ringController) serve(ctx context.Context) {
	targets := c.targets.Load()
	live := c.placer.load().liveShards()
	fingerprint := targets.fingerprint() + strings.Join(live, ",")
	if c.finders.cancel != nil && c.finders.fingerprint == fingerprint {
		return
	}
	c.stopFinders()
	term := ctx
	ctx, cancel := context.WithCancel(ctx)
	served := servedFinders{fingerprint: fingerprint, cancel: cancel, all: &sync.WaitGroup{}}
	children, childrenListed := c.childFinders(targets, live)
	roots, rootsListed := c.rootFinders(targets, live)
	drains := append(c.drainFinders(targets), c.refusalFinders(targets)...)
	served.finders = append(append(append(served.finders, children...), roots...), drains...)
	c.finders = served
	c.unowned.retain(targets)
	served.all.Go(func() {
		for _, target := range targets.roots {
			if target.namespaces == nil {
				continue
			}
			// The namespaces are watched for the term: objects of a namespace are judged by them until the end.
			if err := c.namespaces.follow(ctx, term, &c.all, c.client, target.namespaces, c.namespacesChanged); err != nil {
				if ctx.Err() == nil { // else this is no failure: the finders are being started anew
					klog.FromContext(ctx).Error(err, "Following namespaces failed")
				}
				return
			}
			c.mover.kick() // it may have begun when these namespaces were not known yet
		}
		runFinders(ctx, served.all, children)
		childrenListed.await(ctx)
		runFinders(ctx, served.all, append(roots, drains...))
		rootsListed.await(ctx)
		c.assigner.early.Store(false)
		for _, root := range c.assigner.orphans.roots() {
			c.assigner.adopt(ctx, root)
		}
	})
	served.all.Go(func() { c.mover.run(ctx) })
}

func runFinders(ctx context.Context, all *sync.WaitGroup, finders []*finder) {
	for _, f := range finders {
		all.Go(func() { f.run(ctx) })
	}
}

func (c *ringController) stopFinders() {
	if c.finders.cancel != nil {
		c.finders.cancel()
		c.finders.all.Wait()
		c.finders = servedFinders{}
	}
	c.assigner.early.Store(true)
}

// relist makes every finder look again at what could not be done before.
func (c *ringController) relist() {
	for _, f := range c.finders.finders {
		f.relist()
	}
}

// namespacesChanged is called when a namespace is selected that was not before, or the other way round: then what is owned
// there is to be released.
func (c *ringController) namespacesChanged(selected bool) {
	if !selected {
		c.mover.kick()
	}
	c.lookAgain.Store(true)
	c.kick()
}

// rootFinders look for roots without a live owner.
func (c *ringController) rootFinders(targets *targetSet, live []string) ([]*finder, *countdown) {
	listed := newCountdown(len(targets.roots))
	finders := make([]*finder, 0, len(targets.roots))
	for _, target := range targets.roots {
		once := listed.once()
		f := c.newFinder(target.resource)
		f.selector = both(ownedByNoneOf(c.ring, live), target.objects).String()
		f.found = func(ctx context.Context, f *finder, event watch.EventType, root *metav1.PartialObjectMetadata) bool {
			if !c.namespaces.selects(target, root.Namespace) {
				return false
			}
			if event != watch.Deleted {
				c.unowned.saw(target.resource, root.UID)
			}
			c.assigner.foundRoot(ctx, f, target, event, root)
			return true
		}
		f.listed = func(begun time.Time, count int) time.Duration {
			once()
			c.noteSuccess(f.resource)
			c.unowned.audited(target.resource, begun, count)
			if count > 0 {
				return findSoon
			}
			return c.findAgain()
		}
		f.failed = func(err error) { once(); c.noteError(f.resource, err) }
		finders = append(finders, f)
	}
	return finders, listed
}

// childFinders look for children without a live owner.
func (c *ringController) childFinders(targets *targetSet, live []string) ([]*finder, *countdown) {
	listed := newCountdown(len(targets.children))
	finders := make([]*finder, 0, len(targets.children))
	for _, resource := range targets.children {
		once := listed.once()
		f := c.newFinder(resource)
		f.selector = ownedByNoneOf(c.ring, live).String()
		f.found = func(ctx context.Context, f *finder, event watch.EventType, child *metav1.PartialObjectMetadata) bool {
			c.assigner.foundChild(ctx, f, event, child)
			return true
		}
		f.listed = func(time.Time, int) time.Duration {
			once()
			c.noteSuccess(f.resource)
			return c.findAgain()
		}
		f.failed = func(err error) { once(); c.noteError(f.resource, err) }
		finders = append(finders, f)
	}
	return finders, listed
}

// drainFinders follow the roots that are in hand-over.
func (c *ringController) drainFinders(targets *targetSet) []*finder {
	finders := make([]*finder, 0, len(targets.roots))
	for _, target := range targets.roots {
		f := c.newFinder(target.resource)
		f.selector = selecting(DrainLabel(c.ring), selection.Exists).String()
		f.found = func(_ context.Context, _ *finder, event watch.EventType, root *metav1.PartialObjectMetadata) bool {
			to, _ := DrainTargetOf(root, c.ring)
			c.flight.found(target.resource, event, root, to, wasWithdrawn(root, c.ring))
			return true
		}
		f.listed = func(begun time.Time, _ int) time.Duration {
			c.flight.prune(target.resource, begun)
			return c.findAgain()
		}
		f.failed = func(err error) { c.noteError(f.resource, err) }
		finders = append(finders, f)
	}
	return finders
}

func (c *ringController) newFinder(resource schema.GroupVersionResource) *finder {
	return &finder{client: c.client, resource: resource, again: make(chan struct{}, 1)}
}

// noteError keeps why objects of a resource can't be found, for the status of the ShardConfig, if that will not mend by itself.
func (c *ringController) noteError(resource schema.GroupVersionResource, err error) {
	if !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) && !apierrors.IsNotFound(err) && !apierrors.IsMethodNotSupported(err) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastErrors[resource.String()] == nil {
		c.kick()
	}
	c.lastErrors[resource.String()] = err
}

func (c *ringController) noteSuccess(resource schema.GroupVersionResource) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastErrors[resource.String()] != nil {
		delete(c.lastErrors, resource.String())
		c.kick()
	}
}

// countdown waits until a number of things have happened.
type countdown struct {
	left atomic.Int64
	done chan struct{}
}

func newCountdown(n int) *countdown {
	c := &countdown{done: make(chan struct{})}
	c.left.Store(int64(n))
	if n == 0 {
		close(c.done)
	}
	return c
}

// once returns a function whose first call counts.
func (c *countdown) once() func() {
	return sync.OnceFunc(func() {
		if c.left.Add(-1) == 0 {
			close(c.done)
		}
	})
}

// await returns when all have happened, or ctx is done.
func (c *countdown) await(ctx context.Context) {
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

func (c *ringController) discoverTargets(ctx context.Context, targets []shardv1.Target) (*targetSet, error) {
	mapper, err := discover(ctx, c.api)
	if err != nil {
		return nil, err
	}
	return resolveTargets(ctx, mapper, targets)
}
