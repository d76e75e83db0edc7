package sharding

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
	"github.com/shard-io/shard-controller/generated/informers/externalversions"
)

const (
	// leavingAnnotation says that spec.draining was set by the worker itself, so that the next process of the shard takes it back.
	leavingAnnotation = "shard.io/leaving"

	// statusInterval is how often the status is compared with what was written last.
	statusInterval = 2 * time.Second

	// listedResources is how many objects status.assignedResources names.
	listedResources = 100
)

// presence is the worker's ShardInstance: it creates it, reports on it, and removes it.
type presence struct {
	w       *Worker
	dirty   atomic.Bool   // the set of owned objects may have changed
	drained chan bool     // answers of the manager to drain
	leaving atomic.Bool   // this process does
	stay    chan struct{} // with a buffer of one: look whether an earlier process has left word that the shard is leaving
	last    lastWord
	unsaid  atomic.Bool // somebody else has overwritten what this process wrote
	recheck rechecks
}

func newPresence(w *Worker) *presence {
	p := &presence{w: w, drained: make(chan bool, 1), stay: make(chan struct{}, 1), recheck: rechecks{asked: make(chan struct{}, 1)}}
	p.dirty.Store(true)
	return p
}

// changed notes that the set of owned objects may have changed.
func (w *Worker) changed() {
	if !w.presence.dirty.Load() { // it is called for every event, and read by another goroutine now and then
		w.presence.dirty.Store(true)
	}
}

// begun is called when this process begins to act. Until then, an earlier one of the shard may have wished to leave, and may not have come to it.
func (p *presence) begun() {
	select {
	case p.stay <- struct{}{}:
	default:
	}
}

// ensure creates the ShardInstance, or takes over the one that an earlier process, or the user, has made; it reports which. It
// retries until ctx is done; it fails if the name belongs to a shard of another ring, or the API server refuses it for good.
func (p *presence) ensure(ctx context.Context) (created bool, err error) {
	defer p.w.hindrance.clear()
	for {
		made, err := p.ensureOnce(ctx)
		created = created || made
		if err == nil || apierrors.IsInvalid(err) || errors.As(err, new(foreignError)) {
			return created, err
		}
		p.w.hindrance.set("its ShardInstance can't be written: " + explained(err))
		p.w.logger.Error(err, "Creating the ShardInstance failed, will try again")
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// introduce says what this process serves, before it can be seen alive and be given anything. What else an earlier process has written
// stays until there is something to report.
func (p *presence) introduce(ctx context.Context, current *shardv1.ShardInstance) (*shardv1.ShardInstance, error) {
	served := p.w.served()
	known, _ := servedBy(current)
	same := len(known) == len(served)
	for _, s := range served {
		_, in := known[schema.GroupResource{Group: s.Group, Resource: s.Resource}]
		same = same && in
	}
	if same {
		return current, nil
	}
	status := applyv1.ShardInstanceStatus().WithAssignedResourceCount(current.Status.AssignedResourceCount).
		WithAssignedResources(current.Status.AssignedResources...)
	if current.Status.Load != nil {
		status.WithLoad(*current.Status.Load)
	}
	return p.apply(ctx, served, status)
}

// apply writes the worker's part of the status.
func (p *presence) apply(ctx context.Context, served []shardv1.ServedResource, status *applyv1.ShardInstanceStatusApplyConfiguration,
) (*shardv1.ShardInstance, error) {
	status.WithVersion(p.w.options.Version).WithServed(servedApply(served)...)
	apply := applyv1.ShardInstance(p.w.options.ID, p.w.options.Namespace).WithStatus(status)
	written, err := p.w.shards.ShardV1().ShardInstances(p.w.options.Namespace).ApplyStatus(ctx, apply,
		metav1.ApplyOptions{FieldManager: workerFieldManager, Force: true})
	if err == nil {
		p.last.wrote(written, served)
	}
	return written, err
}

type foreignError struct{ name, ring string }

func (e foreignError) Error() string {
	return fmt.Sprintf("worker options: ID: ShardInstance %s belongs to ring %q already", e.name, e.ring)
}

func (p *presence) ensureOnce(ctx context.Context) (created bool, err error) {
	o := p.w.options
	instances := p.w.shards.ShardV1().ShardInstances(o.Namespace)
	current, err := instances.Get(ctx, o.ID, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		current, err = instances.Create(ctx, &shardv1.ShardInstance{
			ObjectMeta: metav1.ObjectMeta{Name: o.ID, Labels: map[string]string{RingLabel: o.Ring}},
			Spec:       shardv1.ShardInstanceSpec{ShardID: o.ID, Ring: o.Ring, Weight: o.Weight},
		}, metav1.CreateOptions{FieldManager: workerFieldManager})
		if err != nil {
			return false, err
		}
		_, err = p.introduce(ctx, current)
		return true, err
	}
	if err != nil {
		return false, err
	}
	if current.Spec.Ring != "" && current.Spec.Ring != o.Ring {
		return false, foreignError{o.ID, current.Spec.Ring}
	}
	if current, err = p.introduce(ctx, current); err != nil {
		return false, err
	}
	spec := map[string]any{"ring": o.Ring}
	annotations := map[string]any{}
	if _, left := current.Annotations[leavingAnnotation]; left {
		annotations[leavingAnnotation] = nil
		spec["draining"] = nil
	} else if current.Spec.Ring == o.Ring && current.Labels[RingLabel] == o.Ring {
		return false, nil
	}
	return false, p.patch(ctx, map[string]any{
		"metadata": map[string]any{
			"resourceVersion": current.ResourceVersion,
			"labels":          map[string]any{RingLabel: o.Ring},
			"annotations":     annotations,
		},
		"spec": spec,
	})
}

func (p *presence) patch(ctx context.Context, patch map[string]any) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = p.w.shards.ShardV1().ShardInstances(p.w.options.Namespace).Patch(ctx, p.w.options.ID, types.MergePatchType, data,
		metav1.PatchOptions{FieldManager: workerFieldManager})
	return err
}

// run reports until ctx is done, and creates the ShardInstance again if it is deleted while its shard lives and its ring exists.
func (p *presence) run(ctx context.Context) {
	deleted := make(chan struct{}, 1)
	p.watch(ctx, deleted)
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	r := reporter{loads: loadReporter{w: p.w}}
	missing := false
	for {
		changed := p.w.ring.next()
		if missing && p.w.ring.served() {
			if _, err := p.ensure(ctx); err == nil {
				missing, r.valid = false, false // nothing has been written to the new one
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-deleted:
			missing = true
		case <-p.recheck.asked:
			p.w.recheck(ctx)
		case <-p.stay:
			if p.w.mayWrite() && !p.leaving.Load() {
				_, _ = p.ensure(ctx) // fails for good only if it would have at the start
			}
		case now := <-ticker.C:
			p.report(ctx, &r, now)
		}
	}
}

func (p *presence) watch(ctx context.Context, deleted chan<- struct{}) {
	factory := externalversions.NewSharedInformerFactoryWithOptions(p.w.shards, 0,
		externalversions.WithNamespace(p.w.options.Namespace),
		externalversions.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, p.w.options.ID).String()
		}))
	_, _ = factory.Shard().V1().ShardInstances().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { p.answered(obj) },
		UpdateFunc: func(_, obj any) { p.answered(obj) },
		DeleteFunc: func(any) {
			select {
			case deleted <- struct{}{}:
			default:
			}
		},
	}) // fails only for an informer that has stopped
	factory.StartWithContext(ctx)
}

