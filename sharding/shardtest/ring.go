package shardtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// Ring is a ring without a manager: who owns what is what the test says. Its shards are Workers of package sharding with their real
// clients, caches, heartbeats and hand-overs; of the manager it has the writes, and none of the decisions.
//
// A shard that the test names need not exist: what is given to it is with nobody in this test. Methods may be called from any goroutine.
type Ring struct {
	server *Server
	config *shardv1.ShardConfig
}

// NewRing creates the ShardConfig on the server; its defaults are filled in. Name, namespace and targets are required, and the server has to
// have the resources that it names. A test in real time that waits for a worker to fence itself wants a short
// spec.healthCheckInterval.
func NewRing(s *Server, config *shardv1.ShardConfig) (*Ring, error) {
	if s == nil || config == nil {
		return nil, errors.New("ring: a server and a ShardConfig are required")
	}
	if err := sharding.ValidateRing(config.Name); err != nil {
		return nil, fmt.Errorf("ring: %w", err)
	}
	if config.Namespace == "" || len(config.Spec.Targets) == 0 {
		return nil, fmt.Errorf("ring %q: metadata.namespace and spec.targets are required", config.Name)
	}
	config = config.DeepCopy()
	config.SetGroupVersionKind(shardv1.SchemeGroupVersion.WithKind("ShardConfig"))
	config.SetDefaults()
	r := &Ring{s, config}
	for _, t := range config.Spec.Targets {
		if _, err := r.root(schema.GroupResource{Group: t.Group, Resource: t.Resource}); err != nil {
			return nil, err
		}
		if _, err := r.children(t); err != nil {
			return nil, err
		}
	}
	if _, err := s.memory.Create(shardv1.SchemeGroupVersion.WithResource("shardconfigs"), config); err != nil {
		return nil, fmt.Errorf("ring %q: %w", config.Name, err)
	}
	return r, nil
}

// WorkerOptions returns those of a worker that is the given shard of this ring. KeepOnStop is set, as there is no manager that
// would move the objects of a worker that stops; the test may change everything else.
func (r *Ring) WorkerOptions(id string) sharding.WorkerOptions {
	return sharding.WorkerOptions{Ring: r.config.Name, Namespace: r.config.Namespace, ID: id, KeepOnStop: true}
}

// Assign makes the shard the owner of a root, and of the children that it has by now, whoever was before: as a manager does with an object that
// had no owner, or whose owner is dead. The epoch grows by one, also if the shard has it already. An owner that lives is not asked: use
// Move for that.
func (r *Ring) Assign(resource schema.GroupResource, root types.NamespacedName, shard string) error {
	if err := sharding.ValidateShardID(shard); err != nil {
		return fmt.Errorf("assign %s: %w", root, err)
	}
	gvr, err := r.root(resource)
	if err != nil {
		return err
	}
	current := r.server.memory.Get(gvr, root.Namespace, root.Name)
	if current == nil {
		return apierrors.NewNotFound(resource, root.Name)
	}
	awaited, err := r.assignChildren(resource, current, shard)
	if err != nil {
		return err
	}
	name := r.config.Name
	_, err = r.change(gvr, root, func(object *unstructured.Unstructured) {
		labels, annotations := object.GetLabels(), object.GetAnnotations()
		labels = with(labels, sharding.OwnerLabel(name), shard)
		delete(labels, sharding.DrainLabel(name))
		delete(labels, sharding.RefusedLabel(name))
		annotations = with(annotations, sharding.EpochAnnotation(name), strconv.FormatInt(sharding.EpochOf(object, name)+1, 10))
		delete(annotations, sharding.ChildrenAnnotation(name))
		if awaited != "" {
			annotations[sharding.ChildrenAnnotation(name)] = awaited
		}
		object.SetLabels(labels)
		object.SetAnnotations(annotations)
	})
	return err
}

// assignChildren returns what the new owner has to have seen of them.
func (r *Ring) assignChildren(resource schema.GroupResource, root *unstructured.Unstructured, shard string) (awaited string, err error) {
	i := slices.IndexFunc(r.config.Spec.Targets, func(t shardv1.Target) bool { return t.Group == resource.Group && t.Resource == resource.Resource })
	kinds, err := r.children(r.config.Spec.Targets[i])
	if err != nil {
		return "", err
	}
	var parts []string
	label := sharding.OwnerLabel(r.config.Name)
	for _, kind := range kinds {
		last := int64(0)
		for _, child := range r.server.memory.List(kind, root.GetNamespace(), nil) {
			if of := metav1.GetControllerOf(child); of == nil || of.UID != root.GetUID() {
				continue
			}
			key := types.NamespacedName{Namespace: child.GetNamespace(), Name: child.GetName()}
			changed, err := r.change(kind, key, func(object *unstructured.Unstructured) {
				object.SetLabels(with(object.GetLabels(), label, shard))
			})
			switch {
			case err == nil:
				last = max(last, version(changed))
			case !apierrors.IsNotFound(err):
				return "", err
			}
		}
		if last > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", kind.GroupResource(), last))
		}
	}
	return strings.Join(parts, ","), nil
}

