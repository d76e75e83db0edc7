package sharding

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
)

// byLabel are the strategies that leave objects where they are.
var byLabel = []string{balancer.LeastLoaded, balancer.RoundRobin, balancer.BoundedLoad}

// labelConfig is hotConfig for another strategy, with some fields of spec.rebalance changed.
func (s *sim) labelConfig(strategy string, change map[string]any) {
	rebalance := map[string]any{}
	for _, fields := range []map[string]any{quick, change} {
		for key, value := range fields {
			rebalance[key] = value
		}
	}
	s.hotConfig(rebalance)
	s.edit(configs, simNamespace, simRing, set(strategy, "spec", "loadBalanceStrategy"))
}

// onOne creates n objects that a shard has from the beginning.
func (s *sim) onOne(shard, prefix string, n int) {
	for i := range n {
		s.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{
			"name": fmt.Sprintf("%s%03d", prefix, i), "namespace": "ns", "labels": map[string]any{OwnerLabel(simRing): shard},
			"annotations": map[string]any{EpochAnnotation(simRing): "1"},
		}})
	}
}

// costing starts a worker whose load is the costs of its objects together, where full is 1.
func (s *sim) costing(id string, cost CostFunc, full float64) *simWorker {
	var cached atomic.Pointer[cache.SharedIndexInformer]
	w := s.worker(id, nil, func(o *WorkerOptions, _ *Controller) {
		o.Cost = cost
		o.Load = func() float64 {
			informer, sum := cached.Load(), 0.0
			if informer == nil {
				return 0
			}
			for _, obj := range (*informer).GetStore().List() {
				if owner, _ := OwnerOf(obj.(metav1.Object), simRing); owner == id {
					sum += cost(obj.(metav1.Object))
				}
			}
			return sum / full
		}
	})
	cached.Store(&w.cache)
	return w
}

// rising is the cost of the objects s000, s001 and so on: a few cost much, most little.
func rising(object metav1.Object) float64 {
	n, err := strconv.Atoi(strings.TrimPrefix(object.GetName(), "s"))
	if err != nil {
		return 1
	}
	return 100 / float64(n+1)
}

// imbalance is the largest sum of costs of a shard over the mean.
func (s *sim) costImbalance(shards ...string) float64 {
	sum, most := 0.0, 0.0
	for _, shard := range shards {
		own := 0.0
		for _, name := range s.ownedBy(shard) {
			own += rising(&metav1.ObjectMeta{Name: name})
		}
		sum += own
		most = max(most, own)
	}
	return most / sum * float64(len(shards))
}

// TestUnevenLoadMovesOnceByLabel: twelve heavy objects on one shard of two become six and six, in one plan, by the time that their reconciles take;
// then nothing moves for an hour.
func TestUnevenLoadMovesOnceByLabel(t *testing.T) {
	for _, strategy := range byLabel {
		t.Run(strategy, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.labelConfig(strategy, nil)
				s.onOne("a", "s", 100)
				s.onOne("b", "t", 100)
				heavy := map[string]bool{}
				s.runManager("m")
				s.worker("a", s.uneven)
				s.worker("b", s.uneven)
				s.settle(time.Minute)
				for _, name := range s.ownedBy("a")[:12] {
					heavy[name] = true
					s.label(secrets, name, "heavy", "yes") // wakes the reconcile
				}
				before, records := s.moves(), s.records(shardv1.MigrationRebalance)
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
				if moved := s.moves() - before; moved == 0 || moved > 20 {
					t.Errorf("%d objects moved to even out twelve", moved)
				}
				wants(s, "records of the plan", s.records(shardv1.MigrationRebalance)-records, 1)
				after := s.moves()
				s.settle(15 * time.Minute)
				wants(s, "moves in a quarter of an hour of constant load", s.moves()-after, int64(0))
				wants(s, "reason", s.planReason(), string(balancer.PlanWithinTolerance))
				if i := s.configStatus().Imbalance; i == nil || i.Float64() > 1.2 {
					t.Errorf("imbalance is %v, want about 1", i)
				}
			})
		})
	}
}

