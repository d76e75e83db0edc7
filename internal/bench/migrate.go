//go:build unix

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/internal/child"
)

const (
	// smallState is what every root has in the first part.
	smallState = 1 << 10
	// restlessEach is how many roots there are for one that is reconciled all the time.
	restlessEach = 20
)

// pair is a ring of two workers with journals; what the first gets is moved
// between them. Its strategy lets everything be where it is.
type pair struct {
	*cluster
	ring     string
	objects  string // their namespace
	ids      [2]string
	workers  map[string]*child.Process
	manager  *child.Process
	journals map[string]string
	moves    int // migrations so far

	managed []string            // flags of the manager
	flags   map[string][]string // of one worker
}

// startPair makes the ring with n objects, all at the first worker. flags are those of both workers; change may add others, of one, or of the manager.
func (c *cluster) startPair(ctx context.Context, children bool, n int, flags []string, change ...func(*pair)) (*pair, error) {
	p := &pair{cluster: c, ring: ring, objects: "objects", ids: [2]string{"w-1", "w-2"}, workers: map[string]*child.Process{}, journals: map[string]string{}}
	for _, f := range change {
		f(p)
	}
	err := c.createRing(ctx, p.ring, children, func(config *v1.ShardConfig) { config.Spec.LoadBalanceStrategy = balancer.RoundRobin })
	if err != nil {
		return nil, err
	}
	if err := c.createNamespace(ctx, p.objects, true); err != nil {
		return nil, err
	}
	for i, id := range p.ids {
		if err := p.join(ctx, id, children, flags); err != nil {
			return nil, err
		}
		if i > 0 {
			break
		}
		if p.manager, err = c.startManager(p.managed...); err != nil {
			return nil, err
		}
		if err := c.waitReady(ctx, 1); err != nil {
			return nil, err
		}
		if err := p.fill(ctx, children, 0, n); err != nil {
			return nil, err
		}
	}
	return p, c.waitReady(ctx, 2)
}

func (p *pair) join(ctx context.Context, id string, children bool, flags []string) (err error) {
	p.journals[id] = filepath.Join(p.dir, id+".journal")
	if p.workers[id], err = p.startWorker(p.ring, id, children, append(append([]string{"--journal=" + p.journals[id]}, flags...), p.flags[id]...)...); err != nil {
		return err
	}
	return p.waitActive(ctx, p.ring, id)
}

// fill creates the objects from..to-1 and waits until they are owned.
func (p *pair) fill(ctx context.Context, children bool, from, to int) error {
	if err := p.createSecrets(ctx, p.objects, from, to); err != nil {
		return err
	}
	if err := p.waitOwned(ctx, to); err != nil || !children {
		return err
	}
	return p.waitChildren(ctx, p.objects, to)
}

// migration is how one went.
type migration struct {
	begun          time.Time
	took           time.Duration
	writes         requests
	source, target string
	status         v1.ShardMigrationStatus
}

// migrate moves the objects of one worker to the other, at most so many of them, and waits for the end.
func (p *pair) migrate(ctx context.Context, most int64) (m migration, err error) {
	m.source, m.target = p.ids[p.moves%2], p.ids[(p.moves+1)%2]
	p.moves++
	client := p.shards.ShardV1().ShardMigrations(p.ring)
	object := &v1.ShardMigration{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("move-%d", p.moves), Namespace: p.ring},
		Spec:       v1.ShardMigrationSpec{Ring: p.ring, Source: m.source, Target: m.target},
	}
	object.Spec.Selection = &v1.MigrationSelection{Count: &most}
	before, err := countRequests(ctx, p.kube)
	if err != nil {
		return m, err
	}
	m.begun = time.Now()
	if object, err = client.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return m, err
	}
	if m.status, err = p.ended(ctx, object); err != nil {
		return m, err
	}
	m.took = time.Since(m.begun)
	after, err := countRequests(ctx, p.kube)
	if err != nil {
		return m, err
	}
	m.writes = after.since(before)
	if m.status.Phase != "Succeeded" {
		return m, fmt.Errorf("migration %s is %s: %s %s", object.Name, m.status.Phase, m.status.Reason, m.status.LastError)
	}
	return m, nil
}

// ended waits for the end of a migration, by a watch.
func (p *pair) ended(ctx context.Context, m *v1.ShardMigration) (v1.ShardMigrationStatus, error) {
	w, err := p.shards.ShardV1().ShardMigrations(p.ring).Watch(ctx, metav1.ListOptions{
		ResourceVersion: m.ResourceVersion, FieldSelector: fields.OneTermEqualSelector("metadata.name", m.Name).String(),
	})
	if err != nil {
		return v1.ShardMigrationStatus{}, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		now, ok := event.Object.(*v1.ShardMigration)
		if !ok {
			return v1.ShardMigrationStatus{}, fmt.Errorf("watching the migration: %v", event.Object)
		}
		if now.Status.Finished != nil {
			return now.Status, nil
		}
	}
	return v1.ShardMigrationStatus{}, fmt.Errorf("the watch of the migration ended: %w", context.Cause(ctx))
}

