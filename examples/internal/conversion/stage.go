//go:build unix

package conversion

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/apis/crd"
	"github.com/shard-io/shard-controller/examples/internal/journal"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/internal/timeline"
)

// Example is an operator that exists twice: in the directories before and after of the one that the test runs in.
type Example struct {
	// Name of the operator: of its namespace, its ServiceAccount, its Lease and its ring.
	Name string
	// Root is the directory of the root module.
	Root string
	// Roots and Children are what the operator works on. Kind is that of the roots.
	Roots, Children schema.GroupVersionResource
	Kind            string
	// Witnessed are the functions that testdata/witness.go takes the place of, by the beginning of their declarations, up to the
	// parameters. It calls run by the name unwitnessedRun.
	Witnessed []string
	// Flags are for the operator, besides --kubeconfig, --namespace and --id.
	Flags []string
	// Change creates a root, or changes it so that the operator has to change its child. Each n asks for something else than n-1.
	Change func(ctx context.Context, kube kubernetes.Interface, namespace, name string, n int) error
	// Done is nil if every root of the namespace has the child that it should have.
	Done func(ctx context.Context, kube kubernetes.Interface, namespace string) error
}

const (
	// lease is the healthCheckInterval of the ring: short, and yet long enough for a machine that has other things to do.
	lease = 6 * time.Second
	// patience bounds every wait for something that is to happen at once.
	patience = 60 * time.Second
	// objects is how many roots there are.
	objects = 40
)

// stage is where an example plays. Its methods fail the test, and belong to the test's goroutine.
type stage struct {
	*testing.T
	*Example
	programs programs
	plane    *controlplane.ControlPlane
	kube     kubernetes.Interface
	dynamic  dynamic.Interface
	meta     metadata.Interface
	shards   versioned.Interface
	dir      string

	processes map[string]*child.Process
	journals  map[string]string // by the name of the process
	line      *timeline.Recorder
}

func (e *Example) newStage(t *testing.T, programs programs) *stage {
	t.Helper()
	s := &stage{
		T: t, Example: e, programs: programs, plane: controlplane.ForTest(t), dir: t.ArtifactDir(),
		processes: map[string]*child.Process{}, journals: map[string]string{},
	}
	cfg := s.plane.Config()
	var err error
	s.kube, err = kubernetes.NewForConfig(cfg)
	s.must(err)
	s.dynamic, err = dynamic.NewForConfig(cfg)
	s.must(err)
	s.meta, err = metadata.NewForConfig(cfg)
	s.must(err)
	s.shards, err = versioned.NewForConfig(cfg)
	s.must(err)
	s.must(crd.Install(t.Context(), cfg))
	_, err = s.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Name}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		s.must(err)
	}
	t.Cleanup(s.close)
	return s
}

func (s *stage) close() {
	for name, p := range s.processes {
		p.Kill()
		if s.Failed() {
			lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
			s.Logf("--- %s (status %d)\n%s", name, p.Status(), strings.Join(lines[max(0, len(lines)-25):], "\n"))
		}
	}
}

// resources are those of the kinds in the manifests.
var resources = map[string]string{
	"ServiceAccount": "serviceaccounts", "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
	"Role": "roles", "RoleBinding": "rolebindings", "ShardConfig": "shardconfigs",
}

// apply applies the manifests of the files, as an administrator does.
func (s *stage) apply(files ...string) {
	s.Helper()
	for _, file := range files {
		for _, document := range strings.Split(read(s.T, filepath.Dir(file), filepath.Base(file)), "\n---\n") {
			o := &unstructured.Unstructured{}
			s.must(yaml.UnmarshalStrict([]byte(document), &o.Object))
			if o.GetKind() == "ShardConfig" {
				s.must(unstructured.SetNestedField(o.Object, lease.String(), "spec", "healthCheckInterval"))
			}
			resource := o.GroupVersionKind().GroupVersion().WithResource(resources[o.GetKind()])
			_, err := s.dynamic.Resource(resource).Namespace(o.GetNamespace()).
				Apply(s.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "conversion", Force: true})
			if err != nil {
				s.Fatalf("%s: %s %s: %v", file, o.GetKind(), o.GetName(), err)
			}
		}
	}
}

