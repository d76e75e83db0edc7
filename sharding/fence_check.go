package sharding

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
	"github.com/shard-io/shard-controller/sharding/internal/fencing"
)

// ErrUnfenced is wrapped by the error of Worker.Start, and is the cause with which reconciles are cancelled, if WorkerOptions.RequireFence is
// set and the API server does not enforce the ring's fence (package sharding/fence) against this worker.
var ErrUnfenced = errors.New("the fence of the ring is not in force")

// conditionFence says on a ShardInstance whether the API server refuses what this shard may not write. The worker writes it.
const conditionFence = "FenceEnforced"

// fenceFieldManager is that of the condition: the worker's other fields are applied without it, and must not take it away.
const fenceFieldManager = "shard-worker-fence"

const (
	// fenceInterval is how often the fence is checked, and fenceIntervalRequired if the worker does not act without it.
	fenceInterval         = 5 * time.Minute
	fenceIntervalRequired = 30 * time.Second

	// fenceLook is how often it is looked whether there is something new to check with: a first object.
	fenceLook = 30 * time.Second

	// fenceAgain is the time between two checks when the first has found no fence: one of several API servers may be behind.
	fenceAgain = time.Second

	// fencePatience is how long Start waits for a fence that was installed a moment ago.
	fencePatience = 10 * time.Second
)

// fenceCheck finds out, by dry runs that must be refused, whether the API server enforces the ring's fence against this worker. The
// dry runs are the creation of a Lease that the policy for objects lets nobody create, the creation of a Lease that is of no shard, for the
// policy for Leases and ShardInstances, and, once there are objects, a change of owner of one object of each target.
type fenceCheck struct {
	w *Worker

	enforced atomic.Bool

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when enforced changes

	// Of the goroutine that checks.
	tried    map[*processor]bool
	verdict  fenceVerdict
	reported fenceVerdict // what the ShardInstance says, when it was looked at
	looked   time.Time
}

func newFenceCheck(w *Worker) *fenceCheck {
	return &fenceCheck{w: w, changed: make(chan struct{}), tried: map[*processor]bool{}}
}

// holds says whether this worker may act as far as the fence is concerned.
func (f *fenceCheck) holds() bool { return !f.w.options.RequireFence || f.enforced.Load() }

// next is closed when the answer of holds may have changed.
func (f *fenceCheck) next() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// wait returns when holds is true, or with the error of ctx.
func (f *fenceCheck) wait(ctx context.Context) error {
	for {
		next := f.next()
		if f.holds() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next:
		}
	}
}

