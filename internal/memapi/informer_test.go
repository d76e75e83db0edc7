package memapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/internal/memapi"
)

func init() {
	// The default handlers hold callers back by a rate limiter that does not know of bubbles.
	utilruntime.ErrorHandlers = nil
}

var (
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	leases     = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	instances  = schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: "shardinstances"}
)

func put(t *testing.T, s *memapi.Server, name string, labels map[string]string) {
	t.Helper()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: labels}}
	if _, err := s.Create(configMaps, object); err != nil {
		t.Fatal(err)
	}
}

// label sets or (with "") removes the label owner, through a client without faults.
func label(t *testing.T, s *memapi.Server, name, owner string) {
	t.Helper()
	value := "null"
	if owner != "" {
		value = fmt.Sprintf("%q", owner)
	}
	client := metadata.NewForConfigOrDie(s.Config("editor"))
	_, err := client.Resource(configMaps).Namespace("ns").Patch(context.Background(), name, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"owner":`+value+`}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// cached lists what an informer's store has, as name=resourceVersion.
func cached(store cache.Store) string {
	var out []string
	for _, o := range store.List() {
		m := o.(metav1.Object)
		out = append(out, m.GetName()+"="+m.GetResourceVersion())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// stored is the same for the server's objects.
func stored(s *memapi.Server, selector string) string {
	sel, _ := labels.Parse(selector)
	var out []string
	for _, o := range s.List(configMaps, "ns", sel) {
		out = append(out, o.GetName()+"="+o.GetResourceVersion())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestInformersFollow runs a typed, a dynamic and a metadata informer with a selector through two
// virtual days of changes, faults and dead watches. Each must have what the server has at the end.
func TestInformersFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(o *memapi.Options) { o.Seed, o.History = 7, 8 })
		ctx, cancel := context.WithCancel(quiet())
		s.Client("informers").SetFaults(memapi.Faults{
			Rates: map[memapi.Fault]float64{memapi.TooManyRequests: .1, memapi.Unavailable: .1, memapi.ConnectionReset: .1,
				memapi.LostResponse: .1, memapi.Hang: .05},
			MaxLatency: time.Second, WatchDrop: .4, WatchGone: .2, WatchStall: .5,
		})
		stores, wait := startInformers(ctx, t, s)
		for i := range 576 { // Every five minutes for two days.
			name := fmt.Sprintf("c%d", i%17)
			switch {
			case s.Get(configMaps, "ns", name) == nil:
				put(t, s, name, map[string]string{"owner": "a"})
			case i%5 == 0:
				if err := s.Delete(configMaps, "ns", name); err != nil {
					t.Fatal(err)
				}
			default:
				label(t, s, name, []string{"a", "b", ""}[i%3])
			}
			time.Sleep(5 * time.Minute)
		}
		s.Client("informers").SetFaults(memapi.Faults{})
		time.Sleep(2 * time.Hour)
		want := stored(s, "owner=a")
		for kind, store := range stores {
			if got := cached(store); got != want {
				t.Errorf("%s informer has %q, the server %q", kind, got, want)
			}
		}
		if want == "" {
			t.Error("nothing is selected at the end: the test shows nothing")
		}
		for fault, n := range s.Client("informers").FaultCounts() {
			t.Logf("%v: %d", fault, n)
		}
		cancel()
		wait()
	})
}

// startInformers gives the stores of three informers, and a function that waits for their end.
func startInformers(ctx context.Context, t *testing.T, s *memapi.Server) (map[string]cache.Store, func()) {
	t.Helper()
	cfg := s.Config("informers")
	tweak := func(o *metav1.ListOptions) { o.LabelSelector = "owner=a" }
	typed := informers.NewSharedInformerFactoryWithOptions(kubernetes.NewForConfigOrDie(cfg), 0,
		informers.WithNamespace("ns"), informers.WithTweakListOptions(tweak))
	dyn := dynamicinformer.NewFilteredDynamicSharedInformerFactory(dynamic.NewForConfigOrDie(cfg), 0, "ns", tweak)
	meta := metadatainformer.NewFilteredSharedInformerFactory(metadata.NewForConfigOrDie(cfg), 0, "ns", tweak)
	stores := map[string]cache.Store{
		"typed":    typed.Core().V1().ConfigMaps().Informer().GetStore(),
		"dynamic":  dyn.ForResource(configMaps).Informer().GetStore(),
		"metadata": meta.ForResource(configMaps).Informer().GetStore(),
	}
	typed.Start(ctx.Done())
	dyn.Start(ctx.Done())
	meta.Start(ctx.Done())
	return stores, func() { typed.Shutdown(); dyn.Shutdown(); meta.Shutdown() }
}

// TestStreamingListIsUsed holds that client-go takes its first state from a watch, as it does from the
// real server, and not from the list that it falls back to.
func TestStreamingListIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		put(t, s, "a", map[string]string{"owner": "a"})
		ctx, cancel := context.WithCancel(quiet())
		stores, wait := startInformers(ctx, t, s)
		synctest.Wait()
		for kind, store := range stores {
			if cached(store) != stored(s, "") {
				t.Errorf("%s informer has %q", kind, cached(store))
			}
		}
		for _, r := range s.Requests() {
			if r.Verb == "list" {
				t.Errorf("client-go fell back to a list: %+v", r)
			}
		}
		cancel()
		wait()
	})
}