// answered looks at the ShardInstance as it is now: it passes the manager's answer to a drain on.
func (p *presence) answered(obj any) {
	instance, ok := obj.(*shardv1.ShardInstance)
	if !ok {
		return
	}
	p.w.verifier.saw(instance)
	p.w.wellness.instance.Store(instance)
	if p.last.contradicted(instance) {
		p.unsaid.Store(true)
	}
	p.recheck.see(instance)
	if _, left := instance.Annotations[leavingAnnotation]; left {
		p.begun()
	}
	if !instance.Spec.Draining {
		return
	}
	condition := meta.FindStatusCondition(instance.Status.Conditions, conditionDrained)
	if condition == nil || condition.Status != metav1.ConditionTrue && condition.Reason != reasonNoTarget {
		return
	}
	select {
	case p.drained <- condition.Status == metav1.ConditionTrue:
	default:
	}
}

// drain asks the manager to move all objects to other shards, and waits for it, at most for the stop timeout. It reports whether
// nothing is left.
func (p *presence) drain(ctx context.Context) bool {
	p.leaving.Store(true)
	ctx, cancel := context.WithTimeout(ctx, p.w.options.StopTimeout)
	defer cancel()
	for {
		if !p.w.mayWrite() {
			return false // another process of the shard may be acting, and is not to be drained
		}
		err := p.askForDrain(ctx)
		if err == nil {
			break
		}
		if apierrors.IsNotFound(err) || !p.w.ring.served() {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(handoverRetry):
		}
	}
	changed := p.w.ring.next()
	for {
		select {
		case <-ctx.Done():
			p.w.logger.Info("Objects were not handed over in time, the others will take them over")
			return false
		case drained := <-p.drained:
			if !drained {
				p.w.logger.Info("There is no other shard to hand the objects over to")
			}
			return drained
		case <-changed:
			if !p.w.ring.served() {
				return false
			}
			changed = p.w.ring.next()
		}
	}
}

