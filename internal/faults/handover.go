//go:build unix

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/internal/timeline"
	"github.com/shard-io/shard-controller/sharding"
)

// handoverLimit is what the hand-over of an idle object may take.
const handoverLimit = time.Second

// playHandovers asks for the hand-over of idle objects, as a manager does, one at
// a time for each pair of shards.
func playHandovers(ctx context.Context, s *stage, out *outcome) error {
	names, begun := map[string]bool{}, time.Now()
	for i := range s.settings.handovers {
		names[fmt.Sprintf("handover-%d-0", i)] = true
	}
	err := parallel(ctx, len(s.anchors)/2, s.settings.handovers, func(ctx context.Context, i int) error {
		name := fmt.Sprintf("handover-%d-0", i)
		from, to := s.pair(i)
		if err := s.create(ctx, name, from, trial.Idle, trial.Patch); err != nil {
			return err
		}
		pause(ctx, 100*time.Millisecond) // until its owner knows it
		asked, err := s.ask(ctx, name, to)
		if err != nil {
			return err
		}
		return until(ctx, time.Minute, name+" is handed over", func() error {
			now := s.now.get("secrets", name)
			if order, err := resourceversion.CompareResourceVersion(now.Number, asked); err == nil && order > 0 && now.Owner == from && now.Drain == "" {
				// The manager has looked at the ring just now, and has taken back what it had not asked for.
				if asked, err = s.ask(ctx, name, to); err != nil {
					return err
				}
			}
			return want(now.Owner == to, "its owner is %s", now.Owner)
		})
	})
	if err != nil {
		return err
	}
	var took []time.Duration
	for _, m := range s.moved(begun, names) {
		if !m.Asked.IsZero() {
			took = append(took, m.At.Sub(m.Asked))
		}
	}
	for name := range names {
		if err := s.remove(ctx, name); err != nil {
			return err
		}
	}
	out.durations = append(out.durations, duration{"hand-over of an idle object: drain label → new owner", seconds(took), handoverLimit.Seconds() * s.settings.slack})
	out.checks = append(out.checks, check{What: "every hand-over that was asked for is one", Arm: s.arm.name, N: len(took), Bad: s.settings.handovers - len(took), Unit: "are not"})
	return nil
}

// ask wants an object to be handed over, and returns the resourceVersion in which that is asked for.
func (s *stage) ask(ctx context.Context, name, to string) (string, error) {
	patch := metadataPatch(map[string]any{"labels": map[string]string{sharding.DrainLabel(s.arm.name): to}})
	written, err := s.manager.CoreV1().Secrets(s.arm.name).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return "", err
	}
	return written.ResourceVersion, nil
}

// killManagerInTheMiddleOfAMove empties a shard, kills the manager when some of
// its objects have moved, and starts the next.
func (s *stage) killManagerInTheMiddleOfAMove(ctx context.Context, round int) (bad []string, err error) {
	const objects = 40
	id := fmt.Sprintf("leaver-%d", round)
	leavers, err := s.startOperators(ctx, fmt.Sprintf("leaver-%d", round), 1)
	if err != nil {
		return nil, err
	}
	leaver := leavers[0]
	names := map[string]bool{}
	for i := range objects {
		mode := trial.Idle // not all at work: two that are written to all the time are enough to be in the way
		if i%20 == 0 {
			mode = trial.Work
		}
		name := fmt.Sprintf("%s-object-%d", id, i)
		names[name] = true
		if err := s.create(ctx, name, leaver.id, mode, trial.Patch); err != nil {
			return nil, err
		}
	}
	begun := time.Now()
	if err := s.changeRing(ctx, func(spec *v1.ShardConfigSpec) { spec.Handover = &v1.Handover{MaxInFlight: 2} }); err != nil {
		return nil, err
	}
	if _, err := s.shards.ShardV1().ShardInstances(s.arm.name).Patch(ctx, leaver.id, types.MergePatchType, []byte(`{"spec":{"draining":true}}`), metav1.PatchOptions{}); err != nil {
		return nil, err
	}
	moved := func() (n int) {
		for name := range names {
			if s.now.owner(name) != leaver.id {
				n++
			}
		}
		return n
	}
	if err := until(ctx, time.Minute, "some objects have moved", func() error { return want(moved() >= 3, "%d have", moved()) }); err != nil {
		return nil, err
	}
	s.leader.Kill()
	if n := moved(); n >= objects {
		bad = append(bad, "the move was over before the manager was")
	}
	if s.leader, err = s.startManager(ctx); err != nil {
		return nil, err
	}
	err = until(ctx, 2*time.Minute, "all objects have moved", func() error { return want(moved() >= objects, "%d of %d have", moved(), objects) })
	if err != nil {
		return nil, err
	}
	moves := slices.DeleteFunc(s.moved(begun, names), func(m timeline.Move) bool { return m.From != leaver.id })
	for _, m := range moves {
		if m.Asked.IsZero() {
			bad = append(bad, fmt.Sprintf("%s went to %s without a hand-over", m.Name.Name, m.To))
		}
	}
	if len(moves) != objects {
		bad = append(bad, fmt.Sprintf("%d objects moved %d times", objects, len(moves)))
	}
	leaver.stop()
	return bad, s.removeAll(ctx, names)
}

func (s *stage) removeAll(ctx context.Context, names map[string]bool) error {
	for name := range names {
		if err := s.remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}
