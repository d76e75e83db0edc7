package sharding

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/sharding/scaling"
)

// ElectionTiming says how fast the managers of a namespace elect a new leader. The zero value of each field is its default.
type ElectionTiming struct {
	// LeaseDuration is how long the others wait for a leader that is silent, in whole seconds. Default 15s.
	LeaseDuration time.Duration
	// RenewDeadline is how long a leader goes on writing after the start of its last renewal. Less than LeaseDuration. Default 10s.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two attempts. Less than RenewDeadline. Default 2s.
	RetryPeriod time.Duration
}

// ManagerOptions configure a Manager. Namespace and Identity are required; the zero value of every other field is the
// documented default.
type ManagerOptions struct {
	// Namespace holds the ShardConfigs that the Manager serves, their ShardInstances and Leases, and its own Lease for the
	// election. The objects that are sharded may be anywhere.
	Namespace string
	// Identity tells the replicas apart, for people: the name of the Pod. A random suffix is added.
	Identity string
	// ElectionLease is the name of the Lease by which the replicas elect their leader. Default "shard-manager".
	ElectionLease string
	// ElectionTiming says how fast they do.
	ElectionTiming ElectionTiming
	// Strategies are those that ShardConfigs may name. Default balancer.NewRegistry().
	Strategies *balancer.Registry
	// Registerer makes the Manager's metrics visible. Default none.
	Registerer prometheus.Registerer
	// AuditLog is called with a record of every change of owner that the Manager makes, of every change of the number of shards, and of every
	// write that is refused. It is called on the goroutine
	// that wrote, after the answer and before anything follows from it, several times at once, and has to return soon.
	// It has nothing to do with the coverage audit. Default none.
	AuditLog func(AuditRecord)

	// MetricSources are what rings are scaled by besides their load, by the name of the ring. While this Manager leads, each is called every 5
	// seconds, and has 4 seconds to answer. One that fails, or whose answer can't be used, does not add shards, and keeps them from
	// being removed. Default none.
	MetricSources map[string]scaling.MetricSource

	// Concurrency is how many writes to objects of one ring are on their way at the same time. Default 16.
	Concurrency int
	// AuditRate is how many objects of one ring the coverage audit looks at per second, at most. Default 2000, which is four requests
	// of 500 objects.
	AuditRate int
	// AuditInterval is the time from the end of one pass of the audit to the beginning of the next. It is shorter while something is
	// suspected. At least 5s; default 2m.
	AuditInterval time.Duration
}

const (
	defaultElectionLease = "shard-manager"
	defaultConcurrency   = 16
)

// complete validates the options and fills in the defaults.
func (o ManagerOptions) complete() (ManagerOptions, error) {
	if problems := validation.IsDNS1123Label(o.Namespace); len(problems) > 0 {
		return o, fmt.Errorf("manager options: Namespace %q: %s", o.Namespace, strings.Join(problems, "; "))
	}
	if o.Identity == "" || strings.Contains(o.Identity, "/") {
		return o, fmt.Errorf("manager options: Identity %q: must not be empty, nor contain a slash", o.Identity)
	}
	o.ElectionLease = cmp.Or(o.ElectionLease, defaultElectionLease)
	if problems := validation.IsDNS1123Subdomain(o.ElectionLease); len(problems) > 0 {
		return o, fmt.Errorf("manager options: ElectionLease %q: %s", o.ElectionLease, strings.Join(problems, "; "))
	}
	t := &o.ElectionTiming
	t.LeaseDuration = cmp.Or(t.LeaseDuration, 15*time.Second)
	t.RenewDeadline = cmp.Or(t.RenewDeadline, 10*time.Second)
	t.RetryPeriod = cmp.Or(t.RetryPeriod, 2*time.Second)
	switch {
	case t.RetryPeriod < 0 || t.RenewDeadline < 0 || t.LeaseDuration < time.Second:
		return o, fmt.Errorf("manager options: ElectionTiming %+v: LeaseDuration must be at least 1s, and nothing negative", *t)
	case t.LeaseDuration%time.Second != 0:
		return o, fmt.Errorf("manager options: ElectionTiming.LeaseDuration is %s, must be whole seconds: a Lease can say nothing else to the others", t.LeaseDuration)
	case t.RenewDeadline >= t.LeaseDuration:
		return o, fmt.Errorf("manager options: ElectionTiming.RenewDeadline is %s, must be less than LeaseDuration, which is %s",
			t.RenewDeadline, t.LeaseDuration)
	case float64(t.RetryPeriod)*leaderelection.JitterFactor >= float64(t.RenewDeadline):
		return o, fmt.Errorf("manager options: ElectionTiming.RetryPeriod is %s, must be less than RenewDeadline/%.1f, which is %s",
			t.RetryPeriod, leaderelection.JitterFactor, time.Duration(float64(t.RenewDeadline)/leaderelection.JitterFactor))
	}
	if o.Concurrency < 0 {
		return o, fmt.Errorf("manager options: Concurrency is %d, must not be negative", o.Concurrency)
	}
	o.Concurrency = cmp.Or(o.Concurrency, defaultConcurrency)
	if o.AuditRate < 0 {
		return o, fmt.Errorf("manager options: AuditRate is %d, must not be negative", o.AuditRate)
	}
	o.AuditRate = cmp.Or(o.AuditRate, defaultAuditRate)
	if o.AuditInterval != 0 && o.AuditInterval < auditSoonest {
		return o, fmt.Errorf("manager options: AuditInterval is %s, must be at least %s", o.AuditInterval, auditSoonest)
	}
	o.AuditInterval = cmp.Or(o.AuditInterval, defaultAuditInterval)
	if o.Strategies == nil {
		o.Strategies = balancer.NewRegistry()
	}
	for ring, source := range o.MetricSources {
		if err := ValidateRing(ring); err != nil {
			return o, fmt.Errorf("manager options: MetricSources[%q]: %w", ring, err)
		}
		if source == nil {
			return o, fmt.Errorf("manager options: MetricSources[%q]: must not be nil", ring)
		}
	}
	return o, nil
}