// start starts a program as the process of a Pod of that name.
func (s *stage) start(program, account, name string, flags ...string) *child.Process {
	s.Helper()
	cfg, err := s.plane.PodConfig(s.Context(), s.Name, account, name)
	s.must(err)
	kubeconfig, err := s.plane.KubeconfigFile(cfg)
	s.must(err)
	command := child.Command{Path: program, Log: filepath.Join(s.dir, name+".log"), Args: append(flags, "--kubeconfig="+kubeconfig, "--namespace="+s.Name)}
	if program != s.programs.manager {
		file := filepath.Join(s.dir, name+".journal")
		s.must(os.WriteFile(file, nil, 0o644)) // a process that never came to write is no missing witness
		s.journals[name] = file
		command.Env = append(os.Environ(), journalEnv+"="+file, shardEnv+"="+name)
	}
	p, err := child.Start(command)
	s.must(err)
	s.processes[name] = p
	return p
}

// operator starts replicas of the operator.
func (s *stage) operator(program string, names ...string) {
	s.Helper()
	for _, name := range names {
		s.start(program, s.Name, name, append([]string{"--id=" + name}, s.Flags...)...)
	}
}

func (s *stage) manager(flags ...string) {
	s.Helper()
	s.start(s.programs.manager, "manager", "manager", append([]string{"--identity=manager"}, flags...)...)
}

// stop stops a process as a kubelet does; it has to end in order.
func (s *stage) stop(name string) {
	s.Helper()
	s.must(s.processes[name].Signal(syscall.SIGTERM))
	if status, err := s.processes[name].Wait(patience); err != nil || status != 0 {
		s.Fatalf("%s: exit status %d, %v", name, status, err)
	}
}

// change creates or changes all roots, with a pause after each.
func (s *stage) change(ctx context.Context, n int, pause time.Duration) error {
	for i := range objects {
		if err := s.Change(ctx, s.kube, s.Name, fmt.Sprintf("object-%03d", i), n); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
	return nil
}

// churn keeps all processes busy: it changes one root after the other until stop is called.
func (s *stage) churn() (stop func()) {
	ctx, cancel := context.WithCancel(s.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			if err := s.change(ctx, n, 20*time.Millisecond); err != nil && ctx.Err() == nil {
				s.Error(err)
				return
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	s.Cleanup(stop)
	return stop
}

// record follows what happens to roots and children.
func (s *stage) record() {
	ctx, cancel := context.WithCancel(context.Background())
	s.line = &timeline.Recorder{
		Client: s.meta, Ring: s.Name, Resources: []schema.GroupVersionResource{s.Roots, s.Children},
		Concerns: func(o *metav1.PartialObjectMetadata) bool { return o.Namespace == s.Name },
	}
	var running sync.WaitGroup
	running.Go(func() { s.line.Run(ctx) })
	s.Cleanup(func() { cancel(); running.Wait() })
}

// judgeLabels gives the verdict on what the API server has seen so far.
func (s *stage) judgeLabels() {
	s.Helper()
	s.must(s.line.Look(s.Context()))
	for _, violation := range s.line.Violations(s.Roots.Resource) {
		s.Error(violation)
	}
}

// judgeJournals gives the verdict on what these processes have done, all of them by default.
func (s *stage) judgeJournals(names ...string) journal.Result {
	s.Helper()
	var files []string
	for name, file := range s.journals {
		if len(names) == 0 || strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ") {
			files = append(files, file)
		}
	}
	records, err := journal.ReadFiles(files...)
	s.must(err)
	result, err := journal.Check(records)
	s.must(err)
	for _, overlap := range result.Overlaps {
		s.Errorf("two at once: %s", overlap)
	}
	return result
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// eventually waits until the condition returns nil.
func (s *stage) eventually(what string, condition func() error) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// throughout asserts that the condition holds all the time.
func (s *stage) throughout(period time.Duration, what string, condition func() error) {
	s.Helper()
	for deadline := time.Now().Add(period); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err := condition(); err != nil {
			s.Fatalf("%s: %v", what, err)
		}
	}
}
