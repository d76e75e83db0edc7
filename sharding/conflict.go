package sharding

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// overlapOf names an older ring of the namespace that shares objects with this one; "" if there is none. Rings do not know each
// other, and the labels of one mean nothing to the other: with an overlap, a shard of each acts on the same object.
func (c *ringController) overlapOf(config *shardv1.ShardConfig) string {
	configs, err := c.configs.List(labels.Everything())
	if err != nil {
		return ""
	}
	slices.SortFunc(configs, compareAge)
	for _, older := range configs {
		if older.UID == config.UID || compareAge(older, config) >= 0 {
			break
		}
		if resource, shared := sharedTarget(older.Spec.Targets, config.Spec.Targets); shared {
			return fmt.Sprintf("The older ring %s has %s as well: a shard of each may act on the same object.", older.Name, resource)
		}
	}
	return ""
}

// compareAge orders ShardConfigs from the oldest to the youngest.
func compareAge(a, b *shardv1.ShardConfig) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

func compareNames(a, b metav1.Object) int { return cmp.Compare(a.GetName(), b.GetName()) }

// sharedTarget returns a resource of which some object may be acted upon through both lists of targets.
func sharedTarget(a, b []shardv1.Target) (schema.GroupResource, bool) {
	for _, x := range a {
		for _, y := range b {
			resource := schema.GroupResource{Group: x.Group, Resource: x.Resource}
			if resource == (schema.GroupResource{Group: y.Group, Resource: y.Resource}) && !apart(x, y) {
				return resource, true
			}
			if controls(x, y) {
				return schema.GroupResource{Group: y.Group, Resource: y.Resource}, true
			}
			if controls(y, x) {
				return resource, true
			}
		}
	}
	return schema.GroupResource{}, false
}

// controls says whether objects of target b are children in a.
func controls(a, b shardv1.Target) bool {
	return slices.Contains(a.Controlled, shardv1.ControlledResource{Group: b.Group, Resource: b.Resource})
}

// apart says whether no object can be selected by both targets: they want different values of the same label.
func apart(a, b shardv1.Target) bool {
	return disjoint(a.LabelSelector, b.LabelSelector) || disjoint(a.NamespaceSelector, b.NamespaceSelector)
}

func disjoint(a, b *metav1.LabelSelector) bool {
	if a == nil || b == nil {
		return false
	}
	for key, value := range a.MatchLabels {
		if other, both := b.MatchLabels[key]; both && other != value {
			return true
		}
	}
	return false
}