func (p *presence) askForDrain(ctx context.Context) error {
	current, err := p.w.shards.ShardV1().ShardInstances(p.w.options.Namespace).Get(ctx, p.w.options.ID, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return p.patch(ctx, map[string]any{
		"metadata": map[string]any{
			"resourceVersion": current.ResourceVersion,
			"annotations":     map[string]any{leavingAnnotation: "true"},
		},
		"spec": map[string]any{"draining": true},
	})
}

// remove deletes the ShardInstance, unless the next process of the shard has it by now.
func (p *presence) remove(ctx context.Context) error {
	for {
		instances := p.w.shards.ShardV1().ShardInstances(p.w.options.Namespace)
		current, err := instances.Get(ctx, p.w.options.ID, metav1.GetOptions{})
		if err != nil {
			return ignoreNotFound(err)
		}
		if _, ours := current.Annotations[leavingAnnotation]; !ours {
			return nil
		}
		err = instances.Delete(ctx, p.w.options.ID, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &current.UID, ResourceVersion: &current.ResourceVersion},
		})
		if !apierrors.IsConflict(err) {
			return ignoreNotFound(err)
		}
	}
}

// reporter remembers what was written last.
type reporter struct {
	written report
	valid   bool
	at      time.Time // of the last write
	loads   loadReporter
	owned   report // count and names, as of the last look
}

// report is the part of the status that the worker writes, without the time.
type report struct {
	load  loadReport
	slots string // of a loadReporter, and so is costliest
	count int64
	names string // joined by newlines, to be comparable
	// costliest and served are not compared by ==, but by same.
	costliest []shardv1.ObjectCost
	served    []shardv1.ServedResource
}

func (r *report) same(o *report) bool {
	return r.load == o.load && r.slots == o.slots && r.count == o.count && r.names == o.names &&
		slices.Equal(r.costliest, o.costliest) && slices.Equal(r.served, o.served)
}

// report writes the status if it has changed. A process without the right to act, such as a second one of the shard, has nothing to
// say.
func (p *presence) report(ctx context.Context, r *reporter, now time.Time) {
	if heartbeat := p.w.heartbeat.Load(); heartbeat == nil || !heartbeat.Active() {
		return
	}
	if p.dirty.Swap(false) {
		r.owned.count, r.owned.names = p.owned()
		r.owned.served = p.w.served()
	}
	next := r.owned
	r.loads.look(now)
	r.loads.lookCloser(now, next.count)
	next.load, next.slots, next.costliest = r.loads.report, r.loads.detail.slotsText, r.loads.detail.costs.listed
	confirmed := next.load.idle() || now.Sub(r.at) < r.loads.refresh()
	if unsaid := p.unsaid.Swap(false); r.valid && !unsaid && confirmed && next.same(&r.written) {
		return
	}
	status := next.load.apply().
		WithAssignedResourceCount(next.count).
		WithLastHeartbeat(metav1.NewTime(now))
	if next.slots != "" {
		status.WithSlotLoads(next.slots)
	}
	for _, cost := range next.costliest {
		status.WithCostliestObjects(costApply(cost))
	}
	if next.names != "" {
		status.WithAssignedResources(strings.Split(next.names, "\n")...)
	}
	if _, err := p.apply(ctx, next.served, status); err != nil {
		r.valid = false
		if ctx.Err() == nil && !apierrors.IsNotFound(err) {
			p.w.logger.Error(err, "Writing the status failed, will try again")
		}
		return
	}
	r.written, r.valid, r.at = next, true, now
}

// owned counts the objects that this shard owns, and names the first of them in order.
func (p *presence) owned() (count int64, names string) {
	first := make([]types.NamespacedName, 0, 2*listedResources)
	var last *types.NamespacedName // nothing after it is named
	for _, processor := range p.w.processors {
		n := 0
		for _, obj := range processor.controller.Informer.GetStore().List() {
			m, ok := obj.(metav1.Object)
			if !ok {
				continue
			}
			if owner, _ := OwnerOf(m, p.w.options.Ring); owner != p.w.options.ID {
				continue
			}
			n++
			if key := keyOf(m); last == nil || compareKeys(key, *last) < 0 {
				first = append(first, key)
			}
			if len(first) == cap(first) {
				slices.SortFunc(first, compareKeys)
				first = first[:listedResources]
				last = &first[listedResources-1]
			}
		}
		count += int64(n)
		p.w.metrics.owned.WithLabelValues(p.w.options.Ring, processor.target.name()).Set(float64(n))
	}
	slices.SortFunc(first, compareKeys)
	var b strings.Builder
	for i, key := range first[:min(len(first), listedResources)] {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(key.String())
	}
	return count, b.String()
}

func compareKeys(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