// Manager is the control plane of all rings of a namespace. It gives objects without an owner to shards, moves objects when
// shards join or are drained, and gives the objects of dead shards to others.
//
// Any number of Managers may run; the one that is elected works, and the others wait. Nothing is lost with a Manager: all that
// its successor needs is on the objects, the ShardInstances and the Leases. A Manager keeps nothing of an object that has an
// owner, so its memory does not grow with their number.
type Manager struct {
	options  ManagerOptions
	identity string
	config   *rest.Config
	kube     kubernetes.Interface // for the election, and for Events
	metrics  *managerMetrics
	trail    *trail
	sources  map[string]*metricSource

	// Writes through these are sent only while this Manager leads.
	gate    *writeGate
	leases  coordinationv1client.LeasesGetter
	shards  versioned.Interface
	objects metadata.Interface
	// workloads is for what ShardConfigs name as their workload.
	workloads kubernetes.Interface

	leading atomic.Bool
	running atomic.Bool
	tenure  atomic.Pointer[tenure]
	ready   atomic.Pointer[term]
}

// NewManager returns a Manager, or an error that names the wrong option. It talks to nobody.
//
// The config's rate limit applies to everything that the Manager does. A config without one (QPS 0) would get client-go's
// default of 5 requests per second, which no assignment could live with: the Manager then sets none, and leaves it to
// the API server's priority and fairness. Config itself is not changed.
func NewManager(config *rest.Config, o ManagerOptions) (*Manager, error) {
	if config == nil {
		return nil, errors.New("manager: config is nil, must say how to reach the API server")
	}
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	if config.QPS == 0 && config.RateLimiter == nil {
		config.QPS = -1
	}
	m := &Manager{options: o, identity: o.Identity + "_" + rand.String(8), config: config, sources: map[string]*metricSource{}}
	for ring, source := range o.MetricSources {
		m.sources[ring] = &metricSource{MetricSource: source}
	}
	if m.metrics, err = newManagerMetrics(o.Registerer, m.Leading); err != nil {
		return nil, fmt.Errorf("manager options: %w", err)
	}
	m.trail = newTrail(o.AuditLog, m.identity)
	m.gate = &writeGate{
		open: func() bool { return m.tenure.Load().open() }, err: ErrNotLeading, refused: func() { m.metrics.fencedWrites.WithLabelValues().Inc() },
	}
	if err := m.connect(); err != nil {
		return nil, fmt.Errorf("manager: %w", err)
	}
	return m, nil
}

