package ring

import (
	"fmt"
	"math"
	"slices"
)

// ledger says what slots count, in whole units, so that sums and shares are exact and equal on every architecture.
type ledger struct {
	slots int
	// upTo[s] is what all slots before s count together; nil when each slot counts 1.
	upTo []int64
}

// totalUnits is what the loads of all slots are scaled to: large enough that rounding does not show, and small enough
// that no sum overflows.
const totalUnits = 1 << 44

// emptyShare is what each slot counts in addition to its load, as a part of the mean.
const emptyShare = 0.01

// newLedger returns the ledger of the loads, or of slots that count the same when there are none.
func newLedger(slots int, loads []float64) (ledger, error) {
	l := ledger{slots: slots}
	if loads == nil {
		return l, nil
	}
	if len(loads) != slots {
		return l, fmt.Errorf("ring: Loads: %d loads for %d slots, there must be one for each", len(loads), slots)
	}
	largest := 0.0
	for slot, load := range loads {
		if math.IsNaN(load) || math.IsInf(load, 0) || load < 0 {
			return l, fmt.Errorf("ring: Loads[%d]: %v, must be a number from 0", slot, load)
		}
		largest = max(largest, load)
	}
	if largest == 0 {
		return l, nil
	}
	// Relative to the largest first, or the sum of huge loads would be infinite. The conversions to float64 keep compilers
	// from fusing the operations.
	sum := 0.0
	for _, load := range loads {
		sum = float64(sum + float64(load/largest))
	}
	scale := float64(totalUnits / sum)
	every := int64(max(1, emptyShare*totalUnits/float64(slots)))
	l.upTo = make([]int64, slots+1)
	for slot, load := range loads {
		l.upTo[slot+1] = l.upTo[slot] + every + int64(math.Round(float64(float64(load/largest)*scale)))
	}
	return l, nil
}

// of returns what the slots from start up to end count.
func (l ledger) of(start, end int) int64 {
	if l.upTo == nil {
		return int64(end - start)
	}
	return l.upTo[end] - l.upTo[start]
}

// grain is what a slot counts on average when slots differ. Who must get below or above a limit then plans with a slot more, because
// slots can't be divided. When all slots count the same, limits are whole slots.
func (l ledger) grain() int64 {
	if l.upTo == nil {
		return 0
	}
	return l.total() / int64(l.slots)
}

func (l ledger) total() int64 { return l.of(0, l.slots) }

// first returns the largest end so that the slots from start up to it count at most units; it is at most limit.
func (l ledger) first(start, limit int, units int64) int {
	if l.upTo == nil {
		return int(min(int64(limit), int64(start)+max(0, units)))
	}
	most := l.upTo[start] + units
	n, _ := slices.BinarySearch(l.upTo[start+1:limit+1], most+1)
	return start + n
}

// last returns the smallest start so that the slots from it up to end count at most units; it is at least limit.
func (l ledger) last(limit, end int, units int64) int {
	if l.upTo == nil {
		return int(max(int64(limit), int64(end)-max(0, units)))
	}
	least := l.upTo[end] - units
	n, _ := slices.BinarySearch(l.upTo[limit:end], least)
	return limit + n
}
