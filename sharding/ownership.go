package sharding

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// Every change of ownership is a JSON merge patch of metadata that carries the resourceVersion on which the decision was
// based. A decision that was overtaken by another write is refused by the API server with 409 Conflict,
// whoever made it and however late it arrives.

// metaPatch is the part of an object's metadata that a change of ownership writes; a nil value removes its key.
type metaPatch struct {
	ResourceVersion string             `json:"resourceVersion"`
	Labels          map[string]*string `json:"labels,omitempty"`
	Annotations     map[string]*string `json:"annotations,omitempty"`
}

func (p metaPatch) bytes() []byte {
	data, err := json.Marshal(map[string]metaPatch{"metadata": p})
	if err != nil {
		panic(err) // strings and maps of strings always marshal
	}
	return data
}

// ownPatch makes owner the owner of a root: for assignment and take-over. The state that is on the root stays there for the new
// owner; what a former owner has refused does not concern it.
func ownPatch(root metav1.Object, ring, owner string, children versions) []byte {
	patch := ownChange(root, ring, owner, children)
	if _, refused := root.GetLabels()[RefusedLabel(ring)]; refused {
		patch.dropRefusal(ring)
	}
	return patch.bytes()
}

// ownChange is what assignment, hand-over and take-over have in common.
func ownChange(root metav1.Object, ring, owner string, children versions) metaPatch {
	patch := metaPatch{
		ResourceVersion: root.GetResourceVersion(),
		Labels:          map[string]*string{OwnerLabel(ring): &owner},
	}
	if _, draining := root.GetLabels()[DrainLabel(ring)]; draining {
		patch.Labels[DrainLabel(ring)] = nil
	}
	next := EpochOf(root, ring) + 1
	if planted("skip-epoch") {
		next--
	}
	if planted("drop-resource-version") {
		patch.ResourceVersion = ""
	}
	epoch := strconv.FormatInt(next, 10)
	patch.Annotations = map[string]*string{EpochAnnotation(ring): &epoch}
	if _, had := root.GetAnnotations()[withdrawnAnnotation(ring)]; had {
		patch.Annotations[withdrawnAnnotation(ring)] = nil
	}
	if len(children) > 0 && !planted("forget-children") {
		awaited := children.String()
		patch.Annotations[ChildrenAnnotation(ring)] = &awaited
	} else if _, had := root.GetAnnotations()[ChildrenAnnotation(ring)]; had {
		patch.Annotations[ChildrenAnnotation(ring)] = nil
	}
	return patch
}

// drainPatch asks the owner of a root to hand it over to target; an empty target takes the request back.
func drainPatch(root metav1.Object, ring, target string) []byte {
	return drainChange(root, ring, target).bytes()
}

func drainChange(root metav1.Object, ring, target string) metaPatch {
	if planted("move-without-asking") && target != "" {
		return ownChange(root, ring, target, nil)
	}
	patch := metaPatch{ResourceVersion: root.GetResourceVersion(), Labels: map[string]*string{DrainLabel(ring): nil}}
	if target != "" {
		patch.Labels[DrainLabel(ring)] = &target
	} else if former, draining := DrainTargetOf(root, ring); draining {
		patch.Annotations = map[string]*string{withdrawnAnnotation(ring): &former}
	}
	return patch
}

// childPatch gives a child the owner of its root.
func childPatch(child metav1.Object, ring, owner string) []byte {
	return metaPatch{ResourceVersion: child.GetResourceVersion(), Labels: map[string]*string{OwnerLabel(ring): &owner}}.bytes()
}

// clearPatch removes all that the ring has written on an object, or returns nil if there is nothing.
func clearPatch(obj metav1.Object, ring string) []byte { return clearChange(obj, ring).bytesOrNil() }

// releasePatch is clearPatch for a root that is not selected any more. Its epoch stays, so that it goes on from there when the root is
// selected again: who has seen it as a fencing token would refuse a lower one.
func releasePatch(root metav1.Object, ring string) []byte {
	patch := clearChange(root, ring)
	delete(patch.Annotations, EpochAnnotation(ring))
	return patch.bytesOrNil()
}

func clearChange(obj metav1.Object, ring string) metaPatch {
	return metaPatch{
		ResourceVersion: obj.GetResourceVersion(),
		Labels:          removals(obj.GetLabels(), OwnerLabel(ring), DrainLabel(ring), RefusedLabel(ring), PinLabel(ring), MigrationLabel(ring)),
		Annotations: removals(obj.GetAnnotations(), EpochAnnotation(ring), ChildrenAnnotation(ring), TermAnnotation(ring), withdrawnAnnotation(ring),
			StateAnnotation(ring), RefusedLabel(ring), UnusableAnnotation(ring)),
	}
}

// bytesOrNil returns nil for a patch that changes nothing.
func (p metaPatch) bytesOrNil() []byte {
	if len(p.Labels) == 0 && len(p.Annotations) == 0 {
		return nil
	}
	return p.bytes()
}

func removals(have map[string]string, keys ...string) map[string]*string {
	gone := map[string]*string{}
	for _, key := range keys {
		if _, ok := have[key]; ok {
			gone[key] = nil
		}
	}
	return gone
}

// versions maps resources of child objects, as "resource.group" or "resource", to a resourceVersion. Its text form is
// "configmaps=123,deployments.apps=456", in the order of the resources.
type versions map[string]string

func (v versions) String() string {
	parts := make([]string, 0, len(v))
	for _, resource := range slices.Sorted(maps.Keys(v)) {
		parts = append(parts, resource+"="+v[resource])
	}
	return strings.Join(parts, ",")
}

// raise notes that the cache of the resource must have reached version. Versions that can't be compared are not kept.
func (v versions) raise(resource, version string) {
	order, err := resourceversion.CompareResourceVersion(version, cmp.Or(v[resource], version))
	if err == nil && (order > 0 || v[resource] == "") {
		v[resource] = version
	}
}

// awaitedChildren reads the annotation that ownPatch wrote. Parts that are not of its form are ignored: they can only have
// been written by somebody else, and must not keep an object from being reconciled.
func awaitedChildren(root metav1.Object, ring string) versions {
	return parseVersions(root.GetAnnotations()[ChildrenAnnotation(ring)])
}

// parseVersions reads the text form. Of parts that are not of that form it keeps nothing.
func parseVersions(text string) versions {
	if text == "" {
		return nil
	}
	awaited := versions{}
	for _, part := range strings.Split(text, ",") {
		if resource, version, ok := strings.Cut(part, "="); ok {
			awaited.raise(resource, version)
		}
	}
	return awaited
}

// canCompare reports whether a resourceVersion can be compared with others.
func canCompare(version string) bool {
	_, err := resourceversion.CompareResourceVersion(version, version)
	return err == nil
}

// newerThan reports whether resourceVersion a is newer than b. Versions that can't be compared count as newer, so
// that a server with opaque versions is believed.
func newerThan(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || order > 0
}