// connect makes the clients.
func (m *Manager) connect() error {
	var err error
	if m.kube, err = kubernetes.NewForConfig(m.config); err != nil {
		return err
	}
	guarded := m.gate.guard(m.trail.watch(m.config))
	transport, err := rest.HTTPClientFor(guarded)
	if err != nil {
		return err
	}
	if m.leases, err = coordinationv1client.NewForConfigAndClient(guarded, transport); err != nil {
		return err
	}
	if m.shards, err = versioned.NewForConfigAndClient(guarded, transport); err != nil {
		return err
	}
	if m.workloads, err = kubernetes.NewForConfigAndClient(guarded, transport); err != nil {
		return err
	}
	m.objects, err = metadata.NewForConfigAndClient(guarded, transport)
	return err
}

// Leading says whether this Manager is the leader and works. It is exact: false from the moment on at which it does not write any more,
// even in a process that was paused and has just woken up. It may be called from any goroutine.
func (m *Manager) Leading() bool { return m.leading.Load() && m.tenure.Load().open() }

// Ready is nil while the Manager does what it can: it is running, and, if it leads, knows the rings and sees their Leases. Use
// it as a readiness check (health.Check). It may be called from any goroutine and does not block.
func (m *Manager) Ready(ctx context.Context) error {
	if !m.running.Load() {
		return errors.New("the manager is not running")
	}
	if !m.leading.Load() {
		return nil
	}
	t := m.ready.Load()
	if t == nil {
		return errors.New("the manager leads, and has not seen the ShardConfigs yet")
	}
	return t.check(ctx)
}

// ErrManagerRunning is returned by a second call of Manager.Run.
var ErrManagerRunning = errors.New("the manager is running, or has run before")

// Run takes part in the election, and does the work whenever it is won. It blocks until ctx is done and everything that it started
// has ended, and then returns nil. A leadership that is lost ends all work of that term before it takes part again; one
// that is given up, because ctx is done, is given up after that, so that the next leader can begin at once.
func (m *Manager) Run(ctx context.Context) error {
	if !m.running.CompareAndSwap(false, true) {
		return ErrManagerRunning
	}
	defer m.running.Store(false)
	logger := klog.FromContext(ctx)
	for ctx.Err() == nil {
		if err := m.campaign(ctx); err != nil {
			logger.Error(err, "Election failed, will try again")
			pause(ctx, m.options.ElectionTiming.RetryPeriod)
		}
	}
	return nil
}

// campaign takes part in the election once: until it has been won and lost again, or ctx is done.
func (m *Manager) campaign(ctx context.Context) error {
	// The election outlives ctx by as long as the work needs to end.
	election, stopElection := context.WithCancel(context.WithoutCancel(ctx))
	defer stopElection()
	started, ended := make(chan struct{}), make(chan struct{})
	timing := m.options.ElectionTiming
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, m.options.Namespace, m.options.ElectionLease,
		m.kube.CoreV1(), m.kube.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: m.identity})
	if err != nil {
		return err
	}
	tenure := newTenure(m.identity, timing.RenewDeadline, m.electionLease, stopElection)
	defer tenure.end()
	m.tenure.Store(tenure)
	lock = &electionLock{Interface: lock, tenure: tenure, idle: m.gate.idle}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: m.options.ElectionLease, ReleaseOnCancel: true,
		LeaseDuration: timing.LeaseDuration, RenewDeadline: timing.RenewDeadline, RetryPeriod: timing.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				close(started)
				defer close(ended)
				m.lead(ctx, leading)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	watcher := make(chan struct{})
	go func() {
		defer close(watcher)
		select {
		case <-ctx.Done():
		case <-election.Done():
			return
		}
		select {
		case <-started:
			<-ended
		default: // not elected, or just being: the work then ends before it begins, as its context is done
		}
		stopElection()
	}()
	elector.Run(election)
	stopElection()
	<-watcher
	select {
	case <-started:
		<-ended
	default:
	}
	return nil
}

// electionLease reads the Lease of the election from storage.
func (m *Manager) electionLease(ctx context.Context) (*coordinationv1.Lease, error) {
	return m.kube.CoordinationV1().Leases(m.options.Namespace).Get(ctx, m.options.ElectionLease, metav1.GetOptions{})
}

// lead works until the leadership or ctx ends.
func (m *Manager) lead(ctx, leading context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(leading, stop)()
	m.leading.Store(true)
	defer m.leading.Store(false)
	logger := klog.FromContext(ctx)
	logger.Info("Leading", "identity", m.identity)
	failures := 0
	for ctx.Err() == nil {
		if err := m.serve(ctx); err != nil && ctx.Err() == nil {
			failures++
			logger.Error(err, "Serving the rings failed, will try again")
			pause(ctx, jitter(retryDelay(failures)))
		}
	}
	logger.Info("Not leading any more", "identity", m.identity)
}
