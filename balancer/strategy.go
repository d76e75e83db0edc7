package balancer

import "errors"

// ErrNoShard is returned by Strategy.Place when no shard may receive the object. Try again when the view has changed.
var ErrNoShard = errors.New("balancer: no shard may receive the object")

// Decision is where an object belongs, and why.
type Decision struct {
	// Shard is the ID of the shard. If it is the object's owner, nothing is to be done.
	Shard string
	// Reason says why, in a few words for logs and Events.
	Reason string
}

// Strategy places objects. The manager calls Place from many goroutines, for objects without an owner and for those that
// have one: an answer other than Object.Owner means that the object is to be moved.
type Strategy interface {
	// Place says where the object belongs. The shard it answers with must be eligible, or be the owner of the object
	// and not be draining. It returns an error that wraps ErrNoShard when there is none. It must not block, and must not keep
	// the view.
	Place(v *View, o Object) (Decision, error)
}
