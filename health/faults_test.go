package health

import (
	"encoding/binary"
	"hash/fnv"
)

// seededFaults makes percent of the requests fail in one way or another. What
// happens depends on the seed, the actor and the number of its request only, so
// that a run can be repeated.
func seededFaults(seed, percent int) func(actor, verb string) fault {
	numbers := map[string]uint64{}
	return func(actor, verb string) fault {
		numbers[actor]++
		r := draw(uint64(seed), actor, numbers[actor])
		if r%100 >= uint64(percent) {
			return works
		}
		return fault(1 + r/100%4)
	}
}

// draw is a number that follows from its arguments.
func draw(seed uint64, actor string, n uint64) uint64 {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, []uint64{seed, n})
	_, _ = h.Write([]byte(actor))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}
