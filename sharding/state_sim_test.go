package sharding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// A ledger is what one process knows of its objects: the names of the processes that have reconciled each of them, one after the other. It
// is in memory only. So when an object has been moved about, its list is complete if and only if its state came along every time.
type ledger struct {
	process string
	all     *ledgers

	mu     sync.Mutex
	visits map[types.NamespacedName][]string

	exportErr, importErr error
	padding              int // bytes that are added to every state
}

// ledgers is what all processes of a test have in common: which states were imported where.
type ledgers struct {
	mu      sync.Mutex
	imports []string // "process object@epoch<from"
}

func (l *ledgers) of(process string) *ledger {
	return &ledger{process: process, all: l, visits: map[types.NamespacedName][]string{}}
}

func (l *ledgers) took() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.imports)
	imports := strings.Join(l.imports, ", ")
	l.imports = nil
	return imports
}

func (l *ledger) refuses(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.importErr = err
}

func (l *ledger) pads(bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.padding = bytes
}

func (l *ledger) Reconcile(_ context.Context, key types.NamespacedName) (Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if visits := l.visits[key]; len(visits) == 0 || visits[len(visits)-1] != l.process {
		l.visits[key] = append(visits, l.process)
	}
	return Result{}, nil
}

func (l *ledger) Export(_ context.Context, key types.NamespacedName) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.exportErr != nil || l.visits[key] == nil {
		return nil, l.exportErr
	}
	text, err := json.Marshal(l.visits[key])
	return append(text, strings.Repeat(" ", l.padding)...), err
}

func (l *ledger) Import(_ context.Context, key types.NamespacedName, state State) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.importErr != nil {
		return l.importErr
	}
	l.all.mu.Lock()
	l.all.imports = append(l.all.imports, fmt.Sprintf("%s %s@%d<%s", l.process, key.Name, state.Epoch, state.From))
	l.all.mu.Unlock()
	var visits []string
	if err := json.Unmarshal(state.Data, &visits); err != nil {
		return err
	}
	l.visits[key] = visits
	return nil
}

func (l *ledger) Forget(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.visits, key)
}

// of returns the list of one object, "a b" if a and then b have reconciled it.
func (l *ledger) of(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.visits[types.NamespacedName{Namespace: "ns", Name: name}], " ")
}

// stateful makes a worker keep a ledger.
func (l *ledger) stateful(change ...func(*StateTransfer)) func(*WorkerOptions, *Controller) {
	return func(_ *WorkerOptions, c *Controller) {
		c.State = &StateTransfer{Exporter: l, Importer: l, Forgetter: l}
		for _, f := range change {
			f(c.State)
		}
	}
}

// keeps starts a worker that keeps a ledger.
func (s *sim) keeps(l *ledger, change ...func(*StateTransfer)) *simWorker {
	return s.process(l.process, strings.TrimRight(l.process, "0123456789"), l.Reconcile, l.stateful(change...))
}

// rootWrites counts what shards write to roots, by actor.
func (s *sim) rootWrites() map[string]int {
	counts := map[string]int{}
	var mu sync.Mutex
	s.server.OnCommit(func(e memapi.Event) {
		if e.Resource == secrets && e.Actor != "" {
			mu.Lock()
			counts[e.Actor]++
			mu.Unlock()
		}
	})
	return counts
}

func (s *sim) annotation(name, key string) string {
	return s.server.Get(secrets, "ns", name).GetAnnotations()[key]
}

func TestStateGoesAlong(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		var all ledgers
		a, b := all.of("a"), all.of("b")
		s.keeps(a)
		s.keeps(b)
		s.settle(5 * time.Second)
		wants(s, "what a knows", a.of("o"), "a")
		s.took()
		counts := s.rootWrites()
		for i, to := range []string{"b", "a", "b"} {
			s.label(secrets, "o", DrainLabel(simRing), to)
			s.settle(time.Second)
			wants(s, "owner", s.ownership(secrets, "o"), fmt.Sprintf("%s@%d", to, i+1))
			wants(s, "state that is left on the object", s.annotation("o", StateAnnotation(simRing)), "")
		}
		wants(s, "reconciles: an acknowledgement causes none", s.took(), "a o, b o, b o")
		wants(s, "what b knows", b.of("o"), "a b a b")
		wants(s, "what a knows", a.of("o"), "")
		wants(s, "imports", all.took(), "a o@1<b, b o@0<a, b o@2<a")
		wants(s, "writes of a: two hand-overs, one acknowledgement", counts["a"], 3)
		wants(s, "writes of b: one hand-over, two acknowledgements", counts["b"], 3)
	})
}

