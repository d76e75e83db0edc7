package migrate

// Stage is how far one object is.
type Stage string

// The stages; see [Counts].
const (
	StageNone      Stage = "" // no object of the migration
	StageWaiting   Stage = "Waiting"
	StageMoving    Stage = "Moving"
	StageArriving  Stage = "Arriving"
	StageArrived   Stage = "Arrived"
	StageRefused   Stage = "Refused"
	StageReturning Stage = "Returning"
	StageKept      Stage = "Kept"
	StageUnusable  Stage = "Unusable"
	StageAstray    Stage = "Astray"
)

// Object is what is written on one object, as far as it matters.
type Object struct {
	// Owner is the shard that owns it, and Drain the one that it is to go to; empty for none.
	Owner, Drain string
	// Marked: it has been asked for by this migration. Selected: it is one that the migration is to move.
	Marked, Selected bool
	// Pending: it carries processing state that its owner has not acknowledged.
	Pending bool
	// RefusedBy is the shard that could not use the processing state that came with the object; empty for none.
	RefusedBy string
	// Declined: its owner can't hand its processing state out, and keeps it.
	Declined bool
	// Failed: the target has it, with its state, and says that it can't work with it.
	Failed bool
}

// Shards are the two ends of a migration, and what they may do now.
type Shards struct {
	// Source and Target are the shards that the objects move between.
	Source, Target string
	// SourceReceives and TargetReceives say whether they may be given objects now.
	SourceReceives, TargetReceives bool
	// SourceLost and TargetLost say that they never will again while this migration goes on.
	SourceLost, TargetLost bool
}

// Move is what is to be done about one object.
type Move string

// The moves. Each is one write to the labels of the object, which fails if anybody has written to it since.
const (
	// Stay: nothing.
	Stay Move = ""
	// Ask: mark it, and ask the source to hand it over to the target.
	Ask Move = "Ask"
	// Withdraw: take back what its owner was asked for.
	Withdraw Move = "Withdraw"
	// TakeBack: ask the target to hand it over to the source.
	TakeBack Move = "TakeBack"
)

// Look says how far an object is, and what is to be done about it in a phase. It is a pure function, and right whenever it is called:
// what it answers follows from what is written on the object alone.
func Look(phase Phase, shards Shards, o Object) (Stage, Move) {
	back := phase == RollingBack
	switch {
	case !o.Marked:
		return lookUnmarked(phase, shards, o)
	case o.Owner == shards.Source:
		return lookAtSource(back, shards, o)
	case o.Owner == shards.Target:
		return lookAtTarget(back, shards, o)
	}
	return StageAstray, Stay
}

func lookUnmarked(phase Phase, shards Shards, o Object) (Stage, Move) {
	switch {
	case !o.Selected || o.Owner != shards.Source || phase != Transfer && phase.Moving() || phase.Ended():
		return StageNone, Stay
	case o.Declined || o.RefusedBy == shards.Target:
		return StageKept, Stay // not again: the reason why it could not be moved is still there
	case phase != Transfer || !shards.TargetReceives || o.Drain != "" && o.Drain != shards.Target:
		return StageWaiting, Stay
	}
	return StageWaiting, Ask
}

// lookAtSource is about an object that was asked for, and has not left or is back.
func lookAtSource(back bool, shards Shards, o Object) (Stage, Move) {
	switch {
	case o.Drain == shards.Target && (back || o.Declined || shards.TargetLost):
		return StageMoving, Withdraw
	case o.Drain != "":
		return StageMoving, Stay // to the target; or somebody else has other plans with it, and it will be astray
	case o.Pending:
		return StageReturning, Stay
	}
	return StageKept, Stay
}

// lookAtTarget is about an object that has been handed over.
func lookAtTarget(back bool, shards Shards, o Object) (Stage, Move) {
	refused := o.RefusedBy == shards.Target || o.Failed
	stage := StageArrived
	switch {
	case o.Drain == shards.Source && shards.SourceLost:
		return StageMoving, Withdraw
	case o.Drain != "":
		return StageMoving, Stay
	case refused && shards.SourceLost:
		return StageUnusable, Stay // it can't go back
	case refused && (o.Pending || o.Failed):
		stage, back = StageRefused, true
	case refused:
		stage = StageUnusable
	case o.Pending:
		stage = StageArriving
	}
	if back && shards.SourceReceives && !shards.SourceLost {
		return stage, TakeBack
	}
	return stage, Stay
}
