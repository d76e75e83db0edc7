package sharding

import (
	"encoding/json"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TermAnnotation is the key of the annotation that says in which term of the manager a root or child was last written by a manager.
// A term is the leaseTransitions of the managers' election Lease: it changes whenever another leads. A manager that comes across a
// later term than its own asks who leads before it writes, and an admission policy can refuse what is not of the present term.
func TermAnnotation(ring string) string { return "term.shard.io/" + ring }

// managerTermAnnotation is on a ShardConfig and says the term of the manager that serves the ring. A leader writes it before anything
// else of the ring.
const managerTermAnnotation = "shard.io/manager-term"

// termOf returns the term of the manager that wrote obj last, noTerm if there is none.
func termOf(obj metav1.Object, ring string) int64 {
	return parseTerm(obj.GetAnnotations()[TermAnnotation(ring)])
}

// parseTerm takes what is no number for no term: nobody but users writes that.
func parseTerm(text string) int64 {
	term, err := strconv.ParseInt(text, 10, 32) // leaseTransitions is an int32
	if err != nil || term < 0 {
		return noTerm
	}
	return term
}

// stamped adds the term to a patch of an object's metadata. A patch that takes the owner label off leaves no term on the object
// either.
func stamped(patch []byte, ring string, term int64) []byte {
	var tree, metadata map[string]json.RawMessage
	if term == noTerm || json.Unmarshal(patch, &tree) != nil || json.Unmarshal(tree["metadata"], &metadata) != nil {
		return patch
	}
	var labels map[string]*string
	if raw, ok := metadata["labels"]; ok && json.Unmarshal(raw, &labels) != nil {
		return patch
	}
	if owner, written := labels[OwnerLabel(ring)]; written && owner == nil {
		return patch
	}
	annotations := map[string]*string{}
	if raw, ok := metadata["annotations"]; ok && json.Unmarshal(raw, &annotations) != nil {
		return patch
	}
	text := strconv.FormatInt(term, 10)
	annotations[TermAnnotation(ring)] = &text
	metadata["annotations"] = mustMarshal(annotations)
	tree["metadata"] = mustMarshal(metadata)
	return mustMarshal(tree)
}

// mustMarshal is for what always marshals: maps of strings and of JSON.
func mustMarshal(value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return data
}
