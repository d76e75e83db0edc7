package sharding

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	listers "github.com/shard-io/shard-controller/generated/listers/shard/v1"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/internal/memapi"
	"github.com/shard-io/shard-controller/ring"
)

// BenchmarkAuditPass is one pass over 50,000 roots with a child each, as fast as it can go. B/op includes what the API server in memory
// allocates; heldB is what the auditor has at the end of the pass, with its index of the roots still in use.
func BenchmarkAuditPass(b *testing.B) {
	const objects = 50000
	server, err := memapi.New(memapi.Options{Resources: append(memapi.CoreResources(), memapi.ShardResources()...), Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	for i := range objects {
		meta := metav1.ObjectMeta{Name: fmt.Sprintf("o%05d", i), Namespace: "ns", Labels: map[string]string{OwnerLabel(simRing): fmt.Sprint("s", i%10)},
			Annotations: map[string]string{EpochAnnotation(simRing): "1"}}
		root, err := server.Create(secrets, &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta})
		if err != nil {
			b.Fatal(err)
		}
		yes := true
		meta.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: meta.Name, UID: root.GetUID(), Controller: &yes}}
		if _, err := server.Create(configMaps, &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta}); err != nil {
			b.Fatal(err)
		}
	}
	a := anAuditor(b, server)
	requests := func() int64 {
		n := int64(0)
		for _, count := range server.RequestCounts() {
			n += count
		}
		return n
	}
	before := requests()
	b.ReportAllocs()
	for b.Loop() {
		p := newAuditPass(a, auditSettings{timing: health.Timing{LeaseDuration: time.Hour}})
		if err := p.run(context.Background()); err != nil {
			b.Fatal(err)
		}
		if p.result.objects != objects || p.result.children != objects {
			b.Fatalf("%d objects and %d children", p.result.objects, p.result.children)
		}
	}
	b.ReportMetric(float64(requests()-before)/float64(b.N), "requests/op")
	b.ReportMetric(2*objects*float64(b.N)/b.Elapsed().Seconds(), "objects/s")
	index := newRootIndex()
	var was, is runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&was)
	for i := range objects {
		index.add(element(spread(uint64(i))), fmt.Sprint("s", i%10))
	}
	runtime.GC()
	runtime.ReadMemStats(&is)
	b.ReportMetric(float64(is.HeapAlloc)-float64(was.HeapAlloc), "heldB")
	runtime.KeepAlive(index)
}

// anAuditor returns one that is no part of a Manager, with Secrets as roots and ConfigMaps as children.
func anAuditor(tb testing.TB, server *memapi.Server) *auditor {
	config := server.Config("m")
	config.QPS = -1
	m, err := newManagerMetrics(nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	target := &rootTarget{resource: secrets, kind: schema.GroupKind{Kind: "Secret"}, prefix: ring.NewPrefix("", "Secret"), namespaced: true, objects: labels.Everything()}
	scope := &ringScope{ring: simRing, client: metadata.NewForConfigOrDie(config), placer: newPlacer(), gate: newGate(context.Background(), 16),
		metrics: m, namespaces: newNamespaceSets()}
	scope.targets.Store(&targetSet{roots: []*rootTarget{target}, children: []schema.GroupVersionResource{configMaps},
		byKind: map[schema.GroupKind]*rootTarget{target.kind: target}})
	c := &ringController{ringScope: scope, namespace: simNamespace, termClients: termClients{
		shards:  versioned.NewForConfigOrDie(config),
		configs: listers.NewShardConfigLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})).ShardConfigs(simNamespace),
	}}
	for i := range 10 {
		holder, now := fmt.Sprintf("s%d_1", i), metav1.NewMicroTime(time.Now())
		lease := map[string]any{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
			"metadata": map[string]any{"name": fmt.Sprint("s", i), "namespace": simNamespace, "labels": map[string]any{RingLabel: simRing}},
			"spec":     map[string]any{"holderIdentity": holder, "renewTime": now.UTC().Format(metav1.RFC3339Micro)}}
		if _, err := server.Create(leases, &unstructured.Unstructured{Object: lease}); err != nil {
			tb.Fatal(err)
		}
	}
	return &auditor{c: c, leases: kubernetes.NewForConfigOrDie(config).CoordinationV1(), rate: 1 << 30, indexed: maxRootsIndexed, parts: 1}
}
