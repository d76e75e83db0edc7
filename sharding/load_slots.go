package sharding

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// slotEntry is what one slot carries: a number of objects, and a part of its shard's work, as a level: maxLevel is that of the slot with the
// most work, each level below is a fourth root of two less, and 0 is nothing.
type slotEntry struct {
	slot    uint32
	objects uint64
	level   uint8
}

// slotReport is what the slots of a shard carry: those that are not empty, in order. It is immutable.
type slotReport struct {
	bits    uint8 // there are 1<<bits slots
	entries []slotEntry
}

const (
	maxLevel       = 63
	levelsPerTwice = 4
	// slotReportSize is how many characters a report may have.
	slotReportSize = 32768
	// slotReportFormat is the first byte of a report.
	slotReportFormat = 1
	// maxSlotObjects is the largest number of objects that is believed.
	maxSlotObjects = 1 << 40
)

// newSlotReport returns the report of so many objects and so much work in 1<<slotBits slots. Work in slots without objects is left out: they
// have moved away.
func newSlotReport(objects map[uint32]uint64, work map[uint32]float64) slotReport {
	most := 0.0
	for slot := range objects {
		most = max(most, work[slot])
	}
	r := slotReport{bits: slotBits, entries: make([]slotEntry, 0, len(objects))}
	for _, slot := range slices.Sorted(maps.Keys(objects)) {
		r.entries = append(r.entries, slotEntry{slot, objects[slot], levelOf(work[slot], most)})
	}
	return r
}

func levelOf(work, most float64) uint8 {
	if !(work > 0) || !(most > 0) {
		return 0
	}
	return uint8(max(0, maxLevel+math.Round(levelsPerTwice*math.Log2(work/most))))
}

// work returns the work of a level, where that of the largest slot is 1.
func (e slotEntry) work() float64 {
	if e.level == 0 {
		return 0
	}
	return math.Exp2((float64(e.level) - maxLevel) / levelsPerTwice)
}

// objects is how many objects all slots have.
func (r slotReport) objects() int64 {
	n := int64(0)
	for _, e := range r.entries {
		n += int64(e.objects)
	}
	return n
}

// encode returns the report as text. When it is too long for one, it divides the hash space into fewer slots.
func (r slotReport) encode() string {
	for {
		data := []byte{slotReportFormat, r.bits}
		next := uint32(0)
		for _, e := range r.entries {
			data = binary.AppendUvarint(data, uint64(e.slot-next))
			data = binary.AppendUvarint(data, e.objects)
			data = append(data, e.level)
			next = e.slot + 1
		}
		if text := base64.StdEncoding.EncodeToString(data); len(text) <= slotReportSize {
			return text
		}
		r = r.coarser()
	}
}

// coarser joins the slots two by two.
func (r slotReport) coarser() slotReport {
	c := slotReport{bits: r.bits - 1}
	most := 0.0
	objects, work := map[uint32]uint64{}, map[uint32]float64{}
	for _, e := range r.entries {
		objects[e.slot/2] += e.objects
		work[e.slot/2] += e.work()
		most = max(most, work[e.slot/2])
	}
	for _, slot := range slices.Sorted(maps.Keys(objects)) {
		c.entries = append(c.entries, slotEntry{slot, objects[slot], levelOf(work[slot], most)})
	}
	return c
}

// decodeSlotReport reads what encode has written. Anything else is an error.
func decodeSlotReport(text string) (slotReport, error) {
	if len(text) > slotReportSize {
		return slotReport{}, fmt.Errorf("slot loads: %d characters, must be at most %d", len(text), slotReportSize)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return slotReport{}, fmt.Errorf("slot loads: %w", err)
	}
	if len(data) < 2 || data[0] != slotReportFormat || data[1] > slotBits {
		return slotReport{}, errors.New("slot loads: not of this format")
	}
	r := slotReport{bits: data[1]}
	data = data[2:]
	next := uint64(0)
	for len(data) > 0 {
		skipped, n := binary.Uvarint(data)
		objects, m := uint64(0), 0
		if n > 0 {
			objects, m = binary.Uvarint(data[n:])
		}
		if n <= 0 || m <= 0 || n+m >= len(data) {
			return slotReport{}, errors.New("slot loads: cut off")
		}
		level := data[n+m]
		data = data[n+m+1:]
		if skipped >= 1<<r.bits || next+skipped >= 1<<r.bits || level > maxLevel || objects > maxSlotObjects {
			return slotReport{}, errors.New("slot loads: out of bounds")
		}
		r.entries = append(r.entries, slotEntry{uint32(next + skipped), objects, level})
		next += skipped + 1
	}
	return r, nil
}

// tells says whether the report has news compared to another one: other numbers of objects, or work that differs by more than half.
func (r slotReport) tells(former slotReport) bool {
	const nearly = levelsPerTwice / 2
	return r.bits != former.bits || !slices.EqualFunc(r.entries, former.entries, func(a, b slotEntry) bool {
		difference := int(a.level) - int(b.level)
		return a.slot == b.slot && a.objects == b.objects && -nearly <= difference && difference <= nearly && (a.level == 0) == (b.level == 0)
	})
}
