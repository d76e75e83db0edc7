package sharding

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// attempts are writes by name, as an operator may make them.
func attempts(kube kubernetes.Interface) map[string]func(context.Context) error {
	core := kube.CoreV1()
	patch := func(gvr schema.GroupVersionResource, name string, subresources ...string) func(context.Context) error {
		return func(ctx context.Context) error {
			return core.RESTClient().Patch(types.MergePatchType).Namespace("ns").Resource(gvr.Resource).Name(name).SubResource(subresources...).
				Body([]byte(`{"metadata":{"annotations":{"touched":"yes"}}}`)).Do(ctx).Error()
		}
	}
	clear := func(gvr schema.GroupVersionResource, selector string) func(context.Context) error {
		return func(ctx context.Context) error {
			return core.RESTClient().Delete().Namespace("empty").Resource(gvr.Resource).
				VersionedParams(&metav1.ListOptions{LabelSelector: selector}, metav1.ParameterCodec).Do(ctx).Error()
		}
	}
	return map[string]func(context.Context) error{
		"patch own root":                       patch(secrets, "mine"),
		"patch status of own root":             patch(secrets, "mine", "status"),
		"patch another's root":                 patch(secrets, "theirs"),
		"patch status of another's root":       patch(secrets, "theirs", "status"),
		"patch unassigned root":                patch(secrets, "nobodys"),
		"patch root that does not exist":       patch(secrets, "fantasy"),
		"patch own child":                      patch(configMaps, "c-mine"),
		"patch another's child":                patch(configMaps, "c-theirs"),
		"patch own child of another's root":    patch(configMaps, "c-stray"),
		"patch own object without a root":      patch(configMaps, "c-free"),
		"patch child that no cache has":        patch(configMaps, "c-fantasy"),
		"delete all roots":                     clear(secrets, ""),
		"delete own roots":                     clear(secrets, "x=y,"+OwnerLabel(simRing)+"=a"),
		"delete another's roots":               clear(secrets, OwnerLabel(simRing)+"=b"),
		"delete own and another's roots":       clear(secrets, OwnerLabel(simRing)+" in (a,b)"),
		"delete all roots but another's":       clear(secrets, OwnerLabel(simRing)+"!=b"),
		"delete all children":                  clear(configMaps, "x=y"),
		"patch what the ring does not name":    patch(schema.GroupVersionResource{Version: "v1", Resource: "pods"}, "p"),
		"delete all of what it does not name":  clear(schema.GroupVersionResource{Version: "v1", Resource: "pods"}, ""),
		"dry run of a patch of another's root": func(ctx context.Context) error { return dryRun(ctx, kube) },
		"create a child":                       create(kube),
		"create a root":                        func(ctx context.Context) error { return createRoot(ctx, kube) },
		"write to a path that means nothing":   func(ctx context.Context) error { return core.RESTClient().Post().AbsPath("/nothing").Do(ctx).Error() },
		"read another's root": func(ctx context.Context) error {
			_, err := core.Secrets("ns").Get(ctx, "theirs", metav1.GetOptions{})
			return err
		},
		"delete another's root with a condition": func(ctx context.Context) error {
			return core.Secrets("ns").Delete(ctx, "theirs", metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("1")})
		},
	}
}

func dryRun(ctx context.Context, kube kubernetes.Interface) error {
	_, err := kube.CoreV1().Secrets("ns").Patch(ctx, "theirs", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func create(kube kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := kube.CoreV1().ConfigMaps("ns").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "new-"}}, metav1.CreateOptions{})
		return err
	}
}

func createRoot(ctx context.Context, kube kubernetes.Interface) error {
	_, err := kube.CoreV1().Secrets("elsewhere").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "new-"}}, metav1.CreateOptions{})
	return err
}

// fenced returns why an attempt was refused by the fence; nil if it was not, whatever the server said.
func fenced(err error) error {
	if !errors.Is(err, ErrFenced) {
		return nil
	}
	for _, why := range []error{errRingUnknown, errNotActive, errNotOwned, errNoController, errForeignRoot, errUnknownChild, errUnselective} {
		if errors.Is(err, why) {
			return why
		}
	}
	return ErrFenced
}

