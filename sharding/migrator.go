package sharding

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	listers "github.com/shard-io/shard-controller/generated/listers/shard/v1"
	"github.com/shard-io/shard-controller/migrate"
)

// migrator carries out the ShardMigrations that users make for one ring, one after the other. Package migrate decides; this looks at
// the objects, writes what is to be written, and tells what it found.
//
// It looks at all objects of a migration again and again, and keeps nothing of them. What it knows at the end of a term is written
// down: phase and total in the status, everything else in the labels of the objects.
type migrator struct {
	c          *ringController
	migrations listers.ShardMigrationNamespaceLister
	synced     func() bool
	kicked     chan struct{}
	plans      *plans

	// moving says whether a migration is under way: the mover yields to it.
	moving atomic.Bool
	// running are the migrations that this term has looked at. Of run alone.
	running map[types.UID]*migration
}

const (
	// migrationRest is the time between two looks at the objects of a migration at least, and migrationShare how often the time of a look
	// that is.
	migrationRest  = 20 * time.Millisecond
	migrationShare = 4
	// migrationIdle is what the time between two looks grows to while nothing changes.
	migrationIdle = time.Second
	// migrationLanding is how long a look waits for the objects that it has asked for.
	migrationLanding = 500 * time.Millisecond
	// migrationRecheck is how often a migration that waits for something is looked at although nothing has happened.
	migrationRecheck = 5 * time.Second
)

func newMigrator(c *ringController, migrations listers.ShardMigrationNamespaceLister, synced func() bool) *migrator {
	return &migrator{
		c: c, migrations: migrations, synced: synced, kicked: make(chan struct{}, 1), plans: newPlans(c), running: map[types.UID]*migration{},
	}
}

func (m *migrator) kick() {
	select {
	case m.kicked <- struct{}{}:
	default:
	}
}

// run blocks until ctx is done.
func (m *migrator) run(ctx context.Context) {
	for ctx.Err() == nil {
		rest := m.look(ctx)
		if saved := m.plans.save(ctx); saved > 0 {
			rest = min(rest, saved)
		}
		timer := time.NewTimer(rest)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-m.kicked:
		}
		timer.Stop()
	}
}

// look deals with every migration once. It returns when to look again.
func (m *migrator) look(ctx context.Context) time.Duration {
	if !m.synced() || m.c.placer.load() == nil || m.c.targets.Load() == nil {
		return time.Second
	}
	list, err := m.migrations.List(labels.Everything())
	if err != nil {
		return time.Second
	}
	own := m.own(list)
	rest, busy := time.Hour, false
	for _, r := range own {
		more, err := m.attend(ctx, r, &busy)
		if ctx.Err() != nil {
			return time.Second
		}
		if err != nil {
			r.failures++
			klog.FromContext(ctx).V(1).Info("A migration can't go on, will try again", "migration", r.name(), "err", err)
			more = jitter(retryDelay(r.failures))
		} else {
			r.failures = 0
		}
		rest = min(rest, more)
	}
	if was := m.moving.Swap(busy); was && !busy {
		m.c.mover.kick()
	}
	return rest
}

// own returns the migrations of the ring that are to be carried out, those that have begun first, then by age; and forgets those that do not
// exist any more.
func (m *migrator) own(list []*shardv1.ShardMigration) []*migration {
	exists := map[types.UID]bool{}
	for _, object := range list {
		if object.Spec.Ring != m.c.ring {
			continue
		}
		if object.Spec.Reason != shardv1.MigrationManual && object.Spec.Reason != "" {
			m.plans.saw(object)
			continue
		}
		exists[object.UID] = true
		if r := m.running[object.UID]; r != nil {
			r.object = object
		} else {
			m.running[object.UID] = newMigration(m, object)
		}
	}
	maps.DeleteFunc(m.running, func(uid types.UID, _ *migration) bool { return !exists[uid] })
	return slices.SortedFunc(maps.Values(m.running), func(a, b *migration) int {
		if a.state.Phase.Moving() != b.state.Phase.Moving() {
			if a.state.Phase.Moving() {
				return -1
			}
			return 1
		}
		if c := a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.object.Name, b.object.Name)
	})
}

// attend brings one migration a step further. busy says whether another one is under way, and is set if this one is.
func (m *migrator) attend(ctx context.Context, r *migration, busy *bool) (time.Duration, error) {
	if r.state.Phase.Ended() {
		if r.dirty {
			if err := r.save(ctx); err != nil {
				return 0, err
			}
		}
		return time.Hour, r.letGo(ctx)
	}
	if err := r.observe(ctx); err != nil {
		return 0, err
	}
	var err error
	rest := r.untilDeadline()
	switch {
	case r.state.Phase.Ended():
		return 0, nil
	case r.state.Phase == migrate.Planning:
		err = r.plan(ctx)
		rest = min(rest, migrationRest)
	case r.state.Phase == migrate.Preparation && *busy:
		rest, err = migrationRecheck, r.waits(ctx, "Queued", "Another migration of the ring is under way.")
	case r.state.Phase == migrate.Preparation:
		err = r.prepare(ctx)
		rest = min(rest, migrationRecheck)
	}
	if r.state.Phase.Moving() && err == nil {
		*busy = true
		m.moving.Store(true)
		err = r.round(ctx)
		rest = max(min(migrationRest<<min(r.idle, 10), migrationIdle), migrationShare*r.looked)
	}
	var bad *planError
	if errors.As(err, &bad) {
		return migrationRest, r.tell(ctx, migrate.Reject{Reason: bad.reason, Message: bad.message})
	}
	if apierrors.IsNotFound(err) {
		return migrationRest, nil
	}
	return rest, err
}

// forgetMetrics removes what would otherwise be shown of a ring that is not served here any more.
func (m *migrator) forgetMetrics() {
	ring := map[string]string{"ring": m.c.ring}
	m.c.metrics.migrationObjects.DeletePartialMatch(ring)
	m.c.metrics.migrationBytes.DeletePartialMatch(ring)
}
