package sharding

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/memapi"
)

// blind keeps a manager from seeing anything of the objects but by its audit, and by the take-over of shards that never were: finders and
// mover get no answer. The audit's lists have no label selector, or one for any owner.
func (s *sim) blind(m *simManager) {
	m.client.SetFaults(memapi.Faults{Rates: map[memapi.Fault]float64{memapi.InternalError: 1}, Match: func(r *memapi.Request) bool {
		if r.Resource != secrets && r.Resource != configMaps || r.Verb != "list" && r.Verb != "watch" {
			return false
		}
		selector := r.LabelSelector()
		return slices.Contains([]string{ownedByAnyOf(simRing, []string{"a"}).String(), ownedByAnyOf(simRing, []string{"b"}).String(),
			ShardSelector(simRing, "a").String(), ShardSelector(simRing, "b").String(), DrainLabel(simRing)}, selector) ||
			strings.Contains(selector, "notin")
	}})
	m.client.DropWatches()
}

// allStays has the ring leave each object where it is.
func (s *sim) allStays() {
	s.edit(configs, simNamespace, simRing, set("round-robin", "spec", "loadBalanceStrategy"))
	s.edit(configs, simNamespace, simRing, set(true, "spec", "rebalance", "dryRun"))
}

// gaps renders what the latest audit has found.
func (m *simManager) gaps() string {
	t := m.ready.Load()
	if t == nil {
		return "no term"
	}
	ring := t.snapshot()[simRing]
	if ring == nil || ring.audit.latest() == nil {
		return "no audit"
	}
	return ring.audit.latest().gaps.String()
}

func (s *sim) eventNotes(reason string) []string {
	var notes []string
	for _, event := range s.server.List(eventsResource, "", nil) {
		if event.Object["reason"] == reason {
			note, _, _ := unstructured.NestedString(event.Object, "note")
			notes = append(notes, note)
		}
	}
	return notes
}