// Move asks the owner of a root to hand it over to the shard, as a manager does, and waits until it has. The error says what has become of
// the root if ctx is done before: an owner that does not live hands nothing over.
func (r *Ring) Move(ctx context.Context, resource schema.GroupResource, root types.NamespacedName, shard string) error {
	if err := sharding.ValidateShardID(shard); err != nil {
		return fmt.Errorf("move %s: %w", root, err)
	}
	gvr, err := r.root(resource)
	if err != nil {
		return err
	}
	owner, _ := r.Owner(resource, root)
	if owner == shard {
		return nil
	}
	label := sharding.DrainLabel(r.config.Name)
	asked := func(object *unstructured.Unstructured) { object.SetLabels(with(object.GetLabels(), label, shard)) }
	if _, err := r.change(gvr, root, asked); err != nil {
		return err
	}
	var now *unstructured.Unstructured
	err = Await(ctx, func() bool {
		now = r.server.memory.Get(gvr, root.Namespace, root.Name)
		return now == nil || now.GetLabels()[label] == ""
	})
	if err != nil {
		return fmt.Errorf("move %s to %s: shard %q has not handed it over: %w", root, shard, owner, err)
	}
	if now == nil {
		return fmt.Errorf("move %s to %s: it is gone", root, shard)
	}
	if owner, _ := sharding.OwnerOf(now, r.config.Name); owner != shard {
		return fmt.Errorf("move %s to %s: it stays with %s", root, shard, owner)
	}
	return nil
}

// Owner returns the owner of a root, and its epoch: "" and 0 if it has none, or does not exist.
func (r *Ring) Owner(resource schema.GroupResource, root types.NamespacedName) (shard string, epoch int64) {
	gvr, err := r.root(resource)
	if err != nil {
		return "", 0
	}
	object := r.server.memory.Get(gvr, root.Namespace, root.Name)
	if object == nil {
		return "", 0
	}
	shard, _ = sharding.OwnerOf(object, r.config.Name)
	return shard, sharding.EpochOf(object, r.config.Name)
}

// change writes again until nobody has written in between.
func (r *Ring) change(gvr schema.GroupVersionResource, key types.NamespacedName, change func(*unstructured.Unstructured),
) (*unstructured.Unstructured, error) {
	for {
		object := r.server.memory.Get(gvr, key.Namespace, key.Name)
		if object == nil {
			return nil, apierrors.NewNotFound(gvr.GroupResource(), key.Name)
		}
		change(object)
		if changed, err := r.server.memory.Update(gvr, object, ""); !apierrors.IsConflict(err) {
			return changed, err
		}
	}
}

// version is the resourceVersion of an object of the server in memory, which are numbers.
func version(object *unstructured.Unstructured) int64 {
	n, _ := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	return n
}

func with(set map[string]string, key, value string) map[string]string {
	if set == nil {
		set = map[string]string{}
	}
	set[key] = value
	return set
}

// root returns how the server has a target.
func (r *Ring) root(resource schema.GroupResource) (schema.GroupVersionResource, error) {
	for _, t := range r.config.Spec.Targets {
		if t.Group == resource.Group && t.Resource == resource.Resource {
			return r.served(resource)
		}
	}
	return schema.GroupVersionResource{}, fmt.Errorf("ring %q: %s is not one of its targets", r.config.Name, resource)
}

func (r *Ring) children(t shardv1.Target) ([]schema.GroupVersionResource, error) {
	var kinds []schema.GroupVersionResource
	for _, c := range t.Controlled {
		kind, err := r.served(schema.GroupResource{Group: c.Group, Resource: c.Resource})
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

func (r *Ring) served(resource schema.GroupResource) (schema.GroupVersionResource, error) {
	gvr, ok := r.server.resources[resource]
	if !ok {
		return gvr, fmt.Errorf("ring %q: the server has no %s: name it in ServerOptions.Resources", r.config.Name, resource)
	}
	return gvr, nil
}

// Await returns nil as soon as the condition is true, or the cause of ctx. It asks every few milliseconds, of virtual time in a bubble of
// testing/synctest, on the goroutine of the caller.
func Await(ctx context.Context, condition func() bool) error {
	for !condition() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}
