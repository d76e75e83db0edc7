package sharding

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/migrate"
)

// statusRest is how often the counts of a migration are written at most. A new phase is written at once.
const statusRest = time.Second

// showCounts brings the numbers up to date.
func (r *migration) showCounts(t tally) {
	n := &r.status.Objects
	c := t.counts
	n.Moving, n.Verifying, n.Moved, n.Returned = c.Moving+c.Refused, c.Arriving+c.Returning, c.Arrived, c.Kept
	for stage, count := range map[migrate.Stage]int64{
		migrate.StageWaiting: c.Waiting, migrate.StageMoving: c.Moving, migrate.StageArriving: c.Arriving, migrate.StageArrived: c.Arrived,
		migrate.StageRefused: c.Refused, migrate.StageReturning: c.Returning, migrate.StageKept: c.Kept, migrate.StageUnusable: c.Unusable,
		migrate.StageAstray: c.Astray,
	} {
		r.m.c.metrics.migrationObjects.WithLabelValues(r.m.c.ring, string(stage)).Set(float64(count))
	}
	r.m.c.metrics.migrationBytes.WithLabelValues(r.m.c.ring).Set(float64(t.bytes))
}

// waits says in the status that the migration can't begin yet, and why.
func (r *migration) waits(ctx context.Context, reason, message string) error {
	want := boolCondition(shardv1.ConditionStalled, true, reason, "", message, "")
	want.ObservedGeneration = r.object.Generation
	if sameCondition(meta.FindStatusCondition(r.status.Conditions, want.Type), want) && !r.dirty {
		return nil
	}
	r.state.Message = message
	err := r.saveWith(ctx, &want)
	r.state.Message = ""
	return err
}

func (r *migration) save(ctx context.Context) error { return r.saveWith(ctx, nil) }

// saveWith writes the status. stalled replaces that condition.
func (r *migration) saveWith(ctx context.Context, stalled *metav1.Condition) error {
	s := r.state
	r.status.ObservedGeneration, r.status.Phase, r.status.Reason = r.object.Generation, string(s.Phase), s.Reason
	r.status.Objects.Total = s.Total
	if s.Counted {
		r.status.Objects.Failed, r.status.Objects.Gone = s.Failures(), s.Gone()
	}
	if s.Message != "" && s.Reason != "" {
		r.status.LastError = clip(s.Message)
	}
	for _, condition := range migrationConditions(s) {
		if stalled != nil && condition.Type == stalled.Type {
			condition = *stalled
		}
		condition.ObservedGeneration = r.object.Generation
		meta.SetStatusCondition(&r.status.Conditions, condition)
	}
	target := &shardv1.ShardMigration{ObjectMeta: metav1.ObjectMeta{Name: r.object.Name, UID: r.object.UID, ResourceVersion: r.object.ResourceVersion}}
	if r.version != "" && newerThan(r.version, target.ResourceVersion) {
		target.ResourceVersion = r.version
	}
	err := writeMigrationStatus(ctx, r.m.c, target, r.status)
	if err == nil {
		r.dirty, r.saved, r.version = false, time.Now(), target.ResourceVersion
	}
	return err
}

// migrationConditions says in conditions how a migration is. It is a pure function.
func migrationConditions(s migrate.State) []metav1.Condition {
	message := s.Message
	if message == "" {
		message = map[bool]string{true: "The migration is over.", false: "Objects are being moved."}[s.Phase.Ended()]
	}
	reason := s.Reason
	if reason == "" {
		reason = string(s.Phase)
	}
	return []metav1.Condition{
		boolCondition(shardv1.ConditionReady, s.Phase == migrate.Succeeded, reason, reason, message, clip(message)),
		boolCondition(shardv1.ConditionReconciling, !s.Phase.Ended(), string(s.Phase), string(s.Phase), message, "The migration is over."),
		boolCondition(shardv1.ConditionStalled, s.Phase == migrate.Failed, reason, "AsExpected", message, "Nothing keeps the migration from going on."),
	}
}

// writeMigrationStatus is one merge patch, on the version that object has. If that is behind, it is tried again. It sets the new version.
func writeMigrationStatus(ctx context.Context, c *ringController, object *shardv1.ShardMigration, status shardv1.ShardMigrationStatus) error {
	migrations := c.shards.ShardV1().ShardMigrations(c.namespace)
	for attempt := 1; ; attempt++ {
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": object.UID, "resourceVersion": object.ResourceVersion}, "status": status,
		})
		if err != nil {
			return err
		}
		written, err := migrations.Patch(ctx, object.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerFieldManager}, "status")
		if err == nil {
			object.ResourceVersion = written.ResourceVersion
			return nil
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		if !apierrors.IsConflict(err) || attempt == maxAttempts {
			return err
		}
		now, err := migrations.Get(ctx, object.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && now.UID != object.UID {
			return nil // deleted, or made anew
		}
		if err != nil {
			return err
		}
		object.ResourceVersion = now.ResourceVersion
	}
}

// hold puts the finalizer on the migration, before the first object is asked for.
func (r *migration) hold(ctx context.Context) error {
	if slices.Contains(r.object.Finalizers, shardv1.MigrationFinalizer) {
		return nil
	}
	return r.finalizers(ctx, append(slices.Clone(r.object.Finalizers), shardv1.MigrationFinalizer))
}

// letGo takes the finalizer off again, when it is over.
func (r *migration) letGo(ctx context.Context) error {
	i := slices.Index(r.object.Finalizers, shardv1.MigrationFinalizer)
	if i < 0 {
		return nil
	}
	return r.finalizers(ctx, slices.Delete(slices.Clone(r.object.Finalizers), i, i+1))
}

func (r *migration) finalizers(ctx context.Context, list []string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": r.object.UID, "resourceVersion": r.object.ResourceVersion, "finalizers": list,
	}})
	if err != nil {
		return err
	}
	migrations := r.m.c.shards.ShardV1().ShardMigrations(r.m.c.namespace)
	written, err := migrations.Patch(ctx, r.object.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: managerFieldManager})
	if apierrors.IsConflict(err) { // the cache is behind
		written, err = migrations.Get(ctx, r.object.Name, metav1.GetOptions{})
		if err == nil && written.UID == r.object.UID {
			r.object = written
			return errOutdated
		}
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		r.object = written
	}
	return err
}

func clipTo(text string, n int) string {
	if len(text) > n {
		return strings.ToValidUTF8(text[:n], "")
	}
	return text
}