// TestAuditFindsAndMends plants one gap of each kind where no other part of the manager can see it.
func TestAuditFindsAndMends(t *testing.T) {
	annotate := func(s *sim, value any) {
		s.edit(secrets, "ns", "o", set(value, "metadata", "annotations", EpochAnnotation(simRing)))
	}
	for _, c := range []struct {
		kind gapKind
		// plant does it, to the root "o" or its child "c"; owner is the root's, and other the other one of the two shards.
		plant func(s *sim, owner, other *simWorker)
		// mended says whether all is well again; nil for what can only be told.
		mended func(s *sim) bool
	}{
		{gapUnassigned, func(s *sim, _, _ *simWorker) { s.label(secrets, "o", OwnerLabel(simRing), "") },
			func(s *sim) bool { return s.owned("o") }},
		{gapOwnerUnknown, func(s *sim, _, _ *simWorker) { s.label(secrets, "o", OwnerLabel(simRing), "ghost") },
			func(s *sim) bool { return s.owned("o") }},
		{gapEpoch, func(s *sim, owner, _ *simWorker) { // who would restore it if it could
			owner.client.Inject(memapi.InternalError, 1e6, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Resource == secrets })
			annotate(s, "many")
		}, func(s *sim) bool { return EpochOf(s.server.Get(secrets, "ns", "o"), simRing) > 1e8 }},
		{gapChildUnassigned, func(s *sim, _, _ *simWorker) { s.label(configMaps, "c", OwnerLabel(simRing), "") },
			func(s *sim) bool { return s.astray() == 0 }},
		{gapChildAstray, func(s *sim, _, other *simWorker) { s.label(configMaps, "c", OwnerLabel(simRing), other.options.ID) },
			func(s *sim) bool { return s.astray() == 0 }},
		{gapHandoverTarget, func(s *sim, owner, _ *simWorker) {
			owner.client.Inject(memapi.InternalError, 1e6, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Resource == secrets })
			s.label(secrets, "o", DrainLabel(simRing), "ghost")
		}, func(s *sim) bool { return s.owned("o") && s.counts(secrets)["→"] == 0 }},
		{gapHandoverStuck, func(s *sim, owner, other *simWorker) {
			owner.client.Inject(memapi.InternalError, 1e6, func(r *memapi.Request) bool { return r.Verb == "patch" && r.Resource == secrets })
			s.label(secrets, "o", DrainLabel(simRing), other.options.ID)
		}, func(s *sim) bool { return s.owned("o") && s.counts(secrets)["→"] == 0 }}, // the strategy keeps it where it is
		{gapNotHeld, func(s *sim, owner, _ *simWorker) {
			owner.deafen()
			s.settle(time.Second)
			s.secret("new", owner.options.ID)
			s.edit(secrets, "ns", "new", set(map[string]any{EpochAnnotation(simRing): "1"}, "metadata", "annotations"))
		}, nil},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.allStays()
				m := s.runManager("m")
				owner, other := s.worker("a", nil), s.worker("b", nil)
				s.settle(30 * time.Second)
				s.child("c", "", s.secret("o", ""))
				s.settle(10 * time.Second)
				if s.ownership(secrets, "o") == "b@1" {
					owner, other = other, owner
				}
				s.secrets(20)
				s.settle(5 * time.Minute)
				wants(s, "condition before", s.condition(shardv1.ConditionCovered), "True Covered")
				s.blind(m)
				c.plant(s, owner, other)
				found := ""
				for begun := time.Now(); time.Since(begun) < 12*time.Minute && found == ""; s.settle(time.Second) {
					found = m.gaps()
				}
				if !strings.Contains(found, "1 "+string(c.kind)) {
					t.Fatalf("the audit found %q, want 1 %s; the root is %v", found, c.kind, s.server.Get(secrets, "ns", "o").Object)
				}
				s.settle(time.Second)
				notes := s.eventNotes("CoverageGap")
				if len(notes) != 1 || !strings.Contains(notes[0], "1 "+string(c.kind)) {
					t.Errorf("Events: %q, want one about %s", notes, c.kind)
				}
				wants(s, "condition", s.condition(shardv1.ConditionCovered), "False Gaps")
				wants(s, "metric", testutil.ToFloat64(m.metrics.coverageGaps.WithLabelValues(simRing, string(c.kind))), 1)
				wants(s, "condition DoublyOwned", s.condition(shardv1.ConditionDoublyOwned), "False NotSeen")
				if c.mended == nil {
					return
				}
				s.settle(8 * time.Minute)
				wants(s, "mended", c.mended(s), true)
				wants(s, "gaps", m.gaps(), "")
				wants(s, "condition", s.condition(shardv1.ConditionCovered), "True Covered")
				if len(s.eventNotes("Covered")) == 0 {
					t.Error("no Event says that all is well again")
				}
			})
		})
	}
}

// deafen makes the worker's cache of roots hear of nothing any more.
func (w *simWorker) deafen() {
	w.client.Inject(memapi.Hang, 1e9, func(r *memapi.Request) bool { return r.Verb == "watch" && r.Resource == secrets })
	w.client.DropWatches()
}

// owned says whether a root has one of the shards a and b as its owner.
func (s *sim) owned(name string) bool {
	owner, _ := OwnerOf(s.server.Get(secrets, "ns", name), simRing)
	return owner == "a" || owner == "b"
}

func TestAuditOfWhatIsNotSelected(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.edit(configs, simNamespace, simRing, set([]any{map[string]any{"resource": "secrets",
			"controlled":    []any{map[string]any{"resource": "configmaps"}},
			"labelSelector": map[string]any{"matchLabels": map[string]any{"tls": "yes"}}}}, "spec", "targets"))
		m := s.runManager("m")
		s.worker("a", nil)
		s.settle(time.Minute)
		s.secret("plain", "") // without owner, and nobody's business
		s.settle(5 * time.Minute)
		wants(s, "condition", s.condition(shardv1.ConditionCovered), "True Covered")
		s.blind(m)
		s.secret("labelled", "a")
		for begun := time.Now(); time.Since(begun) < 12*time.Minute && m.gaps() == ""; {
			s.settle(time.Second)
		}
		wants(s, "gaps", m.gaps(), "1 not-selected")
		s.settle(5 * time.Minute)
		wants(s, "owner then", s.ownership(secrets, "labelled"), "")
		wants(s, "gaps then", m.gaps(), "")
	})
}

