package sharding

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// lanes is the queue of a processor. It promises what a workqueue of client-go does: a key that is added several times before it is taken is
// taken once, one that is added after it was taken is given out again, but not before done was called for it, and what was added before shutDown
// is still given out. It differs from that in two points.
//
// It has two lanes: first come the objects that the shard has just acquired, then the others, each in the order in which they came. Without that,
// an object that moves to a busy shard would wait for everything that is queued there, while nobody looks after it.
//
// And it costs less, as it is passed twice in every reconcile: all that is known of a key is in one place, which is looked up once per call, and
// what is to be done later is noticed by who comes for more work. A timer is only set while somebody waits for that.
//
// Its methods may be called from any goroutine.
type lanes struct {
	mu          sync.Mutex
	more        sync.Cond // something was added, or it was shut down
	items       map[types.NamespacedName]*laneItem
	spare       []*laneItem // that are in no use, and empty
	first, rest lane
	waiting     int // items in the two lanes
	issued      uint64
	idle        int // goroutines that wait for more
	shut        bool

	begun time.Time // from which on moments are counted
	later laterHeap
	timer *time.Timer   // nil until it is needed
	armed time.Duration // when it fires; 0 if it is not running
}

// laneItem is what is known of a key: that it waits, is being worked on, is to be added later, or is to hurry. At least one of these holds.
type laneItem struct {
	key     types.NamespacedName
	ticket  uint64        // its place in a lane, 0 if it does not wait
	first   bool          // the lane
	since   time.Duration // when it came to wait, after begun
	working bool
	again   bool // it was added since it was taken
	urgent  bool // it goes into the first lane when it is added next
	due     time.Duration
	heap    int // its place in later plus one, 0 if it is not there
}

func newLanes() *lanes {
	l := &lanes{begun: time.Now(), items: map[types.NamespacedName]*laneItem{}}
	l.more.L = &l.mu
	return l
}

// hurry makes the key go into the first lane when it is added next.
func (l *lanes) hurry(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.item(key).urgent = true
}

// calm takes hurry back: the object is not here any more.
func (l *lanes) calm(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.items[key]; i != nil {
		i.urgent = false
		l.tidy(i)
	}
}

// add adds a key, unless the queue was shut down.
func (l *lanes) add(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.shut {
		l.put(l.item(key), l.now())
	}
}

// addAfter adds a key when d has passed. Of several such times of a key the first counts, then none is left.
func (l *lanes) addAfter(key types.NamespacedName, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.shut:
	case d <= 0:
		l.put(l.item(key), l.now())
	default:
		l.defers(l.item(key), d)
	}
}

// get waits for a key, and takes it: the caller has to call done for it. It is false when the queue was shut down and is empty.
func (l *lanes) get() (key types.NamespacedName, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if len(l.later) > 0 {
			l.advance(time.Since(l.begun))
		}
		if l.waiting > 0 {
			return l.take(), true
		}
		if l.shut {
			return types.NamespacedName{}, false
		}
		l.arm()
		l.idle++
		l.more.Wait()
		l.idle--
	}
}

// collect adds to keys what waits already, up to a number of most in all.
func (l *lanes) collect(keys []types.NamespacedName, most int) []types.NamespacedName {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.waiting > 0 && len(keys) < most {
		keys = append(keys, l.take())
	}
	return keys
}

// done is called when the work on a key that was taken has ended.
func (l *lanes) done(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.items[key]; i != nil {
		l.end(i)
	}
}

// doneUntil is done, and addAfter unless d is negative.
func (l *lanes) doneUntil(key types.NamespacedName, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.items[key]
	switch {
	case i == nil:
		return
	case l.shut || d < 0:
	case d == 0:
		i.again = true
	default:
		l.defers(i, d)
	}
	l.end(i)
}

// size returns how many keys wait.
func (l *lanes) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// look returns how many keys wait, and for how long the one that waits the longest has.
func (l *lanes) look(now time.Time) (waiting int, oldest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := now.Sub(l.begun)
	l.advance(since)
	for _, lane := range []*lane{&l.first, &l.rest} {
		if i := lane.head(); i != nil {
			oldest = max(oldest, since-i.since)
		}
	}
	return l.waiting, oldest
}

// shutDown makes add do nothing, and get return. It may be called more than once.
func (l *lanes) shutDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
	for _, i := range l.later {
		i.heap = 0
		l.tidy(i)
	}
	l.later = nil
	if l.timer != nil {
		l.timer.Stop()
	}
	l.more.Broadcast()
}
