//go:build unix

package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/examples/worker/certaudit"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	externalversions "github.com/shard-io/shard-controller/generated/informers/externalversions"
	shardlisters "github.com/shard-io/shard-controller/generated/listers/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// observer watches the ring from outside, as a user would with kubectl: the
// metadata of Secrets and reports, and the ShardInstances.
type observer struct {
	ring, namespace string
	secrets         cache.SharedIndexInformer
	reports         cache.SharedIndexInformer
	instances       shardlisters.ShardInstanceLister
	changed         atomic.Int64 // when an owner or a drain label changed last
}

// observe starts an observer and returns when it has seen what is there.
func observe(ctx context.Context, cfg *rest.Config, ringName, namespace string) (*observer, error) {
	objects, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	shards, err := versioned.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	o := &observer{ring: ringName, namespace: namespace}
	informer := func(resource, selector string) cache.SharedIndexInformer {
		return metadatainformer.NewFilteredMetadataInformer(objects, schema.GroupVersionResource{Version: "v1", Resource: resource},
			namespace, 0, cache.Indexers{}, func(l *metav1.ListOptions) { l.LabelSelector = selector }).Informer()
	}
	o.secrets, o.reports = informer("secrets", wantedLabel), informer("configmaps", certaudit.SeverityLabel)
	factory := externalversions.NewSharedInformerFactoryWithOptions(shards, 0, externalversions.WithNamespace(namespace))
	instances := factory.Shard().V1().ShardInstances()
	o.instances = instances.Lister()
	all := []cache.SharedIndexInformer{o.secrets, o.reports, instances.Informer()}
	synced := make([]cache.InformerSynced, 0, len(all))
	for _, i := range all {
		synced = append(synced, i.HasSynced)
	}
	for _, i := range all[:2] {
		if _, err := i.AddEventHandler(o.clock()); err != nil {
			return nil, err
		}
	}
	for _, i := range all {
		go i.RunWithContext(ctx)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil, errors.Join(errors.New("the API server does not answer"), context.Cause(ctx))
	}
	return o, nil
}

// clock notes when the owner of anything changes.
func (o *observer) clock() cache.ResourceEventHandler {
	tick := func() { o.changed.Store(time.Now().UnixNano()) }
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { tick() },
		DeleteFunc: func(any) { tick() },
		UpdateFunc: func(former, latest any) {
			a, aOK := former.(metav1.Object)
			b, bOK := latest.(metav1.Object)
			if aOK && bOK && o.root(a) != o.root(b) {
				tick()
			}
		},
	}
}

// lastChange is when the owner of anything was seen to change last.
func (o *observer) lastChange() time.Time { return time.Unix(0, o.changed.Load()) }

func (o *observer) root(obj metav1.Object) root {
	r := root{epoch: sharding.EpochOf(obj, o.ring)}
	r.owner, _ = sharding.OwnerOf(obj, o.ring)
	r.drain, _ = sharding.DrainTargetOf(obj, o.ring)
	return r
}

// snapshot is what there is to see now.
func (o *observer) snapshot() snapshot {
	s := snapshot{roots: map[string]root{}, children: map[string]string{}}
	for _, item := range o.secrets.GetStore().List() {
		if obj, ok := item.(metav1.Object); ok {
			s.roots[obj.GetName()] = o.root(obj)
		}
	}
	for _, item := range o.reports.GetStore().List() {
		if obj, ok := item.(metav1.Object); ok {
			if controller := metav1.GetControllerOf(obj); controller != nil {
				s.children[controller.Name] = o.root(obj).owner
			}
		}
	}
	instances, err := o.instances.ShardInstances(o.namespace).List(labels.Everything())
	if err != nil {
		return s // a cache does not fail
	}
	for _, i := range instances {
		sh := shard{id: i.Name, phase: i.Status.Phase, load: -1}
		if sh.phase == "" {
			sh.phase = "-"
		}
		if i.Status.Load != nil {
			sh.load = i.Status.Load.Float64()
		}
		s.shards = append(s.shards, sh)
	}
	return s
}