// TestAuditFindsDoubleOwners: a user edits a label while the cache of the former owner is behind, and does not come to its senses.
func TestAuditFindsDoubleOwners(t *testing.T) {
	for _, n := range []int{1, 3, 200} { // 200 are more than can be told from each other
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.allStays()
				m := s.runManager("m")
				a := s.worker("a", nil)
				s.settle(30 * time.Second)
				for i := range n {
					s.secret(fmt.Sprint("o", i), "")
				}
				s.settle(10 * time.Second)
				b := s.worker("b", nil)
				s.settle(3 * time.Minute)
				a.deafen()
				s.settle(time.Second)
				for i := range n {
					s.label(secrets, fmt.Sprint("o", i), OwnerLabel(simRing), "b")
				}
				s.settle(time.Minute)
				wants(s, "condition so soon", s.condition(shardv1.ConditionDoublyOwned), "False NotSeen")
				for begun := time.Now(); time.Since(begun) < 12*time.Minute && s.condition(shardv1.ConditionDoublyOwned) != "True Reported"; {
					s.settle(time.Second)
				}
				wants(s, "condition", s.condition(shardv1.ConditionDoublyOwned), "True Reported")
				wants(s, "metric", testutil.ToFloat64(m.metrics.doubleOwners.WithLabelValues(simRing)), float64(n))
				if notes := s.eventNotes("DoublyOwned"); len(notes) != 1 || !strings.Contains(notes[0], fmt.Sprint(n, " doubly-owned")) {
					t.Errorf("Events: %q", notes)
				}
				// The manager asks a to look again, which drops what is not its own, though its watch is still behind.
				s.settle(10 * time.Minute)
				wants(s, "condition then", s.condition(shardv1.ConditionDoublyOwned), "False NotSeen")
				wants(s, "what a holds", s.heldBy("a"), 0)
				wants(s, "what b holds", s.heldBy("b"), int64(n))
				wants(s, "both are active", a.Active() && b.Active(), true)
			})
		})
	}
}

func (s *sim) heldBy(shard string) int64 {
	held := int64(0)
	for _, served := range s.instance(shard).Status.Served {
		held += served.Held
	}
	return held
}

// TestAuditSeesAnInactiveShard: a shard that renews its Lease and never becomes active holds nothing, whatever the labels say.
func TestAuditSeesAnInactiveShard(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		m := s.runManager("m")
		a := s.worker("a", nil)
		s.settle(30 * time.Second)
		s.secrets(50)
		s.settle(3 * time.Minute)
		a.stop()
		<-a.ended
		b := s.process("a-again", "a", nil)
		// It may not list what it owns, and so it does not trust its cache.
		b.client.Inject(memapi.InternalError, 1e9, func(r *memapi.Request) bool { return r.Verb == "list" && r.Resource == secrets })
		s.settle(10 * time.Minute)
		wants(s, "active", b.Active(), false)
		wants(s, "objects with its label", s.counts(secrets)["a"], 50)
		wants(s, "gaps", m.gaps(), "50 not-held")
	})
}

var auditFor = flag.Duration("audit.for", time.Hour, "how long the audit is to find nothing, in virtual time")

// TestNoFalseAlarm: hours of shards that join, leave, restart and die, of objects that come and go, with slow answers and caches that lag
// behind. The audit, which looks all the time, finds nothing.
func TestNoFalseAlarm(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		m := s.runManager("m")
		random := rand.New(rand.NewPCG(1, 24))
		workers := map[string]*simWorker{}
		join := func(id string, n int) {
			w := s.process(fmt.Sprint(id, "-", n), id, brief)
			w.client.SetFaults(memapi.Faults{MinLatency: time.Millisecond, MaxLatency: 100 * time.Millisecond})
			w.client.DelayWatches(time.Duration(random.IntN(3000)) * time.Millisecond)
			workers[id] = w
		}
		for i, id := range []string{"a", "b", "c"} {
			join(id, -i)
		}
		s.settle(30 * time.Second)
		var names []string
		events, passes := 0, func() int { return testutil.CollectAndCount(m.metrics.auditSeconds) }
		for begun, n := time.Now(), 0; time.Since(begun) < *auditFor; n++ {
			id := string(rune('a' + random.IntN(6)))
			switch w := workers[id]; {
			case n%3 > 0:
				name := fmt.Sprint("o", n)
				s.child(name, "", s.secret(name, ""))
				names = append(names, name)
				if len(names) > 60 {
					for _, resource := range []schema.GroupVersionResource{secrets, configMaps} {
						if err := s.server.Delete(resource, "ns", names[0]); err != nil {
							t.Fatal(err)
						}
					}
					names = names[1:]
				}
			case w == nil:
				join(id, n)
				events++
			case len(workers) > 2:
				if random.IntN(3) == 0 {
					w.kill()
				} else {
					w.stop()
				}
				delete(workers, id)
				events++
			}
			s.settle(time.Duration(random.IntN(60)) * time.Second)
			if gaps := m.gaps(); gaps != "" && gaps != "no audit" {
				t.Fatalf("after %s the audit finds %s: %s", time.Since(begun), gaps, s.condition(shardv1.ConditionCovered))
			}
		}
		wants(s, "metrics of passes", passes(), 1)
		if least := int(*auditFor / (10 * time.Minute)); events < least {
			t.Errorf("only %d shards came or went, want %d", events, least)
		}
		wants(s, "Events of gaps", len(s.eventNotes("CoverageGap"))+len(s.eventNotes("DoublyOwned")), 0)
		wants(s, "condition", s.condition(shardv1.ConditionCovered), "True Covered")
	})
}

