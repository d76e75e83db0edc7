//go:build unix

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// single is a fault that is caused once a round. It returns what is not as it
// should be.
type single struct {
	what string
	do   func(context.Context, int) ([]string, error)
}

// playSingles plays those that don't disturb each other side by side.
func playSingles(ctx context.Context, s *stage, out *outcome) error {
	for _, group := range [][]single{
		{
			{"second process of a shard: waits, and begins after the first one's end", s.startTwin},
			{"Lease of a live shard deleted: it comes back, nothing moves", s.deleteLease},
			{"ShardInstance of a live shard deleted: it comes back, nothing moves", s.deleteInstance},
		},
		{{"manager killed in the middle of a move: all is moved, by hand-over, once", s.killManagerInTheMiddleOfAMove}},
	} {
		checks := make([]check, len(group))
		err := parallel(ctx, len(group), len(group), func(ctx context.Context, i int) (err error) {
			checks[i], err = s.cause(ctx, group[i])
			return err
		})
		if err != nil {
			return err
		}
		out.checks = append(out.checks, checks...)
	}
	return nil
}

func (s *stage) cause(ctx context.Context, f single) (check, error) {
	c := check{What: f.what, Arm: s.arm.name, Unit: "not so"}
	for round := range s.settings.rounds {
		bad, err := f.do(ctx, round)
		if err != nil {
			return c, fmt.Errorf("%s: %w", f.what, err)
		}
		c.N++
		c.Bad += len(bad)
		if len(bad) > 0 {
			c.Example = bad[0]
		}
	}
	return c, nil
}

// startTwin starts a second process of a shard, and kills the first one.
func (s *stage) startTwin(ctx context.Context, round int) (bad []string, err error) {
	all, err := s.victims(ctx, fmt.Sprintf("twin%d", round), 0, 1)
	if err != nil {
		return nil, err
	}
	firstOne := all[0]
	second, err := s.startOperator(ctx, firstOne.id, firstOne.id+"-again")
	if err != nil {
		return nil, err
	}
	pause(ctx, s.settings.lease*3/2)
	writes := func() bool { return strings.Contains(s.now.stamp("secrets", firstOne.objects[0]), "/"+second.name+"/") }
	if writes() || !second.Running() {
		bad = append(bad, "the second process writes, or has ended, while the first one lives")
	}
	firstOne.Kill()
	if err := until(ctx, 3*time.Minute, "the second process acts, or others do", func() error {
		owner := s.now.owner(firstOne.objects[0])
		return want(writes() || owner != firstOne.id, "%s has it", owner)
	}); err != nil {
		return nil, err
	}
	second.stop()
	return bad, s.removeObjects(ctx, firstOne)
}

func (s *stage) deleteLease(ctx context.Context, round int) ([]string, error) {
	id := s.anchors[round%len(s.anchors)].id
	if err := s.admin.CoordinationV1().Leases(s.arm.name).Delete(ctx, id, metav1.DeleteOptions{}); err != nil {
		return nil, err
	}
	return s.unmoved(ctx, func() error { return s.active(ctx, id) })
}

func (s *stage) deleteInstance(ctx context.Context, round int) ([]string, error) {
	id := s.anchors[(round+1)%len(s.anchors)].id // the Lease of another one is deleted
	instances := s.shards.ShardV1().ShardInstances(s.arm.name)
	if err := instances.Delete(ctx, id, metav1.DeleteOptions{}); err != nil {
		return nil, err
	}
	return s.unmoved(ctx, func() error {
		return until(ctx, time.Minute, "ShardInstance "+id+" is back", func() error {
			_, err := instances.Get(ctx, id, metav1.GetOptions{})
			return err
		})
	})
}

// unmoved waits for longer than a Lease lasts, and until the anchors write, and
// says which of their objects have moved.
func (s *stage) unmoved(ctx context.Context, also func() error) (bad []string, err error) {
	begun := time.Now()
	pause(ctx, s.settings.lease*3/2)
	if err := also(); err != nil {
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	for _, m := range s.moved(begun, s.anchored()) {
		bad = append(bad, fmt.Sprintf("%s went from %s to %s", m.Name.Name, m.From, m.To))
	}
	return bad, nil
}

// anchored are the objects that never move.
func (s *stage) anchored() map[string]bool {
	names := map[string]bool{}
	for _, a := range s.anchors {
		names["steady-"+a.id], names["idle-"+a.id] = true, true
	}
	return names
}

// changeRing changes the spec of the ring.
func (s *stage) changeRing(ctx context.Context, f func(*v1.ShardConfigSpec)) error {
	rings := s.shards.ShardV1().ShardConfigs(s.arm.name)
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		c, err := rings.Get(ctx, s.arm.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		f(&c.Spec)
		_, err = rings.Update(ctx, c, metav1.UpdateOptions{})
		return err
	})
}

// want makes an error of a condition that is a comparison.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
