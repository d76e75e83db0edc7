//go:build unix

package main

import (
	"context"
	"fmt"

	"github.com/shard-io/shard-controller/internal/child"
)

// largeState is what every root has here.
const largeState = 1 << 20

// measureLargeStates moves some objects with 1 MiB of state each, and twice as
// many: that must not take more memory. The workers of this program make up the
// states when they are exported, so what they take is what moves.
func measureLargeStates(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("Migration of %d and of %d objects with 1 MiB of state each", s.large, 2*s.large)}
	p, err := c.startPair(ctx, false, 2*s.large, []string{fmt.Sprintf("--state=%d", largeState)})
	if err != nil {
		return t, err
	}
	before, err := p.memories()
	if err != nil {
		return t, err
	}
	few, many := newLargeMoves(), newLargeMoves()
	for range (s.runs + 1) / 2 {
		for _, moves := range []struct {
			n  int
			to *largeMoves
		}{{s.large, few}, {s.large, few}, {2 * s.large, many}, {2 * s.large, many}} { // there and back
			if err := p.moveLarge(ctx, moves.n, moves.to); err != nil {
				return t, err
			}
		}
	}
	few.add(&t, s.large, before)
	many.add(&t, 2*s.large, before)
	for _, role := range []string{"source", "target", "manager"} {
		t.add(fmt.Sprintf("peak of the %s at %d / at %d", role, 2*s.large, s.large), median(many.peaks[role])/median(few.peaks[role]), "", "≤ 1.1", "")
	}
	return t, nil
}

// largeMoves are the figures of some migrations of the same size.
type largeMoves struct {
	rates  []float64
	peaks  map[string][]float64 // in MiB, by role
	writes []migration
}

func newLargeMoves() *largeMoves { return &largeMoves{peaks: map[string][]float64{}} }

// moveLarge moves n objects to the other worker.
func (p *pair) moveLarge(ctx context.Context, n int, to *largeMoves) error {
	for _, process := range p.all() {
		if err := process.ResetPeak(); err != nil {
			return err
		}
	}
	m, err := p.migrate(ctx, int64(n))
	if err != nil {
		return err
	}
	if moved := m.status.Objects.Moved; moved != int64(n) {
		return fmt.Errorf("%d objects have moved, want %d", moved, n)
	}
	to.rates = append(to.rates, float64(n)/m.took.Seconds())
	to.writes = append(to.writes, m)
	for role, process := range map[string]*child.Process{"source": p.workers[m.source], "target": p.workers[m.target], "manager": p.manager} {
		memory, err := process.Memory()
		if err != nil {
			return err
		}
		to.peaks[role] = append(to.peaks[role], mebibytes(memory.Peak))
	}
	return nil
}

func (p *pair) all() []*child.Process {
	return []*child.Process{p.workers[p.ids[0]], p.workers[p.ids[1]], p.manager}
}

// memories returns what the processes take now: first, second worker and manager.
func (p *pair) memories() (now []float64, err error) {
	for _, process := range p.all() {
		memory, err := process.Memory()
		if err != nil {
			return nil, err
		}
		now = append(now, mebibytes(memory.Resident))
	}
	return now, nil
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// add adds the figures; before is what the processes took before the first migration.
func (l *largeMoves) add(t *table, n int, before []float64) {
	t.add(fmt.Sprintf("%d objects: ShardMigration created → Succeeded", n), median(l.rates), "objects/s", "", "median of "+list(l.rates))
	workers := fmt.Sprintf("before the first migration: %s and %s MiB", number(before[0]), number(before[1]))
	for _, role := range []string{"source", "target"} {
		t.add(fmt.Sprintf("%d objects: peak of the %s", n, role), median(l.peaks[role]), "MiB", "", workers)
	}
	t.add(fmt.Sprintf("%d objects: peak of the manager", n), median(l.peaks["manager"]), "MiB", "", fmt.Sprintf("before the first migration: %s MiB", number(before[2])))
	addWrites(t, l.writes, n, "1")
}