// TestAuditInParts: with a bound that its index exceeds, the audit goes through the children in parts, and misses none.
func TestAuditInParts(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		m := s.runManager("m")
		s.worker("a", nil)
		s.settle(30 * time.Second)
		for i, root := range s.secrets(300) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		s.settle(time.Minute)
		audit := m.ready.Load().snapshot()[simRing].audit
		audit.indexed = 50
		s.settle(3 * time.Minute)
		if audit.parts < 8 {
			t.Errorf("%d parts of at most 50 of 300 roots", audit.parts)
		}
		wants(s, "objects", audit.latest().objects, 300)
		wants(s, "children", audit.latest().children, 300)
		s.blind(m)
		for last := audit.latest(); audit.latest() == last; { // no pass is to be under way
			s.settle(100 * time.Millisecond)
		}
		for i := range 300 {
			s.label(configMaps, fmt.Sprintf("c%03d", i), OwnerLabel(simRing), "astray")
		}
		for begun := time.Now(); time.Since(begun) < 12*time.Minute && m.gaps() == ""; {
			s.settle(time.Second)
		}
		wants(s, "gaps", m.gaps(), "300 child-astray")
		wants(s, "children away from their roots", s.astray(), 0)
	})
}

// TestListGoesOnWhenItExpires: a list at a low rate outlives the state that it began with.
func TestListGoesOnWhenItExpires(t *testing.T) {
	simulate(t, func(s *sim) {
		for i := range 3 * pageSize {
			s.secret(fmt.Sprintf("s%05d", i), "a")
		}
		s.runManager("m")
		s.settle(10 * time.Second)
		for _, tolerant := range []bool{false, true} {
			expired, found := 0, 0
			list := listing{objects: metadata.NewForConfigOrDie(s.server.Config("reader")).Resource(secrets)}
			if tolerant {
				list.expired = func() { expired++ }
			}
			_, err := list.each(s.ctx, func(page []metav1.PartialObjectMetadata) error {
				found += len(page)
				s.settle(time.Second)
				s.label(secrets, "s00000", "touched", fmt.Sprintf("%t-%d", tolerant, found))
				s.server.Compact()
				return nil
			})
			wants(s, "that the list failed", err != nil, !tolerant)
			if tolerant {
				wants(s, "objects", found, 3*pageSize)
				wants(s, "that it is known not to be of one moment", expired > 0, true)
			}
		}
	})
}

func TestManagerOptionsOfTheAudit(t *testing.T) {
	for _, c := range []struct {
		options ManagerOptions
		wrong   string
	}{
		{ManagerOptions{Namespace: "n", Identity: "i", AuditRate: -1}, "AuditRate"},
		{ManagerOptions{Namespace: "n", Identity: "i", AuditInterval: time.Second}, "AuditInterval"},
	} {
		if _, err := c.options.complete(); err == nil || !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("got %v, want an error about %s", err, c.wrong)
		}
	}
	o, err := ManagerOptions{Namespace: "n", Identity: "i"}.complete()
	if err != nil || o.AuditRate != 2000 || o.AuditInterval != 2*time.Minute {
		t.Errorf("defaults are %d and %s: %v", o.AuditRate, o.AuditInterval, err)
	}
}
