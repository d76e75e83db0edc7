package sharding

import (
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// unownedLedger knows how many roots no live shard owns, and for how long the oldest of them has been known to be so.
// It is brought up to date by every list of a finder.
type unownedLedger struct {
	mu      sync.Mutex
	sources map[schema.GroupVersionResource]*unownedSource
	// changed is called with the number of unowned roots, and the age of the oldest, after each list.
	changed func(count int, oldest time.Duration)
}

type unownedSource struct {
	count int
	seen  map[types.UID]unownedSeen
}

type unownedSeen struct{ first, last time.Time }

// maxUnownedSeen bounds for how many objects it is known since when they are unowned: those that have been so for longest.
const maxUnownedSeen = 1000

func newUnownedLedger(changed func(int, time.Duration)) *unownedLedger {
	return &unownedLedger{sources: map[schema.GroupVersionResource]*unownedSource{}, changed: changed}
}

// retain forgets resources that are no targets any more.
func (l *unownedLedger) retain(targets *targetSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for resource := range l.sources {
		if !slices.ContainsFunc(targets.roots, func(t *rootTarget) bool { return t.resource == resource }) {
			delete(l.sources, resource)
		}
	}
}

func (l *unownedLedger) source(resource schema.GroupVersionResource) *unownedSource {
	s := l.sources[resource]
	if s == nil {
		s = &unownedSource{seen: map[types.UID]unownedSeen{}}
		l.sources[resource] = s
	}
	return s
}

// saw notes that an object was unowned just now.
func (l *unownedLedger) saw(resource schema.GroupVersionResource, object types.UID) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.source(resource)
	entry, known := s.seen[object]
	if !known && len(s.seen) >= maxUnownedSeen {
		return
	}
	if !known {
		entry.first = now
	}
	entry.last = now
	s.seen[object] = entry
}

// audited ends a list, begun then, that came across so many unowned objects. What it did not come across is owned by now.
func (l *unownedLedger) audited(resource schema.GroupVersionResource, begun time.Time, count int) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.source(resource)
	s.count = count
	for object, entry := range s.seen {
		if entry.last.Before(begun) {
			delete(s.seen, object)
		}
	}
	total, oldest := 0, now
	for _, s := range l.sources {
		total += s.count
		if s.count == 0 {
			continue
		}
		for _, entry := range s.seen {
			if entry.first.Before(oldest) {
				oldest = entry.first
			}
		}
	}
	l.changed(total, now.Sub(oldest))
}

func (l *unownedLedger) total() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := 0
	for _, s := range l.sources {
		total += s.count
	}
	return int64(total)
}
