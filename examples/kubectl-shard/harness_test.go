package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/applyconfiguration"
	shardscheme "github.com/shard-io/shard-controller/generated/clientset/versioned/scheme"
	"github.com/shard-io/shard-controller/internal/memapi"
	"github.com/shard-io/shard-controller/sharding"
)

var update = flag.Bool("update", false, "rewrite the files under testdata")

// golden compares a text with a file under testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs, -update rewrites it:\n%s", path, got)
	}
}

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	rings      = schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardconfigs"}
	shardsOf   = schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardinstances"}
	migrations = schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardmigrations"}
)

// world is an API server in memory, in virtual time, with real Managers and Workers where a test starts them. The ring "r" is in the namespace
// sys, its objects are the Secrets of the namespace ns, with ConfigMaps as children.
type world struct {
	*testing.T
	server *memapi.Server
	ctx    context.Context
	all    sync.WaitGroup
}

func inMemory(t *testing.T, f func(w *world)) {
	t.Helper()
	utilruntime.ErrorHandlers = nil // the default one sleeps, for years in virtual time
	synctest.Test(t, func(t *testing.T) {
		server, err := memapi.New(memapi.Options{
			Resources: append(memapi.CoreResources(), memapi.ShardResources()...), Seed: 1,
			TypeConverters: map[string]managedfields.TypeConverter{shardv1.GroupName: applyconfiguration.NewTypeConverter(shardscheme.Scheme)},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		quiet := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(new(bytes.Buffer)), textlogger.Verbosity(-1)))
		ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), quiet))
		w := &world{T: t, server: server, ctx: ctx}
		defer w.all.Wait()
		defer cancel()
		f(w)
	})
}

func (w *world) create(resource schema.GroupVersionResource, object map[string]any) *unstructured.Unstructured {
	w.Helper()
	created, err := w.server.Create(resource, &unstructured.Unstructured{Object: object})
	if err != nil {
		w.Fatal(err)
	}
	return created
}

func metadataOf(namespace, name string, more ...any) map[string]any {
	m := map[string]any{"name": name}
	if namespace != "" {
		m["namespace"] = namespace
	}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = more[i+1]
	}
	return m
}

