//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// takes is how long a reconcile waits for somebody else, hands how many are made at once by a shard of the benchmark.
	takes = 20 * time.Millisecond
	hands = 8
	// fleet is how many shards one is compared with.
	fleet = 5
)

// alone is what one shard takes at least.
func (s settings) alone() time.Duration { return time.Duration(s.objects) * takes / hands }

// untilFirst is when all objects are assigned, untilSecond from then on when one shard has reconciled them, and four fifths of them have moved.
func (s settings) untilFirst() time.Duration {
	return 10*time.Second + time.Duration(s.objects)*5*time.Millisecond
}

func (s settings) untilSecond() time.Duration {
	return 2*s.alone() + 40*time.Second + time.Duration(s.objects)*20*time.Millisecond
}

// measureSpeedup has every object reconciled once, by one shard, and then by five. A reconcile waits for 20 ms and does nothing else, as it is with
// most operators: so more shards can be quicker although they share a machine.
func measureSpeedup(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("%d objects, each reconciled once for %v, %d at a time per shard", s.objects, takes, hands)}
	if err := c.createRing(ctx, ring, false); err != nil {
		return t, err
	}
	if _, err := c.startManager(); err != nil {
		return t, err
	}
	const namespace = "objects"
	if err := c.createNamespace(ctx, namespace, true); err != nil {
		return t, err
	}
	if err := c.createSecrets(ctx, namespace, 0, s.objects); err != nil {
		return t, err
	}
	alone := s.alone()
	first := time.Now().Add(s.untilFirst())
	second := first.Add(s.untilSecond())
	if err := c.startBurster("w-1", first, second); err != nil {
		return t, err
	}
	if err := c.waitOwned(ctx, s.objects); err != nil {
		return t, err
	}
	one, err := c.burst(ctx, s.objects, first, 0, "w-1")
	if err != nil {
		return t, err
	}
	ids := []string{"w-1"}
	for len(ids) < fleet {
		id := fmt.Sprintf("w-%d", len(ids)+1)
		if err := c.startBurster(id, second); err != nil {
			return t, err
		}
		ids = append(ids, id)
	}
	if err := c.waitDivided(ctx, s.objects, ids); err != nil {
		return t, err
	}
	five, err := c.burst(ctx, s.objects, second, -1, ids...)
	if err != nil {
		return t, err
	}
	note := fmt.Sprintf("largest share %s of a fifth", number(float64(c.largestDone(ids))*fleet/float64(s.objects)))
	t.add("one shard", one.Seconds(), "s", "", fmt.Sprintf("%s at least", number(alone.Seconds())))
	t.add("five shards", five.Seconds(), "s", "", note)
	t.add("five shards : one shard", one.Seconds()/five.Seconds(), "×", "≥ 4.75")
	t.add("five shards", float64(s.objects)/five.Seconds(), "reconciles/s")
	return t, nil
}

// waitDivided waits until everyone has some of the objects, and as many as 3 s before.
func (c *cluster) waitDivided(ctx context.Context, objects int, ids []string) error {
	former, since := "", time.Now()
	return until(ctx, func() (bool, error) {
		list, err := c.shards.ShardV1().ShardInstances(ring).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		sum, having, now := int64(0), 0, ""
		for i := range list.Items {
			n := list.Items[i].Status.AssignedResourceCount
			sum += n
			if n > 0 {
				having++
			}
			now += fmt.Sprint(n, " ")
		}
		if now != former {
			former, since = now, time.Now()
		}
		return sum == int64(objects) && having == len(ids) && time.Since(since) > 3*time.Second, nil
	})
}

func (c *cluster) startBurster(id string, at ...time.Time) error {
	texts := make([]string, 0, len(at))
	for _, t := range at {
		texts = append(texts, t.Format(time.RFC3339Nano))
	}
	_, err := c.startWorker(ring, id, false, "--bursts="+strings.Join(texts, ","), "--takes="+takes.String(), "--done="+c.doneFile(id))
	return err
}

func (c *cluster) doneFile(id string) string { return filepath.Join(c.dir, id+".done") }

// done reads what a shard did in its burst with that number, -1 for the last.
func (c *cluster) done(id string, burst int) (n int, last time.Time) {
	text, err := os.ReadFile(c.doneFile(id))
	if err != nil {
		return 0, time.Time{}
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if burst < 0 {
		burst = len(lines) - 1
	}
	var at string
	if _, err := fmt.Sscanf(lines[burst], "%d %s", &n, &at); err != nil {
		return 0, time.Time{}
	}
	last, _ = time.Parse(time.RFC3339Nano, at)
	return n, last
}

// burst waits until all objects were reconciled in a burst, and returns how long that took.
func (c *cluster) burst(ctx context.Context, objects int, begun time.Time, number int, ids ...string) (time.Duration, error) {
	if time.Now().After(begun) {
		return 0, fmt.Errorf("the objects were not divided yet when the burst was to begin, %s ago", time.Since(begun))
	}
	var last time.Time
	err := until(ctx, func() (bool, error) {
		sum := 0
		last = time.Time{}
		for _, id := range ids {
			n, at := c.done(id, number)
			sum += n
			if at.After(last) {
				last = at
			}
		}
		if sum > objects {
			return false, fmt.Errorf("%d reconciles of %d objects", sum, objects)
		}
		return sum == objects && time.Since(last) > 2*takes+time.Second, nil
	})
	return last.Sub(begun), err
}

// largestDone is the most that one shard has done in its last burst.
func (c *cluster) largestDone(ids []string) int {
	most := 0
	for _, id := range ids {
		n, _ := c.done(id, -1)
		most = max(most, n)
	}
	return most
}
