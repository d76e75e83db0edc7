package balancer

import (
	"math"
	"strings"
	"testing"
	"time"
)

// crowd is a round of two shards, the first one three times as busy, with so many objects that are alike on each, in groups of as many as size says.
func crowd(a, b, size int64) (Round, []ObjectLoad) {
	round := Round{Now: time.Unix(1e9, 0), Shards: []Shard{{ID: "a", Load: 0.9, LoadKnown: true}, {ID: "b", Load: 0.3, LoadKnown: true}}}
	var objects []ObjectLoad
	for i, n := range []int64{a, b} {
		shard := round.Shards[i].ID
		for left := n; left > 0; left -= size {
			group := min(size, left)
			objects = append(objects, ObjectLoad{Shard: shard, Work: float64(group) / float64(n), Objects: group})
		}
	}
	return round, objects
}

// TestPlannerGroups has objects that are alike, some of them together: they count as many for the budget, and have no key to be remembered by.
func TestPlannerGroups(t *testing.T) {
	for _, c := range []struct {
		size, budget, want int64
	}{{1, 1000, 32}, {1, 7, 7}, {10, 1000, 30}, {10, 25, 20}, {10, 9, 0}} {
		round, objects := crowd(100, 50, c.size)
		p := acting(t, PlannerOptions{MaxMoves: c.budget})
		plan, memory, err := p.Objects(Memory{}, round, objects)
		if err != nil || plan.Objects != c.want || plan.Objects > c.budget {
			t.Errorf("groups of %d, a budget of %d: %d objects move, want %d; %v", c.size, c.budget, plan.Objects, c.want, err)
		}
		for _, m := range plan.Moves {
			if m.Key != "" || m.Slot != -1 || m.From != "a" || m.To != "b" || m.Objects != c.size {
				t.Errorf("groups of %d: %+v", c.size, m)
			}
		}
		if len(memory.movedKeys) > 0 {
			t.Errorf("groups of %d: %v is remembered", c.size, memory.movedKeys)
		}
		if want := 0.9 / 1.2 / 100; math.Abs(plan.Largest.Share-want) > 1e-9 {
			t.Errorf("groups of %d: the largest object is %v of the load, want %v", c.size, plan.Largest.Share, want)
		}
	}
}

// TestPlannerStays has objects that count and may not move.
func TestPlannerStays(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		name   string
		change func(n int, o *ObjectLoad)
		want   PlanReason
	}{
		{"all pinned", func(_ int, o *ObjectLoad) { o.Pinned = true }, PlanIndivisible},
		{"all have just moved", func(_ int, o *ObjectLoad) { o.Moved = now.Add(-DefaultMoveCooldown + 1) }, PlanCoolingDown},
		{"all moved long ago", func(_ int, o *ObjectLoad) { o.Moved = now.Add(-DefaultMoveCooldown) }, PlanOverloaded},
		{"half of them pinned", func(n int, o *ObjectLoad) { o.Pinned = n%2 == 0 }, PlanOverloaded},
	} {
		round, objects := lopsided()
		for i := range objects {
			c.change(i, &objects[i])
		}
		plan, _, err := acting(t, PlannerOptions{}).Objects(Memory{}, round, objects)
		if err != nil || plan.Reason != c.want || plan.Acts() != (c.want == PlanOverloaded) {
			t.Errorf("%s: %s, %v, %v; want %s", c.name, plan.Reason, plan.Moves, err, c.want)
		}
		for _, m := range plan.Moves {
			for _, o := range objects {
				if o.Key == m.Key && o.Pinned {
					t.Errorf("%s: %s moves", c.name, o.Key)
				}
			}
		}
	}
}

// TestPlannerAroundAPin has one object that fills its shard and is pinned: all others go.
func TestPlannerAroundAPin(t *testing.T) {
	round, objects := lopsided()
	objects[0].Work, objects[0].Pinned = 100, true
	plan, _, err := acting(t, PlannerOptions{}).Objects(Memory{}, round, objects)
	if err != nil || plan.Largest.Key != "A" || plan.Largest.Share < 0.4 {
		t.Errorf("%+v, %v", plan.Largest, err)
	}
	for _, m := range plan.Moves {
		if m.Key == "A" {
			t.Errorf("%+v", m)
		}
	}
}

// TestPlannerWorth has a shard whose one heavy object may not move: the light ones do not go for next to no gain, but do if they make a difference.
func TestPlannerWorth(t *testing.T) {
	for _, c := range []struct {
		light float64 // work of each of the others, where that of the heavy one is 100
		want  PlanReason
	}{{0.01, PlanCoolingDown}, {0.1, PlanCoolingDown}, {2, PlanOverloaded}} {
		round, objects := lopsided()
		for i := range objects {
			objects[i].Work = c.light
		}
		objects[0].Work, objects[0].Moved = 100, round.Now
		round.Shards[1].Load, round.Shards[2].Load = 0.02, 0.02
		objects = append(objects, ObjectLoad{Key: "heavy, too", Shard: "a", Work: 100, Moved: round.Now})
		plan, _, err := acting(t, PlannerOptions{}).Objects(Memory{}, round, objects)
		if err != nil || plan.Reason != c.want || plan.Acts() != (c.want == PlanOverloaded) {
			t.Errorf("light ones of %v: %s, %d objects move, %v; want %s", c.light, plan.Reason, plan.Objects, err, c.want)
		}
	}
}

func TestPlannerBadGroups(t *testing.T) {
	round, objects := lopsided()
	objects[3].Objects = -1
	if _, _, err := acting(t, PlannerOptions{}).Objects(Memory{}, round, objects); err == nil || !strings.Contains(err.Error(), "Objects[3].Objects") {
		t.Errorf("a negative number of objects: %v", err)
	}
}
