package journal

import (
	"errors"
	"fmt"
)

// Event says what a Record records.
type Event string

const (
	// Start is written before the reconciler looks at the object.
	Start Event = "start"
	// Act is written immediately before a mutating request is sent.
	Act Event = "act"
	// End is written after the reconciler has returned.
	End Event = "end"
	// Fenced is written instead of End when the process lost the right to act
	// while the reconciler was running.
	Fenced Event = "fenced"
)

// Record is one line of a journal.
type Record struct {
	// Time is the wall clock in nanoseconds since 1970.
	Time int64 `json:"t"`
	// Shard is the shardId of the writer.
	Shard string `json:"shard"`
	// Process tells two processes with the same shardId apart.
	Process string `json:"proc"`
	// Run numbers the reconciles of one process; it ties the records of one
	// reconcile together.
	Run uint64 `json:"run"`
	// Key is the key of the root object, "group/kind/namespace/name".
	Key string `json:"key"`
	// UID is the UID of the root object, empty if it is gone.
	UID string `json:"uid,omitempty"`
	// Epoch is the number of changes of owner that the object had seen.
	Epoch int64 `json:"epoch,omitempty"`
	// Event says what happened.
	Event Event `json:"ev"`
	// What names the request of an Act: "POST /api/v1/namespaces/...".
	What string `json:"what,omitempty"`
}

// validate names the first field that a record of a journal must have and this
// one lacks.
func (r Record) validate() error {
	switch {
	case r.Time <= 0:
		return errors.New("t: must be a positive number of nanoseconds")
	case r.Shard == "":
		return errors.New("shard: must not be empty")
	case r.Process == "":
		return errors.New("proc: must not be empty")
	case r.Run == 0:
		return errors.New("run: must be at least 1")
	case r.Key == "":
		return errors.New("key: must not be empty")
	}
	switch r.Event {
	case Start, Act, End, Fenced:
		return nil
	}
	return fmt.Errorf("ev: %q is none of start, act, end, fenced", r.Event)
}
