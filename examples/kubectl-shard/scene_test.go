package main

import (
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/ring"
)

// noon is when the golden files are written.
var noon = time.Date(2030, 1, 15, 12, 0, 0, 0, time.UTC)

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(noon.Add(-90 * time.Second))}
}

// scene is a ring of plain values: the shards a, b and c are alive with a third of the slots each, d is silent, e is lost, and f has never been
// seen.
func scene() *ringFacts {
	load := must(shardv1.RatioFrom(0.42))
	f := &ringFacts{
		config: &shardv1.ShardConfig{
			ObjectMeta: metav1.ObjectMeta{Namespace: "audit", Name: "auditor", Annotations: map[string]string{termAnnotation: "3"}},
			Spec:       shardv1.ShardConfigSpec{Targets: []shardv1.Target{{Resource: "secrets"}}},
			Status: shardv1.ShardConfigStatus{
				Shards: 4, ReadyShards: 3, UnownedObjects: 2, RingGeneration: 7, Load: &load,
				Conditions: []metav1.Condition{
					condition(shardv1.ConditionReady, metav1.ConditionTrue, "Serving", "Objects are assigned to shards."),
					condition(shardv1.ConditionReconciling, metav1.ConditionTrue, "Moving", "Objects are being given to other shards."),
					condition(shardv1.ConditionCovered, metav1.ConditionFalse, "Gaps", "2 unassigned, such as secrets shop/x."),
				},
			},
		},
		leases: map[string]*coordinationv1.Lease{},
	}
	table := must(ring.New([]ring.Member{{ID: "a", Weight: 1}, {ID: "b", Weight: 1}, {ID: "c", Weight: 1}}))
	ready := map[string]metav1.Condition{
		"d": condition(shardv1.ConditionReady, metav1.ConditionUnknown, shardv1.ReasonLeaseSilent, "The shard has not renewed its Lease lately."),
		"e": condition(shardv1.ConditionReady, metav1.ConditionFalse, shardv1.ReasonLeaseExpired, "The shard did not renew its Lease in time; its objects go to others."),
	}
	for i, id := range []string{"a", "b", "c", "d", "e", "f"} {
		instance := shardv1.ShardInstance{
			ObjectMeta: metav1.ObjectMeta{Namespace: "audit", Name: id, Generation: 1},
			Spec:       shardv1.ShardInstanceSpec{ShardID: id, Ring: "auditor", Weight: 1},
			Status:     shardv1.ShardInstanceStatus{AssignedResourceCount: int64(100 * (i + 1)), Version: "v1.2.3"},
		}
		for _, r := range table.Ranges(id) {
			instance.Spec.HashRanges = append(instance.Spec.HashRanges, shardv1.HashRange{Start: int64(r.Start), End: int64(r.End)})
		}
		switch c, known := ready[id]; {
		case known:
			instance.Status.Conditions = append(instance.Status.Conditions, c)
		case id != "f":
			instance.Status.Load = &load
			instance.Status.Conditions = append(instance.Status.Conditions, condition(shardv1.ConditionReady, metav1.ConditionTrue, shardv1.ReasonAlive, ""))
		}
		f.instances = append(f.instances, instance)
		if id != "f" {
			holder, renewed := id+"_1234", metav1.NewMicroTime(noon.Add(-time.Duration(i+1)*time.Second))
			f.leases[id] = &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &renewed}}
		}
	}
	manager := "manager/m-0"
	f.leases["e"].Spec.HolderIdentity = &manager
	return f
}

// secretsTarget are the Secrets of all namespaces, with ConfigMaps as children.
func secretsTarget() *target {
	return &target{
		resource: schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, kind: schema.GroupKind{Kind: "Secret"},
		prefix: ring.NewPrefix("", "Secret"), namespaced: true, objects: labels.Everything(),
		children: []schema.GroupVersionResource{{Version: "v1", Resource: "configmaps"}},
	}
}

// object makes one of what is written on it: labels as "key=value", annotations as "@key=value". R stands for the ring.
func object(name string, written ...string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{}, Annotations: map[string]string{},
	}}
	for _, w := range written {
		key, value, _ := strings.Cut(w, "=")
		key = strings.ReplaceAll(key, "/R", "/auditor")
		if annotation, ok := strings.CutPrefix(key, "@"); ok {
			o.Annotations[annotation] = value
		} else {
			o.Labels[key] = value
		}
	}
	return o
}

// must is for what can't fail in a test.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
