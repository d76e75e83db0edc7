package sharding

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metascheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	shardscheme "github.com/shard-io/shard-controller/generated/clientset/versioned/scheme"
	"github.com/shard-io/shard-controller/internal/memapi"
)

var (
	simulationSeeds = flag.Int("simulation.seeds", 4, "how many seeds TestSimulatedFaults goes through")
	simulationFirst = flag.Int("simulation.first", 0, "the first of them")
	simulationHours = flag.Duration("simulation.duration", time.Hour, "how long each of them is at least, in simulated time")
	simulationLease = flag.Duration("simulation.lease", 0, "the lease duration of the rings, instead of what the seed says")
	simulationOne   = flag.Bool("simulation.one", false, "end at the first seed that fails")
	simulationTrace = flag.Bool("simulation.trace", false, "print what happened, also when nothing is wrong")
)

// minTroubles and minKinds are what a seed has to go through to count.
const (
	minTroubles = 20
	minKinds    = 5
)

// TestSimulatedFaults lets rings live through an hour of trouble each, and holds everything that happens against the promises. See
// docs/simulation.md. A seed that fails prints what it did and how to repeat it.
func TestSimulatedFaults(t *testing.T) {
	quiet.Do(func() {
		utilruntime.ErrorHandlers = nil // the default one sleeps, for years in virtual time
		scheme.Codecs = memapi.Codecs(scheme.Scheme)
		shardscheme.Codecs = memapi.Codecs(shardscheme.Scheme)
		metascheme.Codecs = memapi.Codecs(metascheme.Scheme)
	})
	total := newReport()
	begun := time.Now()
	t.Run("seeds", func(t *testing.T) {
		for i := range *simulationSeeds {
			seed := uint64(*simulationFirst + i)
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				if *simulationOne && simulationFailed.Load() {
					t.Skip("another seed has failed")
				}
				r := newReport()
				defer func() { total.add(r) }()
				defer watchdog(seed)()
				simulateSeed(t, seed, r)
			})
		}
	})
	total.took = time.Since(begun)
	if testing.Verbose() || total.seeds >= 100 {
		fmt.Printf("%s\nMost requests:\n%s", total, total.busiest())
	}
	total.judge(t)
}

var (
	quiet            sync.Once
	simulationFailed atomic.Bool
)

// watchdog ends the process when a seed takes so much real time that its virtual time must have stopped: in a bubble, that is what
// becomes of a mutex that is held while somebody waits for the clock.
func watchdog(seed uint64) (stop func()) {
	timer := time.AfterFunc(5*time.Minute, func() {
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		panic(fmt.Sprintf("the virtual time of seed %d has stopped", seed))
	})
	return func() { timer.Stop() }
}

// simulateSeed runs one seed, and fails the test if a promise is broken.
func simulateSeed(t *testing.T, seed uint64, r *simReport) {
	synctest.Test(t, func(t *testing.T) {
		server, err := memapi.New(memapi.Options{Resources: append(memapi.CoreResources(), memapi.ShardResources()...), Seed: seed, RequestLog: -1, TypeConverters: shardTypes, ManyReaders: true})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		var logs io.Writer = nowhere{}
		logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(logs)))
		if *simLogs {
			logger = klog.NewKlogr()
		}
		ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
		w := &world{sim: &sim{T: t, server: server, ctx: ctx}, plan: planOf(seed, *simulationHours), begun: time.Now(), struck: map[trouble]int{}}
		w.oracle = newOracle(w)
		defer w.all.Wait()
		defer cancel()
		w.live()
		r.take(w)
		if len(w.oracle.broken) > 0 {
			simulationFailed.Store(true)
			t.Errorf("%s\nplan:\n%s\nlast events:\n%s\nrepeat with: go test ./sharding -run 'TestSimulatedFaults$' -simulation.first=%d -simulation.seeds=1 -simulation.trace",
				strings.Join(w.oracle.broken, "\n"), w.plan, w.trace.last(150), seed)
		} else if *simulationTrace {
			t.Logf("plan:\n%s\nevents:\n%s", w.plan, w.trace.last(maxTrace))
		}
	})
}

// live is the whole simulation.
func (w *world) live() {
	w.server.OnCommit(w.oracle.committed)
	if w.stateful {
		w.states = watchStates(w.server, w.oracle.breachState)
	}
	if w.fenced {
		w.server.Admit(w.admission)
	}
	if w.noisy {
		w.noise = memapi.Faults{Rates: map[memapi.Fault]float64{
			memapi.TooManyRequests: .003, memapi.InternalError: .004, memapi.Unavailable: .003, memapi.ServerTimeout: .002, memapi.ConnectionReset: .003,
			memapi.LostResponse: .004, memapi.Duplicate: .002, memapi.Conflict: .003, memapi.Expired: .002, memapi.Hang: .0005, memapi.LateResponse: .0005,
		}, MaxLatency: 20 * time.Millisecond, WatchDrop: .2, WatchGone: .1, WatchStall: .1, StallFor: w.leaseFor / 4}
	}
	w.simulatedConfig()
	for range 2 {
		w.startManager()
	}
	for range w.workers {
		w.join()
	}
	w.make(w.roots)
	start := w.startTime()
	for i := range w.steps {
		s := &w.steps[i]
		s.at += start
		w.agenda.add(s.at, func() { w.strike(s) })
	}
	for at := start; at < start+w.duration; at += w.duration / 25 {
		w.agenda.add(at, w.useRing)
	}
	for next, ok := w.agenda.next(); ok; next, ok = w.agenda.next() {
		w.settle(next.at - w.now())
		next.do()
		if len(w.oracle.broken) > 0 || *simulationOne && simulationFailed.Load() {
			w.mendAll()
			return // what follows would only hide it
		}
	}
	w.mendAll()
	w.settle(w.settleTime() + time.Second)
	w.oracle.checkCalm()
}

