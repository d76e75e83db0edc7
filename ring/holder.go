package ring

import "sync/atomic"

// Holder holds the newest ring for many readers and a writer. The zero Holder holds a ring without members and is ready
// for use. It must not be copied after first use.
type Holder struct {
	current atomic.Pointer[Ring]
}

// Load returns the ring stored last, or nil, which is a valid ring without members. It takes no lock and never waits.
func (h *Holder) Load() *Ring { return h.current.Load() }

// Store makes r the ring that Load returns from now on. Readers that hold the former one keep it as long as they like.
func (h *Holder) Store(r *Ring) { h.current.Store(r) }
