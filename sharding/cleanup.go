package sharding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	applyv1 "github.com/shard-io/shard-controller/generated/applyconfiguration/shard/v1"
)

// servedAnnotation is on a ShardConfig and names the resources whose objects may have labels of the ring: those of its targets,
// and those of former targets until they have been cleaned up.
const servedAnnotation = "shard.io/served-resources"

// specResources returns all resources of the spec as "resource.group", sorted.
func specResources(spec shardv1.ShardConfigSpec) []string {
	var list []string
	for _, target := range spec.Targets {
		list = append(list, schema.GroupResource{Group: target.Group, Resource: target.Resource}.String())
		for _, controlled := range target.Controlled {
			list = append(list, schema.GroupResource{Group: controlled.Group, Resource: controlled.Resource}.String())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// servedResources returns what the annotation says.
func servedResources(config *shardv1.ShardConfig) []string {
	return strings.FieldsFunc(config.Annotations[servedAnnotation], func(r rune) bool { return r == ',' })
}

// formerResources returns what has been served and is not in the spec any more.
func formerResources(config *shardv1.ShardConfig) []string {
	now := specResources(config.Spec)
	return slices.DeleteFunc(servedResources(config), func(r string) bool { return slices.Contains(now, r) })
}

// errOutdated: the cache does not show a ShardConfig or ShardInstance as it is. It will in a moment.
var errOutdated = errors.New("it has changed")

// claimConfig puts the finalizer, the term, and what is served from now on, on the ShardConfig before any object gets a label. It
// changes config.
func (c *ringController) claimConfig(ctx context.Context, config *shardv1.ShardConfig, former []string) error {
	served := append(specResources(config.Spec), former...)
	slices.Sort(served)
	claim := map[string]string{servedAnnotation: strings.Join(slices.Compact(served), ",")}
	if term := c.tenure.term(); term != noTerm {
		claim[managerTermAnnotation] = strconv.FormatInt(term, 10)
	}
	if slices.Contains(config.Finalizers, shardv1.CleanupFinalizer) && contains(config.Annotations, claim) {
		return nil
	}
	apply := applyv1.ShardConfig(c.ring, c.namespace).WithUID(config.UID).WithResourceVersion(config.ResourceVersion).
		WithFinalizers(shardv1.CleanupFinalizer).WithAnnotations(claim)
	written, err := c.shards.ShardV1().ShardConfigs(c.namespace).Apply(ctx, apply, applyOptions())
	if apierrors.IsConflict(err) {
		return errOutdated
	}
	if err != nil {
		return fmt.Errorf("finalizer of ShardConfig %s: %w", c.ring, err)
	}
	written.DeepCopyInto(config)
	return nil
}

// contains says whether all of part is in whole.
func contains(whole, part map[string]string) bool {
	for key, value := range part {
		if have, ok := whole[key]; !ok || have != value {
			return false
		}
	}
	return true
}

// cleanFormer takes the labels off the objects of former targets.
func (c *ringController) cleanFormer(ctx context.Context, config *shardv1.ShardConfig) error {
	former := formerResources(config)
	if len(former) == 0 {
		return nil
	}
	n, err := c.cleanAll(ctx, former)
	if err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Cleaned up former targets", "resources", former, "objects", n)
	return c.claimConfig(ctx, config, nil)
}

// tearDown ends the ring, as its ShardConfig is being deleted: all labels and annotations come off the objects, roots first, the
// ShardInstances are deleted, and then the ShardConfig may go.
func (c *ringController) tearDown(ctx context.Context, config *shardv1.ShardConfig) error {
	c.stopFinders()
	c.placer.store(nil)
	if !slices.Contains(config.Finalizers, shardv1.CleanupFinalizer) {
		return nil
	}
	resources := specResources(config.Spec)
	for _, former := range servedResources(config) {
		if !slices.Contains(resources, former) {
			resources = append(resources, former)
		}
	}
	n, err := c.cleanAll(ctx, rootsFirst(config.Spec, resources))
	if err != nil {
		return err
	}
	if err := (&stateCollector{c: c}).removeAll(ctx); err != nil {
		return err
	}
	instances, err := c.ownInstances()
	if err != nil {
		return err
	}
	for _, instance := range instances {
		err := c.shards.ShardV1().ShardInstances(c.namespace).Delete(ctx, instance.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &instance.UID, ResourceVersion: &instance.ResourceVersion},
		})
		if apierrors.IsConflict(err) {
			return errOutdated
		}
		if ignoreNotFound(err) != nil {
			return err
		}
	}
	klog.FromContext(ctx).Info("The ring is being deleted; its objects are cleaned up", "objects", n)
	c.event(corev1.EventTypeNormal, "CleanedUp", "CleanUp", "The labels of the ring are off %d objects.", n)
	_, err = c.shards.ShardV1().ShardConfigs(c.namespace).Apply(ctx,
		applyv1.ShardConfig(c.ring, c.namespace).WithUID(config.UID).WithResourceVersion(config.ResourceVersion), applyOptions())
	if apierrors.IsConflict(err) {
		return nil
	}
	return ignoreNotFound(err)
}

// rootsFirst orders resources so that those of targets come first.
func rootsFirst(spec shardv1.ShardConfigSpec, resources []string) []string {
	isRoot := func(resource string) bool {
		return slices.ContainsFunc(spec.Targets, func(t shardv1.Target) bool {
			return schema.GroupResource{Group: t.Group, Resource: t.Resource}.String() == resource
		})
	}
	slices.SortStableFunc(resources, func(a, b string) int {
		switch {
		case isRoot(a) == isRoot(b):
			return 0
		case isRoot(a):
			return -1
		}
		return 1
	})
	return resources
}

// cleanAll goes on until no object of the resources has an owner in the ring. It returns how many it cleaned. A resource
// that the API server does not serve (any more) has no objects.
func (c *ringController) cleanAll(ctx context.Context, resources []string) (cleaned int, err error) {
	if len(resources) == 0 {
		return 0, nil
	}
	mapper, err := discover(ctx, c.api)
	if err != nil {
		return 0, err
	}
	for _, name := range resources {
		resource, err := mapper.ResourceForWithContext(ctx, schema.ParseGroupResource(name).WithVersion(""))
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return cleaned, err
		}
		for {
			found, written, err := c.clean(ctx, resource)
			cleaned += written
			if err != nil {
				return cleaned, err
			}
			if found == 0 {
				break
			}
		}
	}
	return cleaned, nil
}

func (c *ringController) clean(ctx context.Context, resource schema.GroupVersionResource) (found, written int, err error) {
	writes := &batch{gate: c.gate}
	_, err = c.eachPage(ctx, resource, AnyShard(c.ring).String(), func(page []metav1.PartialObjectMetadata) error {
		for i := range page {
			object := &page[i]
			found++
			err := writes.do(ctx, func(ctx context.Context) error {
				_, err := c.patch(ctx, resource, object, clearPatch(object, c.ring))
				if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
					return nil // the next round sees what has become of it
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	failed := writes.wait()
	return found, int(writes.count.Load()), errors.Join(err, failed)
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
