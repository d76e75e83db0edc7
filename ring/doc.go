// Package ring maps keys to shards: key → slot → shard.
//
// The hash space of 64 bits is divided into a power of two of equal slots (65,536 unless told otherwise), and a
// table says which shard owns each of them. Looking up a key costs its hash, one load from the table and one load of
// the name. A [Ring] never changes; [Ring.Assign] computes the next one from the last one and the wanted members.
// Readers that must always see the newest ring share a [Holder].
//
// # What is promised
//
//   - The same key is on the same shard as long as the ring is the same: [Hash] is xxhash64 with seed 0, a slot is the
//     top bits of it, and neither changes within a major version of this module. testdata/golden.txt pins both.
//   - A ring depends on its inputs only: not on the order of the members, not on the machine or its architecture, not
//     on a random source. Equal inputs give equal rings in every process of one version of this module.
//   - [Ring.Assign] on a ring that is within the tolerance moves slots only to members that joined, or whose share grew,
//     and from members that left, or whose share shrank. What does not have to move stays.
//   - Written out with [Ring.Ranges] and read back with [FromRanges], a ring is the same ring.
//   - Wrong input is an error that names the field, never a panic, and has no effect.
//
// # What is not promised
//
//   - Which shard a new ring gives a slot to may change in a minor version of this module: [New], [Ring.Assign] and
//     [Stateless] may get better at it. A ring written out as ranges does not change by an upgrade.
//   - A ring balances slots, or the loads per slot it is told ([Loads]). It does not know the objects: one slot that is
//     the whole load can't be divided.
//   - A ring does not know which shards are alive, cordoned or full. Package balancer does.
//
// All functions are pure and safe for use from any goroutine, and all methods of a nil or zero Ring work: it has no
// members, and no key has an owner.
package ring
