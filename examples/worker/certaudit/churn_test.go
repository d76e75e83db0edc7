package certaudit_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/shard-io/shard-controller/examples/internal/pki"
	"github.com/shard-io/shard-controller/examples/worker/certaudit"
	"github.com/shard-io/shard-controller/internal/memapi"
	"github.com/shard-io/shard-controller/sharding"
)

var (
	churnSecrets  = flag.Int("churn.secrets", 100, "how many Secrets the simulated churn has")
	churnDuration = flag.Duration("churn.duration", 20*time.Minute, "how long it lasts, in virtual time")
	churnSeed     = flag.Uint64("churn.seed", 1, "what happens in it")
	churnLog      = flag.Bool("churn.log", false, "print what managers and workers log")
)

const (
	churnRing  = "auditor"
	churnLease = 15 * time.Second
	lookback   = 3 * time.Minute // between two certificates of one Secret: longer than any interruption
)

var (
	secretResource    = corev1.SchemeGroupVersion.WithResource("secrets")
	configMapResource = corev1.SchemeGroupVersion.WithResource("configmaps")
	eventResource     = schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}
)

// TestHistoriesSurviveChurn lets shards join, leave and die, moves be refused and rolled back, certificates be replaced and cross
// thresholds, Events expire and reports be deleted, for twenty minutes. In the end there has been one Event for each Secret, certificate and
// threshold, and the owner of every Secret knows all its certificates and all its Events.
func TestHistoriesSurviveChurn(t *testing.T) {
	utilruntime.ErrorHandlers = nil // the default one sleeps, for years in virtual time
	synctest.Test(t, func(t *testing.T) {
		c := newChurn(t)
		defer c.all.Wait()
		defer c.cancel()
		c.run(*churnDuration)
		c.judge()
	})
}

type churn struct {
	*testing.T
	server *memapi.Server
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
	random *rand.Rand
	ca     *pki.Authority

	shards  map[string]*auditShard // that are alive
	started int
	certs   map[string][]string // fingerprints by Secret, as the certificates were put in
	last    map[string]time.Time

	mu       sync.Mutex
	said     map[string]int // how often an Event was created, by its name, which stands for Secret, certificate and threshold
	saidOf   map[types.UID]int
	unsure   map[types.UID]int // Events that a shard has created right before it died
	lastSaid map[string][]said // by shard
	refusals int
	imports  int
}

// said is when an Event about a Secret was created.
type said struct {
	about types.UID
	at    time.Time
}

// unsaved is how long before its death a shard may have created an Event without having had the time to write that down.
const unsaved = 3 * time.Second

// auditShard is a process.
type auditShard struct {
	auditor *certaudit.Auditor
	client  *memapi.Client
	stop    context.CancelFunc
	ended   chan struct{}
}

func newChurn(t *testing.T) *churn {
	server, err := memapi.New(memapi.Options{Resources: append(memapi.CoreResources(), memapi.ShardResources()...), Seed: *churnSeed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	output := textlogger.Output(os.Stderr)
	if !*churnLog {
		devNull, err := os.OpenFile(filepath.Clean(os.DevNull), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = devNull.Close() })
		output = textlogger.Output(devNull)
	}
	c := &churn{
		T: t, server: server, random: rand.New(rand.NewPCG(*churnSeed, 5)), shards: map[string]*auditShard{},
		certs: map[string][]string{}, last: map[string]time.Time{}, said: map[string]int{}, saidOf: map[types.UID]int{},
		unsure: map[types.UID]int{}, lastSaid: map[string][]said{},
	}
	c.ctx, c.cancel = context.WithCancel(klog.NewContext(context.Background(), textlogger.NewLogger(textlogger.NewConfig(output))))
	if c.ca, err = pki.NewRoot("churn", pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(4000 * certaudit.Day)}); err != nil {
		t.Fatal(err)
	}
	server.OnCommit(c.committed)
	return c
}

// committed counts the Events about certificates.
func (c *churn) committed(e memapi.Event) {
	if e.Resource != eventResource || e.Old != nil || e.New == nil {
		return
	}
	if controller, _, _ := unstructured.NestedString(e.New.Object, "reportingController"); controller != certaudit.ReportingController {
		return
	}
	uid, _, _ := unstructured.NestedString(e.New.Object, "regarding", "uid")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said[e.New.GetName()]++
	c.saidOf[types.UID(uid)]++
	c.lastSaid[e.Actor] = append(c.lastSaid[e.Actor], said{types.UID(uid), time.Now()})
}

