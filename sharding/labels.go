package sharding

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"
)

// RingLabel is on every ShardInstance and Lease of a ring; its value is the ring's name. The Pods of the workers should have it as well: an
// autoscaler that goes by CPU time or memory finds them by it, as status.selector of the ShardConfig says.
const RingLabel = "shard.io/ring"

// OwnerLabel is the key of the label that names the owner of an object in the ring. It is the truth about
// ownership; everything else is a cache of it. The manager writes it, or the owner itself when it hands over.
func OwnerLabel(ring string) string { return "shard.io/" + ring }

// DrainLabel is the key of the label by which the manager asks the owner of a root object to hand it over; its
// value is the shard that is to get it. It is on root objects only.
func DrainLabel(ring string) string { return "drain.shard.io/" + ring }

// EpochAnnotation is the key of the annotation that counts the changes of owner of a root object. Whoever changes
// the owner increments it in the same write, so it only grows.
func EpochAnnotation(ring string) string { return "epoch.shard.io/" + ring }

// ChildrenAnnotation is the key of the annotation that says, per resource of child objects, which resourceVersion
// the owner's cache must have reached before its first reconcile of the root: else it would take children that
// it has not seen yet for missing. Whoever changes the owner writes it in the same write.
func ChildrenAnnotation(ring string) string { return "children.shard.io/" + ring }

// withdrawnAnnotation is the key of the annotation that remains on a root object when the manager takes back its request to hand it over: its value is
// the shard that was named last. Children may have gone there, or to one that was named before. Whoever changes the owner removes it.
func withdrawnAnnotation(ring string) string { return "withdrawn.shard.io/" + ring }

// ValidateRing returns an error if name can't be the name of a ring, which is a DNS label of at most 63 characters.
func ValidateRing(name string) error {
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return fmt.Errorf("ring %q: %s", name, strings.Join(problems, "; "))
	}
	return nil
}

// ValidateShardID returns an error if id can't be the name of a shard, which is a DNS label of at most 63
// characters: it is a label value and the name of a ShardInstance and of a Lease at the same time.
func ValidateShardID(id string) error {
	if problems := validation.IsDNS1123Label(id); len(problems) > 0 {
		return fmt.Errorf("shard ID %q: %s", id, strings.Join(problems, "; "))
	}
	return nil
}

// OwnerOf returns the shard that owns the object in the ring. The answer is false for an unassigned object.
// It is as fresh as obj is: an object from a cache may have moved since.
func OwnerOf(obj metav1.Object, ring string) (shard string, ok bool) {
	shard, ok = obj.GetLabels()[OwnerLabel(ring)]
	return shard, ok && shard != ""
}

// DrainTargetOf returns the shard to which the object is being handed over; false if it stays where it is.
func DrainTargetOf(obj metav1.Object, ring string) (shard string, ok bool) {
	shard, ok = obj.GetLabels()[DrainLabel(ring)]
	return shard, ok && shard != ""
}

// mayHaveLent says whether children of the root may have been given to others than its owner.
func mayHaveLent(root metav1.Object, ring string) bool {
	_, draining := DrainTargetOf(root, ring)
	return draining || wasWithdrawn(root, ring)
}

// EpochOf returns how many times the owner of the root object has changed; 0 if it never had one. An annotation
// that is not a number from 1 to 2^53 counts as 0.
func EpochOf(obj metav1.Object, ring string) int64 {
	return epochIn(obj, EpochAnnotation(ring))
}

func epochIn(obj metav1.Object, annotation string) int64 {
	return epochOf(obj.GetAnnotations()[annotation])
}

func epochOf(text string) int64 {
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil || epoch < 0 || epoch > maxEpoch {
		return 0
	}
	return epoch
}

// maxEpoch is more than anybody counts to, and can be incremented: what is above was written by somebody else.
const maxEpoch = 1 << 53

// CopyOwner gives a child the owner of its root, as is done for every child before it is created. Children without
// an owner label are found and labelled by the manager, but are not visible to the shard's filtered caches until then.
func CopyOwner(child, root metav1.Object, ring string) {
	owner, ok := OwnerOf(root, ring)
	if !ok {
		return
	}
	set := child.GetLabels()
	if set == nil {
		set = map[string]string{}
	}
	set[OwnerLabel(ring)] = owner
	child.SetLabels(set)
}

// ShardSelector selects the objects of one shard. Use its String in metav1.ListOptions.LabelSelector.
func ShardSelector(ring, shard string) labels.Selector {
	return labels.SelectorFromSet(labels.Set{OwnerLabel(ring): shard})
}

// AnyShard selects the objects that have an owner, whoever it is.
func AnyShard(ring string) labels.Selector { return selecting(OwnerLabel(ring), selection.Exists) }

// Unassigned selects the objects that have no owner. In a namespace or resource that the ring does not target, these
// are all objects.
func Unassigned(ring string) labels.Selector {
	return selecting(OwnerLabel(ring), selection.DoesNotExist)
}

// ownedByNoneOf selects the objects without an owner label and those whose owner is none of the shards.
func ownedByNoneOf(ring string, shards []string) labels.Selector {
	if len(shards) == 0 {
		return labels.Everything()
	}
	return selecting(OwnerLabel(ring), selection.NotIn, shards...)
}

// ownedByOthers selects the objects that have an owner which is not the shard.
func ownedByOthers(ring, shard string) labels.Selector {
	not, _ := selecting(OwnerLabel(ring), selection.NotEquals, shard).Requirements()
	return AnyShard(ring).Add(not...)
}

// ownedByAnyOf selects the objects of some shards. Names that no label can have are left out.
func ownedByAnyOf(ring string, shards []string) labels.Selector {
	valid := slices.DeleteFunc(slices.Clone(shards), func(shard string) bool { return len(validation.IsValidLabelValue(shard)) > 0 })
	if len(valid) == 0 { // labels.Nothing can't be sent to a server: as text it selects everything
		some, _ := selecting(OwnerLabel(ring), selection.Exists).Requirements()
		return selecting(OwnerLabel(ring), selection.DoesNotExist).Add(some...)
	}
	return selecting(OwnerLabel(ring), selection.In, valid...)
}

// selecting selects by one label; nothing, if the key or a value is not valid in a label.
func selecting(key string, op selection.Operator, values ...string) labels.Selector {
	requirement, err := labels.NewRequirement(key, op, values)
	if err != nil {
		return labels.Nothing()
	}
	return labels.NewSelector().Add(*requirement)
}

// wasWithdrawn says whether the manager has taken back a request to hand a root over since its owner changed last.
func wasWithdrawn(root metav1.Object, ring string) bool {
	return root.GetAnnotations()[withdrawnAnnotation(ring)] != ""
}
