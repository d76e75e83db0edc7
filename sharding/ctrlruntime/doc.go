// Package ctrlruntime makes the controllers of a program that is built on controller-runtime work on the objects of one shard. The
// module is separate from the library's, so that only those who use controller-runtime depend on it.
//
// # What is promised
//
//   - A reconciler of a [Builder], or that [Shard.Reconciler] wraps, runs for a root object only while this shard may act on it, and no other shard runs one
//     for that object meanwhile. Its context ends when the right to act does: see [sharding.Guard].
//   - An object that was acquired, by assignment, hand-over or take-over, is enqueued at normal priority. (controller-runtime's queue
//     puts what is found at the start behind everything else.)
//   - An object that moved to another shard is not reconciled as if it had been deleted. One that was deleted is, once.
//   - Other controllers of the same manager are not concerned, with or without leader election, as long as they do not need the
//     kinds that [ByObject] restricts from the manager's cache.
//
// # What is not promised
//
//   - Anything about controllers without the wrapped reconciler, or with leader election: a sharded controller must run in all replicas
//     (NeedLeaderElection: false, as [Options] has it).
//   - Two controllers for the objects of one Shard. Only one acts on an object at a time, so the second would miss events.
//
// # What to change in an operator
//
// The example of the package is a whole program. In short: make a [sharding.Worker]; give its FencedConfig and [ByObject] to the
// manager; build the controllers of sharded kinds with [NewControllerManagedBy] instead of controller-runtime's; add the worker to the
// manager with [AddToManager]. Controllers that are not built so are made of [For], [Shard.Source] and [Shard.Reconciler].
package ctrlruntime
