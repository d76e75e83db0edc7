// Package sharding lets the replicas of an operator share its objects: each replica is a shard of a ring and reconciles
// the objects that carry its name in a label. A [Worker] makes a process a shard; a [Manager] decides who gets what.
//
// # What is promised
//
//   - At most one shard acts on an object at a time: through assignment, hand-over, take-over, restart, partition, pause and
//     change of the manager. "Acts" means: runs a reconcile that this package has started, and writes with its context through
//     a client of [Worker.FencedConfig].
//   - A write through a client of [Worker.FencedConfig] to a root or child that the shard does not own, as far as this process can know, is
//     refused, whatever its context.
//   - An object's UID and epoch are a fencing token for systems outside of Kubernetes: see [TokenFromContext].
//   - A manager that was paused while another began to lead does not undo what that has done: its writes carry the version on which they
//     were decided, end with its leadership, and carry its term.
//   - An object's owner is what its label says. It changes by one write that carries a resourceVersion, and the annotation
//     with its epoch grows by one in the same write. There is no moment without an owner in a hand-over.
//   - The children of a root (objects it controls, of the resources that the ring lists) are given to the new owner before the
//     root, and the new owner's first reconcile waits until its caches have them.
//   - A shard that can't renew its Lease stops acting after two thirds of the Lease's duration, by its own monotonic clock, and
//     goes on by itself when it can. Others get its objects after the whole duration, by the manager's monotonic clock. Clocks of
//     different machines are never compared.
//   - While the API server is away, nobody's objects are given to others. Without a manager, workers go on.
//   - What an operator knows of an object, if it says how to export and import it ([StateTransfer]), is in the very write that changes
//     the owner. It is verified, imported once before the first reconcile, and kept for inspection if it can't be used.
//   - A manager keeps nothing of an object that has an owner, but for the keys of those that the planner has moved lately: its memory does not
//     grow with their number.
//   - In an idle ring nothing is written but one renewal per shard and retry period (2/15 of the Lease's duration), and the
//     leading manager's.
//
// # What is not promised
//
//   - Exclusion against what the API server can't see. A process that is paused between the check of its right to act and the
//     request itself, for longer than a third of its Lease, can send that request late. All writes of this package carry a
//     resourceVersion and are refused then; the operator's own should, too.
//   - Anything about clients without [Worker.FencedConfig], and about what goroutines that a reconcile leaves behind do to
//     objects that the ring does not name.
//   - Grandchildren. A child is what a root controls directly.
//   - That an object is never reconciled twice without a change. It is, after every change of owner and every interruption.
//   - The placement of objects that users label by hand. The manager corrects an owner that does not exist, and takes any
//     other for what it is: the truth.
//
// # A worker in an existing operator
//
// See the examples. In short: make a [Worker], restrict the informers with [Worker.TweakListOptions], make the writing clients from
// [Worker.FencedConfig], and give informer and reconcile function to [Worker.Run]. [Controller] has the options: concurrency, batches,
// backoff, children. The Worker starts the informers, keeps the queue, and calls the function for owned objects only.
//
// For each way of embedding there is an example that runs: typed, dynamic and metadata informers ([Worker.Run]); several kinds
// ([Worker.Start]); several rings in one process ([Worker.FencedConfig]); controllers that are not sharded beside one that is
// ([Worker.TweakListOptions]); a queue and loop of one's own ([Worker.Guard]). Package sharding/shardtest has what it takes to test them.
//
// # A client that only reads
//
// [ShardSelector], [AnyShard] and [Unassigned] are selectors for lists, watches and informers; [OwnerOf], [DrainTargetOf] and [EpochOf]
// read what is written on an object. The example of the package watches ShardInstances and predicts the owner of an object that does not
// exist yet. That is exact as long as the strategy is consistent-hash, the ranges were all read after the last change, and every shard may
// receive objects: none is joining, leaving, cordoned, silent, full or pinned to. For an object that exists its label is the answer.
//
// # When something is wrong
//
// [Worker.Check] says why a shard does nothing, and so does the log. The file docs/misuse.md has what there may be, and what to do.
//
// The file docs/protocol.md of the module has the protocol, the state machine, and what happens in each special case.
package sharding
