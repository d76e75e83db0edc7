package sharding

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

// quarters is a table of 16 slots, in which a and b have every other quarter.
func quarters(t *testing.T) *ring.Ring {
	table, err := ring.FromRanges([]ring.Claim{
		{Member: ring.Member{ID: "a", Weight: 1}, Ranges: []ring.Range{{Start: 0, End: 1<<30 - 1}, {Start: 1 << 31, End: 3<<30 - 1}}},
		{Member: ring.Member{ID: "b", Weight: 1}, Ranges: []ring.Range{{Start: 1 << 30, End: 1<<31 - 1}, {Start: 3 << 30, End: 1<<32 - 1}}},
	}, ring.Slots(16))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestSlotLoadsOf(t *testing.T) {
	full := uint8(maxLevel)
	for _, c := range []struct {
		name    string
		reports map[string]slotReport
		want    string // slot:objects/work
	}{
		{"nothing reported", nil, ""},
		{"the same slots", map[string]slotReport{"a": {4, []slotEntry{{1, 3, full}}}, "b": {4, []slotEntry{{15, 2, full - levelsPerTwice}}}}, "1:3/1.00 15:2/0.50"},
		{"slots of somebody else do not count", map[string]slotReport{"a": {4, []slotEntry{{4, 3, full}, {8, 1, full}}}}, "8:1/1.00"},
		{"finer slots are added up", map[string]slotReport{"b": {6, []slotEntry{{16, 3, full}, {19, 4, full}}}}, "4:7/2.00"},
		{"coarser slots are divided", map[string]slotReport{"a": {2, []slotEntry{{2, 6, full}}}}, "8:1/0.17 9:1/0.17 10:2/0.33 11:2/0.33"},
		{"… among what the shard has", map[string]slotReport{"b": {1, []slotEntry{{0, 8, full}}}}, "4:2/0.25 5:2/0.25 6:2/0.25 7:2/0.25"},
		{"a stranger", map[string]slotReport{"x": {4, []slotEntry{{1, 3, full}}}}, ""},
	} {
		var got []string
		for slot, l := range slotLoadsOf(quarters(t), c.reports, nil) {
			if l != (balancer.SlotLoad{}) {
				got = append(got, fmt.Sprintf("%d:%d/%.2f", slot, l.Objects, l.Work))
			}
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
}

// TestUpToDate: reports of a ring that fills, or whose objects have just moved, are not what its slots carry.
func TestUpToDate(t *testing.T) {
	slots := make([]balancer.SlotLoad, 16)
	slots[0].Objects, slots[4].Objects = 100, 60 // a has the first quarter, b the second
	for _, c := range []struct {
		name string
		a, b int64
		want bool
	}{
		{"all there", 100, 60, true},
		{"a few more", 110, 70, true},
		{"a few fewer", 95, 50, true},
		{"a has got many since", 130, 60, false},
		{"b has lost many since", 100, 30, false},
		{"few, of which none is reported", 100, 77, false},
	} {
		facts := []shardFact{{id: "a", objects: c.a}, {id: "b", objects: c.b}, {id: "stranger", objects: 1000}}
		if got := upToDate(quarters(t), slots, facts); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
	few := []shardFact{{id: "a", objects: 10}, {id: "b", objects: 16}}
	if !upToDate(quarters(t), make([]balancer.SlotLoad, 16), few) {
		t.Error("few objects are out of date")
	}
}

func TestRegroupLoads(t *testing.T) {
	table := quarters(t)
	slots := make([]balancer.SlotLoad, 16)
	slots[0], slots[1] = balancer.SlotLoad{Objects: 30, Work: 3}, balancer.SlotLoad{Objects: 10, Work: 1}
	slots[4] = balancer.SlotLoad{Objects: 40}
	shards := func(a, b float64, known bool) []balancer.Shard {
		return []balancer.Shard{{ID: "a", Weight: 1, Load: a, LoadKnown: true}, {ID: "b", Weight: 1, Load: b, LoadKnown: known}}
	}
	for _, c := range []struct {
		name  string
		slots []balancer.SlotLoad
		s     []balancer.Shard
		want  string // of slots 0, 1 and 4, in percent
	}{
		{"by load", slots, shards(0.9, 0.3, true), "51 18 23"},
		{"idle: by objects", slots, shards(0.05, 0.05, true), "34 12 46"},
		{"unknown: by objects", slots, shards(0.9, 0.3, false), "34 12 46"},
		{"nothing is known", nil, shards(0.9, 0.3, true), "none"},
		{"few objects", make([]balancer.SlotLoad, 16), shards(0.9, 0.3, true), "none"},
	} {
		got := regroupLoads(table, c.slots, c.s)
		text, sum := "none", 1.0
		if got != nil {
			sum = 0
			for _, l := range got {
				sum += l.Work
			}
			text = fmt.Sprintf("%.0f %.0f %.0f", 100*got[0].Work, 100*got[1].Work, 100*got[4].Work)
		}
		if text != c.want || math.Abs(sum-1) > 1e-9 {
			t.Errorf("%s: %s, sum %v; want %s", c.name, text, sum, c.want)
		}
	}
}

// hotConfig is the ring of a sim with a planner that acts within half a minute.
func (s *sim) hotConfig(rebalance map[string]any) {
	s.config()
	s.edit(configs, simNamespace, simRing, set(rebalance, "spec", "rebalance"))
}

var quick = map[string]any{"tolerance": 0.1, "interval": "10s", "rounds": int64(2), "maxMovesPerRound": int64(1000), "cooldownPeriod": "10m"}

// uneven makes the objects with the label "heavy" much work, and all others none.
func (s *sim) uneven(ctx context.Context, key types.NamespacedName) (Result, error) {
	if object := s.server.Get(secrets, key.Namespace, key.Name); object == nil || object.GetLabels()["heavy"] == "" {
		return Result{}, nil
	}
	pause(ctx, 200*time.Millisecond)
	return Result{RequeueAfter: 800 * time.Millisecond}, nil // a fifth of a goroutine, a twentieth of a shard
}

func (s *sim) planReason() string {
	if d := s.configStatus().LastPlan; d != nil {
		return d.Reason
	}
	return "none"
}

// ownedBy returns the names of the roots that a shard owns, in order.
func (s *sim) ownedBy(shard string) []string {
	var names []string
	for _, object := range s.server.List(secrets, "", nil) {
		if owner, _ := OwnerOf(object, simRing); owner == shard {
			names = append(names, object.GetName())
		}
	}
	slices.Sort(names)
	return names
}

// moves counts the changes of owner of all roots.
func (s *sim) moves() int64 {
	n := int64(0)
	for _, root := range s.server.List(secrets, "", nil) {
		n += EpochOf(root, simRing)
	}
	return n
}

// records counts the ShardMigrations with a reason.
func (s *sim) records(reason shardv1.MigrationReason) int {
	n := 0
	for _, object := range s.server.List(migrations, "", nil) {
		if is, _, _ := unstructured.NestedString(object.Object, "spec", "reason"); is == string(reason) {
			n++
		}
	}
	return n
}

// TestUnevenLoadMovesOnce: twelve heavy objects on one shard of two become six and six, in one plan; then nothing moves for an hour.
func TestUnevenLoadMovesOnce(t *testing.T) {
	simulate(t, func(s *sim) {
		s.hotConfig(quick)
		s.secrets(200)
		heavy := map[string]bool{}
		s.runManager("m")
		s.worker("a", s.uneven)
		s.worker("b", s.uneven)
		s.settle(time.Minute)
		for _, name := range s.ownedBy("a")[:12] {
			heavy[name] = true
			s.label(secrets, name, "heavy", "yes") // wakes the reconcile
		}
		before := s.moves()
		s.settle(3 * time.Minute)
		count := 0
		for _, name := range s.ownedBy("a") {
			if heavy[name] {
				count++
			}
		}
		if count < 5 || count > 7 {
			t.Errorf("%d of 12 heavy objects are on a, want about 6; plan: %s", count, s.planReason())
		}
		moved := s.moves() - before
		if moved == 0 || moved > 20 {
			t.Errorf("%d objects moved to even out twelve", moved)
		}
		wants(s, "record of the plan", s.records(shardv1.MigrationRebalance), 1)
		after := s.moves()
		s.settle(time.Hour)
		wants(s, "moves in an hour of constant load", s.moves()-after, int64(0))
		wants(s, "reason", s.planReason(), string(balancer.PlanWithinTolerance))
		if i := s.configStatus().Imbalance; i == nil || i.Float64() > 1.2 {
			t.Errorf("imbalance is %v, want about 1", i)
		}
	})
}

func TestPlannerDryRun(t *testing.T) {
	simulate(t, func(s *sim) {
		dry := map[string]any{"dryRun": true}
		for key, value := range quick {
			dry[key] = value
		}
		s.hotConfig(dry)
		s.secrets(200)
		s.runManager("m")
		s.worker("a", s.uneven)
		s.worker("b", s.uneven)
		s.settle(time.Minute)
		for _, name := range s.ownedBy("a")[:12] {
			s.label(secrets, name, "heavy", "yes")
		}
		before := s.moves()
		s.settle(5 * time.Minute)
		wants(s, "moves", s.moves()-before, int64(0))
		wants(s, "reason", s.planReason(), string(balancer.PlanOverloaded))
	})
}

// TestPlannerHolds in circumstances in which the load of a moment means nothing.
func TestPlannerHolds(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(s *sim)
		want balancer.PlanReason
	}{
		{"versions differ", func(s *sim) {
			s.worker("a", nil, func(o *WorkerOptions, _ *Controller) { o.Version, o.Load = "1", constant(0.9) })
			s.worker("b", nil, func(o *WorkerOptions, _ *Controller) { o.Version, o.Load = "2", constant(0.1) })
		}, balancer.PlanVersionsDiffer},
		{"a load is not known", func(s *sim) {
			s.worker("a", nil, func(o *WorkerOptions, _ *Controller) { o.Load = constant(0.9) })
			s.worker("b", nil, func(o *WorkerOptions, _ *Controller) { o.Load = constant(math.NaN()) })
		}, balancer.PlanLoadUnknown},
		{"one shard", func(s *sim) {
			s.worker("a", nil, func(o *WorkerOptions, _ *Controller) { o.Load = constant(0.9) })
		}, balancer.PlanTooFewShards},
		{"versions differ, and a strategy without slots", func(s *sim) {
			s.edit(configs, simNamespace, simRing, set("least-loaded", "spec", "loadBalanceStrategy"))
			s.worker("a", nil, func(o *WorkerOptions, _ *Controller) { o.Version, o.Load = "1", constant(0.9) })
			s.worker("b", nil, func(o *WorkerOptions, _ *Controller) { o.Version, o.Load = "2", constant(0.1) })
		}, balancer.PlanVersionsDiffer},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.hotConfig(quick)
				s.secrets(50)
				c.do(s)
				m := s.runManager("m")
				s.settle(time.Minute)
				before := s.moves()
				rounds := testutil.ToFloat64(m.metrics.planDecisions.WithLabelValues(simRing, string(c.want)))
				s.settle(3 * time.Minute)
				wants(s, "moves", s.moves()-before, int64(0))
				wants(s, "reason", s.planReason(), string(c.want))
				rounds = testutil.ToFloat64(m.metrics.planDecisions.WithLabelValues(simRing, string(c.want))) - rounds
				if rounds < 14 || rounds > 19 {
					t.Errorf("%v rounds in three minutes, want about one every ten seconds", rounds)
				}
			})
		})
	}
}

func constant(load float64) LoadFunc { return func() float64 { return load } }

func TestPlannedTableSurvivesAChangeOfLeader(t *testing.T) {
	simulate(t, func(s *sim) {
		s.hotConfig(quick)
		s.secrets(200)
		m := s.runManager("m1")
		s.worker("a", s.uneven)
		s.worker("b", s.uneven)
		s.settle(time.Minute)
		for _, name := range s.ownedBy("a")[:12] {
			s.label(secrets, name, "heavy", "yes")
		}
		s.settle(3 * time.Minute)
		after := s.moves()
		m.kill()
		s.runManager("m2")
		s.settle(10 * time.Minute)
		wants(s, "moves by the next leader", s.moves()-after, int64(0))
	})
}