func TestObjectWithoutStateCostsNoWrite(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.secret("o", "a")
		var all ledgers
		a, b := all.of("a"), all.of("b")
		s.process("a", "a", nil, a.stateful()) // reconciles without ever making a state
		s.process("b", "b", nil, b.stateful())
		s.settle(5 * time.Second)
		counts := s.rootWrites()
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(10 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "b@1")
		wants(s, "writes of a", counts["a"], 1)
		wants(s, "writes of b", counts["b"], 0)
	})
}

func TestRefusedStateGoesBack(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		a, b := all.of("a"), all.of("b")
		b.refuses(TerminalError(errors.New("not today")))
		s.secret("o", "a")
		s.keeps(a)
		s.keeps(b)
		s.settle(5 * time.Second)
		s.took()
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(5 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "b@1")
		wants(s, "reconciled without its state", s.took(), "")
		refused := refusalOf(s.server.Get(secrets, "ns", "o"), simRing)
		if refused == nil {
			t.Fatal("b does not say that it refuses the state")
		}
		wants(s, "refusal", *refused, refusal{By: "b", From: "a", Epoch: 1, Reason: reasonImport, Message: "not today"})
		s.runManager("m") // sees it, and sends it back
		s.settle(20 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "a@2")
		wants(s, "what a knows", a.of("o"), "a")
		wants(s, "imports", all.took(), "a o@0<a")
		wants(s, "state that is left", s.annotation("o", StateAnnotation(simRing)), "")
		b.refuses(nil)
		s.settle(5 * time.Minute)
		wants(s, "owner while the refusal stands", s.ownership(secrets, "o"), "a@2")
		s.settle(10 * time.Minute)
		wants(s, "a refusal still stands", refusalOf(s.server.Get(secrets, "ns", "o"), simRing) != nil, false)
	})
}

func TestRefusedStateWithNowhereToGo(t *testing.T) {
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprint("required ", required), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				var all ledgers
				a, b := all.of("a"), all.of("b")
				s.secret("o", "a")
				s.keeps(a)
				s.keeps(b, func(t *StateTransfer) { t.Required = required })
				s.settle(5 * time.Second)
				s.took()
				b.refuses(TerminalError(errors.New("never")))
				s.label(secrets, "o", DrainLabel(simRing), "b")
				s.settle(25 * time.Second)
				wants(s, "reconciled while it waits to be sent back", s.took(), "")
				s.settle(10 * time.Second)
				state, unusable := s.annotation("o", StateAnnotation(simRing)), s.annotation("o", UnusableAnnotation(simRing))
				if required {
					wants(s, "reconciled", s.took(), "")
					wants(s, "the state is where it was", state != "" && unusable == "", true)
					b.refuses(nil) // somebody has mended it
					s.settle(11 * time.Minute)
					wants(s, "reconciled", strings.HasPrefix(s.took(), "b o"), true)
					wants(s, "what b knows", b.of("o"), "a b")
					return
				}
				wants(s, "reconciled", s.took(), "b o")
				wants(s, "the state is kept for inspection", state == "" && unusable != "", true)
				wants(s, "what b knows", b.of("o"), "b")
			})
		})
	}
}

