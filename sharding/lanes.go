package sharding

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// lanes orders the queue of a processor: first the objects that the shard has just acquired, then the others, each in the order in which
// they came. Without that, an object that moves to a busy shard would wait for everything that is queued there, while
// nobody looks after it. It is a workqueue.Queue, whose methods are called under the lock of the workqueue.
type lanes struct {
	mu          sync.Mutex
	first, rest []ticket
	waiting     map[types.NamespacedName]ticket // the one that is valid, of each key in the queue
	issued      uint64
	urgent      map[types.NamespacedName]struct{}
}

// ticket is a place in a lane. A key that was put into the first lane while it waited leaves one behind that is not valid any more.
type ticket struct {
	key    types.NamespacedName
	number uint64
	first  bool
	since  time.Time
}

func newLanes() *lanes {
	return &lanes{waiting: map[types.NamespacedName]ticket{}, urgent: map[types.NamespacedName]struct{}{}}
}

// hurry makes the key go into the first lane when it is added next.
func (l *lanes) hurry(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.urgent[key] = struct{}{}
}

// calm takes hurry back: the object is not here any more.
func (l *lanes) calm(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.urgent, key)
}

// takeUrgent reports whether the key was to hurry, and forgets it. It is called with the lock.
func (l *lanes) takeUrgent(key types.NamespacedName) bool {
	_, urgent := l.urgent[key]
	delete(l.urgent, key)
	return urgent
}

// Touch is called when a key is added that waits already.
func (l *lanes) Touch(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.takeUrgent(key) && !l.waiting[key].first {
		l.queue(key, true)
	}
}

// Push adds a key that does not wait.
func (l *lanes) Push(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue(key, l.takeUrgent(key))
}

// queue is called with the lock.
func (l *lanes) queue(key types.NamespacedName, first bool) {
	l.issued++
	since := time.Now()
	if before, waits := l.waiting[key]; waits {
		since = before.since
	}
	t := ticket{key, l.issued, first, since}
	l.waiting[key] = t
	if first {
		l.first = append(l.first, t)
	} else {
		l.rest = append(l.rest, t)
	}
}

// Len returns how many keys wait.
func (l *lanes) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// oldest returns for how long the key has waited that came first. It may be called from any goroutine.
func (l *lanes) oldest(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := time.Duration(0)
	for _, lane := range [][]ticket{l.first, l.rest} {
		for _, t := range lane {
			if l.waiting[t.key] == t {
				longest = max(longest, now.Sub(t.since))
				break
			}
		}
	}
	return longest
}

// Pop is called only if a key waits.
func (l *lanes) Pop() types.NamespacedName {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		lane := &l.first
		if len(*lane) == 0 {
			lane = &l.rest
		}
		t := (*lane)[0]
		*lane = (*lane)[1:]
		if l.waiting[t.key] == t {
			delete(l.waiting, t.key)
			return t.key
		}
	}
}
