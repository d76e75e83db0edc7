//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/sharding"
)

// playRestarts kills the API server in the middle of relabel races, and starts
// it again: the former owners go on writing all the time, so they are there with
// the first request that is let in.
func playRestarts(ctx context.Context, s *stage, out *outcome) error {
	out.kinds = append(out.kinds, kind{name: "restart", trials: s.settings.restarts, needs: true})
	begun := time.Now()
	for i := range s.settings.restarts {
		if err := s.restart(ctx, i); err != nil {
			return err
		}
	}
	s.unmovedSince(begun, "API server killed and restarted", s.settings.restarts, out)
	return nil
}

func (s *stage) restart(ctx context.Context, i int) error {
	names := make([]string, len(verbs))
	for j, verb := range verbs {
		names[j] = fmt.Sprintf("restart-%d-%d", i, j)
		from, _ := s.pair(i + j)
		if err := s.hammer(ctx, names[j], from, verb); err != nil {
			return err
		}
	}
	// Some of these writes are refused a connection, others get no answer, done or not.
	var relabels sync.WaitGroup
	for j, verb := range verbs {
		relabels.Go(func() {
			_, to := s.pair(i + j)
			_ = s.relabel(ctx, names[j], to, verb)
		})
	}
	time.Sleep(rand.N(20 * time.Millisecond))
	if err := s.plane.KillAPIServer(ctx); err != nil {
		return err
	}
	relabels.Wait()
	if err := s.plane.StartAPIServer(ctx); err != nil {
		return err
	}
	time.Sleep(raceAfter)
	for j, verb := range verbs {
		_, to := s.pair(i + j)
		if err := until(ctx, time.Minute, names[j]+" is relabelled", func() error { return s.relabelled(ctx, names[j], to, verb) }); err != nil {
			return err
		}
	}
	time.Sleep(raceAfter)
	for _, name := range names {
		if err := s.remove(ctx, name); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// relabelled relabels an object unless that was done.
func (s *stage) relabelled(ctx context.Context, name, to, verb string) error {
	o, err := s.manager.CoreV1().Secrets(s.arm.name).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if o.Labels[sharding.OwnerLabel(s.arm.name)] == to {
		return nil
	}
	return s.relabel(ctx, name, to, verb)
}

// playOutage takes the API server away for longer than any Lease lasts.
func playOutage(ctx context.Context, s *stage, out *outcome) error {
	begun := time.Now()
	if err := s.plane.StopAPIServer(ctx); err != nil {
		return err
	}
	pause(ctx, s.settings.outage)
	if err := s.plane.StartAPIServer(ctx); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	pause(ctx, 2*s.settings.lease) // whoever counts from now on has counted
	s.unmovedSince(begun, fmt.Sprintf("API server away for %s", s.settings.outage), 1, out)
	return nil
}

// unmovedSince adds a check that nothing of the anchors has moved.
func (s *stage) unmovedSince(begun time.Time, what string, n int, out *outcome) {
	c := check{What: what + ": nothing is reassigned", Arm: s.arm.name, N: n, Unit: "moved"}
	for _, m := range s.moved(begun, s.anchored()) {
		c.Bad++
		c.Example = fmt.Sprintf("%s went from %s to %s", m.Name.Name, m.From, m.To)
	}
	out.checks = append(out.checks, c)
}

// playCompaction makes a shard miss changes that nobody can tell it any more: it
// is stopped for a time that is shorter than its Lease, and meanwhile the API
// server is restarted, some of its objects are relabelled or deleted, and etcd
// is compacted. Its watches go on from a version that is gone (410).
func playCompaction(ctx context.Context, s *stage, out *outcome) error {
	out.kinds = append(out.kinds, kind{name: "compaction", trials: s.settings.compactions})
	c := check{What: "a shard whose watches end with 410: it learns what it has missed", Arm: s.arm.name, Unit: "not so"}
	for round := range s.settings.compactions {
		bad, err := s.compaction(ctx, round)
		if err != nil {
			return err
		}
		c.N++
		c.Bad += len(bad)
		if len(bad) > 0 {
			c.Example = bad[0]
		}
	}
	out.checks = append(out.checks, c)
	return nil
}

// expired is what client-go logs when a watch ends with 410.
var expired = regexp.MustCompile(`"Watch closed".*(too old resource version|required revision has been compacted)`)

func (s *stage) compaction(ctx context.Context, round int) (bad []string, err error) {
	all, err := s.victims(ctx, "compaction", round, 1)
	if err != nil {
		return nil, err
	}
	v := all[0]
	before := s.now.get("secrets", v.objects[0]).Number
	if err := s.plane.StopAPIServer(ctx); err != nil {
		return nil, err
	}
	if err := v.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	if err := s.plane.StartAPIServer(ctx); err != nil {
		return nil, err
	}
	if err := s.change(ctx, v); err != nil {
		return nil, err
	}
	if _, err := s.plane.Compact(ctx); err != nil {
		return nil, err
	}
	if err := s.mustBeGone(ctx, before); err != nil {
		return nil, err
	}
	if err := v.Signal(syscall.SIGCONT); err != nil {
		return nil, err
	}
	if err := s.active(ctx, v.id); err != nil {
		return nil, err
	}
	// It sees what is new, so it knows what is old.
	news := v.trial + "-new"
	if err := s.create(ctx, news, v.id, trial.Work, trial.Patch); err != nil {
		return nil, err
	}
	v.objects = append(v.objects, news)
	if err := until(ctx, 2*time.Minute, news+" is worked on", func() error { return s.stamped(news, trial.Patch) }); err != nil {
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	if said := v.Output(); !expired.MatchString(said) {
		bad = append(bad, "no watch of "+v.id+" has ended with 410")
	}
	for _, name := range v.objects[:2] {
		if owner := s.now.owner(name); owner == v.id {
			bad = append(bad, fmt.Sprintf("%s is on %s again", name, owner))
		}
	}
	v.stop()
	return bad, s.removeObjects(ctx, v)
}

// change gives two objects of a shard to others, and deletes a third.
func (s *stage) change(ctx context.Context, v *victim) error {
	for i, name := range v.objects[:2] {
		if err := s.relabelled(ctx, name, s.anchors[i].id, verbs[i]); err != nil {
			return err
		}
	}
	return s.remove(ctx, v.objects[slices.Index(verbs, trial.Apply)])
}

// mustBeGone makes sure that a watch from a version really ends with 410.
func (s *stage) mustBeGone(ctx context.Context, version string) error {
	w, err := s.admin.CoreV1().Secrets(s.arm.name).Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err == nil {
		defer w.Stop()
		if event := <-w.ResultChan(); event.Type == watch.Error {
			err = apierrors.FromObject(event.Object)
		}
	}
	return want(apierrors.IsResourceExpired(err) || apierrors.IsGone(err), "a watch from version %s goes on, or: %v", version, err)
}
