// Package balancer decides which shard an object belongs to.
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
// # What is not promised
//
//   - Balance: strategies place, they do not move what is placed well enough. Moving is the work of a planner.
//
// Own strategies are added with [Registry.Register], and can be held against the rules above with the conformance suite
// in package sharding/shardtest.
package balancer