// mendAll ends what still goes on, so that everything can be stopped.
func (w *world) mendAll() {
	w.server.SetDown(false)
	for _, p := range w.processes {
		w.oracle.thaw(p)
		p.client.Thaw()
		p.client.SetLink(memapi.Connected)
		p.client.SetFaults(memapi.Faults{})
	}
}

func (w *world) simulatedConfig() {
	w.create(configs, map[string]any{
		"apiVersion": "shard.io/v1", "kind": "ShardConfig",
		"metadata": map[string]any{"name": simRing, "namespace": simNamespace},
		"spec": map[string]any{
			"minShards": int64(1), "maxShards": int64(10), "scaleUpThreshold": 0.8, "scaleDownThreshold": 0.3,
			"loadBalanceStrategy": "consistent-hash", "healthCheckInterval": w.leaseFor.String(),
			"handover": map[string]any{"drainTimeout": "5s", "maxInFlight": int64(200)},
			"targets":  []any{map[string]any{"resource": "secrets", "controlled": []any{map[string]any{"resource": "configmaps"}}}},
		},
	})
}

// useRing is what the users of the ring do: they change roots, and create and delete some.
func (w *world) useRing() {
	w.poke(1)
	if w.work%5 == 0 {
		w.make(1)
	}
	if w.work%7 == 0 && len(w.names) > 3 {
		w.unmake(w.work % len(w.names))
	}
}

func (w *world) make(n int) {
	w.asked = time.Now()
	for range n {
		w.made++
		name := fmt.Sprintf("root-%d", w.made)
		w.names = append(w.names, name)
		w.work++
		w.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{
			"name": name, "namespace": "ns", "annotations": map[string]any{workAnnotation: fmt.Sprint(w.work)}}})
	}
}

// unmake deletes a root, and its child as the garbage collector would.
func (w *world) unmake(i int) {
	name := w.names[i]
	w.names = append(w.names[:i:i], w.names[i+1:]...)
	if err := w.server.Delete(secrets, "ns", name); err != nil {
		w.Error(err)
	}
	_ = w.server.Delete(configMaps, "ns", "child-"+strings.TrimPrefix(name, "root-")) // it may not have been made yet
}

// poke gives n roots something to be done.
func (w *world) poke(n int) {
	w.asked = time.Now()
	for range n {
		w.work++
		w.edit(secrets, "ns", w.names[w.work%len(w.names)], set(fmt.Sprint(w.work), "metadata", "annotations", workAnnotation))
	}
}

// acts returns the shards that a process acts for.
func (w *world) acts() map[string]bool {
	shards := map[string]bool{}
	for _, p := range w.running(true) {
		if p.worker.Active() {
			shards[p.shard] = true
		}
	}
	return shards
}

// unowned says which roots have no live owner.
func (w *world) unowned() []string {
	live := w.acts()
	if len(live) == 0 {
		return nil // nobody could own anything
	}
	var list []string
	for _, root := range w.server.List(secrets, "ns", nil) {
		if owner, _ := OwnerOf(root, simRing); !live[owner] {
			list = append(list, fmt.Sprintf("%s is owned by %q, who does not act", root.GetName(), owner))
		}
	}
	return list
}

// unwell says what is not as it should be when nothing has gone wrong for long.
func (w *world) unwell() []string {
	if len(w.running(true)) == 0 {
		return nil
	}
	list := w.unowned()
	owners := map[string]string{}
	for _, root := range w.server.List(secrets, "ns", nil) {
		owner, _ := OwnerOf(root, simRing)
		owners[string(root.GetUID())] = owner
		if target, draining := DrainTargetOf(root, simRing); draining {
			list = append(list, fmt.Sprintf("%s of %s is on its way to %s", root.GetName(), owner, target))
		}
		if statePending(root, simRing) {
			list = append(list, fmt.Sprintf("%s of %s has a state that its owner has not taken over", root.GetName(), owner))
		}
		if a := root.GetAnnotations(); a[workAnnotation] != a[doneAnnotation] && time.Since(w.asked) > w.longWork+10*time.Second {
			list = append(list, fmt.Sprintf("%s of %s is to be %q and is %q", root.GetName(), owner, a[workAnnotation], a[doneAnnotation]))
		}
	}
	for _, child := range w.server.List(configMaps, "", nil) {
		owner, _ := OwnerOf(child, simRing)
		if refs := child.GetOwnerReferences(); len(refs) == 1 {
			if want, exists := owners[string(refs[0].UID)]; exists && want != owner {
				list = append(list, fmt.Sprintf("%s is with %q, and its root with %q", child.GetName(), owner, want))
			}
		}
	}
	live := w.acts()
	for _, p := range w.running(true) {
		if !live[p.shard] {
			list = append(list, "nobody acts for "+p.shard)
		}
	}
	return list
}