// TestSkewedRingEvensOutByLabel begins with all objects on one shard of three, some of which cost much, and a budget of 25 per round. It ends even, and
// stays so: with one of the strategies for a day.
func TestSkewedRingEvensOutByLabel(t *testing.T) {
	for strategy, calm := range map[string]time.Duration{balancer.LeastLoaded: 24 * time.Hour, balancer.RoundRobin: 2 * time.Hour} {
		t.Run(strategy, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.labelConfig(strategy, map[string]any{"maxMovesPerRound": int64(25)})
				s.edit(configs, simNamespace, simRing, set("5m", "spec", "healthCheckInterval"))
				s.edit(configs, simNamespace, simRing, set(map[string]any{"staleAfter": "10m"}, "spec", "scaling")) // so that a day has fewer events
				s.onOne("a", "s", 150)
				shards := []string{"a", "b", "c"}
				for _, id := range shards {
					s.costing(id, rising, 700)
				}
				s.runManager("m", func(o *ManagerOptions) {
					o.ElectionTiming = ElectionTiming{5 * time.Minute, 200 * time.Second, 40 * time.Second}
				})
				plans, begun := 0, s.moves()
				last := begun
				for range 120 { // a cool-down and more
					s.settle(10 * time.Second)
					now := s.moves() // a plan is carried out within seconds, and the next one comes half a minute later at the soonest
					if n := now - last; n > 25 {
						t.Errorf("%d objects moved in one round, the budget is 25", n)
					} else if n > 0 {
						plans++
					}
					last = now
				}
				if i := s.costImbalance(shards...); i > 1.1 {
					t.Errorf("the imbalance is %.3f after %d plans: %v, %+v", i, plans, s.counts(secrets), s.configStatus().LastPlan)
				}
				t.Logf("%d plans, %d moves, imbalance %.3f, %v", plans, last-begun, s.costImbalance(shards...), s.counts(secrets))
				s.settle(calm)
				wants(s, "moves under constant load after that", s.moves()-last, int64(0))
				wants(s, "reason", s.planReason(), string(balancer.PlanWithinTolerance))
			})
		})
	}
}

// TestNewcomerGetsItsShareByLabel: in an idle ring, by numbers of objects, and only to the newcomer.
func TestNewcomerGetsItsShareByLabel(t *testing.T) {
	simulate(t, func(s *sim) {
		s.labelConfig(balancer.RoundRobin, nil)
		s.runManager("m")
		s.worker("a", nil)
		s.worker("b", nil)
		s.settle(time.Minute)
		s.secrets(200)
		s.settle(5 * time.Minute)
		before := s.moves()
		s.worker("c", nil)
		s.settle(10 * time.Minute)
		counts := s.counts(secrets)
		if n := int64(counts["c"]); n < 60 || n > 70 || s.moves()-before != n {
			t.Errorf("%d moves, and objects %v: want about 66 on c, and as many moves", s.moves()-before, counts)
		}
		after := s.moves()
		s.settle(2 * time.Hour)
		wants(s, "moves after that", s.moves()-after, int64(0))
	})
}

// TestObjectsStayThatMayNotMove has all load on one shard of two, and nothing that the planner may move.
func TestObjectsStayThatMayNotMove(t *testing.T) {
	for _, c := range []struct {
		name   string
		change map[string]any
		do     func(s *sim)
		want   balancer.PlanReason
	}{
		{"dry run", map[string]any{"dryRun": true}, func(*sim) {}, balancer.PlanOverloaded},
		{"pinned", nil, func(s *sim) {
			for _, name := range s.ownedBy("a") {
				s.label(secrets, name, PinLabel(simRing), "a")
			}
		}, planNothingMovable},
		{"refused", nil, func(s *sim) {
			for _, name := range s.ownedBy("a") {
				s.label(secrets, name, RefusedLabel(simRing), "b")
			}
		}, planNothingMovable},
		{"the strategy wants them there", nil, func(s *sim) {
			s.edit(configs, simNamespace, simRing, set("stubborn", "spec", "loadBalanceStrategy"))
		}, planNothingMovable},
	} {
		t.Run(c.name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.labelConfig(balancer.LeastLoaded, c.change)
				s.onOne("a", "x", 100)
				before := s.moves()
				c.do(s)
				for _, id := range []string{"a", "b"} {
					s.costing(id, rising, 200)
				}
				strategies := balancer.NewRegistry()
				if err := strategies.Register("stubborn", func() balancer.Strategy { return stubborn("a") }); err != nil {
					t.Fatal(err)
				}
				s.runManager("m", func(o *ManagerOptions) { o.Strategies = strategies })
				s.settle(5 * time.Minute)
				wants(s, "moves", s.moves()-before, int64(0))
				wants(s, "reason", s.planReason(), string(c.want))
				wants(s, "owned by a", len(s.ownedBy("a")), 100)
			})
		})
	}
}

