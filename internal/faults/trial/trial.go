// Package trial is what the fault trials and the processes that are tried have
// agreed on: what an object asks a reconcile to do, and how a write says who
// made it.
package trial

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Annotations of a Secret that takes part in a trial. ModeAnnotation and
// VerbAnnotation are written when it is created, StampAnnotation by every
// reconcile.
const (
	ModeAnnotation  = "faults.example.com/mode"
	VerbAnnotation  = "faults.example.com/verb"
	StampAnnotation = "faults.example.com/stamp"
)

// Modes: what a reconcile does.
const (
	Idle   = "idle"   // nothing
	Work   = "work"   // looks, works, writes, and again after a pause
	Hammer = "hammer" // writes until the object is gone, whoever owns it
)

// Verbs: how it writes. None has a resourceVersion.
const (
	Patch = "patch" // a merge patch
	Put   = "put"   // an update of what was in the cache
	Apply = "apply" // server-side, with force
	Child = "child" // a merge patch of the child, which is created first
)

// User agents tell the two clients of a process apart in the audit log.
const (
	LibraryAgent  = "faults-library"
	OperatorAgent = "faults-operator"
)

// FencedMessage is logged for every write that the client-side fence refused.
const FencedMessage = "The client-side fence refused a write"

// Stamp says who wrote.
type Stamp struct {
	Shard   string
	Process string // among those of the shard
	Epoch   int64  // of the object, as the writer knew it
	Number  int64  // grows within a process
}

// String is the form in which it is written.
func (s Stamp) String() string {
	return fmt.Sprintf("%s/%s/%d/%d", s.Shard, s.Process, s.Epoch, s.Number)
}

// ParseStamp reads what String has written.
func ParseStamp(text string) (Stamp, error) {
	parts := strings.Split(text, "/")
	if len(parts) != 4 {
		return Stamp{}, fmt.Errorf("stamp %q: want shard/process/epoch/number", text)
	}
	epoch, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return Stamp{}, fmt.Errorf("stamp %q: %w", text, err)
	}
	number, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil {
		return Stamp{}, fmt.Errorf("stamp %q: %w", text, err)
	}
	return Stamp{Shard: parts[0], Process: parts[1], Epoch: epoch, Number: number}, nil
}

// StampPatch is a JSON merge patch that puts a stamp on an object.
func StampPatch(stamp string) []byte {
	return body(map[string]any{"metadata": map[string]any{"annotations": map[string]string{StampAnnotation: stamp}}})
}

// ApplyBody is the configuration that server-side apply puts a stamp on a Secret
// with. It names the UID, or it would create what has been deleted.
func ApplyBody(name, uid, stamp string) []byte {
	return body(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{
		"name": name, "uid": uid, "annotations": map[string]string{StampAnnotation: stamp},
	}})
}

func body(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and maps of strings always marshal
	}
	return data
}
