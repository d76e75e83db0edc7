package balancer

import (
	"time"

	"github.com/shard-io/shard-controller/ring"
)

// Round is what the planner is told in one round, besides what can be moved.
type Round struct {
	// Now is the time of the round. It is only compared with the Now of other rounds, for the cool-down.
	Now time.Time
	// Shards are all shards that own something or may get something, with their smoothed loads. Loads above 2 count as 2: by
	// how much a shard is overloaded cannot be seen from what waits.
	Shards []Shard
	// Blocked says what speaks against moving anything now.
	Blocked Blocks
	// DryRun: the plan says what would move and why, and the memory does not take it for moved.
	DryRun bool
}

// Blocks are circumstances in which nothing is planned. Each is something the caller knows.
type Blocks struct {
	// PlanInFlight: a plan is being carried out, or a shard is being emptied. There is one plan at a time.
	PlanInFlight bool
	// RollingOut: members are being replaced or restarted.
	RollingOut bool
	// VersionsDiffer: members run different versions of their program.
	VersionsDiffer bool
	// Frozen: so many shards are silent that their health is not believed.
	Frozen bool
}

// SlotLoad is what a slot of the ring carries.
type SlotLoad struct {
	// Objects is the number of objects in the slot. It is what moving the slot costs.
	Objects int64
	// Work is how much of its shard's load the slot causes, in any unit, as long as it is the same for all slots of a shard. When it
	// is 0 for all slots of a shard, the numbers of their objects count instead.
	Work float64
}

// ObjectLoad is an object that a label has placed, or some that are alike and move together.
type ObjectLoad struct {
	// Key is the key of the object. It must be unique, which is not checked. It is "" where the caller need not know which object it is: then
	// a Move says that any such objects are to move, the caller chooses them, and says with Moved which of them have moved lately.
	Key string
	// Shard is its owner. Objects of shards that are not in the round are not moved, and neither are those of "".
	Shard string
	// Work is as in SlotLoad.
	Work float64
	// Objects is how many objects this is: Work is that of all of them, and they move together. 0 means 1.
	Objects int64
	// Moved is when it moved last, for what the Memory does not know of: it stays where it is until its cool-down is over.
	Moved time.Time
	// Pinned: it counts, and stays where it is.
	Pinned bool
}

// Move is one slot or one object that is to go from one shard to another.
type Move struct {
	// From and To are shards.
	From, To string
	// Slot is the slot that moves; -1 when it is an object.
	Slot int
	// Key is the object that moves; "" when it is a slot, or any object that is like the others of its shard.
	Key string
	// Objects is how many objects move: those in the slot, or as in ObjectLoad. An empty slot counts 1.
	Objects int64
	// Load is how much of the load of From it takes along, where 1 is a full shard.
	Load float64
}

// PlanReason says in one word why a plan moves something, or why it does not.
type PlanReason string

const (
	// PlanOverloaded: moves something away from shards that are above the band.
	PlanOverloaded PlanReason = "Overloaded"
	// PlanUnderloaded: nobody is above the band; moves something to shards below it, such as one that has just joined.
	PlanUnderloaded PlanReason = "Underloaded"
	// PlanDefragmenting: everybody is in the band; joins the ranges of the ring, which have become many.
	PlanDefragmenting PlanReason = "Defragmenting"

	// PlanWithinTolerance: everybody is in the band.
	PlanWithinTolerance PlanReason = "WithinTolerance"
	// PlanConfirming: somebody is out of the band, but not yet for enough rounds in a row.
	PlanConfirming PlanReason = "Confirming"
	// PlanIndivisible: somebody is above the band, and what could move would only move the problem.
	PlanIndivisible PlanReason = "Indivisible"
	// PlanCoolingDown: what would have to move has moved a short time ago.
	PlanCoolingDown PlanReason = "CoolingDown"
	// PlanOverBudget: what would have to move has more objects than a round may move.
	PlanOverBudget PlanReason = "OverBudget"
	// PlanTooManyRanges: what would have to move would give a shard more ranges than can be written down.
	PlanTooManyRanges PlanReason = "TooManyRanges"
	// PlanNoReceiver: nobody may receive.
	PlanNoReceiver PlanReason = "NoReceiver"
	// PlanTooFewShards: there is nobody to share with.
	PlanTooFewShards PlanReason = "TooFewShards"
	// PlanLoadUnknown: a shard is silent, or its load is not known. Nothing is decided on what is not known.
	PlanLoadUnknown PlanReason = "LoadUnknown"
	// PlanInFlight, PlanRollingOut, PlanVersionsDiffer and PlanFrozen: see Blocks.
	PlanInFlight       PlanReason = "PlanInFlight"
	PlanRollingOut     PlanReason = "RollingOut"     // see Blocks
	PlanVersionsDiffer PlanReason = "VersionsDiffer" // see Blocks
	PlanFrozen         PlanReason = "Frozen"         // see Blocks
	// PlanInvalid: the input was refused; the error says why.
	PlanInvalid PlanReason = "Invalid"
)

// Plan is what a round has come to.
type Plan struct {
	// Reason says why in one word.
	Reason PlanReason
	// Text says why in a sentence, for Events and conditions.
	Text string
	// Moves are to be made in any order. There are none when Reason says that nothing is to be done.
	Moves []Move
	// Objects is the number of objects in all moves. It is never above PlannerOptions.MaxMoves.
	Objects int64
	// Ring is the ring with the moves made, nil when none are or when objects were planned.
	Ring *ring.Ring
	// Imbalance is the largest load of a shard over the mean, as observed; 1 is perfect, 0 is unknown.
	Imbalance float64
	// Expected is what Imbalance is to be once the moves are made.
	Expected float64
	// Largest is the unit that is the largest part of the load.
	Largest Indivisible
}

// Acts says whether there is something to do: objects to move, or at least empty slots (then only Ring is set).
func (p Plan) Acts() bool { return len(p.Moves) > 0 || p.Ring != nil }

// Indivisible is the largest unit: a slot or a single object, which nobody can divide.
type Indivisible struct {
	// Shard is where it is, "" when nothing is known.
	Shard string
	// Slot and Key are as in Move.
	Slot int
	Key  string
	// Load is how much of the load of its shard it is, where 1 is a full shard.
	Load float64
	// Share is the part of the whole load that it is, from 0 to 1.
	Share float64
	// Bound is the least imbalance that any plan can reach with it: its load over the mean load, at least 1.
	Bound float64
}
