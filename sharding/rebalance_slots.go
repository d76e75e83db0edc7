package sharding

import (
	"math/bits"
	"slices"

	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/ring"
)

// slotLoadsOf puts together what the shards report on their slots, for the slots of the table. What a shard reports on slots that are not its
// own by the table is left out: it is on its way, or on its way back. The result is in former, if there is enough room: most slots are empty, and a
// manager asks again and again.
func slotLoadsOf(table *ring.Ring, reports map[string]slotReport, former []balancer.SlotLoad) []balancer.SlotLoad {
	loads := slices.Grow(former[:0], table.Slots())[:table.Slots()]
	clear(loads)
	tableBits := bits.TrailingZeros(uint(table.Slots()))
	owns := func(shard string, slot int) bool { return table.Owner(uint64(slot)<<(64-tableBits)) == shard }
	for shard, report := range reports {
		finer := int(report.bits) - tableBits
		for _, e := range report.entries {
			if finer >= 0 {
				if slot := int(e.slot >> finer); owns(shard, slot) {
					loads[slot].Objects += int64(e.objects)
					loads[slot].Work += e.work()
				}
				continue
			}
			spreadOver(loads, e, 1<<-finer, func(slot int) bool { return owns(shard, slot) })
		}
	}
	return loads
}

// spreadOver divides an entry of a coarser report evenly among those of the n slots in it that the shard owns.
func spreadOver(loads []balancer.SlotLoad, e slotEntry, n int, owned func(slot int) bool) {
	first, count := int(e.slot)*n, 0
	for slot := first; slot < first+n; slot++ {
		if owned(slot) {
			count++
		}
	}
	left := int64(e.objects)
	for slot := first; slot < first+n && count > 0; slot++ {
		if !owned(slot) {
			continue
		}
		part := left / int64(count)
		left -= part
		loads[slot].Objects += part
		if e.objects > 0 {
			loads[slot].Work += e.work() * float64(part) / float64(e.objects)
		}
		count--
	}
}

const (
	// fewObjects is up to how many objects per shard say nothing about where the next ones will be.
	fewObjects = 16
	// busyEnough is the mean load from which load counts, and not the numbers of objects.
	busyEnough = 0.1
	// evenPart is the part that all slots count the same, so that one with nothing in it is not given away for nothing.
	evenPart = 0.1
)

// regroupLoads is what slots count when members change: their part of the load of the ring, or of its objects while it is idle, or the same each
// while there are few. nil means the same each.
func regroupLoads(table *ring.Ring, slots []balancer.SlotLoad, shards []balancer.Shard) []balancer.SlotLoad {
	if slots == nil || table.Len() == 0 {
		return nil
	}
	type has struct {
		objects int64
		work    float64
		load    float64
	}
	byShard := map[string]*has{}
	known, total, weights := true, 0.0, 0.0
	for _, s := range shards {
		byShard[s.ID] = &has{load: s.Load * s.Weight}
		if table.Has(s.ID) {
			known = known && s.LoadKnown
			total += s.Load * s.Weight
			weights += s.Weight
		}
	}
	objects := int64(0)
	for _, l := range slots {
		objects += l.Objects
	}
	if objects < fewObjects*int64(table.Len()) {
		return nil
	}
	counts := make([]balancer.SlotLoad, len(slots))
	count := func(slot int, part float64) {
		counts[slot] = balancer.SlotLoad{Objects: slots[slot].Objects, Work: (1-evenPart)*part + evenPart/float64(len(slots))}
	}
	for slot, l := range slots {
		count(slot, float64(l.Objects)/float64(objects))
	}
	if !known || total == 0 || total/weights < busyEnough {
		return counts
	}
	eachRange(table, slots, func(shard string, _ int, owned []balancer.SlotLoad) {
		if h := byShard[shard]; h != nil {
			for _, l := range owned {
				h.objects += l.Objects
				h.work += l.Work
			}
		}
	})
	eachRange(table, slots, func(shard string, first int, owned []balancer.SlotLoad) {
		h := byShard[shard]
		for i, l := range owned {
			switch {
			case h == nil:
			case h.work > 0:
				count(first+i, l.Work/h.work*h.load/total)
			case h.objects > 0:
				count(first+i, float64(l.Objects)/float64(h.objects)*h.load/total)
			}
		}
	})
	return counts
}

// eachRange visits the slots that somebody owns, range by range.
func eachRange(table *ring.Ring, slots []balancer.SlotLoad, visit func(shard string, first int, owned []balancer.SlotLoad)) {
	for _, claim := range table.Claims() {
		for _, r := range claim.Ranges {
			first, last := table.Slot(uint64(r.Start)<<32), table.Slot(uint64(r.End)<<32)
			visit(claim.ID, first, slots[first:last+1])
		}
	}
}

// isWhole says whether every slot of the table has an owner.
func isWhole(table *ring.Ring) bool {
	owned := uint64(0)
	for _, claim := range table.Claims() {
		for _, r := range claim.Ranges {
			owned += uint64(r.End) - uint64(r.Start) + 1
		}
	}
	return owned == 1<<32
}