func (f *fenceCheck) set(v fenceVerdict) {
	if v.passing() {
		return
	}
	if v.status != f.verdict.status {
		f.w.logger.Info("Checked the fence", "enforced", v.status, "reason", v.reason, "message", v.message)
	}
	f.verdict = v
	enforced := v.status == metav1.ConditionTrue
	gauge := f.w.metrics.fenceEnforced.WithLabelValues(f.w.options.Ring)
	gauge.Set(0)
	if enforced {
		gauge.Set(1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.enforced.Swap(enforced) != enforced {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// begin returns an error if the fence is required and not in force, before anybody sees this shard. A fence may have been
// installed a moment ago, so it is given some seconds. It waits for an API server that does not answer.
func (f *fenceCheck) begin(ctx context.Context) error {
	if !f.w.options.RequireFence {
		return nil
	}
	for began := time.Now(); ; {
		v := f.check(ctx)
		f.set(v)
		if f.holds() {
			return nil
		}
		if !v.passing() && time.Since(began) >= fencePatience {
			return fmt.Errorf("worker options: RequireFence: %w: %s", ErrUnfenced, v.message)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(fenceAgain):
		}
	}
}

// run checks now and then until ctx is done.
func (f *fenceCheck) run(ctx context.Context) {
	interval := fenceInterval
	if f.w.options.RequireFence {
		interval = fenceIntervalRequired
	}
	var last time.Time
	for {
		if last.IsZero() || time.Since(last) >= interval || f.verdict.status == metav1.ConditionTrue && f.untried() {
			if v := f.checkTwice(ctx); !v.passing() {
				f.set(v)
				last = time.Now()
			}
		}
		f.report(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(fenceLook):
		}
	}
}

// checkTwice does not take the first "no" for an answer.
func (f *fenceCheck) checkTwice(ctx context.Context) fenceVerdict {
	v := f.check(ctx)
	if v.passing() || v.status == metav1.ConditionTrue {
		return v
	}
	select {
	case <-ctx.Done():
		return fenceVerdict{}
	case <-time.After(fenceAgain):
	}
	return f.check(ctx)
}

// check asks once.
func (f *fenceCheck) check(ctx context.Context) fenceVerdict {
	o := f.w.options
	dry := []string{metav1.DryRunAll}
	leases := f.w.kube.CoordinationV1().Leases(o.Namespace)
	_, err := leases.Create(ctx, fencing.ProbeLease(o.Ring, OwnerLabel(o.Ring)), metav1.CreateOptions{DryRun: dry})
	v := fenceAnswer(err, o.Namespace, o.Ring, fencing.ProbeAnswer(o.Ring, o.ID))
	if v.status != metav1.ConditionTrue {
		return v
	}
	_, err = leases.Create(ctx, fencing.StrangersLease(), metav1.CreateOptions{DryRun: dry})
	if s := shardsAnswer(err, o.Namespace, o.Ring, o.ID); s.status != metav1.ConditionTrue {
		return s
	}
	for _, p := range f.w.processors {
		object := f.object(p)
		if object == nil {
			continue
		}
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, OwnerLabel(o.Ring), fencing.NoShard)
		_, err := f.w.objects(p.target.resource, object.GetNamespace()).Patch(ctx, object.GetName(), types.MergePatchType, patch,
			metav1.PatchOptions{FieldManager: workerFieldManager, DryRun: dry})
		if errors.Is(err, ErrFenced) || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			continue // not sent, or not there any more
		}
		answer := fenceAnswer(err, o.Namespace, o.Ring, "")
		if answer.passing() {
			return answer
		}
		if answer.status != metav1.ConditionTrue {
			answer.message = "Of " + p.target.name() + ": " + answer.message
			return answer
		}
		f.tried[p] = true
	}
	return v
}

// object is one that this shard owns, nil if there is none yet, or this process does not act.
func (f *fenceCheck) object(p *processor) metav1.Object {
	if !f.w.mayWrite() {
		return nil
	}
	for _, obj := range p.controller.Informer.GetStore().List() {
		if o, ok := obj.(metav1.Object); ok {
			if owner, _ := OwnerOf(o, f.w.options.Ring); owner == f.w.options.ID {
				return o
			}
		}
	}
	return nil
}

// untried says whether there is a first object of a target.
func (f *fenceCheck) untried() bool {
	for _, p := range f.w.processors {
		if !f.tried[p] && f.object(p) != nil {
			return true
		}
	}
	return false
}

// report writes the condition if it is not there as it should be. Whether it still is it looks at as often as at the fence.
func (f *fenceCheck) report(ctx context.Context) {
	if f.verdict.passing() || !f.w.mayWrite() || f.reported == f.verdict && time.Since(f.looked) < fenceInterval {
		return
	}
	f.reported = fenceVerdict{}
	instances := f.w.shards.ShardV1().ShardInstances(f.w.options.Namespace)
	instance, err := instances.Get(ctx, f.w.options.ID, metav1.GetOptions{})
	if err != nil {
		return // it is looked at again soon
	}
	want := metav1.Condition{Type: conditionFence, Status: f.verdict.status, Reason: f.verdict.reason, Message: f.verdict.message}
	if have := meta.FindStatusCondition(instance.Status.Conditions, conditionFence); sameCondition(have, want) {
		f.reported, f.looked = f.verdict, time.Now()
		return
	}
	apply := applyv1.ShardInstance(instance.Name, instance.Namespace).WithUID(instance.UID).
		WithStatus(applyv1.ShardInstanceStatus().WithConditions(conditionApply(want, instance.Status.Conditions)))
	_, err = instances.ApplyStatus(ctx, apply, metav1.ApplyOptions{FieldManager: fenceFieldManager, Force: true})
	if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		f.w.logger.Error(err, "Writing the condition of the fence failed, will try again")
	}
}
