package main

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/migrate"
)

// follow looks at a migration until it has come to its end. A dry run is deleted then: its answer is printed.
func (m *migrating) follow(ctx context.Context, s *session, object *shardv1.ShardMigration) error {
	if m.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.timeout)
		defer cancel()
	}
	if !m.dryRun {
		s.progress.note("shardmigration/%s created", object.Name)
	}
	for !ended(object) {
		s.progress.say("shardmigration/%s: %s", object.Name, progressOf(object))
		if err := pause(ctx, followInterval); err != nil {
			return found("shardmigration/%s goes on, in phase %s; nobody waits for it any more: %v", object.Name, phaseOfMigration(object), err)
		}
		next, err := s.shards.ShardMigrations(object.Namespace).Get(ctx, object.Name, metav1.GetOptions{})
		if err == nil {
			object = next
		} else if ctx.Err() == nil {
			return request{"get", shardResource("shardmigrations"), object.Namespace, object.Name}.failed(err)
		}
	}
	if m.dryRun {
		err := s.shards.ShardMigrations(object.Namespace).Delete(ctx, object.Name, metav1.DeleteOptions{})
		if err != nil {
			s.progress.note("shardmigration/%s stays: %v", object.Name, request{"delete", shardResource("shardmigrations"), object.Namespace, object.Name}.failed(err))
		}
	}
	report := newMigrationReport(object)
	if err := s.print(report, report.text); err != nil || object.Status.Phase == string(migrate.Succeeded) {
		return err
	}
	return errSaid
}

func newMigrationReport(object *shardv1.ShardMigration) migrationReport {
	return migrationReport{
		Namespace: object.Namespace, Name: object.Name, Source: object.Spec.Source, Target: object.Spec.Target, DryRun: object.Spec.DryRun,
		Status: object.Status,
	}
}

func ended(m *shardv1.ShardMigration) bool { return migrate.Phase(m.Status.Phase).Ended() }

func phaseOfMigration(m *shardv1.ShardMigration) string { return cmp.Or(m.Status.Phase, "Pending") }

// progressOf says how far a migration is.
func progressOf(m *shardv1.ShardMigration) string {
	o := m.Status.Objects
	switch stalled := meta.FindStatusCondition(m.Status.Conditions, shardv1.ConditionStalled); {
	case stalled != nil && stalled.Status == metav1.ConditionTrue:
		return m.Status.Phase + ", " + stalled.Message
	case m.Status.Phase == "":
		return "waits for a manager"
	case o.Total == 0:
		return m.Status.Phase
	}
	return fmt.Sprintf("%s, %d of %s moved, %d moving, %d verifying", m.Status.Phase, o.Moved, plural(o.Total, "object"), o.Moving, o.Verifying)
}

func (r migrationReport) text(out io.Writer) {
	o := r.Status.Objects
	if r.DryRun && len(r.Status.WouldMove) > 0 {
		fmt.Fprintf(out, "%s would move from %s to %s (dry run):\n", plural(o.Total, "object"), r.Source, r.Target)
		for _, name := range r.Status.WouldMove {
			fmt.Fprintf(out, "  %s\n", name)
		}
		if more := o.Total - int64(len(r.Status.WouldMove)); more > 0 {
			fmt.Fprintf(out, "  and %d more\n", more)
		}
		return
	}
	t := newTable("MIGRATION", "SOURCE", "TARGET", "PHASE", "REASON", "MOVED", "TOTAL", "FAILED", "RETURNED", "GONE", "TOOK")
	took := ""
	if r.Status.Started != nil && r.Status.Finished != nil {
		took = r.Status.Finished.Sub(r.Status.Started.Time).String()
	}
	t.row(r.Name, r.Source, r.Target, r.Status.Phase, r.Status.Reason, o.Moved, o.Total, o.Failed, o.Returned, o.Gone, cmp.Or(took, "-"))
	t.write(out)
	failures := newTable("OBJECT", "REASON", "MESSAGE")
	for _, f := range r.Status.Failures {
		failures.row(f.Object, f.Reason, clip(f.Message, 160))
	}
	failures.section(out)
	if r.Status.LastError != "" {
		fmt.Fprintf(out, "\n%s\n", r.Status.LastError)
	}
}
