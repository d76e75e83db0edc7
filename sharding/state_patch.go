package sharding

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// annotationChange is what a write does to one annotation: nothing, remove it, or set it.
type annotationChange struct {
	change bool
	value  *string
}

var (
	keepAnnotation   = annotationChange{}
	removeAnnotation = annotationChange{change: true}
)

func setAnnotation(value string) annotationChange { return annotationChange{true, &value} }

// handoverPatch is ownPatch with what becomes of the state, in the same write.
func handoverPatch(root metav1.Object, ring, target string, children versions, state annotationChange) []byte {
	patch := ownChange(root, ring, target, children)
	if _, had := root.GetAnnotations()[StateAnnotation(ring)]; state.change && (had || state.value != nil) {
		patch.Annotations[StateAnnotation(ring)] = state.value
	}
	if r := refusalOf(root, ring); r != nil && (r.Declined != "" || r.By == target) {
		patch.dropRefusal(ring) // it is being tried again
	}
	return patch.bytes()
}

// statePatch sets or removes the state of a root that stays with its owner.
func statePatch(root metav1.Object, ring string, state annotationChange) []byte {
	return metaPatch{
		ResourceVersion: root.GetResourceVersion(),
		Annotations:     map[string]*string{StateAnnotation(ring): state.value},
	}.bytes()
}

// refusePatch says what the owner of a root has refused.
func refusePatch(root metav1.Object, ring string, r *refusal) []byte {
	text := r.String()
	return metaPatch{
		ResourceVersion: root.GetResourceVersion(),
		Labels:          map[string]*string{RefusedLabel(ring): &r.By},
		Annotations:     map[string]*string{RefusedLabel(ring): &text},
	}.bytes()
}

// lapsePatch takes a refusal back.
func lapsePatch(root metav1.Object, ring string) []byte {
	patch := metaPatch{ResourceVersion: root.GetResourceVersion(), Labels: map[string]*string{}, Annotations: map[string]*string{}}
	patch.dropRefusal(ring)
	return patch.bytes()
}

// unusablePatch moves the state of a root to where it is kept for inspection.
func unusablePatch(root metav1.Object, ring string) []byte {
	state := root.GetAnnotations()[StateAnnotation(ring)]
	patch := metaPatch{
		ResourceVersion: root.GetResourceVersion(),
		Labels:          map[string]*string{},
		Annotations:     map[string]*string{StateAnnotation(ring): nil, UnusableAnnotation(ring): &state},
	}
	if refusalOf(root, ring) != nil {
		patch.dropRefusal(ring) // without a state there is nothing to be refused
	}
	return patch.bytes()
}

func (p *metaPatch) dropRefusal(ring string) {
	p.Labels[RefusedLabel(ring)] = nil
	p.Annotations[RefusedLabel(ring)] = nil
}