func (c *churn) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *churn) run(duration time.Duration) {
	_, err := c.server.Create(schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardconfigs"}, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "shard.io/v1", "kind": "ShardConfig", "metadata": map[string]any{"name": churnRing, "namespace": "sys"},
		"spec": map[string]any{
			"minShards": int64(1), "maxShards": int64(10), "scaleUpThreshold": 0.8, "scaleDownThreshold": 0.3,
			"loadBalanceStrategy": "consistent-hash", "healthCheckInterval": churnLease.String(),
			"handover": map[string]any{"drainTimeout": "5s", "maxInFlight": int64(200)},
			"targets":  []any{map[string]any{"resource": "secrets", "controlled": []any{map[string]any{"resource": "configmaps"}}}},
		},
	}})
	c.must(err)
	for i := range *churnSecrets {
		c.rotate(fmt.Sprintf("site-%04d", i))
	}
	manager, err := sharding.NewManager(c.server.Config("manager"), sharding.ManagerOptions{Namespace: "sys", Identity: "manager"})
	c.must(err)
	c.all.Go(func() {
		if err := manager.Run(c.ctx); err != nil {
			c.Error(err)
		}
	})
	for range 3 {
		c.join()
	}
	c.settle(time.Minute)
	for begun := time.Now(); time.Since(begun) < duration; {
		c.strike()
		c.settle(time.Duration(5+c.random.IntN(20)) * time.Second)
	}
	c.settle(12 * time.Minute) // what has been refused with nowhere to go back to is tried again after ten
}

func (c *churn) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// strike makes one thing happen to the shards, and a few to the Secrets.
func (c *churn) strike() {
	ids := c.live()
	victim := ids[c.random.IntN(len(ids))]
	switch kind := c.random.IntN(4); {
	case len(ids) < 3 || kind == 0 && len(ids) < 6:
		c.join()
	case kind == 1: // it leaves in order
		c.shards[victim].stop()
		delete(c.shards, victim)
	case kind == 2 && len(ids) > 2: // it dies
		c.shards[victim].client.SetLink(memapi.Partitioned)
		c.mu.Lock()
		for _, e := range c.lastSaid[victim] {
			if time.Since(e.at) < unsaved {
				c.unsure[e.about]++
			}
		}
		c.mu.Unlock()
		c.shards[victim].stop()
		delete(c.shards, victim)
	}
	for range 1 + *churnSecrets/20 {
		name := fmt.Sprintf("site-%04d", c.random.IntN(*churnSecrets))
		if time.Since(c.last[name]) > lookback {
			c.rotate(name)
		}
	}
	for range 1 + *churnSecrets/50 { // the user deletes a report; who owns the Secret makes it again
		_ = c.server.Delete(configMapResource, "shop", certaudit.ReportName(fmt.Sprintf("site-%04d", c.random.IntN(*churnSecrets))))
	}
	for _, event := range c.server.List(eventResource, "shop", nil) {
		if at, err := time.Parse(time.RFC3339Nano, event.Object["eventTime"].(string)); err == nil && time.Since(at) > lookback {
			c.must(c.server.Delete(eventResource, "shop", event.GetName())) // as the server does after an hour
		}
	}
}

func (c *churn) live() []string {
	var ids []string
	for id := range c.shards {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// rotate puts a certificate into a Secret that will cross one of the thresholds, or has just done so.
func (c *churn) rotate(name string) {
	left := []time.Duration{0, certaudit.Day, 7 * certaudit.Day, 30 * certaudit.Day, 90 * certaudit.Day}[c.random.IntN(5)]
	expires := time.Now().Add(left + time.Duration(c.random.IntN(10)-2)*time.Minute)
	cert, key, err := c.ca.Issue(pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: expires}, name+".example")
	c.must(err)
	secret := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key, "ca.crt": c.ca.PEM()},
	}
	if have := c.server.Get(secretResource, "shop", name); have != nil {
		secret.ObjectMeta = metav1.ObjectMeta{}
		c.must(runtime.DefaultUnstructuredConverter.FromUnstructured(have.DeepCopy().Object["metadata"].(map[string]any), &secret.ObjectMeta))
		_, err = c.server.Update(secretResource, secret, "")
	} else {
		_, err = c.server.Create(secretResource, secret)
	}
	c.must(err)
	report := certaudit.Audit(certaudit.Bundle{Certificate: cert, Key: key, CA: c.ca.PEM()}, time.Now())
	c.certs[name] = append(c.certs[name], report.Fingerprint)
	c.last[name] = time.Now()
}

