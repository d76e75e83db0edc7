package sharding

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/migrate"
)

// plans keeps ShardMigrations about what the manager moves of its own accord: one for each shard that joins, leaves or is dead, and
// one while the strategy moves objects. They are records: the mover and the take-overs do their work whether or not a record
// can be written, and a new leader does not need them.
type plans struct {
	c *ringController

	mu     sync.Mutex
	open   map[planKey]*planRecord
	ended  []*planRecord                      // to be written for the last time
	former map[string]*shardv1.ShardMigration // as the cache shows them, by name
	done   map[string]bool                    // written for the last time, whatever the cache shows
}

type planKey struct {
	reason shardv1.MigrationReason
	shard  string
}

// planRecord is one record. Its counts are of this term, and those that a former leader wrote.
type planRecord struct {
	object   shardv1.ShardMigration
	created  bool
	dirty    bool
	saved    time.Time
	attempts int
	aborted  int64
}

const (
	// planRest is the time between two writes of a record.
	planRest = 2 * time.Second
	// planHistory is how many records of plans that have ended are kept.
	planHistory = 10
	// planAttempts is how often the last write of a record is tried.
	planAttempts = 10
)

func newPlans(c *ringController) *plans {
	return &plans{c: c, open: map[planKey]*planRecord{}, former: map[string]*shardv1.ShardMigration{}, done: map[string]bool{}}
}

var planReasons = map[string]shardv1.MigrationReason{
	causeJoin: shardv1.MigrationJoin, causeDrain: shardv1.MigrationLeave, causeRebalance: shardv1.MigrationRebalance,
}

// asked notes that the mover has asked for an object.
func (p *plans) asked(cause, owner, to string) {
	if p == nil {
		return
	}
	key := planKey{reason: planReasons[cause]}
	switch key.reason {
	case shardv1.MigrationJoin:
		key.shard = to
	case shardv1.MigrationLeave:
		key.shard = owner
	}
	p.change(key, func(plan *planRecord) { plan.object.Status.Objects.Total++ })
}

// aborted notes that the mover has taken a request back. Which plan it was of is not known.
func (p *plans) aborted() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, plan := range p.open {
		if plan.object.Spec.Reason != shardv1.MigrationTakeOver {
			plan.aborted++
			return
		}
	}
}

// settled notes that everything is where it belongs.
func (p *plans) settled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, plan := range p.open {
		if key.reason == shardv1.MigrationTakeOver {
			continue
		}
		n := &plan.object.Status.Objects
		n.Returned = min(plan.aborted, n.Total)
		n.Moved, n.Moving = n.Total-n.Returned, 0
		p.end(key, plan, migrate.Succeeded, "", "")
	}
}

// takesOver notes that the objects of a dead shard are going to others, and tookOver how that ended.
func (p *plans) takesOver(shard string) {
	p.change(planKey{shardv1.MigrationTakeOver, shard}, func(*planRecord) {})
}

func (p *plans) tookOver(shard string, moved int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := planKey{shardv1.MigrationTakeOver, shard}
	plan := p.open[key]
	if plan == nil {
		return
	}
	n := &plan.object.Status.Objects
	n.Moved += int64(moved)
	n.Total = max(n.Total, n.Moved)
	switch {
	case err == nil && n.Total == 0 && !plan.created:
		delete(p.open, key) // it had nothing
	case err == nil:
		p.end(key, plan, migrate.Succeeded, "", "")
	case errors.Is(err, health.ErrAlive):
		p.end(key, plan, migrate.Failed, "SourceAlive", "The shard is alive, and keeps what has not been taken from it.")
	default:
		plan.object.Status.LastError, plan.dirty = clip(err.Error()), true // it will be tried again
	}
}

// change opens the plan if there is none.
func (p *plans) change(key planKey, f func(*planRecord)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	current := p.open[key]
	if current == nil {
		current = p.begin(key)
		p.open[key] = current
		p.c.migrator.kick()
	}
	f(current)
	current.dirty = true
}

