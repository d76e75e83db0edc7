package sharding

import (
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
)

// failures counts, per object, errors and panics in a row, and says when an object is to be set aside so that
// it does not cost more than others. It holds objects that fail only.
type failures struct {
	maxErrors, maxPanics int

	mu     sync.Mutex
	counts map[types.NamespacedName]failureCount

	// kept is how many objects fail: mostly none, and then the end of a reconcile needs no lock. aside is how many of them are set aside.
	kept, aside atomic.Int64
}

type failureCount struct{ errors, panics int }

func newFailures(maxErrors, maxPanics int) *failures {
	return &failures{maxErrors: maxErrors, maxPanics: maxPanics, counts: map[types.NamespacedName]failureCount{}}
}

// add counts a failure, and returns how many there have been in a row and whether the object is to be set aside.
func (f *failures) add(key types.NamespacedName, panicked bool) (count int, aside bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.counts[key]
	after := before
	after.errors++
	if panicked {
		after.panics++
	}
	f.counts[key] = after
	f.kept.Store(int64(len(f.counts)))
	aside = f.tooMany(after)
	if aside && !f.tooMany(before) {
		f.aside.Add(1)
	}
	return after.errors, aside
}

// clear forgets the failures of an object: it was reconciled, or is not ours any more.
func (f *failures) clear(key types.NamespacedName) {
	if f.kept.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tooMany(f.counts[key]) {
		f.aside.Add(-1)
	}
	delete(f.counts, key)
	f.kept.Store(int64(len(f.counts)))
}

// isAside reports whether the object waits for its rare retry.
func (f *failures) isAside(key types.NamespacedName) bool {
	if f.aside.Load() == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tooMany(f.counts[key])
}

// setAside returns how many objects are set aside.
func (f *failures) setAside() int { return int(f.aside.Load()) }

func (f *failures) tooMany(c failureCount) bool {
	return c.errors >= f.maxErrors || c.panics >= f.maxPanics
}
