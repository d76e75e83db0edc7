package sharding

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/migrate"
)

// tally is what one look at all objects of a migration has found.
type tally struct {
	counts   migrate.Counts
	bytes    int64
	failures []shardv1.MigrationFailure
	// arrived is, by resource, the highest version of an object at the target.
	arrived versions
}

// round looks at all objects, does what is to be done about each, and tells the machine what it found.
func (r *migration) round(ctx context.Context) error {
	if r.selection == nil {
		var err error
		if r.selection, err = selectionOf(r.object.Spec.Selection, r.m.c.targets.Load()); err != nil {
			return r.tell(ctx, migrate.Abort{Reason: "InvalidSelection", Message: err.Error()})
		}
	}
	began := r.state.Round
	t := tally{arrived: versions{}}
	if err := r.lookAtCandidates(ctx, &t); err != nil {
		return err
	}
	if r.state.Phase == migrate.Transfer {
		r.m.c.flight.awaitLandingFor(ctx, migrationLanding)
	}
	looking := time.Now()
	if err := r.lookAtMembers(ctx, &t); err != nil {
		return err
	}
	r.looked = time.Since(looking)
	if r.idle++; t.counts != r.state.Counts {
		r.idle = 0
	}
	r.status.Bytes, r.status.Failures = t.bytes, t.failures
	r.showCounts(t)
	if err := r.tell(ctx, migrate.Counted{Round: began, Counts: t.counts}); err != nil && !errors.Is(err, migrate.ErrStale) {
		return err
	}
	switch r.state.Phase {
	case migrate.Verification:
		return r.verify(ctx, t)
	case migrate.Cleanup:
		if r.state.Counted {
			return r.tell(ctx, migrate.Cleaned{})
		}
	}
	return nil
}

// candidates selects what the source has and this migration has not asked for.
func (r *migration) candidates() labels.Selector {
	unmarked, err := labels.NewRequirement(MigrationLabel(r.m.c.ring), selection.NotIn, []string{r.mark()})
	if err != nil {
		return labels.Nothing()
	}
	return both(ShardSelector(r.m.c.ring, r.object.Spec.Source).Add(*unmarked), r.selection.objects)
}

func (r *migration) members() labels.Selector {
	return labels.SelectorFromSet(labels.Set{MigrationLabel(r.m.c.ring): r.mark()})
}

