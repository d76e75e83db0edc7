package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/apis/crd"
	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/examples/internal/journal"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/internal/timeline"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// lease is the healthCheckInterval of the rings here: short, and yet long
// enough for a machine that has other things to do.
const lease = 6 * time.Second

// patience bounds every wait for something that is to happen at once.
const patience = 60 * time.Second

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)

// system is one ring in a namespace of its own, with all its processes, as
// seen from outside. The methods fail the test, and belong to its goroutine.
type system struct {
	t      *testing.T
	plane  *controlplane.ControlPlane
	admin  *rest.Config
	ns     string // the namespace, and the name of the ring
	ring   string
	dir    string
	kube   kubernetes.Interface
	shards versioned.Interface
	meta   metadata.Interface

	roots    schema.GroupVersionResource
	rootKind string
	watched  []schema.GroupVersionResource
	line     *timeline.Recorder
	watching sync.WaitGroup
	stop     context.CancelFunc // of the watches

	processes []*process
	journals  []string
	lawless   bool // the timeline is not judged
	unfenced  bool // the API server does what it is asked for
	keep      bool // local workers keep their objects when they are stopped at the end
}

// option changes the ShardConfig before it is created, or the system itself.
type option func(*system, *v1.ShardConfig)

func config(change func(*v1.ShardConfigSpec)) option {
	return func(_ *system, c *v1.ShardConfig) { change(&c.Spec) }
}

// unfenced is for tests in which somebody edits what the fence protects, or two rings share their workers' ServiceAccount.
func unfenced(s *system, _ *v1.ShardConfig) { s.unfenced = true }

// localUser is the username of a worker in the process of the test.
func (s *system) localUser(id string) string { return "local-" + s.ns + "-" + id }

// fence makes the API server refuse what manager and workers of the ring may not write.
func (s *system) fence(ring string) {
	s.t.Helper()
	c, err := s.shards.ShardV1().ShardConfigs(s.ns).Get(s.t.Context(), ring, metav1.GetOptions{})
	s.must(err)
	if len(c.Spec.Targets) == 0 {
		return
	}
	o := fence.Options{
		Managers: []string{fence.ServiceAccount(s.ns, "manager")},
		Workers:  []string{fence.ServiceAccount(s.ns, "worker")},
		Shards:   map[string]string{},
	}
	for _, id := range []string{"w-1", "w-2", "w-3"} {
		o.Shards[s.localUser(id)] = id
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	s.must(fence.Install(ctx, s.kube, c, o))
	s.t.Cleanup(func() { // or every test would make the next ones slower
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := fence.Uninstall(ctx, s.kube, s.ns, ring); err != nil {
			s.t.Error(err)
		}
	})
}

// asManager is for what the fence lets only managers do.
func (s *system) asManager() kubernetes.Interface {
	s.t.Helper()
	cfg, err := s.plane.UserConfig(fence.ServiceAccount(s.ns, "manager"), "system:masters")
	s.must(err)
	kube, err := kubernetes.NewForConfig(cfg)
	s.must(err)
	return kube
}

var prepared struct {
	sync.Mutex
	done map[*controlplane.ControlPlane]bool
}

// newSystem makes a namespace and a ring whose targets are the Secrets of the
// namespace, with ConfigMaps as children. Nothing runs yet.
func newSystem(t *testing.T, options ...option) *system {
	t.Helper()
	plane := controlplane.ForTest(t)
	prepare(t, plane)
	name := strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	name = strings.NewReplacer("/", "-", "_", "-").Replace(name)
	s := &system{
		t: t, plane: plane, admin: plane.Config(), ns: name[:min(len(name), 40)], dir: t.ArtifactDir(),
		roots: secrets, rootKind: "Secret", watched: []schema.GroupVersionResource{secrets, configMaps},
	}
	s.ring = s.ns
	var err error
	if s.kube, err = kubernetes.NewForConfig(s.admin); err != nil {
		t.Fatal(err)
	}
	if s.shards, err = versioned.NewForConfig(s.admin); err != nil {
		t.Fatal(err)
	}
	if s.meta, err = metadata.NewForConfig(s.admin); err != nil {
		t.Fatal(err)
	}
	s.createNamespace(s.ns)
	ring := s.newConfig(s.ring)
	for _, o := range options {
		o(s, ring)
	}
	s.createConfig(ring)
	if !s.unfenced {
		s.fence(s.ring)
	}
	s.record()
	t.Cleanup(s.close)
	return s
}

// prepare installs the definitions and the roles of the processes, once per control plane.
func prepare(t *testing.T, plane *controlplane.ControlPlane) {
	t.Helper()
	prepared.Lock()
	defer prepared.Unlock()
	if prepared.done[plane] {
		return
	}
	if err := crd.Install(t.Context(), plane.Config()); err != nil {
		t.Fatal(err)
	}
	if err := createRoles(t.Context(), plane.Config()); err != nil {
		t.Fatal(err)
	}
	prepared.done = map[*controlplane.ControlPlane]bool{plane: true}
}

func (s *system) createNamespace(name string) {
	s.t.Helper()
	_, err := s.kube.CoreV1().Namespaces().Create(s.t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"e2e": s.ns}},
	}, metav1.CreateOptions{})
	s.must(err)
}

