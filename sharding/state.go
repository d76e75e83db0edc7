package sharding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Limits of the state that a shard keeps of one object.
const (
	// DefaultInlineState is up to how many bytes a state rides on the object itself, unless StateTransfer says otherwise.
	DefaultInlineState = 16 << 10
	// MaxInlineState bounds StateTransfer.InlineLimit: all annotations of an object together may have 256 KiB.
	MaxInlineState = 128 << 10
	// MaxState is the most that one object's state may have. A larger one is not exported, and its object stays where it is.
	MaxState = 16 << 20
)

// State is what a shard knows of one root object, as it left it.
type State struct {
	// UID is that of the object.
	UID types.UID
	// Epoch and Sequence are, together with the UID, the identity of this state: Sequence grows with every state that is written in
	// an epoch of the object. An importer whose effects outlive the process uses them to tell a repetition.
	Epoch, Sequence int64
	// From is the shard that has written it.
	From string
	// Version is the StateTransfer.Version of that shard.
	Version int
	// Data is what its Exporter returned. The importer may keep it.
	Data []byte
}

// Exporter returns the state of an object, in the format that the StateTransfer's Version stands for. Nil without an error means
// that there is none; an empty slice is a state.
//
// It is called when the object is handed over, and for checkpoints, on a goroutine of the worker; not while the object is reconciled, and not
// by two at once for the same object. It has to leave the state as it is: the object may stay after all. An error, a panic, or more than
// StateTransfer.MaxSize keeps the object here: the hand-over is declined, and an Event on the object says why. ctx ends when
// the shard may not act any more, and after the ring's drain timeout.
type Exporter interface {
	Export(ctx context.Context, object types.NamespacedName) ([]byte, error)
}

// Importer takes the state of an object that has come to this shard, in place of whatever it has of that object.
//
// It is called right before the first reconcile of the object, on the goroutine of that, with a state whose size, checksum, object and
// version have been verified. In one process it is called at most once for a State that it has taken, or once more after Forget. If the process ends before
// the state was acknowledged, which is after the first reconcile, the next process, or the next owner, is given the same State
// once more. An error that wraps [TerminalError], or five errors or panics in a row, refuse the state: see StateTransfer.
type Importer interface {
	Import(ctx context.Context, object types.NamespacedName, state State) error
}

// Forgetter drops what this process has of an object that is not this shard's any more, or that was taken from it and has come back. It
// is not called while the object is reconciled, exported or imported.
type Forgetter interface {
	Forget(object types.NamespacedName)
}

// StateTransfer makes the processing state of a controller's objects go with them from shard to shard: it is written in the very
// write that makes another shard the owner. Exporter and Importer are required.
//
// A state that this shard can't import (the checksum is wrong, it is of a newer version, of another object, Import refuses it) is not lost: the
// object is not reconciled, an Event says why, and the manager sends it back to the shard where it comes from, with the state as it was. If
// that does not happen within 30 seconds, or if it has come back already, the state is moved to the annotation
// [UnusableAnnotation], for inspection, and the object is reconciled without it; or, with Required, not reconciled until
// somebody removes the annotation.
type StateTransfer struct {
	// Exporter and Importer are required.
	Exporter  Exporter
	Importer  Importer
	Forgetter Forgetter // optional

	// Version of the format that Exporter writes. Importer is given states of this version and of older ones. Default 1.
	Version int

	// InlineLimit is up to how many bytes a state is put into an annotation of the object; what is larger goes into Secrets in the
	// namespace of the ring. Default DefaultInlineState, at most MaxInlineState.
	InlineLimit int

	// MaxSize is the most bytes that a state may have. Default and maximum MaxState.
	MaxSize int

	// Checkpoint, if it is not zero, is how often at most the state of an object is written although the object stays: after a
	// reconcile that changed it. It is what the next owner finds if this process dies, or the next process of this shard. Each is one write.
	Checkpoint time.Duration

	// Required: an object is not reconciled without its state.
	Required bool
}

// complete validates the options and fills in the defaults.
func (t StateTransfer) complete() (StateTransfer, error) {
	if t.Exporter == nil || t.Importer == nil {
		return t, errors.New("controller: State: Exporter and Importer are required")
	}
	for _, bound := range []struct {
		name     string
		value    *int
		most, by int
	}{
		{"Version", &t.Version, 1 << 30, 1},
		{"InlineLimit", &t.InlineLimit, MaxInlineState, DefaultInlineState},
		{"MaxSize", &t.MaxSize, MaxState, MaxState},
	} {
		if *bound.value < 0 || *bound.value > bound.most {
			return t, fmt.Errorf("controller: State: %s is %d, must be from 1 to %d", bound.name, *bound.value, bound.most)
		}
		if *bound.value == 0 {
			*bound.value = bound.by
		}
	}
	if t.Checkpoint < 0 {
		return t, fmt.Errorf("controller: State: Checkpoint is %s, must not be negative", t.Checkpoint)
	}
	return t, nil
}

// JSONState is Exporter, Importer and Forgetter for an operator that keeps a value of type T per object, as in a map: the state is
// that value in JSON. Its functions are called as those interfaces say.
type JSONState[T any] struct {
	// Get returns the value of an object; false if there is none. Required.
	Get func(object types.NamespacedName) (T, bool)
	// Set replaces the value of an object. Required.
	Set func(object types.NamespacedName, value T)
	// Delete drops it. Optional.
	Delete func(object types.NamespacedName)
	// Version of T: States of it are decoded as they are. Default 1. It is to be that of the StateTransfer.
	Version int
	// Upgrade decodes the state of an older version. Without it, older versions are decoded like the current one.
	Upgrade func(version int, data []byte) (T, error)
}

// Export returns the value of an object in JSON, nil if it has none.
func (j JSONState[T]) Export(_ context.Context, object types.NamespacedName) ([]byte, error) {
	value, ok := j.Get(object)
	if !ok {
		return nil, nil
	}
	return json.Marshal(value)
}

// Import sets the value of an object. It refuses, with a TerminalError, what is not the JSON of a T.
func (j JSONState[T]) Import(_ context.Context, object types.NamespacedName, state State) error {
	var value T
	var err error
	if j.Upgrade != nil && state.Version < max(j.Version, 1) {
		value, err = j.Upgrade(state.Version, state.Data)
	} else {
		err = json.Unmarshal(state.Data, &value)
	}
	if err != nil {
		return TerminalError(fmt.Errorf("state of version %d: %w", state.Version, err))
	}
	j.Set(object, value)
	return nil
}

// Forget drops the value of an object.
func (j JSONState[T]) Forget(object types.NamespacedName) {
	if j.Delete != nil {
		j.Delete(object)
	}
}
