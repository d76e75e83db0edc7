// Package shardtest helps importers to test what they build on this module: an operator whose objects come and go, a balancing
// strategy, the export and import of state.
//
// # What is promised
//
//   - A [Server] refuses a write with a stale resourceVersion, as the API server does and client-go's fake clientset does not. It
//     serves client-go's real clients, informers and leader election, in real time or in a bubble of testing/synctest.
//   - Shards in a [Ring] are [sharding.Worker]s and nothing else: what a test sees of acquisition, hand-over, fencing and epochs is what
//     production does.
//   - Faults come from [ServerOptions].Seed, and do not depend on how goroutines take turns: the same requests meet the same faults.
//   - [CheckStrategy] and [CheckState] find what managers and workers rely on, and name the rule that is broken.
//
// # What is not promised
//
//   - The Server checks no schemas, fills in no defaults, has no admission, roles, quotas or priorities, and collects no garbage: the
//     children of a deleted root stay. Namespaces need not exist. CEL rules and the server-side fence (package sharding/fence) are not
//     enforced: a test of those needs a real API server.
//   - It speaks JSON only, has no conversion between versions, and no Tables, eviction, scale or token subresources.
//   - A Ring decides nothing: nobody is given anything, and nothing is taken from the dead, unless the test says so. For the whole
//     system, run a [sharding.Manager] on a Server instead, with a ShardConfig that a client has created.
//   - The package is for tests: it may grow in any version, and it may find faults in a later version that it did not find before.
//
// # Testing an operator
//
// Give the operator a configuration of the server where its main would load one, and the options of the ring where its main would read
// flags. From then on the test says who owns what:
//
//	server, err := shardtest.NewServer(shardtest.ServerOptions{})
//	ring, err := shardtest.NewRing(server, config)
//	operator, err := operate(ctx, server.Config("a"), ring.WorkerOptions("a")) // has a sharding.Worker
//	err = shardtest.Await(ctx, operator.Active)
//
//	what the test wants                       | what it calls
//	the shard gets an object                  | ring.Assign(resource, object, "a")
//	it gives the object away, in order        | ring.Move(ctx, resource, object, "b")
//	the object is taken from it, and it hears | ring.Assign(resource, object, "b")
//	it fences itself, and comes back          | server.Actor("a").Cut(), then Mend()
//	the object's epoch grows                  | ring.Assign(resource, object, "a")
//	it misses a request                       | server.Actor("a").Fail(shardtest.Conflict, 1, nil)
//	its caches are late                       | server.Actor("a").DelayWatches(time.Second)
//	it is paused, or killed                   | server.Actor("a").Freeze() and Thaw(), or Crash()
//	the server is away, or forgets            | server.SetDown(true), server.Compact()
//
// In a bubble of testing/synctest all that takes no time: a lease of 30 seconds expires at once, and synctest.Wait returns when nothing is
// left to do. Make server, ring and operator inside; stop the operator before the bubble ends. If other tests of the
// program run in real time, set utilruntime.ErrorHandlers of k8s.io/apimachinery to nil, or its rate limiter waits for years of
// virtual time. In real time, give the ring a healthCheckInterval of a second or two.
//
// # Strategies and state
//
// [TestStrategy] holds a balancing strategy of one's own against the rules that the manager relies on; [TestState] the Exporter and Importer of
// an operator that keeps state per object against those that workers rely on.
package shardtest