// newConfig is a ring for all Secrets in the namespaces of this test.
func (s *system) newConfig(name string) *v1.ShardConfig {
	c := &v1.ShardConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns}}
	c.Spec.HealthCheckInterval = &metav1.Duration{Duration: lease}
	c.Spec.Targets = []v1.Target{{
		Resource:          "secrets",
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"e2e": s.ns}},
		Controlled:        []v1.ControlledResource{{Resource: "configmaps"}},
	}}
	return c
}

func (s *system) createConfig(c *v1.ShardConfig) {
	s.t.Helper()
	_, err := s.shards.ShardV1().ShardConfigs(s.ns).Create(s.t.Context(), c, metav1.CreateOptions{})
	s.must(err)
}

// close ends everything, and gives the verdicts.
func (s *system) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.line.Look(ctx); err != nil {
		s.t.Error(err)
	}
	s.stop()
	s.watching.Wait()
	for _, p := range s.processes {
		p.Kill()
	}
	if s.t.Failed() {
		s.dump()
	}
	if !s.lawless {
		for _, violation := range s.line.Violations(s.roots.Resource) {
			s.t.Error(violation)
		}
	}
	result := s.checkJournals()
	for _, overlap := range result.Overlaps {
		s.t.Errorf("two at once: %s", overlap)
	}
	for _, r := range result.Regressions {
		if s.lawless { // the count began anew
			break
		}
		s.t.Errorf("epoch of %s goes back: %s, then %s", r.Key, r.Earlier, r.Later)
	}
	s.t.Logf("%d reconciles of %d objects, %d moves", result.Runs, result.Objects, len(timeline.BetweenShards(s.line.Moves(s.roots.Resource))))
}

// record begins to follow what happens to the roots and children of this test.
func (s *system) record() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.line = &timeline.Recorder{Client: s.meta, Ring: s.ring, Resources: s.watched, Concerns: s.concerns}
	s.watching.Go(func() { s.line.Run(ctx) })
}

// concerns keeps the objects of other tests out.
func (s *system) concerns(o *metav1.PartialObjectMetadata) bool {
	return o.Namespace == s.ns || o.Namespace == s.ns+"-2" || o.Namespace == "" && o.Labels["e2e"] == s.ns
}

// asked says whether a move was by hand-over, and no take-over.
func asked(m timeline.Move) bool { return !m.Asked.IsZero() }

// checkJournals reads the journals of all workers so far.
func (s *system) checkJournals() journal.Result {
	s.t.Helper()
	result, err := journal.Check(s.records())
	if err != nil {
		s.t.Error(err)
	}
	return result
}

func (s *system) records() []journal.Record {
	s.t.Helper()
	records, err := journal.ReadFiles(s.journals...)
	if err != nil {
		s.t.Error(err)
	}
	return records
}

// dump shows the end of what the processes have logged.
func (s *system) dump() {
	for _, p := range s.processes {
		lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
		s.t.Logf("--- %s (process %d, status %d)\n%s", p.name, p.PID, p.Status(), strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}

func (s *system) path(name string) string { return filepath.Join(s.dir, name) }

func (s *system) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits until the condition holds: until it returns nil.
func (s *system) eventually(what string, condition func() error) {
	s.t.Helper()
	s.within(patience, what, condition)
}

func (s *system) within(limit time.Duration, what string, condition func() error) {
	s.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %s: %s: %v", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// throughout asserts that nothing happens: the condition holds all the time.
func (s *system) throughout(period time.Duration, what string, condition func() error) {
	s.t.Helper()
	for deadline := time.Now().Add(period); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err := condition(); err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
	}
}

// want makes an error of a condition that is a comparison.
func want(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
