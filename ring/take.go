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
	want  []int64 // what each taker needs at first
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
	donorsPerWindow = 2

	// Parts of a window's score: what all slots the taker needs are worth together, what it is worth that a range of a
	// donor disappears, and that a donor that must give needn't give any more.
	scoreNeed, scoreWhole, scoreDone = 300, 5, 30
)

// takeFromDonors brings takers up to their share, and everyone above the tolerance band into it.
//
// Who joins gets its whole share, and all others come down to their aim for it, as far as that costs no extra ranges. When nobody
// joins, as little moves as brings everyone into the band.
func (a *assigner) takeFromDonors(shrunk []bool) {
	n := len(a.share)
	t := &taking{
		assigner: a, want: make([]int64, n), donor: make([]bool, n), must: make([]int64, n), used: make([]int64, n),
	}
	takers := a.takers()
	joining := false
	for _, m := range takers {
		t.want[m] = min(a.below(m), a.low[m]-a.have[m]+a.ledger.grain())
		if a.have[m] == 0 {
			joining = true
			t.want[m] = a.below(m)
		}
		t.needs += t.want[m]
	}
	takers = t.moreTakers(takers)
	if len(takers) == 0 {
		return
	}
	t.chooseDonors(joining, shrunk)
	if t.setMust(0); !joining {
		t.setMust(aboveBand)
	}
	for _, m := range takers {
		t.takeFor(m)
	}
}

// moreTakers adds needs until they are as much as there is above the band: first those of the takers up to their
// share, then those of others below theirs.
func (t *taking) moreTakers(takers []uint16) []uint16 {
	excess := -t.needs
	var below []uint16
	for i, have := range t.have[:len(t.share)] {
		excess += t.above(i, t.high[i])
		if have >= t.low[i] && have < t.share[i] {
			below = append(below, uint16(i))
		}
	}
	t.byRoom(below)
	for _, m := range slices.Concat(takers, below) {
		more := min(excess, t.below(m)-t.want[m])
		if more <= 0 {
			continue
		}
		if t.want[m] == 0 {
			takers = append(takers, m)
		}
		excess -= more
		more = min(more+t.ledger.grain(), t.below(m)-t.want[m])
		t.want[m] += more
		t.needs += more
	}
	return takers
}

// chooseDonors says who may give. When nobody joins, but somebody's share has shrunk, it is only they, if they have enough.
func (t *taking) chooseDonors(joining bool, shrunk []bool) {
	only := int64(0)
	for i := range t.share {
		t.donor[i] = t.want[i] == 0 && t.have[i] > t.low[i]
		if t.donor[i] && shrunk != nil && shrunk[i] {
			only += t.have[i] - t.low[i]
		}
	}
	if joining || only < t.needs {
		return
	}
	for i := range t.donor {
		t.donor[i] = t.donor[i] && (shrunk[i] || t.have[i] > t.high[i])
	}
}

// above returns what a member must give to come down to a limit.
func (t *taking) above(member int, limit int64) int64 {
	if t.have[member] <= limit {
		return 0
	}
	return min(t.have[member]-limit+t.ledger.grain(), t.have[member]-t.low[member])
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
				keep := max(t.aim[i], min(t.high[i], above(float64(t.share[i]), level)))
				t.must[i] = t.above(i, keep)
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
	t.taker, t.need, t.whole = m, t.want[m], t.want[m]
	if t.mustGive() > maxWindows*donorsPerWindow {
		t.relax(maxWindows * donorsPerWindow)
	}
	t.fillQueue()
	for taken := 0; t.need > 0; {
		if len(t.queue) == 0 {
			// Slots may be too coarse for what somebody must give. Then others give it.
			if t.need <= t.ledger.grain() || t.mustGive() == 0 {
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
		if left := max(0, maxWindows-taken) * donorsPerWindow; t.mustGive() > left {
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
