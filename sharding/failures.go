package sharding

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// failures counts, per object, errors and panics in a row, and says when an object is to be set aside so that
// it does not cost more than others. It holds objects that fail only.
type failures struct {
	maxErrors, maxPanics int

	mu     sync.Mutex
	counts map[types.NamespacedName]failureCount
	aside  int
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
	aside = f.tooMany(after)
	if aside && !f.tooMany(before) {
		f.aside++
	}
	return after.errors, aside
}

// clear forgets the failures of an object: it was reconciled, or is not ours any more.
func (f *failures) clear(key types.NamespacedName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tooMany(f.counts[key]) {
		f.aside--
	}
	delete(f.counts, key)
}

// isAside reports whether the object waits for its rare retry.
func (f *failures) isAside(key types.NamespacedName) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tooMany(f.counts[key])
}

// setAside returns how many objects are set aside.
func (f *failures) setAside() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.aside
}

func (f *failures) tooMany(c failureCount) bool {
	return c.errors >= f.maxErrors || c.panics >= f.maxPanics
}