// judge makes all attempts. Those that want does not name must pass.
func (s *sim) judge(when string, ctx context.Context, kube kubernetes.Interface, want map[string]error) {
	s.Helper()
	all := attempts(kube)
	for name, attempt := range all {
		if got := fenced(attempt(ctx)); got != want[name] {
			s.Errorf("%s, %s: refused as %v, want %v", when, name, got, want[name])
		}
	}
	for name := range want {
		if all[name] == nil {
			s.Errorf("there is no attempt %q", name)
		}
	}
}

func TestFenceRules(t *testing.T) {
	simulate(t, func(s *sim) {
		mine, theirs := s.secret("mine", "a"), s.secret("theirs", "b")
		s.secret("nobodys", "")
		s.child("c-mine", "a", mine)
		s.child("c-theirs", "b", theirs)
		s.child("c-stray", "a", theirs)
		s.create(configMaps, map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{
			"name": "c-free", "namespace": "ns", "labels": map[string]any{OwnerLabel(simRing): "a"}}})
		inReconcile := make(chan func(context.Context))
		w := s.worker("a", func(ctx context.Context, key types.NamespacedName) (Result, error) {
			if key.Name == "mine" {
				select {
				case f := <-inReconcile:
					f(ctx)
				case <-ctx.Done():
				}
			}
			return Result{}, nil
		})
		kube, err := kubernetes.NewForConfig(w.FencedConfig(s.server.Config("a-writes")))
		if err != nil {
			t.Fatal(err)
		}
		s.settle(time.Second)
		unknown := map[string]error{}
		for name := range attempts(kube) {
			unknown[name] = errRingUnknown
		}
		delete(unknown, "read another's root")
		delete(unknown, "dry run of a patch of another's root")
		unknown["write to a path that means nothing"] = ErrFenced
		s.judge("before there is a ring", s.ctx, kube, unknown)

		s.config()
		s.settle(5 * time.Second)
		wants(s, "active", w.Active(), true)
		outside := map[string]error{
			"patch another's root": errNotOwned, "patch status of another's root": errNotOwned, "patch unassigned root": errNotOwned,
			"patch root that does not exist": errNotOwned, "delete another's root with a condition": errNotOwned,
			"patch another's child": errUnknownChild, "patch own child of another's root": errForeignRoot, "patch child that no cache has": errUnknownChild,
			"delete all roots": errUnselective, "delete another's roots": errUnselective, "delete own and another's roots": errUnselective,
			"delete all roots but another's": errUnselective, "delete all children": errUnselective,
			"write to a path that means nothing": ErrFenced,
		}
		s.judge("while it is active", s.ctx, kube, outside)
		done := make(chan struct{})
		inReconcile <- func(ctx context.Context) {
			defer close(done)
			within := map[string]error{}
			for name, why := range outside {
				if why != errUnknownChild {
					within[name] = why
				}
			}
			s.judge("in a reconcile", ctx, kube, within)
		}
		<-done

		w.client.SetLink(memapi.Partitioned)
		s.settle(simLease)
		idle := map[string]error{}
		for name, why := range unknown {
			if idle[name] = errNotActive; why != errRingUnknown {
				idle[name] = why
			}
		}
		delete(idle, "patch what the ring does not name")
		delete(idle, "delete all of what it does not name")
		s.judge("after its deadline", s.ctx, kube, idle)
	})
}

