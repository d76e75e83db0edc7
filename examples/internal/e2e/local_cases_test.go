package e2e

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/internal/timeline"
	"github.com/shard-io/shard-controller/sharding"
)

// StorageClasses are cluster-scoped; each has a ConfigMap in the test's
// namespace as its child.
func TestClusterScopedRoots(t *testing.T) {
	t.Parallel()
	classes := schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"}
	s := newSystem(t, func(s *system, c *v1.ShardConfig) {
		s.roots, s.rootKind, s.watched = classes, "StorageClass", []schema.GroupVersionResource{classes, configMaps}
		c.Spec.Targets = []v1.Target{{
			Group: classes.Group, Resource: classes.Resource,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"e2e": s.ns}},
			Controlled:    []v1.ControlledResource{{Resource: "configmaps"}},
		}}
	})
	s.startManager("manager-0")
	setup := func(l *local) error {
		lister := l.factory.Storage().V1().StorageClasses()
		return l.add(classes.Group, classes.Resource, "StorageClass", lister.Informer(),
			func(ctx context.Context, l *local, key types.NamespacedName) (sharding.Result, error) {
				root, err := lister.Lister().Get(key.Name)
				if err != nil {
					return sharding.Result{}, nil // deleted
				}
				return sharding.Result{}, l.createChild(ctx, root, schema.GroupVersionKind{Group: classes.Group, Version: "v1", Kind: "StorageClass"})
			})
	}
	s.startLocal("w-1", setup)
	for i := range 40 {
		_, err := s.kube.StorageV1().StorageClasses().Create(t.Context(), &storagev1.StorageClass{
			ObjectMeta:  metav1.ObjectMeta{Name: s.ns + "-" + string(rune('a'+i%26)) + string(rune('a'+i/26)), Labels: map[string]string{"e2e": s.ns}},
			Provisioner: "e2e.example.com/none",
		}, metav1.CreateOptions{})
		s.must(err)
	}
	s.eventually("w-1 has them all", s.ownedBy("w-1"))
	s.eventually("each has its child", s.children(40))
	second := s.startLocal("w-2", setup)
	s.eventually("w-2 has its share", s.ownedBy("w-1", "w-2"))
	s.eventually("everything is where the table has it", s.placed)
	second.stop()
	s.must(s.ownedBy("w-1")())
}

// createChild makes the child of a root as an operator does, with the label from the beginning.
func (l *local) createChild(ctx context.Context, root metav1.Object, kind schema.GroupVersionKind) error {
	child := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "child-of-" + root.GetName(), Namespace: l.s.ns, OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(root, kind)},
	}}
	sharding.CopyOwner(child, root, l.s.ring)
	_, err := l.kube.CoreV1().ConfigMaps(l.s.ns).Create(ctx, child, metav1.CreateOptions{})
	return ignoreExists(err)
}

// children says whether there are so many children.
func (s *system) children(n int) func() error {
	return func() error {
		list, err := s.kube.CoreV1().ConfigMaps(s.ns).List(s.t.Context(), metav1.ListOptions{LabelSelector: sharding.AnyShard(s.ring).String()})
		if err != nil {
			return err
		}
		return want(len(list.Items) == n, "there are %d, want %d", len(list.Items), n)
	}
}

// One object that makes its reconcile panic is set aside; the others, and the
// shards, do not suffer.
func TestPoisonIsSetAside(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.startManager("manager-0")
	setup := s.secretsOnly(func(ctx context.Context, l *local, key types.NamespacedName) (sharding.Result, error) {
		if key.Name == "poison" {
			panic("as this object wants it")
		}
		root := l.secret(key)
		if root == nil {
			return sharding.Result{}, nil
		}
		return sharding.Result{}, l.createChild(ctx, root, schema.GroupVersionKind{Version: "v1", Kind: "Secret"})
	})
	workers := map[string]*local{"w-1": s.startLocal("w-1", setup), "w-2": s.startLocal("w-2", setup)}
	s.create(s.newSecret("poison"))
	s.createSecrets("good", 30)
	s.eventually("the good ones are done", s.children(30))
	s.eventually("the poison is reported", s.setAside("poison"))
	ill, err := s.kube.CoreV1().Secrets(s.ns).Get(t.Context(), "poison", metav1.GetOptions{})
	s.must(err)
	owner, _ := sharding.OwnerOf(ill, s.ring)
	workers[owner].stop() // it can be handed over all the same
	other := map[string]string{"w-1": "w-2", "w-2": "w-1"}[owner]
	s.must(s.ownedBy(other)())
	s.createSecrets("later", 10)
	s.eventually("and the other goes on", s.children(40))
	if !workers[other].Active() {
		t.Errorf("%s is not active", other)
	}
}