// pauses reads the journals over the time of a migration.
func (p *pair) pauses(m migration) (pauses, error) {
	source, err := readJournal(p.journals[m.source])
	if err != nil {
		return pauses{}, err
	}
	target, err := readJournal(p.journals[m.target])
	return pausesOf(source, target, m.begun, func(name string) bool {
		var number int
		_, err := fmt.Sscanf(name, "secret-%d", &number)
		return err == nil && number%restlessEach == 0
	}, p.moves), err
}

// measureMigrate measures migrations of all objects of a shard, there and back again and again, each beside a bare loop.
func measureMigrate(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("Migration of %d roots with one child and %d bytes of state each", s.moving, smallState)}
	return t, migrateSmallStates(ctx, c, s, &t)
}

func migrateSmallStates(ctx context.Context, c *cluster, s settings, t *table) error {
	p, err := c.startPair(ctx, true, s.moving, []string{fmt.Sprintf("--state=%d", smallState), fmt.Sprintf("--restless=%d", restlessEach)})
	if err != nil {
		return err
	}
	if err := c.startBare(ctx, s.moving); err != nil {
		return err
	}
	var ms []migration
	var took, bare, ratios []float64
	all := pauses{}
	for range s.runs {
		m, err := p.migrate(ctx, int64(s.moving))
		if err != nil {
			return err
		}
		now, err := p.pauses(m)
		if err != nil {
			return err
		}
		all.rests, all.gaps = append(all.rests, now.rests...), append(all.gaps, now.gaps...)
		all.taken, all.wrong, all.doubled = all.taken+now.taken, all.wrong+now.wrong, all.doubled+now.doubled
		loop, patches, err := c.bareLoop(ctx, bareObjects, s.moving, 4)
		if err != nil {
			return err
		}
		if patches != 4*s.moving {
			return fmt.Errorf("the bare loop made %d patches", patches)
		}
		ms, took, bare = append(ms, m), append(took, m.took.Seconds()), append(bare, loop.Seconds())
		ratios = append(ratios, (m.took.Seconds()-1)/loop.Seconds())
	}
	t.add(fmt.Sprintf("%d roots: ShardMigration created → Succeeded", s.moving), median(took), "s", "", "median of "+list(took))
	t.add(fmt.Sprintf("bare loop of as many patches (%d), concurrency %d", 4*s.moving, s.concurrency), median(bare), "s", "", "median of "+list(bare))
	t.add("(migration − 1 s) / bare loop", median(ratios), "", "≤ 1.5", "median of "+list(ratios))
	addWrites(t, ms, s.moving, "0")
	t.add("states imported", float64(all.taken), "", number(float64(s.moving*s.runs)), "")
	t.add("… of these lost on the way before, twice, or not what was exported", float64(all.wrong), "", "0", "")
	t.add("objects that two workers had at once", float64(all.doubled), "", "0", "")
	t.add("pause of an object that is always reconciled, p50", quantile(all.gaps, 0.5), "ms", "≤ 100 ms", fmt.Sprintf("last reconcile at the source → first at the target, %d moves", len(all.gaps)))
	t.add("pause of an object that is always reconciled, p99", quantile(all.gaps, 0.99), "ms", "≤ 500 ms", "")
	t.add("the source knows of the request → first reconcile at the target, p50", quantile(all.rests, 0.5), "ms", "", fmt.Sprintf("%d moves", len(all.rests)))
	t.add("the source knows of the request → first reconcile at the target, p99", quantile(all.rests, 0.99), "ms", "", "")
	return nil
}

// bareObjects is the namespace of the objects that the bare loop writes.
const bareObjects = "bare-objects"

// startBare makes the other ring: with as many workers and objects, and no manager.
func (c *cluster) startBare(ctx context.Context, n int) error {
	if err := c.createRing(ctx, bareRing, false); err != nil {
		return err
	}
	for _, id := range []string{"w-1", "w-2"} {
		if _, err := c.startWorker(bareRing, id, false); err != nil {
			return err
		}
	}
	if err := c.waitActive(ctx, bareRing, "w-1", "w-2"); err != nil {
		return err
	}
	if err := c.createNamespace(ctx, bareObjects, false); err != nil {
		return err
	}
	return c.createSecrets(ctx, bareObjects, 0, n)
}

// addWrites adds the writes of the median migration, by verb and resource: those of objects per root, others as they are.
// inline is how many Secrets with states each root may cost.
func addWrites(t *table, ms []migration, roots int, inline string) {
	kinds := map[string]bool{}
	for _, m := range ms {
		for what := range m.writes {
			kinds[what] = true
		}
	}
	goals := map[string]string{"PATCH secrets": "≤ 3", "PATCH configmaps": "≤ 1", "POST secrets": inline, "DELETE secrets": inline}
	for what := range goals {
		kinds[what] = true
	}
	names := make([]string, 0, len(kinds))
	for what := range kinds {
		names = append(names, what)
	}
	slices.Sort(names)
	for _, what := range names {
		var counts []float64
		for _, m := range ms {
			counts = append(counts, float64(m.writes[what]))
		}
		switch _, resource, _ := strings.Cut(what, " "); {
		case strings.HasPrefix(resource, "secrets") || strings.HasPrefix(resource, "configmaps"):
			t.add("writes per root: "+what, median(counts)/float64(roots), "", goals[what], "")
		default:
			t.add("other writes in all: "+what, median(counts), "", "", "")
		}
	}
}