func TestSourceThatCannotExportKeepsTheObject(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		a, b := all.of("a"), all.of("b")
		s.secret("o", "a")
		s.keeps(a, func(t *StateTransfer) { t.MaxSize = 100 })
		s.keeps(b)
		s.settle(5 * time.Second)
		a.pads(100)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(5 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "a→b")
		wants(s, "reason", refusalOf(s.server.Get(secrets, "ns", "o"), simRing).Reason, reasonTooLarge)
		s.took()
		s.label(secrets, "o", "app", "web")
		s.settle(time.Second)
		wants(s, "reconciled although it should be handed over", s.took(), "a o")
		m := s.runManager("m")
		s.settle(20 * time.Second)
		wants(s, "owner when the manager has seen it", s.ownership(secrets, "o"), "a")
		m.kill()
		a.pads(0)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(5 * time.Second)
		wants(s, "what b knows", b.of("o"), "a b")
	})
}

func TestLargeStateGoesThroughSecrets(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		a, b := all.of("a"), all.of("b")
		a.pads(2*stateChunk + 5)
		s.secret("o", "a")
		s.keeps(a)
		s.keeps(b)
		s.settle(5 * time.Second)
		most := 0
		s.server.OnCommit(func(e memapi.Event) {
			if e.New != nil && e.New.GetLabels()[StateLabel] != "" {
				most++
			}
		})
		s.label(secrets, "o", DrainLabel(simRing), "b")
		s.settle(5 * time.Second)
		wants(s, "owner", s.ownership(secrets, "o"), "b@1")
		wants(s, "what b knows", b.of("o"), "a b")
		wants(s, "Secrets that were written", most, 3)
		wants(s, "Secrets that are left", s.stateSecrets(), 0)
	})
}

// states returns the Secrets that hold states.
func (s *sim) states() []*unstructured.Unstructured {
	selector, err := labels.Parse(StateLabel)
	if err != nil {
		s.Fatal(err)
	}
	return s.server.List(secrets, simNamespace, selector)
}

func (s *sim) stateSecrets() int { return len(s.states()) }

func TestCheckpointsAreFoundByTheNextOwner(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		shards := map[string]*ledger{"a": all.of("a"), "b": all.of("b")}
		workers := map[string]*simWorker{}
		s.runManager("m")
		for id, l := range shards {
			workers[id] = s.keeps(l, func(t *StateTransfer) { t.Checkpoint = time.Minute })
		}
		s.settle(20 * time.Second)
		s.secret("o", "")
		s.settle(5 * time.Second)
		first, _ := OwnerOf(s.server.Get(secrets, "ns", "o"), simRing)
		second := map[string]string{"a": "b", "b": "a"}[first]
		wants(s, "there is a checkpoint", s.annotation("o", StateAnnotation(simRing)) != "", true)
		counts := s.rootWrites()
		s.settle(10 * time.Minute)
		wants(s, "writes while nothing changes", counts["a"]+counts["b"], 0)
		workers[first].client.SetLink(memapi.Partitioned)
		s.settle(time.Minute)
		wants(s, "owner", s.ownership(secrets, "o"), second+"@2")
		wants(s, "what the new owner knows", shards[second].of("o"), first+" "+second)
		wants(s, "imports", all.took(), fmt.Sprintf("%s o@1<%s", second, first))
		wants(s, "it has yet to take the state over", statePending(s.server.Get(secrets, "ns", "o"), simRing), false)
		wants(s, "it has a checkpoint of its own", s.annotation("o", StateAnnotation(simRing)) != "", true)
	})
}

// TestStatesSurviveARestart stops a shard that keeps its objects, and one that has nobody to give them to: they write down what they
// know, though they make no checkpoints.
func TestStatesSurviveARestart(t *testing.T) {
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprint("keep ", keep), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.runManager("m")
				var all ledgers
				start := func(process string) (*ledger, *simWorker) {
					l := all.of(process)
					w := s.process(process, "a", l.Reconcile, l.stateful(), func(o *WorkerOptions, _ *Controller) { o.KeepOnStop = keep })
					return l, w
				}
				_, w := start("a1")
				s.settle(20 * time.Second)
				for i := range 30 {
					s.secret(fmt.Sprintf("o%d", i), "")
				}
				s.settle(5 * time.Second)
				w.stop()
				<-w.ended
				next, _ := start("a2")
				s.settle(40 * time.Second)
				for i := range 30 {
					name := fmt.Sprintf("o%d", i)
					wants(s, "what the next process knows of "+name, next.of(name), "a1 a2")
					wants(s, "state that is left", s.annotation(name, StateAnnotation(simRing)), "")
				}
			})
		})
	}
}

