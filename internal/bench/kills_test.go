//go:build unix

package main

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/sharding"
)

var (
	kills     = flag.Int("kills", 3, "how many times TestManagerIsKilledWhileObjectsMove kills the manager")
	killsSeed = flag.Uint64("kills.seed", 1, "when it does")
)

// quickElection makes the next manager lead soon after one was killed.
var quickElection = []string{"--election-lease-duration=3s", "--election-renew-deadline=2s", "--election-retry-period=300ms"}

// processes starts a control plane and a pair of workers with n objects that have a child and a state each.
func processes(ctx context.Context, t *testing.T, n int, change func(*pair)) *pair {
	t.Helper()
	if testing.Short() {
		t.Skip("needs processes")
	}
	programs, remove, err := build(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	c, err := startCluster(ctx, programs, settings{logDir: t.TempDir(), lease: 10 * time.Second, concurrency: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	p, err := c.startPair(ctx, true, n, []string{"--state=64"}, change)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ownedAll counts the objects that a worker owns, and fails the test if there are not n in all.
func (p *pair) owned(t *testing.T, id string, n int) (owned int) {
	t.Helper()
	list, err := p.meta.Resource(secrets).Namespace(p.objects).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != n {
		t.Errorf("there are %d objects, want %d", len(list.Items), n)
	}
	for i := range list.Items {
		if owner, _ := sharding.OwnerOf(&list.Items[i], p.ring); owner == id {
			owned++
		}
	}
	return owned
}

// Objects move there and back, one migration after the other, and the manager is killed at random moments. Every migration ends as if nothing had
// happened: each object is at the target, its state was imported once, and no two workers had it at once.
func TestManagerIsKilledWhileObjectsMove(t *testing.T) {
	const objects = 60
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(*kills)*30*time.Second)
	defer cancel()
	p := processes(ctx, t, objects, func(p *pair) { p.managed = quickElection })
	var enough atomic.Bool
	killed := make(chan error, 1)
	go func() {
		defer enough.Store(true)
		killed <- p.killManagers(ctx, *kills, rand.New(rand.NewPCG(*killsSeed, 0)))
	}()
	begun := time.Now()
	for !enough.Load() {
		m, err := p.migrate(ctx, objects)
		if err != nil {
			t.Fatal(errors.Join(err, context.Cause(ctx)))
		}
		found, err := p.pauses(m)
		if err != nil {
			t.Fatal(err)
		}
		at := p.owned(t, m.target, objects)
		if n := m.status.Objects; at != objects || n.Moved != objects || n.Failed+n.Gone != 0 || found.taken != objects || found.wrong+found.doubled != 0 {
			t.Errorf("move %d: %d objects at the target, %+v; states imported %d, wrong %d; objects at both %d", p.moves, at, n, found.taken, found.wrong, found.doubled)
		}
	}
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills during %d migrations of %d objects in %s", *kills, p.moves, objects, time.Since(begun).Round(time.Second))
}

// killManagers kills the manager n times, up to two seconds after it has begun to lead, and starts it again.
func (p *pair) killManagers(ctx context.Context, n int, random *rand.Rand) error {
	manager := p.manager
	for range n {
		err := until(ctx, func() (bool, error) { return strings.Contains(manager.Output(), `"Leading"`), nil })
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
		manager.Kill()
		if manager, err = p.startManager(p.managed...); err != nil {
			return err
		}
	}
	return nil
}
