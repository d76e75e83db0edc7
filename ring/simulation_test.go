package ring

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestSimulation lets 10,000 shards share 10 million objects, while 100 of them leave, 100 join, and all of it starts from
// nothing: it follows each object. It takes a minute at most, and runs with -long only.
func TestSimulation(t *testing.T) {
	if !*long {
		t.Skip("runs with -long only")
	}
	start := time.Now()
	const shards, count = 10_000, 10_000_000
	rng := rand.New(rand.NewPCG(1, 12))
	objects := keysOf(rng, count)
	members := ids(shards)
	r := mustNew(t, members)
	owner := make([]string, count)
	for i, o := range objects {
		owner[i] = r.Owner(o)
	}
	t.Logf("%d slots, placed after %v, max/mean %.3f", r.Slots(), time.Since(start).Round(time.Millisecond), fullest(r, objects))
	moved, ideal, assigning := 0, 0.0, time.Duration(0)
	for change := range 200 {
		gone, joined := "", ""
		if change%2 == 0 {
			i := rng.IntN(len(members))
			gone = members[i].ID
			members = without(members, gone)
		} else {
			joined = "later-" + members[change].ID
			members = append(members, Member{ID: joined})
		}
		begin := time.Now()
		next := mustAssign(t, r, members)
		assigning += time.Since(begin)
		ideal += float64(count) / float64(shards)
		// Only the objects in the ranges that move are looked at: who plans does the same.
		for _, m := range Diff(r, next) {
			if m.From != gone && m.To != joined {
				t.Fatalf("change %d: %+v, but %q leaves and %q joins", change, m, gone, joined)
			}
		}
		r = next
		if change%50 == 49 {
			for i, o := range objects {
				if now := r.Owner(o); now != owner[i] {
					owner[i] = now
					moved++
				}
			}
		}
	}
	t.Logf("200 changes: %d objects moved, of at most %.0f that had to; %v for each change; max/mean %.3f; %.1f ranges per shard; %v altogether",
		moved, ideal, (assigning / 200).Round(time.Microsecond), fullest(r, objects), float64(r.rangeCount())/float64(r.Len()),
		time.Since(start).Round(time.Second))
	for _, o := range owner {
		if !r.Has(o) {
			t.Fatalf("an object is on %q, which is gone", o)
		}
	}
	if float64(moved) > 1.05*ideal {
		t.Errorf("%d objects moved, at most %.0f had to", moved, ideal)
	}
}
