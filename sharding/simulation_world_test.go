package sharding

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// world is one simulation: a ring, the processes that serve it, and what is known about both by those who see everything.
type world struct {
	*sim
	*plan
	oracle  *oracle
	states  *stateOracle // nil if the workers have no state
	ledgers ledgers
	begun   time.Time
	agenda  agenda
	noise   memapi.Faults

	processes []*process // all that ever were, in the order in which they started
	shards    int        // how many names have been used
	names     []string   // of roots that exist
	made      int        // roots
	work      int        // how often something was to be done
	asked     time.Time  // when something was last to be done
	trace     traceLog
	struck    map[trouble]int
}

// process is a worker or a manager.
type process struct {
	name, shard string // no shard: a manager
	client      *memapi.Client
	worker      *Worker
	manager     *Manager
	stop        context.CancelFunc
	ended       chan struct{}
	fenced      *kubernetes.Clientset
	keeps       bool // stays the owner when it is stopped

	// Guarded by oracle.mu.
	dead, frozen, leaving, cut bool
	started                    time.Time
	troubled                   time.Time // until when it had trouble of its own, which excuses silence
}

func (w *world) now() time.Duration { return time.Since(w.begun) }

func (w *world) tell(format string, args ...any) {
	w.trace.add(w.now(), fmt.Sprintf(format, args...))
}

// lens gives a process a clock that is wrong by skew, and runs at a rate: all intervals of the protocol follow from the one in
// the ShardConfig, so that one is what it sees differently, like the duration in a Lease, which it also writes differently.
func (w *world) lens(rate float64, skew time.Duration) memapi.Lens {
	if rate == 1 && skew == 0 {
		return memapi.Lens{}
	}
	local := time.Duration(float64(w.leaseFor) / rate)
	seconds := func(d time.Duration) string {
		return fmt.Sprintf(`"leaseDurationSeconds":%d`, (d+time.Second-1)/time.Second)
	}
	out := strings.NewReplacer(seconds(local), seconds(w.leaseFor))
	in := strings.NewReplacer(`"healthCheckInterval":"`+w.leaseFor.String()+`"`, `"healthCheckInterval":"`+local.String()+`"`, seconds(w.leaseFor), seconds(local))
	return memapi.Lens{
		Out: func(r *memapi.Request, body []byte) []byte {
			if r.Resource != leases || r.Name == electionLease {
				return body
			}
			return shiftRenewal([]byte(out.Replace(string(body))), skew)
		},
		In: func(r *memapi.Request, body []byte) []byte {
			if r.Resource != configs && r.Resource != leases || r.Name == electionLease {
				return body
			}
			return []byte(in.Replace(string(body)))
		},
	}
}

// shiftRenewal moves the renew time in the JSON of a Lease.
func shiftRenewal(body []byte, by time.Duration) []byte {
	const key = `"renewTime":"`
	before, rest, found := strings.Cut(string(body), key)
	stamp, after, _ := strings.Cut(rest, `"`)
	at, err := time.Parse(metav1.RFC3339Micro, stamp)
	if !found || err != nil {
		return body
	}
	return []byte(before + key + at.Add(by).UTC().Format(metav1.RFC3339Micro) + `"` + after)
}

const electionLease = "managers"

func (w *world) clockOf(i int) (float64, time.Duration) {
	return w.clocks[i%len(w.clocks)], w.skews[i%len(w.skews)]
}

func (w *world) newProcess(name, shard string) *process {
	p := &process{name: name, shard: shard, client: w.server.Client(name), ended: make(chan struct{}), started: time.Now()}
	rate, skew := w.clockOf(len(w.processes))
	p.client.SetLens(w.lens(rate, skew))
	p.client.SetFaults(w.noise)
	w.oracle.mu.Lock()
	w.processes = append(w.processes, p)
	w.oracle.byName[name] = p
	w.oracle.mu.Unlock()
	return p
}

// startManager starts one more manager.
func (w *world) startManager() *process {
	name := fmt.Sprintf("m-%d", len(w.processes))
	p := w.newProcess(name, "")
	t := w.electionFor
	m, err := NewManager(w.server.Config(name), ManagerOptions{Namespace: simNamespace, Identity: name, ElectionLease: electionLease, AuditInterval: max(w.leaseFor, time.Minute),
		ElectionTiming: ElectionTiming{LeaseDuration: t, RenewDeadline: t * 2 / 3, RetryPeriod: t / 5}})
	if err != nil {
		w.Fatal(err)
	}
	p.manager = m
	var ctx context.Context
	ctx, p.stop = context.WithCancel(w.ctx)
	w.all.Go(func() {
		defer close(p.ended)
		defer w.oracle.die(p)
		if err := m.Run(ctx); err != nil {
			w.Errorf("manager %s: %v", name, err)
		}
	})
	return p
}