// setAside says whether there is an Event of that kind about a Secret.
func (s *system) setAside(name string) func() error {
	return func() error {
		list, err := s.kube.EventsV1().Events(s.ns).List(s.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "SetAside" && e.Regarding.Name == name && strings.Contains(e.Note, "as this object wants it") {
				return nil
			}
		}
		return want(false, "no Event among %d", len(list.Items))
	}
}

// Objects are deleted while they wait to be handed over: those that are gone
// stay gone, and those with a finalizer get to the new owner, who removes it.
func TestDeletedWhileDraining(t *testing.T) {
	t.Parallel()
	s := newSystem(t, withLocalWorkersOnly)
	const finalizer = "e2e.example.com/wait"
	s.startManager("manager-0")
	release := make(chan struct{}) // w-1 is in the middle of every reconcile until then
	var mu sync.Mutex
	finalized := map[string]string{}
	setup := func(holds bool) func(*local) error {
		return s.secretsOnly(func(ctx context.Context, l *local, key types.NamespacedName) (sharding.Result, error) {
			if holds {
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			root := l.secret(key)
			if root == nil || root.DeletionTimestamp == nil || !slices.Contains(root.Finalizers, finalizer) {
				return sharding.Result{}, nil
			}
			mu.Lock()
			finalized[key.Name] = l.id
			mu.Unlock()
			_, err := l.kube.CoreV1().Secrets(key.Namespace).Patch(ctx, key.Name, types.MergePatchType,
				[]byte(`{"metadata":{"resourceVersion":"`+root.ResourceVersion+`","finalizers":null}}`), metav1.PatchOptions{})
			return sharding.Result{}, err
		})
	}
	s.startLocal("w-1", setup(true))
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		s.create(s.newSecret("plain-" + name))
		final := s.newSecret("final-" + name)
		final.Finalizers = []string{finalizer}
		s.create(final)
	}
	s.eventually("w-1 has them all", s.ownedBy("w-1"))
	s.startLocal("w-2", setup(false))
	s.eventually("some are to move", func() error {
		owners, err := s.owners()
		return firstError(err, want(owners["moving"] >= 4, "owners are %v", owners))
	})
	s.throughout(time.Second, "they wait for their reconciles in flight", func() error {
		moves := timeline.BetweenShards(s.line.Moves("secrets"))
		return want(len(moves) == 0, "%d were handed over", len(moves))
	})
	moving, err := s.meta.Resource(secrets).Namespace(s.ns).List(t.Context(), metav1.ListOptions{LabelSelector: sharding.DrainLabel(s.ring)})
	s.must(err)
	for _, o := range moving.Items {
		s.must(s.kube.CoreV1().Secrets(s.ns).Delete(t.Context(), o.Name, metav1.DeleteOptions{}))
	}
	time.AfterFunc(time.Second, func() { close(release) })
	for _, o := range moving.Items {
		s.eventually(o.Name+" is gone", func() error {
			_, err := s.kube.CoreV1().Secrets(s.ns).Get(t.Context(), o.Name, metav1.GetOptions{})
			return want(apierrors.IsNotFound(err), "it is there, or: %v", err)
		})
	}
	s.eventually("the rest is where the table has it", s.placed)
	s.eventually("nothing is left on its way", func() error {
		owners, err := s.owners()
		return firstError(err, want(owners["moving"] == 0 && owners[""] == 0, "owners are %v", owners))
	})
	mu.Lock()
	defer mu.Unlock()
	for _, o := range moving.Items {
		if strings.HasPrefix(o.Name, "final-") && finalized[o.Name] == "" {
			t.Errorf("%s is gone, and nobody finalized it", o.Name)
		}
	}
}
