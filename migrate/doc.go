// Package migrate is the state machine of a migration: the move of many objects from one shard to another, with a way back.
//
// It is pure: no clock, no IO, no goroutine, nothing but the standard library. [Step] takes a state and an event and returns the next
// state and what is to be done; [Look] takes what is written on one object and says how far that object is and what is to be
// done about it. Whoever runs a migration (package sharding does) does these things, and tells the machine what it found out.
//
//	Planning ──▶ Preparation ──▶ Transfer ──▶ Verification ──▶ Cleanup ──▶ Succeeded
//	    │             │              │              │              │
//	    │             │              └──────┬───────┘              └─────▶ Failed (some objects were not moved)
//	    │             │                     ▼
//	    │             │                RollingBack ──▶ RolledBack, or Failed if something could not be taken back
//	    └─────────────┴──▶ RolledBack (nothing had been moved), or Failed (the plan makes no sense)
//
// # What is promised
//
//   - A [State] is small, whatever the number of objects: counts and a few words. It can be made again from what is written down:
//     phase, reason and total from the record of the migration, the counts by looking at the objects once more. So the process that
//     runs a migration may die at any moment, and the next one goes on.
//   - The machine is told how things are, not what has changed. An event that comes twice has the effect of one; a count that began
//     before the last event is refused with [ErrStale]; an event that means nothing in the present phase is refused with [ErrNotNow]. A refused event leaves no trace: the state that is returned is the one that was passed.
//   - Phases only go forward. No event leads out of Succeeded, RolledBack or Failed.
//   - From every state that can be reached, the migration can come to its end, whichever of the two shards has died; and then
//     every object has one owner, and its processing state is in one place: with that owner, or on the object.
//   - No decision is made on less than the whole: a phase ends when a count over all objects says so, and not before.
//
// # What is not promised
//
//   - Who owns an object is not decided here: objects change hands by writes to their labels, which are compare-and-swap. The machine
//     may be wrong about an object at any time without harm, as what it asks for is then refused by the server.
//   - The machine does not move objects of a dead shard, and does not wait for them: taking over is somebody else's.
//   - It knows no time. A deadline that has passed is an [Abort] like one by the user.
package migrate
