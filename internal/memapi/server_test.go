package memapi_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/shard-io/shard-controller/internal/memapi"
)

func TestOptionsAreChecked(t *testing.T) {
	for want, resources := range map[string][]memapi.Resource{
		"Version":    {{Plural: "things", Kind: "Thing"}},
		"Plural":     {{Version: "v1", Plural: "Things", Kind: "Thing"}},
		"Kind":       {{Version: "v1", Plural: "things"}},
		"registered": {{Version: "v1", Plural: "things", Kind: "Thing"}, {Version: "v1", Plural: "things", Kind: "Thing"}},
	} {
		if _, err := memapi.New(memapi.Options{Resources: resources}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestOnCommitSeesEveryWrite(t *testing.T) {
	s := newServer(t)
	var got []string
	s.OnCommit(func(e memapi.Event) {
		change := fmt.Sprintf("%s %s old=%v new=%v", e.Actor, e.Verb, e.Old != nil, e.New != nil)
		if e.RV != int64(len(got))+2 {
			change += fmt.Sprintf(" out of order: %d", e.RV)
		}
		got = append(got, change)
	})
	maps := mapsOf(s, "a")
	if _, err := maps.Create(t.Context(), named("x"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // The second changes nothing.
		if _, err := maps.Patch(t.Context(), "x", types.MergePatchType, []byte(`{"data":{"k":"v"}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := maps.Delete(t.Context(), "x", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "y", nil)
	want := "a create old=false new=true\na patch old=true new=true\na delete old=true new=false\n create old=false new=true"
	if strings.Join(got, "\n") != want {
		t.Errorf("commits:\n%s\nwant:\n%s", strings.Join(got, "\n"), want)
	}
}

func TestAdmission(t *testing.T) {
	s := newServer(t)
	put(t, s, "x", map[string]string{"owner": "a"})
	s.Admit(func(a memapi.Admission) error {
		if a.Old != nil && a.Old.GetLabels()["owner"] != a.Request.Actor {
			return errors.New("it belongs to " + a.Old.GetLabels()["owner"])
		}
		return nil
	})
	patch := []byte(`{"metadata":{"annotations":{"a":"b"}}}`)
	dry := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	for _, options := range []metav1.PatchOptions{{}, dry} {
		_, err := mapsOf(s, "b").Patch(t.Context(), "x", types.MergePatchType, patch, options)
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "it belongs to a") {
			t.Errorf("b patches %v: %v", options.DryRun, err)
		}
	}
	if err := mapsOf(s, "b").Delete(t.Context(), "x", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("b deletes: %v", err)
	}
	before := s.Revision()
	if _, err := mapsOf(s, "a").Patch(t.Context(), "x", types.MergePatchType, patch, dry); err != nil || s.Revision() != before {
		t.Errorf("a's dry run: %v, revision %d after %d", err, s.Revision(), before)
	}
	if _, err := mapsOf(s, "a").Patch(t.Context(), "x", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Errorf("a patches: %v", err)
	}
}

func TestDiscoveryFeedsARESTMapper(t *testing.T) {
	s := newServer(t)
	client := discovery.NewDiscoveryClientForConfigOrDie(s.Config("a"))
	groups, err := restmapper.GetAPIGroupResources(client)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	for _, r := range append(memapi.CoreResources(), memapi.ShardResources()...) {
		m, err := mapper.RESTMapping(r.GVK().GroupKind())
		if err != nil || m.Resource != r.GVR() || (m.Scope.Name() == "root") != r.ClusterScoped {
			t.Errorf("%v: %+v, %v", r.GVK(), m, err)
		}
	}
	if v, err := client.ServerVersion(); err != nil || v.Minor != "37" {
		t.Errorf("version: %v, %v", v, err)
	}
}

// TestProtobufBodies holds that clients with client-go's own defaults work too.
func TestProtobufBodies(t *testing.T) {
	s := newServer(t)
	cfg := s.Config("a")
	cfg.ContentConfig = rest.ContentConfig{}
	maps := kubernetes.NewForConfigOrDie(cfg).CoreV1().ConfigMaps("ns")
	made, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Data: map[string]string{"k": "v"}}, metav1.CreateOptions{})
	if err != nil || made.Data["k"] != "v" {
		t.Fatalf("create: %v, %v", made, err)
	}
	wrong := types.UID("other")
	err = maps.Delete(t.Context(), "x", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}})
	if !apierrors.IsConflict(err) {
		t.Errorf("delete with another uid: %v", err)
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	s := newServer(t, func(o *memapi.Options) { o.StrictNamespaces = true })
	client := kubernetes.NewForConfigOrDie(s.Config("a"))
	if _, err := mapsOf(s, "a").Create(t.Context(), named("x"), metav1.CreateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("create in a missing namespace: %v", err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	held := named("held")
	held.Finalizers = []string{"memapi.test/x"}
	for _, cm := range []*corev1.ConfigMap{named("x"), held} {
		if _, err := mapsOf(s, "a").Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.CoreV1().Namespaces().Delete(t.Context(), "ns", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := mapsOf(s, "a").Create(t.Context(), named("y"), metav1.CreateOptions{})
	if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("create in a namespace that is going: %v", err)
	}
	if left, err := s.EmptyNamespace("ns"); left != 1 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
	if _, err := mapsOf(s, "a").Patch(t.Context(), "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if left, err := s.EmptyNamespace("ns"); left != 0 || err != nil || s.Get(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, "", "ns") != nil {
		t.Errorf("%d left, %v", left, err)
	}
}

// TestPagesAgainstCopies compares lists of past revisions, whole and in pages, with copies taken then.
func TestPagesAgainstCopies(t *testing.T) {
	const history = 64
	s := newServer(t, func(o *memapi.Options) { o.History = history })
	maps := mapsOf(s, "a")
	random := rand.New(rand.NewPCG(1, 2))
	copies := map[int64]string{}
	for range 500 {
		name := fmt.Sprintf("c%02d", random.IntN(20))
		if s.Get(configMaps, "ns", name) == nil {
			put(t, s, name, nil)
		} else if random.IntN(3) == 0 {
			if err := s.Delete(configMaps, "ns", name); err != nil {
				t.Fatal(err)
			}
		} else {
			label(t, s, name, fmt.Sprint("x", random.IntN(1000)))
		}
		copies[s.Revision()] = stored(s, "")
		rv := s.Revision() - random.Int64N(history)
		if rv < 2 {
			continue
		}
		var got []string
		o := metav1.ListOptions{ResourceVersion: fmt.Sprint(rv), ResourceVersionMatch: metav1.ResourceVersionMatchExact,
			Limit: 1 + random.Int64N(8)}
		for {
			page, err := maps.List(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range page.Items {
				got = append(got, item.Name+"="+item.ResourceVersion)
			}
			if page.Continue == "" {
				break
			}
			o = metav1.ListOptions{Limit: o.Limit, Continue: page.Continue}
		}
		if strings.Join(got, " ") != copies[rv] {
			t.Fatalf("as of %d:\n%s\nwant\n%s", rv, strings.Join(got, " "), copies[rv])
		}
	}
}

func TestExpiredContinue(t *testing.T) {
	s := newServer(t)
	for i := range 5 {
		put(t, s, fmt.Sprintf("c%d", i), nil)
	}
	maps := mapsOf(s, "a")
	page, err := maps.List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "c2b", nil)
	s.Compact()
	_, err = maps.List(t.Context(), metav1.ListOptions{Limit: 2, Continue: page.Continue})
	var status apierrors.APIStatus
	if !apierrors.IsResourceExpired(err) || !errors.As(err, &status) || status.Status().Continue == "" {
		t.Fatalf("continue after compaction: %v", err)
	}
	rest, err := maps.List(t.Context(), metav1.ListOptions{Continue: status.Status().Continue})
	if err != nil || len(rest.Items) != 4 {
		t.Errorf("the inconsistent rest: %v, %v", rest, err)
	}
}

func TestSlowWatchIsEnded(t *testing.T) {
	s := newServer(t, func(o *memapi.Options) { o.WatchBuffer = 10 })
	put(t, s, "x", nil)
	s.Client("a").StallWatches(1 << 40)
	w, err := mapsOf(s, "a").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		label(t, s, "x", fmt.Sprint("v", i))
	}
	if e, open := <-w.ResultChan(); open {
		t.Errorf("event %v of a watch that fell behind", e)
	}
}

func BenchmarkRawPatch(b *testing.B) {
	s := newServer(b)
	for i := range 1000 {
		if _, err := s.Create(configMaps, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("c", i)}}); err != nil {
			b.Fatal(err)
		}
	}
	client := newRaw(s)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if code := client.patch(fmt.Sprint("c", i%1000), fmt.Sprintf(`{"metadata":{"labels":{"owner":"x%d"}}}`, i)); code != 200 {
			b.Fatal(code)
		}
	}
}
