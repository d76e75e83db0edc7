//go:build unix

package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/shard-io/shard-controller/internal/timeline"
)

// measureMembership measures what it costs when a shard joins, leaves and dies,
// with one child for every root.
func measureMembership(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("A 4th shard joins, leaves, and another is killed, at %d roots with one child each", s.objects)}
	if err := c.startRings(ctx, true); err != nil {
		return t, err
	}
	line := c.record(ring, secrets, configMaps)
	const namespace = "objects"
	if err := c.createNamespace(ctx, namespace, true); err != nil {
		return t, err
	}
	if err := c.createSecrets(ctx, namespace, 0, s.objects); err != nil {
		return t, err
	}
	if err := c.waitChildren(ctx, namespace, s.objects); err != nil {
		return t, err
	}
	if err := c.waitOwned(ctx, s.objects); err != nil {
		return t, err
	}
	for _, step := range []func(context.Context, *cluster, *timeline.Recorder, *table) error{join, leave, die} {
		if err := step(ctx, c, line, &t); err != nil {
			return t, err
		}
	}
	if err := line.Look(ctx); err != nil {
		return t, err
	}
	violations := line.Violations(secrets.Resource)
	note := ""
	if len(violations) > 0 {
		note = violations[0]
	}
	t.add("root and child on different shards after a change of owner, and other broken promises", float64(len(violations)), "", "0", note)
	return t, nil
}

// settled waits until no object has changed its owner for some time, and all is
// owned; it returns the moves of a resource since then.
func (c *cluster) settled(ctx context.Context, line *timeline.Recorder, begun time.Time) (roots, children []timeline.Move, err error) {
	err = quiet(ctx, line, 3*time.Second, func() error {
		roots = timeline.BetweenShards(timeline.Since(line.Moves(secrets.Resource), begun))
		children = timeline.BetweenShards(timeline.Since(line.Moves(configMaps.Resource), begun))
		if len(roots) == 0 || len(children) < len(roots) {
			return fmt.Errorf("%d roots have moved, and %d children", len(roots), len(children))
		}
		return nil
	})
	return roots, children, err
}

func lastOf(moves []timeline.Move) time.Time {
	last := time.Time{}
	for _, m := range moves {
		if m.At.After(last) {
			last = m.At
		}
	}
	return last
}

func firstOf(moves []timeline.Move) time.Time {
	first := time.Now()
	for _, m := range moves {
		if m.At.Before(first) {
			first = m.At
		}
	}
	return first
}

func join(ctx context.Context, c *cluster, line *timeline.Recorder, t *table) error {
	begun := time.Now()
	if _, err := c.startWorker(ring, "w-4", true); err != nil {
		return err
	}
	roots, children, err := c.settled(ctx, line, begun)
	if err != nil {
		return err
	}
	asked := time.Now()
	var each []float64
	for _, m := range roots {
		if m.Asked.IsZero() {
			return fmt.Errorf("%s moved without being asked to", m.Name)
		}
		if m.Asked.Before(asked) {
			asked = m.Asked
		}
		each = append(each, m.At.Sub(m.Asked).Seconds())
	}
	took := lastOf(roots).Sub(asked).Seconds()
	// A bare loop of as many patches: a drain label, a child and an owner label for each.
	if err := c.createNamespace(ctx, "bare-objects", false); err != nil {
		return err
	}
	if err := c.createSecrets(ctx, "bare-objects", 0, len(roots)); err != nil {
		return err
	}
	bare, patches, err := c.bareLoop(ctx, "bare-objects", len(roots), 3)
	if err != nil {
		return err
	}
	t.add("join: roots moved", float64(len(roots)), "", fmt.Sprintf("≤ %s", number(1.05*float64(c.settings.objects)/4)), fmt.Sprintf("and %d children", len(children)))
	t.add("join: start of the process → last hand-over", lastOf(roots).Sub(begun).Seconds(), "s")
	t.add("join: first drain label → last hand-over", took, "s", "≤ bare loop + 2 s", "")
	t.add(fmt.Sprintf("bare loop of as many patches (%d)", patches), bare.Seconds(), "s", "", fmt.Sprintf("ratio %s", number(took/bare.Seconds())))
	t.add("join: drain label → new owner of a root, p50", quantile(each, 0.5), "s")
	t.add("join: drain label → new owner of a root, p99", quantile(each, 0.99), "s", "≤ 1 s", "")
	return nil
}

func leave(ctx context.Context, c *cluster, line *timeline.Recorder, t *table) error {
	leaver := c.processes[len(c.processes)-1]
	begun := time.Now()
	if err := leaver.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	status, err := leaver.Wait(time.Minute)
	ended := time.Since(begun)
	if err != nil || status != 0 {
		return fmt.Errorf("the leaving worker: status %d, %w", status, err)
	}
	roots, children, err := c.settled(ctx, line, begun)
	if err != nil {
		return err
	}
	addMoves(t, "SIGTERM", begun, roots, children)
	t.add("SIGTERM → end of the process", ended.Seconds(), "s")
	return nil
}

func die(ctx context.Context, c *cluster, line *timeline.Recorder, t *table) error {
	victim := c.processes[0] // w-1 of the ring
	if !strings.HasSuffix(victim.Log, "w-1.log") {
		return fmt.Errorf("the first process is not w-1 but logs to %s", victim.Log)
	}
	begun := time.Now()
	victim.Kill()
	roots, children, err := c.settled(ctx, line, begun)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("kill -9, %s lease", c.settings.lease)
	addMoves(t, what, begun, roots, children)
	// A child and an owner label for each, by the speed of a bare loop over the objects that there are for it.
	bare, patches, err := c.bareLoop(ctx, "bare-objects", len(roots), 2)
	if err != nil {
		return err
	}
	perPatch := bare.Seconds() / float64(patches)
	took := lastOf(roots).Sub(firstOf(roots)).Seconds()
	t.add(what+": first root → last root", took, "s", "", fmt.Sprintf(
		"a bare loop of as many patches: %s s, ratio %s", number(perPatch*float64(2*len(roots))), number(took/(perPatch*float64(2*len(roots))))))
	return nil
}

func addMoves(t *table, what string, begun time.Time, roots, children []timeline.Move) {
	t.add(what+" → first root with a new owner", firstOf(roots).Sub(begun).Seconds(), "s", "", fmt.Sprintf("%d roots", len(roots)))
	t.add(what+" → last root", lastOf(roots).Sub(begun).Seconds(), "s")
	t.add(what+" → last child", lastOf(children).Sub(begun).Seconds(), "s")
}