// fickle refuses every twentieth state at first sight, so that its Secret goes back to where it comes from.
type fickle struct {
	sharding.Importer
	c *churn
}

func (f fickle) Import(ctx context.Context, secret types.NamespacedName, state sharding.State) error {
	f.c.mu.Lock()
	f.c.imports++
	refused := state.Epoch > 1 && (f.c.imports*2654435761)>>7%20 == 0
	if refused {
		f.c.refusals++
	}
	f.c.mu.Unlock()
	if refused {
		return sharding.TerminalError(errors.New("not this one"))
	}
	return f.Importer.Import(ctx, secret, state)
}

// join starts a shard.
func (c *churn) join() {
	c.started++
	id := fmt.Sprintf("shard-%02d", c.started)
	cfg := c.server.Config(id)
	w, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: churnRing, Namespace: "sys", ID: id})
	c.must(err)
	kube, err := kubernetes.NewForConfig(w.FencedConfig(cfg))
	c.must(err)
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(w.TweakListOptions))
	secrets, reports := factory.Core().V1().Secrets(), factory.Core().V1().ConfigMaps()
	auditor, err := certaudit.New(certaudit.Options{Ring: churnRing, Shard: id, Client: kube, Secrets: secrets.Lister(), Reports: reports.Lister()})
	c.must(err)
	state := auditor.State()
	state.Importer = fickle{state.Importer, c}
	state.Required = true // a state that is put aside would be a history lost
	c.must(w.Add(sharding.Controller{
		Informer: secrets.Informer(), Reconcile: auditor.Reconcile, State: state,
		Children: map[schema.GroupResource]cache.SharedIndexInformer{{Resource: "configmaps"}: reports.Informer()},
	}))
	ctx, stop := context.WithCancel(c.ctx)
	shard := &auditShard{auditor: auditor, client: c.server.Client(id), stop: stop, ended: make(chan struct{})}
	c.shards[id] = shard
	c.all.Go(func() {
		defer close(shard.ended)
		if err := w.Start(ctx); err != nil {
			c.Errorf("%s: %v", id, err)
		}
	})
}

func (c *churn) judge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	moves := int64(0)
	for name, n := range c.said {
		if n != 1 {
			c.Errorf("the Event %s was created %d times", name, n)
		}
	}
	for name, want := range c.certs {
		secret := c.server.Get(secretResource, "shop", name)
		moves += sharding.EpochOf(secret, churnRing)
		owner, _ := sharding.OwnerOf(secret, churnRing)
		shard := c.shards[owner]
		if shard == nil {
			c.Errorf("%s belongs to %q, which is no live shard", name, owner)
			continue
		}
		history, _ := shard.auditor.Histories().Get("shop/" + name)
		var have []string
		for _, r := range history.Rotations {
			have = append(have, r.Fingerprint)
		}
		if !slices.Equal(have, want) {
			c.Errorf("%s on %s: the history has the certificates %s, want %s", name, owner, short(have), short(want))
		}
		if n, uid := len(history.Alerts), secret.GetUID(); n > c.saidOf[uid] || n < c.saidOf[uid]-c.unsure[uid] {
			c.Errorf("%s on %s: the history has %d Events, there were %d", name, owner, len(history.Alerts), c.saidOf[secret.GetUID()])
		}
	}
	c.Logf("%d Secrets, %d shards in all, %d changes of owner, %d states imported, %d refused, %d Events", len(c.certs), c.started,
		moves, c.imports-c.refusals, c.refusals, len(c.said))
	if c.refusals == 0 || len(c.said) < len(c.certs)/2 || moves < 3*int64(len(c.certs)) {
		c.Error("too little has happened for this to prove anything")
	}
}

func short(fingerprints []string) string {
	var parts []string
	for _, f := range fingerprints {
		parts = append(parts, f[:min(len(f), 4)])
	}
	return strings.Join(parts, " ")
}
