package sharding

import (
	"fmt"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// TestWholeRingDownAndBack: all shards of a ring end, in whatever way, and come back under their names, as the Pods of a StatefulSet or
// a restarted container do. The manager, which has nobody to give their objects to, must not keep them from coming back.
func TestWholeRingDownAndBack(t *testing.T) {
	for _, shards := range []int{1, 3} {
		for _, how := range []string{"stopped", "stopped to keep", "killed"} {
			for _, away := range []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute} {
				t.Run(fmt.Sprintf("%d %s, back after %s", shards, how, away), func(t *testing.T) {
					simulate(t, func(s *sim) {
						s.config()
						s.runManager("m")
						keep := func(o *WorkerOptions, _ *Controller) { o.KeepOnStop = how == "stopped to keep" }
						var workers []*simWorker
						for i := range shards {
							workers = append(workers, s.worker(fmt.Sprintf("w-%d", i), nil, keep))
						}
						s.settle(20 * time.Second)
						for i := range 30 {
							s.child(fmt.Sprintf("c-%d", i), "", s.secret(fmt.Sprintf("o-%d", i), ""))
						}
						s.settle(5 * time.Second)
						for _, w := range workers {
							if how == "killed" {
								w.client.SetLink(memapi.Partitioned)
							}
							w.stop()
						}
						s.settle(away)
						for i := range shards {
							workers[i] = s.process(fmt.Sprintf("w-%d-again", i), fmt.Sprintf("w-%d", i), nil, keep)
						}
						s.settle(4 * simLease)
						for i, w := range workers {
							wants(s, fmt.Sprintf("w-%d is active again", i), w.Active(), true)
						}
						s.settle(time.Minute)
						counts, live := s.counts(secrets), 0
						for i := range shards {
							live += counts[fmt.Sprintf("w-%d", i)]
						}
						wants(s, "roots with a live owner", live, 30)
						wants(s, "children away from their roots", s.astray(), 0)
					})
				})
			}
		}
	}
}