// lookAtCandidates asks for what is selected and has not been asked for. It ends early when the migration is not wanted any more.
func (r *migration) lookAtCandidates(ctx context.Context, t *tally) error {
	if r.state.Phase != migrate.Transfer {
		return nil
	}
	left := int64(-1)
	if r.selection.count > 0 {
		asked, err := r.countMembers(ctx)
		if err != nil {
			return err
		}
		left = max(0, r.selection.count-asked)
	}
	var waiting atomic.Int64
	c := r.m.c
	writes := &batch{gate: c.gate}
	for _, target := range c.targets.Load().roots {
		_, err := c.eachPage(ctx, target.resource, r.candidates().String(), func(page []metav1.PartialObjectMetadata) error {
			for i := range page {
				root := &page[i]
				if c.excludes(target, root) || !r.selection.selects(target, root) || left == 0 {
					continue
				}
				stage, move := migrate.Look(r.state.Phase, r.shards(), r.view(root))
				if stage == migrate.StageNone {
					continue
				}
				if left > 0 {
					left--
				}
				if move != migrate.Ask || r.unwanted() {
					t.counts.Add(stage)
					r.noteFailure(t, target, root, stage)
					continue
				}
				if err := r.ask(ctx, writes, target, root, &waiting); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return errors.Join(err, writes.wait())
		}
	}
	err := writes.wait()
	t.counts.Waiting += waiting.Load()
	return err
}

// unwanted says whether it makes no sense to ask for more.
func (r *migration) unwanted() bool {
	if now, err := r.m.migrations.Get(r.object.Name); err != nil || now.UID == r.object.UID && now.DeletionTimestamp != nil {
		return true
	}
	return r.untilDeadline() <= migrationRest
}

// ask asks for one root as soon as there is room. It is counted as waiting if that failed.
func (r *migration) ask(ctx context.Context, writes *batch, target *rootTarget, root *metav1.PartialObjectMetadata, waiting *atomic.Int64) error {
	c := r.m.c
	if err := r.pace(ctx); err != nil {
		return err
	}
	limit := int(^uint(0) >> 1)
	if n := r.object.Spec.MaxInFlight; n != nil {
		limit = int(*n)
	}
	if err := c.flight.boardBelow(ctx, target.resource, root.UID, limit); err != nil {
		return err
	}
	return writes.do(ctx, func(ctx context.Context) error {
		err := r.write(ctx, target, root, migrate.Ask)
		if err != nil {
			waiting.Add(1)
			c.flight.leave(root.UID)
		}
		return unlessOvertaken(err)
	})
}

// unlessOvertaken leaves out errors that mean that the next round has to decide anew.
func unlessOvertaken(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || errors.Is(err, errPlacementChanged) {
		return nil
	}
	return err
}

// pace waits until the rate of the migration allows for another object.
func (r *migration) pace(ctx context.Context) error {
	rate := r.object.Spec.ObjectsPerSecond
	if rate == nil {
		return nil
	}
	if r.limiter == nil || r.rate != *rate {
		r.rate, r.limiter = *rate, flowcontrol.NewTokenBucketRateLimiter(float32(*rate), max(1, int(*rate)/10))
	}
	return r.limiter.Wait(ctx)
}

// write does what is to be done about one root. What somebody else has changed meanwhile is looked at again in the next round.
func (r *migration) write(ctx context.Context, target *rootTarget, root *metav1.PartialObjectMetadata, move migrate.Move) error {
	c, spec := r.m.c, r.object.Spec
	to, pin := "", ""
	switch move {
	case migrate.Ask:
		to, pin = spec.Target, spec.Target
	case migrate.TakeBack:
		to = spec.Source
		pin = c.placer.load().pinFor(target, root, to)
	case migrate.Withdraw:
		owner, _ := OwnerOf(root, c.ring)
		pin = c.placer.load().pinFor(target, root, owner)
	}
	if to != "" && !c.placer.begin(to) {
		return errPlacementChanged
	}
	_, err := c.patch(ctx, target.resource, root, migratePatch(root, c.ring, r.mark(), to, pin))
	if to != "" {
		c.placer.end(to, err == nil)
	}
	if err == nil && move != migrate.Withdraw {
		c.metrics.moves.WithLabelValues(c.ring, causeMigration).Inc()
	}
	return err
}

// causeMigration is a value of the label cause of the metric moves_total: somebody asked for it.
const causeMigration = "migration"

// lookAtMembers counts the objects that have been asked for, and does what is to be done about each.
func (r *migration) lookAtMembers(ctx context.Context, t *tally) error {
	c := r.m.c
	writes := &batch{gate: c.gate}
	for _, target := range c.targets.Load().roots {
		_, err := c.eachPage(ctx, target.resource, r.members().String(), func(page []metav1.PartialObjectMetadata) error {
			for i := range page {
				if err := r.lookAtMember(ctx, t, writes, target, &page[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return errors.Join(err, writes.wait())
		}
	}
	return writes.wait()
}

func (r *migration) lookAtMember(ctx context.Context, t *tally, writes *batch, target *rootTarget, root *metav1.PartialObjectMetadata) error {
	c := r.m.c
	stage, move := migrate.Look(r.state.Phase, r.shards(), r.view(root))
	t.counts.Add(stage)
	r.noteFailure(t, target, root, stage)
	if statePending(root, c.ring) {
		if e, err := stateOf(root, c.ring); err == nil {
			t.bytes += int64(e.Size)
		}
	}
	if owner, _ := OwnerOf(root, c.ring); owner == r.object.Spec.Target {
		t.arrived.raise(target.resource.GroupResource().String(), root.ResourceVersion)
	}
	if move == migrate.Stay {
		return nil
	}
	_, draining := DrainTargetOf(root, c.ring)
	if move == migrate.TakeBack && !draining {
		if err := c.flight.board(ctx, target.resource, root.UID); err != nil {
			return err
		}
	}
	return writes.do(ctx, func(ctx context.Context) error {
		err := r.write(ctx, target, root, move)
		if err != nil && move == migrate.TakeBack && !draining {
			c.flight.leave(root.UID)
		}
		return unlessOvertaken(err)
	})
}

func (r *migration) countMembers(ctx context.Context) (n int64, err error) {
	for _, target := range r.m.c.targets.Load().roots {
		_, failed := r.m.c.eachPage(ctx, target.resource, r.members().String(), func(page []metav1.PartialObjectMetadata) error {
			n += int64(len(page))
			return nil
		})
		err = errors.Join(err, failed)
	}
	return n, err
}

// view is what the machine sees of a root.
func (r *migration) view(root *metav1.PartialObjectMetadata) migrate.Object {
	ring := r.m.c.ring
	owner, _ := OwnerOf(root, ring)
	drain, _ := DrainTargetOf(root, ring)
	o := migrate.Object{
		Owner: owner, Drain: drain, Selected: true, Pending: statePending(root, ring),
		Marked: root.Labels[MigrationLabel(ring)] == r.mark(), Failed: r.failed[root.UID] != "" && owner == r.object.Spec.Target,
	}
	if refused := refusalOf(root, ring); refused != nil {
		o.Declined = refused.Declined != "" && refused.By == owner
		if refused.Declined == "" {
			o.RefusedBy = refused.By
		}
	} else if gaveUp(root, ring) {
		o.RefusedBy = owner
	}
	return o
}

// gaveUp says whether the owner of a root has gone on without the state that came with it.
func gaveUp(root metav1.Object, ring string) bool {
	e, err := parseEnvelope(root.GetAnnotations()[UnusableAnnotation(ring)])
	return err == nil && e.Epoch == EpochOf(root, ring)-1 && !statePending(root, ring)
}

// noteFailure remembers the first objects that could not be moved.
func (r *migration) noteFailure(t *tally, target *rootTarget, root *metav1.PartialObjectMetadata, stage migrate.Stage) {
	back := r.state.Phase == migrate.RollingBack
	bad := stage == migrate.StageUnusable || stage == migrate.StageAstray || !back && (stage == migrate.StageKept || stage == migrate.StageRefused)
	if !bad || len(t.failures) >= shardv1.MaxMigrationFailures {
		return
	}
	owner, _ := OwnerOf(root, r.m.c.ring)
	f := shardv1.MigrationFailure{Object: clipTo(nameOf(target, root), 512), Reason: string(stage), Message: "It is on " + cmp.Or(owner, "no shard") + "."}
	if refused := refusalOf(root, r.m.c.ring); refused != nil {
		f.Reason, f.Message = clipTo(cmp.Or(string(refused.Reason), f.Reason), 64), clipTo(cmp.Or(refused.Message, f.Message), 512)
	} else if message := r.failed[root.UID]; message != "" {
		f.Reason, f.Message = "ReconcileFailed", clipTo(message, 512)
	}
	t.failures = append(t.failures, f)
	if r.status.LastError == "" {
		r.status.LastError = clip(f.Object + ": " + f.Message)
	}
}

// arrivingPatience is how many looks find the same states not acknowledged before the target is asked nevertheless: it acknowledges none whose
// object it can't reconcile.
const arrivingPatience = 4

// verify asks the target whether it works with what it has been given, once nothing moves any more. It returns at once: the
// next round looks for the answer.
func (r *migration) verify(ctx context.Context, t tally) error {
	if r.state.Verified || t.counts.Moving+t.counts.Refused+t.counts.Returning > 0 {
		return nil
	}
	if t.counts.Arriving > 0 && r.idle < arrivingPatience {
		return nil // what is acknowledged changes its version, and would have to be asked for once more
	}
	if len(t.arrived) == 0 {
		return r.tell(ctx, migrate.Verified{})
	}
	instance, err := r.m.c.instances.Get(r.object.Spec.Target)
	if err != nil {
		return nil // it will be lost, or come back
	}
	if answer, ok := verifiedOf(instance); ok && answer.covers(t.arrived) {
		for _, object := range answer.Objects {
			r.failed[object.UID] = cmp.Or(object.Message, "its first reconcile failed")
		}
		return r.tell(ctx, migrate.Verified{})
	}
	want := versions{}
	for resource, version := range verifyRequest(instance) {
		want.raise(resource, version)
	}
	for resource, version := range t.arrived {
		want.raise(resource, version)
	}
	if want.String() == instance.Annotations[verifyAnnotation] {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": instance.UID, "resourceVersion": instance.ResourceVersion, "annotations": map[string]any{verifyAnnotation: want.String()},
	}})
	if err != nil {
		return err
	}
	_, err = r.m.c.shards.ShardV1().ShardInstances(r.m.c.namespace).Patch(ctx, instance.Name, types.MergePatchType, patch,
		metav1.PatchOptions{FieldManager: managerFieldManager})
	return unlessOvertaken(err)
}
