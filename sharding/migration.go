package sharding

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/migrate"
)

// migration is one ShardMigration that is being carried out.
type migration struct {
	m      *migrator
	object *shardv1.ShardMigration // as the cache shows it
	state  migrate.State
	status shardv1.ShardMigrationStatus
	// selection is known from Planning on.
	selection *chosen
	limiter   flowcontrol.RateLimiter
	rate      int32
	failures  int
	looked    time.Duration // how long the last look at all objects took
	idle      int           // looks that have found what the one before had found
	// failed are the objects that the target can't work with.
	failed map[types.UID]string

	dirty        bool // the status is to be written
	saved        time.Time
	version      string // of the last write
	phaseStarted time.Time
}

// newMigration goes on from what is written down.
func newMigration(m *migrator, object *shardv1.ShardMigration) *migration {
	r := &migration{m: m, object: object, status: *object.Status.DeepCopy(), phaseStarted: time.Now(), failed: map[types.UID]string{}}
	phase := migrate.Phase(object.Status.Phase)
	if phase == "" {
		r.state = migrate.New(object.Spec.DryRun)
		return r
	}
	var err error
	r.state, err = migrate.Resume(phase, object.Status.Reason, object.Status.LastError, object.Status.Objects.Total, object.Spec.DryRun)
	if err != nil { // somebody else wrote the status
		r.state = migrate.State{Phase: migrate.Failed, Reason: "InvalidStatus", Message: err.Error()}
		r.dirty = true
	}
	return r
}

func (r *migration) name() klog.ObjectRef { return klog.KObj(r.object) }

// mark is the value of the migration label on the objects.
func (r *migration) mark() string {
	return r.object.Name + "." + string(r.object.UID)[:min(8, len(r.object.UID))]
}

// shards says how the two ends are.
func (r *migration) shards() migrate.Shards {
	p := r.m.c.placer.load()
	spec := r.object.Spec
	return migrate.Shards{
		Source: spec.Source, Target: spec.Target,
		SourceReceives: p.eligible(spec.Source), TargetReceives: p.eligible(spec.Target),
		SourceLost: r.state.SourceLost || p.lost(spec.Source) || p.draining(spec.Source),
		TargetLost: r.state.TargetLost || p.lost(spec.Target) || p.draining(spec.Target),
	}
}

// lost says whether a shard is dead or unknown: not one that may yet be seen alive.
func (p *placement) lost(shard string) bool {
	standing, known := p.standings[shard]
	return !known || standing == standingGone
}

// observe tells the machine what has happened around the migration.
func (r *migration) observe(ctx context.Context) error {
	if r.object.DeletionTimestamp != nil {
		if err := r.abort(ctx, "Aborted", "The ShardMigration was deleted."); err != nil {
			return err
		}
	}
	if deadline := r.object.Spec.Deadline; deadline != nil && !time.Now().Before(deadline.Time) {
		if err := r.abort(ctx, "DeadlineExceeded", "The deadline "+deadline.UTC().Format(time.RFC3339)+" has passed."); err != nil {
			return err
		}
	}
	if !r.state.Phase.Moving() {
		return nil
	}
	shards := r.shards()
	p := r.m.c.placer.load()
	if p.draining(r.object.Spec.Target) && !p.lost(r.object.Spec.Target) {
		if err := r.abort(ctx, "TargetDraining", "The target is being drained."); err != nil {
			return err
		}
	}
	if shards.SourceLost != r.state.SourceLost || shards.TargetLost != r.state.TargetLost {
		return r.tell(ctx, migrate.Lost{Source: shards.SourceLost, Target: shards.TargetLost})
	}
	return nil
}

// abort is told as long as it means something.
func (r *migration) abort(ctx context.Context, reason, message string) error {
	err := r.tell(ctx, migrate.Abort{Reason: reason, Message: message})
	if errors.Is(err, migrate.ErrNotNow) {
		return nil
	}
	return err
}

func (r *migration) untilDeadline() time.Duration {
	if r.object.Spec.Deadline == nil {
		return time.Hour
	}
	return max(migrationRest, time.Until(r.object.Spec.Deadline.Time))
}

// tell tells the machine, and does what it answers: what it says is written down before anything else happens.
func (r *migration) tell(ctx context.Context, e migrate.Event) error {
	next, actions, err := migrate.Step(r.state, e)
	if err != nil {
		return err
	}
	before := r.state
	r.state = next
	for _, action := range actions {
		switch action {
		case migrate.Record:
			r.dirty = true
		case migrate.Announce:
			r.announce(ctx, before.Phase)
		}
	}
	if !r.dirty || before.Phase == next.Phase && time.Since(r.saved) < statusRest {
		return nil
	}
	return r.save(ctx)
}

