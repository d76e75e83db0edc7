package ring

// window is a sequence of slots that a taker could take.
type window struct {
	boundary   int32 // the segment whose start it grew from
	first      int32 // the segment that start is in
	start, end uint32
	score      int64 // the more, the better
}

// windows is a heap with the best window on top.
type windows []window

func (w windows) Len() int { return len(w) }
func (w windows) Less(i, j int) bool {
	return w[i].score > w[j].score || w[i].score == w[j].score && w[i].start < w[j].start
}
func (w windows) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *windows) Push(x any)   { *w = append(*w, x.(window)) }
func (w *windows) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	return last
}

// growth is what a growing window takes.
type growth struct {
	*taking
	taken int64
	extra int64 // of it, what its donors would not have to give
	whole int64 // segments it takes entirely, or joins to
}

// grow returns the best window around the start of segment b. It is empty if nothing may be taken there.
func (t *taking) grow(b int32) window {
	at := t.list[b].start
	w := window{boundary: b, first: b, start: at, end: at}
	g := growth{taking: t}
	left, right := t.list[b].prev, b
	for {
		fromLeft, okLeft := g.wholeSegment(left)
		fromRight, okRight := g.wholeSegment(right)
		switch {
		case okLeft && (!okRight || fromLeft <= fromRight):
			g.use(t.list[left].owner, fromLeft)
			w.first, w.start = left, t.list[left].start
			left = t.list[left].prev
		case okRight:
			g.use(t.list[right].owner, fromRight)
			w.end = t.list[right].end
			right = t.list[right].next
		default:
			g.ends(&w, left, right)
			w.score = g.score()
			return w
		}
		g.whole++
	}
}

// wholeSegment returns what the taker would take by taking a segment, and whether it may. Its own segments cost nothing.
func (g *growth) wholeSegment(i int32) (units int64, ok bool) {
	if i < 0 {
		return 0, false
	}
	if g.list[i].owner == g.taker {
		return 0, true
	}
	units = g.units(g.list[i])
	return units, units <= g.available(g.list[i].owner)
}

// ends adds what may be taken of the segments at both ends.
func (g *growth) ends(w *window, left, right int32) {
	if left >= 0 {
		s := g.list[left]
		if start := uint32(g.ledger.last(int(s.start), int(s.end), g.available(s.owner))); start < s.end {
			g.use(s.owner, g.ledger.of(int(start), int(s.end)))
			w.first, w.start = left, start
		}
	}
	if right >= 0 {
		s := g.list[right]
		if end := uint32(g.ledger.first(int(s.start), int(s.end), g.available(s.owner))); end > s.start {
			g.use(s.owner, g.ledger.of(int(s.start), int(end)))
			w.end = end
		}
	}
	if g.taken == 0 {
		w.end = w.start
	}
}

// available returns how much of a member the taker may still take in this window.
func (g *growth) available(owner uint16) int64 {
	if owner == g.free || !g.donor[owner] {
		return 0
	}
	used := g.used[owner]
	due := max(0, g.must[owner]-used)
	return max(0, min(g.have[owner]-used-g.low[owner], g.need-g.taken, due+g.slack-g.extra))
}

func (g *growth) use(owner uint16, units int64) {
	if units == 0 {
		return
	}
	if g.used[owner] == 0 {
		g.seen = append(g.seen, owner)
	}
	due := min(units, max(0, g.must[owner]-g.used[owner]))
	g.used[owner] += units
	g.extra += units - due
	g.taken += units
}

// score says how good the window is, and forgets its donors.
func (g *growth) score() int64 {
	done := int64(0)
	for _, owner := range g.seen {
		if g.must[owner] > 0 && g.used[owner] >= g.must[owner] {
			done++
		}
		g.used[owner] = 0
	}
	g.seen = g.seen[:0]
	return scoreNeed*g.taken/g.taking.whole + scoreWhole*(g.whole-1) + scoreDone*done
}
