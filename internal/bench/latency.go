//go:build unix

package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// measureLatency creates objects at a steady rate and measures from the
// beginning of the create call to the arrival of the owner label in a watch.
func measureLatency(ctx context.Context, c *cluster, s settings) (table, error) {
	t := table{Title: fmt.Sprintf("Create → owner label at %d creates a second", s.rate)}
	if err := c.startRings(ctx, false); err != nil {
		return t, err
	}
	const namespace = "objects"
	if err := c.createNamespace(ctx, namespace, true); err != nil {
		return t, err
	}
	line := c.record(ring, secrets)
	n := int(s.rateFor.Seconds() * float64(s.rate))
	began := make([]time.Time, n)
	created := make([]float64, n)
	var all sync.WaitGroup
	var failed sync.Once
	var failure error
	start := time.Now()
	for i := range n {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(s.rate))))
		all.Go(func() {
			began[i] = time.Now()
			if err := c.createSecret(ctx, namespace, i); err != nil {
				failed.Do(func() { failure = err })
			}
			created[i] = time.Since(began[i]).Seconds() * 1000
		})
	}
	all.Wait()
	took := time.Since(start)
	if failure != nil {
		return t, failure
	}
	if _, _, err := rateOf(ctx, line, namespace, n, start); err != nil {
		return t, err
	}
	var delays []float64
	for _, m := range line.Moves(secrets.Resource) {
		var i int
		if _, err := fmt.Sscanf(m.Name.Name, "secret-%d", &i); err == nil && m.From == "" {
			delays = append(delays, m.At.Sub(began[i]).Seconds()*1000)
		}
	}
	t.add("create → owner label, p50", quantile(delays, 0.5), "ms", "", fmt.Sprintf("%d objects, %s/s reached", n, number(float64(n)/took.Seconds())))
	t.add("create → owner label, p99", quantile(delays, 0.99), "ms")
	t.add("of that the create call, p50", quantile(created, 0.5), "ms")
	t.add("of that the create call, p99", quantile(created, 0.99), "ms")
	return t, nil
}
