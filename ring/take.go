package ring

import (
	"container/heap"
	"slices"
)

// taking is the state of bringing takers up to their share from those who have more.
//
// Each taker takes windows of consecutive slots: some at the end of one segment, whole segments after it, some at the start
// of one more. A window becomes one range of the taker, whatever the number of its donors, so a large window, and one that
// swallows whole ranges of others, keeps ranges few. Which windows, is decided greedily: the one with the best score first.
type taking struct {
	*assigner
	donor []bool
	must  []int64 // what a donor has to give at least, to come down to its aim (or to the level, see relax)
	needs int64   // what all takers still need
	slack int64   // what may be taken beyond what must be: needs - the sum of must
	taker uint16
	need  int64 // what this taker still needs
	whole int64 // what it needed at first
	queue windows
	used  []int64  // of each donor, in the window that is growing
	seen  []uint16 // the donors of that window
}

const (
	// maxWindows is about how many windows a taker takes. A member that joins N others of equal weight, all with slots to
	// give, has N donors or fewer, and two of them in a window if they are neighbours.
	maxWindows = 24
	// donorsPerWindow is what experience says about the number of donors that have to give and fit in one window.
	donorsPerWindow = 1.5

	// Parts of a window's score: what all slots the taker needs are worth together, what it is worth that a range of a
	// donor disappears, and that a donor that must give needn't give any more.
	scoreNeed, scoreWhole, scoreDone = 300, 5, 30
)

// takeFromDonors brings takers up to their share, and everyone above the tolerance band into it.
func (a *assigner) takeFromDonors() {
	n := len(a.share)
	t := &taking{assigner: a, donor: make([]bool, n), must: make([]int64, n), used: make([]int64, n)}
	takers := a.takers()
	for i := range a.share {
		t.donor[i] = a.have[i] > a.low[i]
	}
	joining := len(takers) > 0
	excess := int64(0)
	for i, have := range a.have[:n] {
		excess += max(0, have-a.high[i])
	}
	for _, m := range takers {
		t.needs += a.below(m)
	}
	takers = t.moreTakers(takers, excess)
	if len(takers) == 0 {
		return
	}
	if t.setMust(0); !joining {
		t.setMust(aboveBand)
	}
	for _, m := range takers {
		t.takeFor(m)
	}
}

// moreTakers adds members below their share until all together need as much as there is above the band.
func (t *taking) moreTakers(takers []uint16, excess int64) []uint16 {
	if excess > t.needs {
		var below []uint16
		for i := range t.share {
			if t.have[i] >= t.low[i] && t.have[i] < t.share[i] {
				below = append(below, uint16(i))
			}
		}
		t.byRoom(below)
		for _, m := range below {
			if t.needs < excess {
				t.needs += t.below(m)
				takers = append(takers, m)
			}
		}
	}
	for _, m := range takers {
		t.donor[m] = false
	}
	return takers
}

// aboveBand is a level that is above any tolerance band.
const aboveBand = 1e9

// setMust says what each donor must give: what it has above its aim, or above the level (as a part of its share) if
// that is higher, but nobody may stay above its band. If that is more than the takers need, the level gets higher.
func (t *taking) setMust(level float64) {
	for {
		musts := int64(0)
		for i, donor := range t.donor {
			t.must[i] = 0
			if donor {
				keep := max(t.aim[i], min(t.high[i], t.share[i]+band(t.share[i], level)))
				t.must[i] = max(0, t.have[i]-keep)
				musts += t.must[i]
			}
		}
		if musts <= t.needs || level > 1 {
			t.slack = max(0, t.needs-musts)
			return
		}
		level += 1.0 / 1024
	}
}

// relax raises the level so that about as many donors must still give as are given.
func (t *taking) relax(donors int) {
	var levels []float64
	for i, m := range t.must {
		if m > 0 {
			levels = append(levels, float64(t.have[i])/float64(t.share[i])-1)
		}
	}
	slices.Sort(levels)
	t.setMust(levels[len(levels)-1-donors])
}

func (t *taking) mustGive() int {
	n := 0
	for _, m := range t.must {
		if m > 0 {
			n++
		}
	}
	return n
}

// takeFor brings a member up to its share.
func (t *taking) takeFor(m uint16) {
	t.taker, t.need, t.whole = m, t.below(m), max(1, t.below(m))
	if t.mustGive() > maxWindows*donorsPerWindow {
		t.relax(maxWindows * donorsPerWindow)
	}
	t.fillQueue()
	for taken := 0; t.need > 0; {
		if len(t.queue) == 0 {
			// Slots may be too coarse for what somebody must give. Then others give it.
			if t.mustGive() == 0 {
				break
			}
			clear(t.must)
			t.slack = t.needs
			t.fillQueue()
			continue
		}
		// Scores get smaller while others take, so the best is known only when its score is new.
		w := t.grow(t.queue[0].boundary)
		switch {
		case w.start == w.end:
			heap.Pop(&t.queue)
			continue
		case w.score < t.queue[0].score:
			t.queue[0] = w
			heap.Fix(&t.queue, 0)
			continue
		}
		t.take(w)
		taken++
		if left := max(0, maxWindows-taken) * 3 / 2; t.mustGive() > left {
			t.relax(left * 3 / 4)
			t.fillQueue()
		}
	}
}

func (t *taking) fillQueue() {
	t.queue = t.queue[:0]
	for i := range t.list {
		if w := t.grow(int32(i)); w.end > w.start {
			t.queue = append(t.queue, w)
		}
	}
	heap.Init(&t.queue)
}

// take gives the window to the taker.
func (t *taking) take(w window) {
	for i, at := w.first, w.start; at < w.end; i = t.list[i].next {
		s := t.list[i]
		end := min(s.end, w.end)
		if s.owner != t.taker {
			units := t.ledger.of(int(at), int(end))
			due := min(t.must[s.owner], units)
			t.must[s.owner] -= due
			t.slack -= units - due
			t.need -= units
			t.needs -= units
			i = t.hand(i, at, end, t.taker)
		}
		at = end
	}
}
