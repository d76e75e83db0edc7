// Package balancer decides which shard an object belongs to, and what is to move so that loads even out.
//
// A [Strategy] looks at an immutable [View] of the shards and at one object, and answers with a shard and a reason. It
// never talks to an API server, reads no clock and starts no goroutine.
//
// # What is promised
//
//   - No strategy of this package ever answers with a shard that is cordoned, draining, silent or full, unless the object is
//     on it already and it is only cordoned or full. When nobody may receive the object, the answer is [ErrNoShard].
//   - consistent-hash and bounded-load depend on the view and the object only: two managers with the same view agree.
//     round-robin and least-loaded remember what they have placed themselves; each value of them counts for itself.
//   - All strategies of this package are safe for concurrent use.
//   - An object stays where it is as long as the strategy allows it; consistent-hash alone wants it where the ring says.
//
// A [Planner] looks at all slots of a ring, or at all objects, of which some may count together, and at the loads of the shards. It is a pure function of these and of a
// [Memory] that it returns for the next round.
//
//   - A plan never moves more objects than its budget, never to a shard that is cordoned, draining, silent or full, never anything off a
//     cordoned shard, and nothing again that has moved within its cool-down.
//   - Nothing moves while everybody is within the tolerance, nor before somebody has been out of it for as many rounds in a row as the options
//     say; nor while a plan is in flight, members are rolled out or differ in version, health is frozen, or a load is not known.
//   - After a plan that was carried out in full, everybody is within a fifth of the tolerance, as far as slots or objects can be divided; the
//     next round under the same loads has nothing to do. What cannot be divided is reported.
//   - How much loads fluctuate is measured, and what chance explains does not move anything: with an error of 30 per cent in the load of
//     every shard, independent from round to round, nothing moves in a ring that is even.
//   - Every plan says why it moves something or why not, in one word for programs and a sentence for people.
//   - Equal arguments give equal plans in every process. Wrong input is an error that names the field, never a panic, and has no effect.
//
// [Regroup] changes the members of a ring that a planner balances, without undoing what the planner has done.
//
// # What is not promised
//
//   - Balance by strategies: they place, they do not move what is placed well enough. Moving is the work of a planner.
//   - The best plan: a planner makes the best move, again and again, which is not always the best set of moves.
//   - That a planner knows why a load is high: a slot or object counts the part of its shard's load that its work is of all work there. A
//     shard that is slow gets even within a few rounds, not in one.
//   - Plans that hold when loads are measured wrongly but steadily so: the planner believes them.
//
// Own strategies are added with [Registry.Register], and can be held against the rules above with the conformance suite
// in package sharding/shardtest.
package balancer
