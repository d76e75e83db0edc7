// Package health finds out which shards are alive, makes sure that a shard that
// is taken for dead has stopped, and answers probes.
//
// # What is promised
//
// One Lease per shard, named like it, is all that is shared. A worker keeps it
// with a [Heartbeat]; the manager watches all of them with a [Tracker].
//
//   - At most one acts for a shard at any moment: one process, or the manager
//     that has taken the Lease to move the shard's objects. Heartbeat.Active and
//     Tracker.Held say who. The right to act ends two thirds of a lease duration
//     after the start of the last renewal that succeeded; others may take the
//     Lease only when its record has been the same for the whole of a lease
//     duration that they have timed themselves.
//   - Times of two machines are never compared. What matters of the times in a
//     record is whether they have changed.
//   - A process that was stopped, for however long, is refused by the first call
//     of Active after it wakes up. It gets back to work without a restart when it
//     has its Lease again, and not before its old work has returned.
//   - A second process with the same shardId waits. A Lease that was released
//     (Heartbeat.Release) is free at once; one that is missing can be created, but
//     whoever cannot know that nobody acts (HeartbeatOptions.Fresh) acts only a
//     lease duration later.
//   - A missing Lease is unknown, not dead: a live worker creates it again within
//     a retry period. Only when it has been missing for a whole lease duration,
//     observed without a gap, and a read by name confirms it, is the shard dead;
//     and TakeOver then creates the Lease, which fails if a worker was quicker.
//   - An API server that is away for any length of time makes nobody dead. The
//     clock of a silence runs only while the observer can see; three retry periods
//     without a successful read start it anew.
//   - When more than 55 % of the shards, and at least two, are silent together,
//     nobody is declared dead until enough have been heard for three retry
//     periods, or until the manager's own reads and writes have been healthy for
//     two more lease durations. The snapshot says so.
//   - A dead shard is found within one lease duration and the time of one read
//     after its last renewal was seen, if nothing is held back.
//   - Undisturbed, a heartbeat costs one write per retry period, and a Tracker one
//     watch and one list of a single item per retry period.
//
// # What is assumed, and not promised
//
//   - Monotonic clocks of two machines run at rates that differ by less than a
//     third over a lease duration, and go on while a process is stopped. A
//     machine that is suspended, and on some hypervisors one that is paused,
//     stops its clock: what it does before its next renewal fails is for the
//     server-side fence to refuse.
//   - Active may be true at the moment of asking and the machine stop right after.
//     What was begun then may reach the server late. Preconditions on what is
//     written, and the fence, are for that.
//   - The API server is linearizable: a write succeeds only on the version named
//     in it, and a read without a version returns the latest.
//   - Nobody else writes to the Leases. To edit one does no harm; neither does
//     deleting one. Somebody who deletes the same Lease twice within a lease
//     duration can make two processes believe in it for a part of that time.
//   - Whoever can write Leases can claim to be any shard. RBAC decides that.
//
// # Parts
//
// [Detector] is the judgement alone, a value without a clock: what was seen and
// when goes in, what follows comes out. [Timing] derives all intervals from one.
// [Checks] answers the probes of a kubelet, in time even if a check hangs.
package health