func (p *plans) begin(key planKey) *planRecord {
	current := &planRecord{object: shardv1.ShardMigration{
		ObjectMeta: metav1.ObjectMeta{
			Name: strings.ToLower(string(key.reason)) + "-" + rand.String(10), Namespace: p.c.namespace,
			Labels: map[string]string{RingLabel: p.c.ring},
		},
		Spec:   shardv1.ShardMigrationSpec{Ring: p.c.ring, Reason: key.reason},
		Status: shardv1.ShardMigrationStatus{Phase: string(migrate.Transfer), Started: &metav1.Time{Time: time.Now()}},
	}}
	if ValidateShardID(key.shard) == nil {
		switch key.reason {
		case shardv1.MigrationJoin:
			current.object.Spec.Target = key.shard
		default:
			current.object.Spec.Source = key.shard
		}
	}
	return current
}

// end is called with the lock.
func (p *plans) end(key planKey, plan *planRecord, phase migrate.Phase, reason, message string) {
	now := metav1.Now()
	s := &plan.object.Status
	s.Phase, s.Reason, s.Finished = string(phase), reason, &now
	if message != "" {
		s.LastError = message
	}
	plan.dirty = true
	delete(p.open, key)
	p.ended = append(p.ended, plan)
	p.c.metrics.migrationSeconds.WithLabelValues(p.c.ring, string(key.reason), string(phase)).Observe(now.Sub(s.Started.Time).Seconds())
	p.c.migrator.kick()
}

// saw is told of every record that exists. One that a former leader left open is gone on with.
func (p *plans) saw(object *shardv1.ShardMigration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.former[object.Name] = object
	if migrate.Phase(object.Status.Phase).Ended() || p.done[object.Name] || p.knows(object.Name) {
		return
	}
	plan := &planRecord{object: *object.DeepCopy(), created: true}
	if object.Labels[RingLabel] != p.c.ring {
		plan.object.Status.Phase, plan.object.Status.Reason = string(migrate.Failed), "ReservedReason"
		plan.object.Status.LastError = "spec.reason " + string(object.Spec.Reason) + " is the manager's: use Manual."
		plan.dirty = true
		p.ended = append(p.ended, plan)
		return
	}
	if plan.object.Status.Started == nil {
		plan.object.Status.Started = &metav1.Time{Time: time.Now()}
	}
	key := planKey{object.Spec.Reason, object.Spec.Source + object.Spec.Target}
	if p.open[key] != nil {
		p.end(planKey{}, plan, migrate.Succeeded, "", "") // this term has begun one of its own
		return
	}
	p.open[key] = plan
	if key.reason == shardv1.MigrationTakeOver && !p.c.isRunning(key.shard) {
		p.end(key, plan, migrate.Succeeded, "", "")
	}
}

// knows is called with the lock.
func (p *plans) knows(name string) bool {
	for _, plan := range p.open {
		if plan.object.Name == name {
			return true
		}
	}
	return slices.ContainsFunc(p.ended, func(plan *planRecord) bool { return plan.object.Name == name })
}

// save writes what has changed. It returns when to be called again; 0 for not before something happens.
func (p *plans) save(ctx context.Context) time.Duration {
	if !p.c.migrator.synced() {
		return 0
	}
	var due []*planRecord
	next := time.Duration(0)
	p.mu.Lock()
	for _, plan := range p.ended {
		due = append(due, p.copy(plan))
	}
	for _, plan := range p.open {
		wait := planRest - time.Since(plan.saved)
		switch {
		case !plan.dirty:
		case wait <= 0:
			n := &plan.object.Status.Objects
			if plan.object.Spec.Reason != shardv1.MigrationTakeOver {
				n.Moving = min(int64(p.c.flight.size()), n.Total)
				n.Moved = n.Total - n.Moving
			}
			due = append(due, p.copy(plan))
		case next == 0 || wait < next:
			next = wait
		}
	}
	p.mu.Unlock()
	for _, plan := range due {
		if err := p.write(ctx, plan); err != nil {
			klog.FromContext(ctx).V(1).Info("Writing the record of a plan failed, will try again", "migration", plan.object.Name, "err", err)
			next = finderMaxBackoff
		}
	}
	p.prune(ctx)
	return next
}