// ring creates the ShardConfig; spec changes what it asks for.
func (w *world) ring(name string, spec map[string]any) {
	w.Helper()
	full := map[string]any{
		"healthCheckInterval": "15s", "loadBalanceStrategy": "consistent-hash",
		"handover": map[string]any{"drainTimeout": "5s", "maxInFlight": int64(200)},
		// Else the manager evens out the load by itself, and the tests count objects.
		"rebalance": map[string]any{"dryRun": true},
		"targets":   []any{map[string]any{"resource": "secrets", "controlled": []any{map[string]any{"resource": "configmaps"}}}},
	}
	for key, value := range spec {
		full[key] = value
	}
	w.create(rings, map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardConfig", "metadata": metadataOf("sys", name), "spec": full})
}

// root creates a Secret, and a ConfigMap that it controls.
func (w *world) root(name string, more ...any) *unstructured.Unstructured {
	w.Helper()
	root := w.create(secrets, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": metadataOf("ns", name, more...)})
	w.create(configMaps, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadataOf("ns", name+"-child",
		"ownerReferences", []any{map[string]any{"apiVersion": "v1", "kind": "Secret", "name": name, "uid": string(root.GetUID()), "controller": true}})})
	return root
}

// edit changes an object behind everybody's back.
func (w *world) edit(resource schema.GroupVersionResource, namespace, name string, change func(*unstructured.Unstructured)) {
	w.Helper()
	object := w.server.Get(resource, namespace, name).DeepCopy()
	change(object)
	if _, err := w.server.Update(resource, object, ""); err != nil {
		w.Fatal(err)
	}
}

// label sets a label of a Secret or ConfigMap in ns; an empty value removes it.
func (w *world) label(resource schema.GroupVersionResource, name, key, value string) {
	w.Helper()
	w.edit(resource, "ns", name, func(o *unstructured.Unstructured) {
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		if labels[key] = value; value == "" {
			delete(labels, key)
		}
		o.SetLabels(labels)
	})
}

// manager starts one; the function it returns kills it.
func (w *world) manager(name string) (kill func()) {
	w.Helper()
	m, err := sharding.NewManager(w.server.Config(name), sharding.ManagerOptions{Namespace: "sys", Identity: name})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	w.all.Go(func() { _ = m.Run(ctx) })
	return func() { w.server.Client(name).SetLink(memapi.Partitioned); cancel() }
}

// worker starts one that does nothing with its objects; the function it returns kills it.
func (w *world) worker(id string) (kill func()) {
	w.Helper()
	cfg := w.server.Config(id)
	worker, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Ring: "r", Namespace: "sys", ID: id, Version: "v1"})
	if err != nil {
		w.Fatal(err)
	}
	kube, err := kubernetes.NewForConfig(worker.FencedConfig(cfg))
	if err != nil {
		w.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithTweakListOptions(worker.TweakListOptions))
	err = worker.Add(sharding.Controller{
		Informer:  factory.Core().V1().Secrets().Informer(),
		Children:  sharding.Children{{Resource: "configmaps"}: cache.SharedIndexInformer(factory.Core().V1().ConfigMaps().Informer())},
		Reconcile: func(context.Context, types.NamespacedName) (sharding.Result, error) { return sharding.Result{}, nil },
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	w.all.Go(func() { _ = worker.Start(ctx) })
	return func() { w.server.Client(id).SetLink(memapi.Partitioned); cancel() }
}

// settle lets time pass, and everything that is due happen.
func (w *world) settle(d time.Duration) { time.Sleep(d); synctest.Wait() }

// result is what a run of the program has come to.
type result struct {
	code     int
	out, err string
}

// run runs the program as a user whose context has the namespace sys.
func (w *world) run(args ...string) result { return w.runFor(w.ctx, args...) }

func (w *world) runFor(ctx context.Context, args ...string) result {
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs, dial: w.dial}
	code := a.run(ctx, args)
	return result{code, out.String(), errs.String()}
}

func (w *world) dial(o *options) (*cluster, error) {
	return newCluster(w.server.Config("user"), cmp.Or(o.namespace, "sys"))
}

// session is what a command runs with, for tests that need one that no command line makes.
func (w *world) session() (*session, *bytes.Buffer) {
	w.Helper()
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: new(bytes.Buffer), dial: w.dial}
	s := &session{app: a, progress: &progress{out: a.stderr}}
	var err error
	if s.cluster, err = a.dial(&s.options); err != nil {
		w.Fatal(err)
	}
	return s, &out
}

// expect runs the program, and wants an exit code and texts in what it prints.
func (w *world) expect(code int, args string, texts ...string) result {
	w.Helper()
	r := w.run(strings.Fields(args)...)
	if r.code != code {
		w.Errorf("%s: exit code %d, want %d\n%s%s", args, r.code, code, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			w.Errorf("%s: %q is missing in\n%s%s", args, text, r.out, r.err)
		}
	}
	return r
}

// populate creates n roots with a child each.
func (w *world) populate(n int) {
	w.Helper()
	w.create(namespaces, map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": metadataOf("", "ns")})
	for i := range n {
		w.root(fmt.Sprintf("tls-%03d", i))
	}
}

// busy is a ring with a manager, workers and objects, when everything has settled.
func (w *world) busy(objects int, workers ...string) (kill map[string]func()) {
	w.Helper()
	w.ring("r", nil)
	w.populate(objects)
	kill = map[string]func(){"manager": w.manager("m")}
	for _, id := range workers {
		kill[id] = w.worker(id)
	}
	w.settle(time.Minute)
	return kill
}