// TestPinnedObjectIsLeftAlone: the costliest object has a pin, so the others leave its shard.
func TestPinnedObjectIsLeftAlone(t *testing.T) {
	simulate(t, func(s *sim) {
		s.labelConfig(balancer.LeastLoaded, nil)
		s.onOne("a", "s", 60)
		s.label(secrets, "s000", PinLabel(simRing), "a")
		s.costing("a", rising, 700)
		s.costing("b", rising, 700)
		s.runManager("m")
		s.settle(5 * time.Minute)
		wants(s, "the one with a pin", s.ownership(secrets, "s000"), "a@1")
		if i := s.costImbalance("a", "b"); i > 1.1 {
			t.Errorf("the imbalance is %.3f: %v, %+v", i, s.counts(secrets), s.configStatus().LastPlan)
		}
		listed := s.instance("a").Status.CostliestObjects
		if len(listed) == 0 || listed[0].Key != "/Secret/ns/s000" || !listed[0].Pinned || listed[0].Share.Float64() < 0.3 {
			t.Errorf("a reports %+v", listed)
		}
	})
}

// TestBadCosts: what is not known of objects does not keep their numbers from being evened out.
func TestBadCosts(t *testing.T) {
	for name, cost := range map[string]CostFunc{
		"not a number": func(metav1.Object) float64 { return math.NaN() },
		"negative":     func(metav1.Object) float64 { return -5 },
		"infinite":     func(metav1.Object) float64 { return math.Inf(1) },
		"enormous":     func(metav1.Object) float64 { return math.MaxFloat64 },
		"nothing":      func(metav1.Object) float64 { return 0 },
		"a panic":      func(metav1.Object) float64 { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.labelConfig(balancer.LeastLoaded, nil)
				s.onOne("a", "s", 100)
				for _, id := range []string{"a", "b"} {
					s.worker(id, nil, func(o *WorkerOptions, _ *Controller) { o.Cost = cost })
				}
				s.runManager("m")
				s.settle(5 * time.Minute)
				if n := s.counts(secrets)["a"]; n < 45 || n > 55 {
					t.Errorf("a has %d of 100 objects", n)
				}
				wants(s, "reports", len(s.instance("a").Status.CostliestObjects), 0)
			})
		})
	}
}

// TestCostsCountInSlots: with consistent hashing, the costs are those of slots.
func TestCostsCountInSlots(t *testing.T) {
	simulate(t, func(s *sim) {
		s.hotConfig(quick)
		s.secrets(60)
		s.runManager("m")
		s.costing("a", rising, 700)
		s.costing("b", rising, 700)
		s.settle(10 * time.Minute)
		if i := s.costImbalance("a", "b"); i > 1.1 {
			t.Errorf("the imbalance is %.3f", i)
		}
		status := s.instance("a").Status
		wants(s, "says so of slots", status.SlotLoads != "" && status.CostliestObjects == nil, true)
		s.edit(configs, simNamespace, simRing, set(balancer.RoundRobin, "spec", "loadBalanceStrategy"))
		s.settle(time.Minute)
		status = s.instance("a").Status
		wants(s, "says so of objects", status.SlotLoads == "" && status.CostliestObjects != nil, true)
	})
}

// TestErrandOfAFormerLeader: the next leader takes back what is on its way, and evens out by a plan of its own.
func TestErrandOfAFormerLeader(t *testing.T) {
	simulate(t, func(s *sim) {
		s.labelConfig(balancer.LeastLoaded, nil)
		s.onOne("a", "s", 100)
		s.edit(configs, simNamespace, simRing, set("5m", "spec", "handover", "drainTimeout"))
		slow := func(ctx context.Context, _ types.NamespacedName) (Result, error) {
			pause(ctx, 2*time.Minute)
			return Result{RequeueAfter: time.Second}, nil
		}
		for _, id := range []string{"a", "b"} {
			s.worker(id, slow, func(_ *WorkerOptions, c *Controller) { c.Concurrency = 100 })
		}
		m := s.runManager("m1")
		for range 1000 {
			if s.settle(100 * time.Millisecond); s.counts(secrets)["→"] > 10 {
				break
			}
		}
		m.kill()
		s.runManager("m2")
		underway := s.counts(secrets)["→"]
		s.settle(35 * time.Second) // the next leader begins, and has to wait for two rounds
		if now := s.counts(secrets); underway < 40 || now["→"] > 0 || now["a"] != 100 {
			t.Errorf("%d were on their way; with the next leader: %v", underway, now)
		}
		s.settle(15 * time.Minute)
		counts := s.counts(secrets)
		if counts["→"] > 0 || counts["a"] < 45 || counts["a"] > 55 {
			t.Errorf("objects: %v, plan %s", counts, s.planReason())
		}
		after := s.moves()
		s.settle(10 * time.Minute)
		wants(s, "moves after that", s.moves()-after, int64(0))
	})
}