// copy is called with the lock; what changes from now on is written the next time.
func (p *plans) copy(of *planRecord) *planRecord {
	of.dirty, of.saved = false, time.Now()
	copied := *of
	copied.object = *of.object.DeepCopy()
	return &copied
}

func (p *plans) write(ctx context.Context, written *planRecord) error {
	object := &written.object
	status := object.Status
	var err error
	created := written.created
	if !created {
		var made *shardv1.ShardMigration
		made, err = p.c.shards.ShardV1().ShardMigrations(p.c.namespace).Create(ctx, object, metav1.CreateOptions{FieldManager: managerFieldManager})
		switch {
		case err == nil:
			object.UID, object.ResourceVersion, created = made.UID, made.ResourceVersion, true
		case apierrors.IsAlreadyExists(err): // the answer was lost
			if made, err = p.c.shards.ShardV1().ShardMigrations(p.c.namespace).Get(ctx, object.Name, metav1.GetOptions{}); err == nil {
				object.UID, object.ResourceVersion, created = made.UID, made.ResourceVersion, true
			}
		}
	}
	if err == nil {
		for _, condition := range migrationConditions(stateOfPlan(status)) {
			meta.SetStatusCondition(&status.Conditions, condition)
		}
		err = writeMigrationStatus(ctx, p.c, object, status)
	}
	p.wrote(object, created, err)
	return err
}

func stateOfPlan(s shardv1.ShardMigrationStatus) migrate.State {
	return migrate.State{Phase: migrate.Phase(s.Phase), Reason: s.Reason, Message: s.LastError, Total: s.Objects.Total}
}

// wrote notes how a write ended.
func (p *plans) wrote(object *shardv1.ShardMigration, created bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, plan := range p.open {
		if plan.object.Name == object.Name {
			plan.object.UID, plan.object.ResourceVersion, plan.created, plan.dirty = object.UID, object.ResourceVersion, created, plan.dirty || err != nil
		}
	}
	p.ended = slices.DeleteFunc(p.ended, func(plan *planRecord) bool {
		if plan.object.Name != object.Name {
			return false
		}
		plan.object.UID, plan.object.ResourceVersion, plan.created = object.UID, object.ResourceVersion, created
		plan.attempts++
		over := err == nil && migrate.Phase(object.Status.Phase).Ended() || plan.attempts >= planAttempts
		p.done[object.Name] = p.done[object.Name] || over
		return over
	})
}

// prune deletes the oldest records of plans that have ended.
func (p *plans) prune(ctx context.Context) {
	p.mu.Lock()
	var ended []*shardv1.ShardMigration
	for name, object := range p.former {
		if current, err := p.c.migrator.migrations.Get(name); err != nil || current.UID != object.UID {
			delete(p.former, name)
			delete(p.done, name)
		} else if migrate.Phase(object.Status.Phase).Ended() && object.Labels[RingLabel] == p.c.ring {
			ended = append(ended, object)
		}
	}
	p.mu.Unlock()
	if len(ended) <= planHistory {
		return
	}
	slices.SortFunc(ended, func(a, b *shardv1.ShardMigration) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, object := range ended[:len(ended)-planHistory] {
		err := p.c.shards.ShardV1().ShardMigrations(p.c.namespace).Delete(ctx, object.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &object.UID, ResourceVersion: &object.ResourceVersion},
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			klog.FromContext(ctx).V(1).Info("Deleting the record of an old plan failed", "migration", object.Name, "err", err)
		}
	}
}
