package health

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// TestSimulation lets five shards, some with two processes, and two managers
// live for an hour on a server that fails, hangs, delays and loses, breaks
// watches and loses Leases. The managers take over whom they believe dead, and
// give back. At no moment may two act for one shard, and when the faults end all
// is well again by itself.
func TestSimulation(t *testing.T) {
	const shards = 5
	for seed := range 8 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(b *bubble) {
				takeOvers := 0
				b.look = 59 * time.Millisecond
				random := func(n uint64, what string) uint64 { return draw(uint64(seed), what, n) }
				var trackers []*Tracker
				var stops []func()
				for _, name := range []string{"m1", "m2"} {
					tracker, stop := b.startTracker(name)
					trackers, stops = append(trackers, tracker), append(stops, stop)
					for i := range shards {
						b.mover(tracker, name, fmt.Sprintf("shard-%d", i))
					}
				}
				b.pass(0)
				var workers []*worker
				for i := range shards {
					workers = append(workers, b.startWorker(fmt.Sprintf("shard-%d", i), fmt.Sprintf("w%d", i)))
					b.pass(0)
					if i%2 == 0 {
						workers = append(workers, b.startWorker(fmt.Sprintf("shard-%d", i), fmt.Sprintf("v%d", i), func(o *HeartbeatOptions) { o.Fresh = false }))
					}
				}
				quiet := seededFaults(seed, 10)
				storm := seededFaults(seed+1000, 60)
				for n := range uint64(180) {
					if r := random(n, "weather"); r%4 == 0 {
						b.server.breakFor(fault(1+r/4%3), fmt.Sprintf("w%d", r/16%shards), fmt.Sprintf("v%d", r/16%shards))
					} else if r%4 == 1 {
						b.server.setFaults(storm)
					} else {
						b.server.setFaults(quiet)
					}
					if r := random(n, "accident"); r%25 == 0 {
						b.server.remove(fmt.Sprintf("shard-%d", r/25%shards))
					} else if r%25 < 3 {
						b.server.closeWatches(r%25 == 1)
					}
					takeOvers += b.manage(trackers[random(n, "leader")%2], random(n, "choice"))
					b.pass(time.Duration(1+random(n, "pause")%40) * time.Second)
				}
				b.server.setFaults(nil)
				b.pass(20 * time.Second)
				for _, tracker := range trackers {
					for id, h := range tracker.Snapshot().Shards {
						if h.Held {
							if err := tracker.GiveBack(b.ctx, id, false); err != nil {
								t.Error(err)
							}
						}
					}
				}
				b.pass(time.Minute)
				for i := range shards {
					id, active := fmt.Sprintf("shard-%d", i), 0
					for _, w := range workers {
						if w.options.Name == id && w.Active() {
							active++
						}
					}
					if active != 1 {
						t.Errorf("%d processes act for %s in the end", active, id)
					}
					for _, tracker := range trackers {
						b.expectState(tracker, id, Alive)
					}
				}
				if takeOvers < 3 {
					t.Errorf("%d take-overs: too tame", takeOvers)
				}
				finish(workers...)
				for _, stop := range stops {
					stop()
				}
			})
		})
	}
}

// manage does what a manager would: take the dead, return the taken.
func (b *bubble) manage(t *Tracker, choice uint64) (takeOvers int) {
	for id, h := range t.Snapshot().Shards {
		switch {
		case h.Held && choice%3 > 0:
			_ = t.GiveBack(b.ctx, id, choice%3 == 1)
		case h.State == Dead && !h.Held:
			err := t.TakeOver(b.ctx, id)
			if err == nil {
				takeOvers++
			}
			if errors.Is(err, ErrForeignLease) {
				b.t.Errorf("shard %s: %v", id, err)
			}
		}
	}
	return takeOvers
}
