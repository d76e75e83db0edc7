package sharding

import (
	"container/heap"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// spareItems is how many items are kept for the next keys.
	spareItems = 64
	// maxIdleLane is how much room an empty lane keeps.
	maxIdleLane = 4096
)

// All methods of lanes in this file are called with its lock.

func (l *lanes) item(key types.NamespacedName) *laneItem {
	i := l.items[key]
	if i != nil {
		return i
	}
	if n := len(l.spare); n > 0 {
		i, l.spare = l.spare[n-1], l.spare[:n-1]
	} else {
		i = &laneItem{}
	}
	i.key = key
	l.items[key] = i
	return i
}

// tidy forgets an item of which there is nothing to know.
func (l *lanes) tidy(i *laneItem) {
	if i.ticket != 0 || i.working || i.urgent || i.heap != 0 {
		return
	}
	delete(l.items, i.key)
	if *i = (laneItem{}); len(l.spare) < spareItems {
		l.spare = append(l.spare, i)
	}
}

// now returns what time it is. Before, it adds what came to be due until then: that is before what is added next.
func (l *lanes) now() time.Duration {
	now := time.Since(l.begun)
	l.advance(now)
	return now
}

// put adds an item that is due since then.
func (l *lanes) put(i *laneItem, since time.Duration) {
	switch {
	case i.ticket != 0 && i.urgent && !i.first:
		i.urgent, i.first = false, true // it keeps its age, and leaves a place behind that is not its any more
		l.line(i, &l.first)
	case i.ticket != 0:
		i.urgent = false
	case i.working:
		i.again = true
	default:
		i.since, i.first, i.urgent = since, i.urgent, false
		l.waiting++
		if i.first {
			l.line(i, &l.first)
		} else {
			l.line(i, &l.rest)
		}
		if l.idle > 0 {
			l.more.Signal()
		}
	}
}

func (l *lanes) line(i *laneItem, into *lane) {
	l.issued++
	i.ticket = l.issued
	into.push(laneTicket{i, i.ticket})
}

// take is called if an item waits.
func (l *lanes) take() types.NamespacedName {
	from := &l.first
	i := from.head()
	if i == nil {
		from = &l.rest
		i = from.head()
	}
	from.pop()
	i.ticket, i.working = 0, true
	l.waiting--
	return i.key
}

func (l *lanes) end(i *laneItem) {
	i.working = false
	if i.again {
		i.again = false
		l.put(i, l.now())
	}
	l.tidy(i)
}

// defers makes the item be added when d has passed, or before if that was asked for already.
func (l *lanes) defers(i *laneItem, d time.Duration) {
	now := time.Since(l.begun)
	due := now + min(d, math.MaxInt64-now)
	switch {
	case i.heap == 0:
		i.due = due
		heap.Push(&l.later, i)
	case due < i.due:
		i.due = due
		heap.Fix(&l.later, i.heap-1)
	}
	if l.idle > 0 {
		l.arm()
	}
}

// advance adds what is due.
func (l *lanes) advance(now time.Duration) {
	for len(l.later) > 0 && l.later[0].due <= now {
		i := l.later[0]
		heap.Pop(&l.later)
		l.put(i, i.due)
	}
}

// arm sees to it that somebody looks when the next item is due.
func (l *lanes) arm() {
	if len(l.later) == 0 {
		return
	}
	due := l.later[0].due
	switch wait := due - time.Since(l.begun); {
	case l.timer == nil:
		l.timer = time.AfterFunc(wait, l.fire)
	case l.armed == 0 || due < l.armed:
		l.timer.Reset(wait)
	default:
		return
	}
	l.armed = due
}

// fire is called by the timer, without the lock. One that was set anew meanwhile may fire once too often.
func (l *lanes) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = 0
	l.advance(time.Since(l.begun))
	if l.idle > 0 {
		l.arm()
	}
}

// lane is a queue of tickets. A ticket is valid as long as it is the one of its item: an item that overtakes leaves one behind that is not.
type lane struct {
	tickets []laneTicket
	gone    int // tickets at the beginning that were taken
}

type laneTicket struct {
	item   *laneItem
	number uint64
}

func (q *lane) push(t laneTicket) {
	if q.gone == len(q.tickets) {
		if q.gone = 0; cap(q.tickets) > maxIdleLane {
			q.tickets = nil
		}
		q.tickets = q.tickets[:0]
	} else if len(q.tickets) == cap(q.tickets) && q.gone > len(q.tickets)/2 {
		n := copy(q.tickets, q.tickets[q.gone:])
		clear(q.tickets[n:])
		q.tickets, q.gone = q.tickets[:n], 0
	}
	q.tickets = append(q.tickets, t)
}

// head returns the first item, nil if there is none, and forgets tickets that are not valid.
func (q *lane) head() *laneItem {
	for q.gone < len(q.tickets) {
		if t := q.tickets[q.gone]; t.item.ticket == t.number {
			return t.item
		}
		q.pop()
	}
	return nil
}

func (q *lane) pop() {
	q.tickets[q.gone] = laneTicket{}
	q.gone++
}

// laterHeap has the item that is due next at its beginning.
type laterHeap []*laneItem

func (h laterHeap) Len() int           { return len(h) }
func (h laterHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h laterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i+1, j+1
}

// Push implements heap.Interface.
func (h *laterHeap) Push(x any) {
	i := x.(*laneItem)
	*h = append(*h, i)
	i.heap = len(*h)
}

// Pop implements heap.Interface.
func (h *laterHeap) Pop() any {
	old := *h
	i := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	i.heap = 0
	return i
}
