package ring

// Move is a part of the hash space that changes its owner.
type Move struct {
	// From is the owner before, "" if there was none.
	From string
	// To is the owner after, "" if there is none.
	To string
	// Range is what moves.
	Range Range
}

// Share returns the part of the hash space that moves, from 0 to 1.
func (m Move) Share() float64 {
	return float64(uint64(m.Range.End)-uint64(m.Range.Start)+1) / (1 << 32)
}

// Diff returns what moves from whom to whom when ring a is replaced by ring b, in the order of the hash space; nil if
// nothing does. The rings may have different numbers of slots. It takes time in proportion to the ranges of both.
func Diff(a, b *Ring) []Move {
	var moves []Move
	i, j := newCursor(a), newCursor(b)
	for start := uint64(0); start < 1<<32; {
		end := min(i.end(), j.end())
		if from, to := i.owner(), j.owner(); from != to {
			last := len(moves) - 1
			if last >= 0 && moves[last].From == from && moves[last].To == to && uint64(moves[last].Range.End)+1 == start {
				moves[last].Range.End = uint32(end - 1)
			} else {
				moves = append(moves, Move{from, to, Range{uint32(start), uint32(end - 1)}})
			}
		}
		i.skip(end)
		j.skip(end)
		start = end
	}
	return moves
}

// cursor walks over the runs of a ring.
type cursor struct {
	ring *Ring
	at   int
}

func newCursor(r *Ring) cursor { return cursor{ring: r} }

// end returns where the current run ends, in the top 32 bits of the hash.
func (c *cursor) end() uint64 {
	if c.ring.Slots() == 0 {
		return 1 << 32
	}
	return uint64(c.ring.end(c.at)) << (c.ring.shift - 32)
}

func (c *cursor) owner() string {
	if c.ring.Slots() == 0 {
		return ""
	}
	return c.ring.names[c.ring.runs[c.at].owner]
}

// skip goes to the run that starts at the position, if it is the end of the current one.
func (c *cursor) skip(position uint64) {
	if c.end() == position {
		c.at++
	}
}