// TestStatesOfOneEpochHaveIdentitiesOfTheirOwn has three processes of a shard write states of the same object, one after the other. The last
// knows nothing of what the first wrote, as the second took that off the object, and died.
func TestStatesOfOneEpochHaveIdentitiesOfTheirOwn(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.runManager("m")
		oracle := watchStates(s.server, s.Errorf)
		var all ledgers
		start := func(process string) *simWorker {
			l := all.of(process)
			return s.process(process, "a", l.Reconcile, l.stateful(), func(o *WorkerOptions, _ *Controller) { o.KeepOnStop = true })
		}
		first := start("a1")
		s.settle(20 * time.Second)
		s.secret("o", "")
		s.settle(5 * time.Second)
		first.stop()
		second := start("a2")
		s.settle(20 * time.Second)
		second.kill()
		third := start("a3")
		s.settle(time.Minute)
		third.stop()
		start("a4")
		s.settle(20 * time.Second)
		wants(s, "epoch", s.ownership(secrets, "o"), "a@1")
		wants(s, "states that were written", oracle.exports, 2)
	})
}

// TestStateOfAnEarlierProcess lets a second process of a shard wait, with caches that stay as they were before the first one took a state
// over. When it is its turn, it has to go on from what the first one knew at its end, and not from what its cache shows.
func TestStateOfAnEarlierProcess(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		free := make(chan struct{})
		start := func(l *ledger) *simWorker {
			return s.process(l.process, "b", l.Reconcile, l.stateful(), func(o *WorkerOptions, c *Controller) {
				o.KeepOnStop, c.State.Importer = true, held{l, free}
			})
		}
		s.keeps(all.of("a"))
		first, next := start(all.of("b1")), all.of("b2")
		s.settle(10 * time.Second)
		s.labelledRoot("o", "a")
		s.runManager("m")
		s.settle(30 * time.Second)
		s.migrate("m1", nil)
		s.settle(5 * time.Second)
		second := start(next) // waits for the Lease
		s.settle(time.Second)
		second.client.StallWatches(time.Minute)
		close(free)
		s.settle(5 * time.Second)
		wants(s, "state that is left", s.annotation("o", StateAnnotation(simRing)), "")
		first.stop()
		s.settle(10 * time.Second)
		cached, _, _ := second.cache.GetStore().GetByKey("ns/o")
		wants(s, "the cache shows the old state", statePending(cached.(metav1.Object), simRing), true)
		wants(s, "what the second process knows", next.of("o"), "a b1 b2")
	})
}

// TestRightEndsDuringAnImport: the right to act ends while a state is imported, and no reconcile follows.
func TestRightEndsDuringAnImport(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		var all ledgers
		free := make(chan struct{})
		s.keeps(all.of("a"))
		l := all.of("b")
		b := s.process("b", "b", l.Reconcile, l.stateful(), func(_ *WorkerOptions, c *Controller) { c.State.Importer = held{l, free} })
		s.settle(10 * time.Second)
		s.labelledRoot("o", "a")
		s.runManager("m")
		s.settle(30 * time.Second)
		s.migrate("m1", nil)
		s.settle(5 * time.Second)
		b.client.SetLink(memapi.Partitioned)
		s.settle(2 * simLease)
		wants(s, "acts without a connection", b.Active(), false)
		close(free)
		s.settle(time.Second)
		wants(s, "what b knows when its right has ended", l.of("o"), "a")
		b.client.SetLink(memapi.Connected)
		s.settle(time.Minute)
	})
}

// held is an Importer that does nothing until free is closed.
type held struct {
	Importer
	free chan struct{}
}

func (h held) Import(ctx context.Context, key types.NamespacedName, state State) error {
	<-h.free
	return h.Importer.Import(ctx, key, state)
}
