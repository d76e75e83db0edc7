package sharding

import (
	"encoding/json"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StateAnnotation is the key of the annotation with the processing state of a root object: on its way to a new owner, or as
// the owner's checkpoint. Only owners write it.
func StateAnnotation(ring string) string { return "state.shard.io/" + ring }

// RefusedLabel is the key of the label, and of the annotation, by which the owner of a root object says that it can't take over
// its state, or that it can't hand the object over as it can't export its state. The label's value is the owner; the annotation says
// why. They go away by themselves after ten minutes, so that it may be tried again.
func RefusedLabel(ring string) string { return "refused.shard.io/" + ring }

// UnusableAnnotation is the key of the annotation that keeps a state that nobody could use, for inspection.
func UnusableAnnotation(ring string) string { return "unusable.shard.io/" + ring }

// StateLabel is on the Secrets that hold states which are too large for an annotation; its value is the ring. Such Secrets are never
// part of a ring themselves.
const StateLabel = "shard.io/state"

// maxRefusalMessage keeps the annotation small.
const maxRefusalMessage = 512

// refusal says why an owner could not take over a state, or not hand over an object.
type refusal struct {
	By       string      `json:"by"`
	From     string      `json:"from,omitempty"`     // where the state, and so the object, comes from
	Declined string      `json:"declined,omitempty"` // the shard to which By could not hand the object over
	Epoch    int64       `json:"epoch"`              // of the object
	Reason   stateReason `json:"reason"`
	Message  string      `json:"message,omitempty"`
}

func (r *refusal) String() string {
	short := *r
	if len(short.Message) > maxRefusalMessage {
		short.Message = strings.ToValidUTF8(short.Message[:maxRefusalMessage], "")
	}
	text, err := json.Marshal(short)
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return string(text)
}

// refusalOf reads what an owner has refused; nil if nothing. Of an annotation that can't be read only the label counts.
func refusalOf(root metav1.Object, ring string) *refusal {
	by, ok := root.GetLabels()[RefusedLabel(ring)]
	if !ok {
		return nil
	}
	r := &refusal{}
	if json.Unmarshal([]byte(root.GetAnnotations()[RefusedLabel(ring)]), r) != nil || r.By != by {
		return &refusal{By: by}
	}
	return r
}