// announce says that a new phase has begun.
func (r *migration) announce(ctx context.Context, before migrate.Phase) {
	now := time.Now()
	r.m.c.metrics.migrationPhase.WithLabelValues(r.m.c.ring, string(before)).Observe(now.Sub(r.phaseStarted).Seconds())
	r.phaseStarted = now
	s := r.state
	klog.FromContext(ctx).Info("A migration is in a new phase", "migration", r.name(), "phase", s.Phase, "before", before, "reason", s.Reason,
		"total", s.Total, "moved", s.Moved(), "failed", s.Failures())
	if s.Phase == migrate.Transfer {
		r.status.Started = &metav1.Time{Time: now}
	}
	kind, note := corev1.EventTypeNormal, fmt.Sprintf("%s → %s: %d of %d objects are at %s.", before, s.Phase, s.Moved(), s.Total, r.object.Spec.Target)
	if s.Reason != "" {
		kind = corev1.EventTypeWarning
		note = fmt.Sprintf("%s → %s (%s): %s", before, s.Phase, s.Reason, s.Message)
	}
	reason := string(s.Phase)
	if r.m.c.recorder != nil {
		r.m.c.recorder.Eventf(r.object, nil, kind, reason, "Migrate", "%s", clip(note))
	}
	if !s.Phase.Ended() {
		return
	}
	r.status.Finished = &metav1.Time{Time: now}
	if r.status.Started != nil {
		r.m.c.metrics.migrationSeconds.WithLabelValues(r.m.c.ring, string(shardv1.MigrationManual), string(s.Phase)).Observe(now.Sub(r.status.Started.Time).Seconds())
	}
	r.m.forgetMetrics()
	r.m.c.event(kind, "Migration"+reason, "Migrate", "%s", clip(fmt.Sprintf("ShardMigration %s from %s to %s: %s", r.object.Name, r.object.Spec.Source, r.object.Spec.Target, note)))
}

// plan validates and counts. An error that wraps a planError ends the migration.
func (r *migration) plan(ctx context.Context) error {
	c, spec := r.m.c, r.object.Spec
	p := c.placer.load()
	switch {
	case p.lost(spec.Source):
		return badPlan("UnknownSource", "spec.source: %s is no shard of ring %s", spec.Source, c.ring)
	case p.lost(spec.Target):
		return badPlan("UnknownTarget", "spec.target: %s is no shard of ring %s", spec.Target, c.ring)
	case p.draining(spec.Target):
		return badPlan("TargetDraining", "spec.target: %s is being drained", spec.Target)
	case p.draining(spec.Source):
		return badPlan("SourceDraining", "spec.source: %s is being drained: all its objects are on their way already", spec.Source)
	}
	var err error
	if r.selection, err = selectionOf(spec.Selection, c.targets.Load()); err != nil {
		return err
	}
	if err := r.m.checkNamed(ctx, spec.Source, r.selection); err != nil {
		return err
	}
	total := int64(0)
	r.status.WouldMove = nil
	for _, target := range c.targets.Load().roots {
		_, err := c.eachPage(ctx, target.resource, r.candidates().String(), func(page []metav1.PartialObjectMetadata) error {
			for i := range page {
				if c.excludes(target, &page[i]) || !r.selection.selects(target, &page[i]) {
					continue
				}
				total++
				if spec.DryRun && len(r.status.WouldMove) < shardv1.MaxMigrationFailures {
					r.status.WouldMove = append(r.status.WouldMove, nameOf(target, &page[i]))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if r.selection.count > 0 {
		total = min(total, r.selection.count)
		r.status.WouldMove = r.status.WouldMove[:min(int64(len(r.status.WouldMove)), total)]
	}
	return r.tell(ctx, migrate.Planned{Total: total})
}

// prepare waits until the migration may begin, and puts the finalizer on it.
func (r *migration) prepare(ctx context.Context) error {
	c, spec := r.m.c, r.object.Spec
	p := c.placer.load()
	switch {
	case p.lost(spec.Source) || p.lost(spec.Target):
		return r.tell(ctx, migrate.Lost{Source: p.lost(spec.Source), Target: p.lost(spec.Target)})
	case p.draining(spec.Target):
		return badPlan("TargetDraining", "spec.target: %s is being drained", spec.Target)
	case c.takingOver():
		return r.waits(ctx, "TakeOver", "Objects of a dead shard are being taken over.")
	case !p.eligible(spec.Target):
		return r.waits(ctx, "TargetNotReceiving", "The target may not receive objects: it is cordoned, silent, or not up yet.")
	}
	if err := r.hold(ctx); err != nil {
		return err
	}
	return r.tell(ctx, migrate.Ready{})
}

// takingOver says whether objects of a dead shard are being given to others.
func (c *ringController) takingOver() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.running) > 0
}