// TestFenceFollowsTheOwner: a goroutine that a reconcile left behind writes on and on.
func TestFenceFollowsTheOwner(t *testing.T) {
	simulate(t, func(s *sim) {
		s.config()
		s.child("c", "a", s.secret("o", "a"))
		w := s.worker("a", nil)
		kube, err := kubernetes.NewForConfig(w.FencedConfig(s.server.Config("a-writes")))
		if err != nil {
			t.Fatal(err)
		}
		write := func(gvr schema.GroupVersionResource, name string) error {
			return kube.CoreV1().RESTClient().Patch(types.MergePatchType).Namespace("ns").Resource(gvr.Resource).Name(name).
				Body([]byte(`{"metadata":{"annotations":{"touched":"yes"}}}`)).Do(s.ctx).Error()
		}
		s.settle(5 * time.Second)
		wants(s, "root while it is owned", write(secrets, "o"), nil)
		wants(s, "child while it is owned", write(configMaps, "c"), nil)
		s.label(secrets, "o", DrainLabel(simRing), "b")
		for range 100 { // no write gets through that the new owner would have to bear
			s.settle(time.Millisecond)
			if owner, _ := OwnerOf(s.server.Get(secrets, "ns", "o"), simRing); owner == "b" && fenced(write(secrets, "o")) == nil {
				t.Fatal("a write to a root that was handed over")
			}
		}
		wants(s, "root", s.ownership(secrets, "o"), "b@1")
		wants(s, "child after the hand-over", fenced(write(configMaps, "c")) != nil, true)
		s.edit(configs, simNamespace, simRing, set([]any{map[string]any{"resource": "pods"}, map[string]any{"resource": "secrets"}}, "spec", "targets"))
		s.settle(time.Second)
		wants(s, "target without a controller", fenced(kube.CoreV1().Pods("ns").Delete(s.ctx, "p", metav1.DeleteOptions{})), errNoController)
		wants(s, "what is controlled no more", fenced(write(configMaps, "c")), nil)
	})
}

// TestFenceBehindAPath: the config may name a server behind a path.
func TestFenceBehindAPath(t *testing.T) {
	w := &Worker{}
	cfg := w.FencedConfig(&rest.Config{Host: "https://proxy.example.org/k8s/clusters/c-1/"})
	f, ok := cfg.WrapTransport(http.DefaultTransport).(*fence)
	if !ok || f.base != "/k8s/clusters/c-1" {
		t.Errorf("base is %q, want /k8s/clusters/c-1", f.base)
	}
	if f := w.FencedConfig(&rest.Config{Host: "10.0.0.1:6443"}).WrapTransport(http.DefaultTransport).(*fence); f.base != "" {
		t.Errorf("base is %q, want none", f.base)
	}
}

// BenchmarkFence is what the fence adds to a write.
func BenchmarkFence(b *testing.B) {
	w := &Worker{options: WorkerOptions{Ring: "r", ID: "a"}}
	informer := anInformer()
	for i := range 10000 {
		object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: fmt.Sprint("o-", i), UID: types.UID(fmt.Sprint(i)), ResourceVersion: "1", Labels: map[string]string{"shard.io/r": "a"}}}
		if err := informer.GetStore().Add(object); err != nil {
			b.Fatal(err)
		}
	}
	p := benchProcessor(w, informer)
	w.processors = []*processor{p}
	scope := &fencedScope{roots: map[schema.GroupResource]*processor{{Resource: "secrets"}: p}, children: map[schema.GroupResource]bool{}}
	permit := func(what write, granted *grant) error { // as permits, of a worker that is active
		if p, isRoot := scope.roots[what.resource]; isRoot {
			return p.permits(what.key)
		}
		return nil
	}
	f := &fence{permit: permit, refused: func() {}, next: roundTripper(func(*http.Request) (*http.Response, error) { return nil, nil })}
	ctx := &grant{Context: b.Context(), session: b.Context(), worker: w, mayAct: func() bool { return true }}
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, "http://server/api/v1/namespaces/ns/secrets/o-77/status?fieldManager=x", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.RoundTrip(request); err != nil {
			b.Fatal(err)
		}
	}
}

func benchProcessor(w *Worker, informer cache.SharedIndexInformer) *processor {
	p := &processor{w: w, controller: Controller{Informer: informer}, target: &target{resource: secrets}, epochs: newEpochs("r")}
	p.roster = newRoster("r", "a", p.cached)
	return p
}
