//go:build unix

package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/shard-io/shard-controller/internal/child"
)

// measureMemory measures the peak of the manager's memory when it has assigned
// some objects, and many. Each time a shard joins and leaves as well, so that
// the manager has to look at all objects.
func measureMemory(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("Memory of the manager at %d and at %d assigned objects", s.objects, s.many)}
	if err := c.createRing(ctx, ring, false); err != nil {
		return t, err
	}
	for _, id := range []string{"w-1", "w-2", "w-3"} {
		if _, err := c.startWorker(ring, id, false); err != nil {
			return t, err
		}
	}
	manager, err := c.startManager()
	if err != nil {
		return t, err
	}
	if err := c.waitReady(ctx, 3); err != nil {
		return t, err
	}
	if err := c.createNamespace(ctx, "objects", true); err != nil {
		return t, err
	}
	few, err := c.fill(ctx, manager, 0, s.objects)
	if err != nil {
		return t, err
	}
	many, err := c.fill(ctx, manager, s.objects, s.many)
	if err != nil {
		return t, err
	}
	const mib = 1 << 20
	t.add(fmt.Sprintf("peak at %d", s.objects), float64(few.Peak)/mib, "MiB", "", fmt.Sprintf("%s MiB resident at rest", number(float64(few.Resident)/mib)))
	t.add(fmt.Sprintf("peak at %d", s.many), float64(many.Peak)/mib, "MiB", "", fmt.Sprintf("%s MiB resident at rest", number(float64(many.Resident)/mib)))
	t.add("ratio of the peaks", float64(many.Peak)/float64(few.Peak), "", "≤ 1.1", "")
	return t, nil
}

// fill creates the objects from..to-1, waits until all are owned, lets a shard
// come and go, and returns the manager's memory.
func (c *cluster) fill(ctx context.Context, manager *child.Process, from, to int) (child.Memory, error) {
	if err := c.createSecrets(ctx, "objects", from, to); err != nil {
		return child.Memory{}, err
	}
	if err := c.waitOwned(ctx, to); err != nil {
		return child.Memory{}, err
	}
	if to <= c.settings.objects { // moving a quarter of the many takes too long, and is no more than this
		guest, err := c.startWorker(ring, "w-4", false)
		if err != nil {
			return child.Memory{}, err
		}
		if err := c.waitReady(ctx, 4); err != nil {
			return child.Memory{}, err
		}
		if err := guest.Signal(syscall.SIGTERM); err != nil {
			return child.Memory{}, err
		}
		if _, err := guest.Wait(time.Minute); err != nil {
			return child.Memory{}, err
		}
		if err := c.waitOwned(ctx, to); err != nil {
			return child.Memory{}, err
		}
	}
	return manager.Memory()
}