// TestBookmarksKeepTheRevision holds that a quiet watch that outlives the history need not list again.
func TestBookmarksKeepTheRevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(o *memapi.Options) { o.History = 4 })
		put(t, s, "mine", map[string]string{"owner": "a"})
		put(t, s, "other", nil)
		ctx, cancel := context.WithCancel(quiet())
		stores, wait := startInformers(ctx, t, s)
		for i := range 200 { // Twenty hours, and fifty times the history.
			time.Sleep(6 * time.Minute)
			label(t, s, "other", fmt.Sprintf("x%d", i))
		}
		watches, initial := 0, 0
		for k, n := range s.RequestCounts() {
			if k.Actor == "informers" && k.Verb == "list" {
				t.Errorf("%d lists", n)
			}
		}
		for _, r := range s.Requests() {
			if r.Actor == "informers" && r.Verb == "watch" {
				watches++
			}
			if r.Query.Get("sendInitialEvents") == "true" {
				initial++
			}
		}
		if watches < 3*20 {
			t.Errorf("%d watches in 20 hours: they do not end by themselves", watches)
		}
		if initial != 3 {
			t.Errorf("%d streaming lists, want one per informer", initial)
		}
		if got, want := cached(stores["metadata"]), stored(s, "owner=a"); got != want {
			t.Errorf("cache %q, server %q", got, want)
		}
		cancel()
		wait()
	})
}

func TestDynamicClientOnCustomResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		ctx := context.Background()
		client := dynamic.NewForConfigOrDie(s.Config("a")).Resource(instances).Namespace("ns")
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "shard.io/v1", "kind": "ShardInstance",
			"metadata": map[string]any{"name": "s1"}, "spec": map[string]any{"shardId": "s1"}}}
		made, err := client.Create(ctx, u, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_ = unstructured.SetNestedField(made.Object, 0.65, "status", "load")
		made, err = client.UpdateStatus(ctx, made, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		load, _, _ := unstructured.NestedFloat64(made.Object, "status", "load")
		if made.GetGeneration() != 1 || load != 0.65 {
			t.Errorf("after the status update: %v", made.Object)
		}
		list, err := client.List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || list.Items[0].GetUID() != made.GetUID() {
			t.Errorf("list: %v, %v", list, err)
		}
	})
}

// quiet is a context whose logger says nothing: client-go logs every fault.
func quiet() context.Context { return klog.NewContext(context.Background(), klog.Logger{}) }