// startWorker starts a process of a shard.
func (w *world) startWorker(shard string, keep bool) *process {
	name := fmt.Sprintf("%s-%d", shard, len(w.processes))
	p := w.newProcess(name, shard)
	p.keeps = keep
	cfg := w.server.Config(name)
	var err error
	p.worker, err = NewWorker(cfg, WorkerOptions{Ring: simRing, Namespace: simNamespace, ID: shard, KeepOnStop: keep, StopTimeout: w.leaseFor / 2, Load: w.plan.load})
	if err != nil {
		w.Fatal(err)
	}
	if w.seed%2 == 0 {
		p.worker.manyChildren = 0
	}
	if p.fenced, err = kubernetes.NewForConfig(p.worker.FencedConfig(cfg)); err != nil {
		w.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(p.fenced, 0, informers.WithTweakListOptions(p.worker.TweakListOptions))
	roots, children := factory.Core().V1().Secrets().Informer(), factory.Core().V1().ConfigMaps().Informer()
	if err = p.worker.Add(w.controller(p, roots, children)); err != nil {
		w.Fatal(err)
	}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(w.ctx)
	w.all.Go(func() {
		defer close(p.ended)
		defer w.oracle.die(p)
		if err := p.worker.Start(ctx); err != nil {
			w.Errorf("worker %s: %v", name, err)
		}
	})
	return p
}

// controller is what a worker serves. In some seeds it knows something that goes along with the roots.
func (w *world) controller(p *process, roots, children cache.SharedIndexInformer) Controller {
	c := Controller{
		Informer: roots, Children: map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "configmaps"}: children},
		Reconcile: w.reconciler(p, roots, children), SetAsideRetry: time.Minute, MaxBackoff: 10 * time.Second,
	}
	if w.states == nil {
		return c
	}
	l, reconcile := w.ledgers.of(p.name), c.Reconcile
	c.Reconcile = func(ctx context.Context, key types.NamespacedName) (Result, error) {
		if _, err := l.Reconcile(ctx, key); err != nil {
			return Result{}, err
		}
		return reconcile(ctx, key)
	}
	watched := watched{l, l, w.states, p.name, p.shard}
	c.State = &StateTransfer{Exporter: l, Importer: watched, Forgetter: watched, Checkpoint: w.checkpoint, InlineLimit: w.inline}
	return c
}

const (
	workAnnotation = "work" // what is to be done
	doneAnnotation = "done" // what has been done
)

// reconciler is the operator of the simulation: it makes sure that a root has its child, works for a while, and notes what it has
// done with a patch without a precondition: just what a stale owner must not be able to do.
func (w *world) reconciler(p *process, roots, children cache.SharedIndexInformer) ReconcileFunc {
	return func(ctx context.Context, key types.NamespacedName) (Result, error) {
		obj, exists, _ := roots.GetStore().GetByKey(key.String())
		if !exists {
			return Result{}, nil
		}
		root := obj.(*corev1.Secret)
		done := w.oracle.begin(p, root.UID, root.Name)
		defer done()
		name := "child-" + strings.TrimPrefix(root.Name, "root-")
		if _, has, _ := children.GetStore().GetByKey(root.Namespace + "/" + name); !has {
			if err := w.createChild(ctx, p, root, name); err != nil {
				return Result{}, err
			}
		}
		if root.Annotations[workAnnotation] == root.Annotations[doneAnnotation] {
			return Result{}, nil
		}
		select {
		case <-time.After(w.workFor(root)):
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{
			doneAnnotation: root.Annotations[workAnnotation], "by": p.name}}})
		if err != nil {
			return Result{}, err
		}
		_, err = p.fenced.CoreV1().Secrets(root.Namespace).Patch(ctx, root.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		return Result{}, err
	}
}

// workFor is how long the work on a root takes: short, or sometimes longer than the drain timeout.
func (w *world) workFor(root *corev1.Secret) time.Duration {
	var h uint64 = w.seed
	for _, c := range root.Name + root.Annotations[workAnnotation] {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	if h%4 == 0 {
		return time.Duration(h>>8) % w.longWork
	}
	return time.Duration(h>>8) % (300 * time.Millisecond)
}

func (w *world) createChild(ctx context.Context, p *process, root *corev1.Secret, name string) error {
	yes := true
	child := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: root.Namespace, OwnerReferences: []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "Secret", Name: root.Name, UID: root.UID, Controller: &yes,
	}}}}
	CopyOwner(child, root, simRing)
	_, err := p.fenced.CoreV1().ConfigMaps(root.Namespace).Create(ctx, child, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		w.oracle.childWasThere(p, root)
		return nil
	}
	return err
}

// traceLog keeps the last things that happened.
type traceLog struct {
	mu    sync.Mutex
	lines []string
}

const maxTrace = 4000

func (t *traceLog) add(at time.Duration, line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) >= maxTrace {
		t.lines = append(t.lines[:0], t.lines[maxTrace/2:]...)
	}
	t.lines = append(t.lines, fmt.Sprintf("%14s  %s", at.Round(time.Microsecond), line))
}

func (t *traceLog) last(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines[max(0, len(t.lines)-n):], "\n")
}
