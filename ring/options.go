package ring

import (
	"fmt"
	"math"
	"math/bits"
)

const (
	// DefaultSlots is the number of slots of a ring of up to 1,024 members when it is not given.
	DefaultSlots = 1 << 16
	// MaxSlots is the largest number of slots a ring may have.
	MaxSlots = 1 << 24
	// MaxMembers is the largest number of members a ring may have.
	MaxMembers = 1<<16 - 1

	// DefaultTolerance is the Tolerance when it is not given.
	DefaultTolerance = 0.03

	// slotsPerMember is how many slots a member has at least when the number of slots is not given. 64 bound the error
	// of rounding to whole slots by 1/64.
	slotsPerMember = 64
)

// Option changes how a ring is made.
type Option func(*options)

type options struct {
	slots     int // 0: sized with the number of members
	tolerance float64
	loads     []float64
}

// Slots sets the number of slots: a power of two, at least 2 and at most [MaxSlots]. Without it a ring has [DefaultSlots],
// or the first power of two that gives each member 64 slots. [Ring.Assign] keeps the slots of the former ring, or divides
// each of them when there are too few by this rule (of a ring with fewer than [DefaultSlots], when there are fewer than
// members). A ring never gets fewer slots than the one before.
func Slots(n int) Option { return func(o *options) { o.slots = n } }

// Tolerance sets by which part of its fair share a member may differ from it before [Ring.Assign] moves slots between
// members that were there before: 0.01 is one per cent. A wider band keeps the ranges of the members fewer, a narrower one
// keeps their shares closer. +Inf moves slots only to those who join and from those who leave. The default is
// [DefaultTolerance]. Negative values and NaN are refused. [New] and [Stateless] do not use it: they round to whole slots.
func Tolerance(t float64) Option { return func(o *options) { o.tolerance = t } }

// Loads tells what each slot carries: any measure, such as its number of objects ([Ring.Slot] says which slot an
// object is in). Shares are then shares of the total load instead of slots. There must be as many as slots in the ring that
// is made, none negative, infinite or NaN. Each slot counts one per cent of the mean in addition, so that empty
// slots are divided too, and loads that are all 0 are as good as none.
func Loads(perSlot []float64) Option { return func(o *options) { o.loads = perSlot } }

func newOptions(list []Option) (options, error) {
	o := options{tolerance: DefaultTolerance}
	for _, apply := range list {
		if apply != nil {
			apply(&o)
		}
	}
	if o.slots != 0 && (o.slots < 2 || o.slots > MaxSlots || o.slots&(o.slots-1) != 0) {
		return o, fmt.Errorf("ring: Slots: %d, must be a power of two from 2 to %d", o.slots, MaxSlots)
	}
	if math.IsNaN(o.tolerance) || o.tolerance < 0 {
		return o, fmt.Errorf("ring: Tolerance: %v, must be 0 or more", o.tolerance)
	}
	return o, nil
}

// slotsFor returns the number of slots for so many members: the one asked for, or else at least atLeast.
func (o options) slotsFor(members, atLeast int) (int, error) {
	if o.slots == 0 {
		if 0 < atLeast && atLeast < DefaultSlots { // somebody wanted few
			return max(atLeast, powerOfTwo(members)), nil
		}
		return max(DefaultSlots, atLeast, powerOfTwo(members*slotsPerMember)), nil
	}
	if o.slots < members {
		return 0, fmt.Errorf("ring: Slots: %d slots can't serve %d members, each needs one", o.slots, members)
	}
	if o.slots < atLeast {
		return 0, fmt.Errorf("ring: Slots: %d, but the ring has %d, and can only get more", o.slots, atLeast)
	}
	return o.slots, nil
}

// powerOfTwo returns the first power of two that is at least n.
func powerOfTwo(n int) int { return 1 << bits.Len(uint(max(1, n)-1)) }
