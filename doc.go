// Package shardcontroller is the root of a library that lets any Kubernetes operator run N replicas that are
// all active at once, each reconciling its own share of the objects, instead of one leader and idle standbys.
//
// It needs nothing besides the API server: no database, no sidecar, no webhook, no certificates. Who owns an
// object is a label on the object itself; who lives is a Lease.
//
// Import the part that you need:
//
//   - [github.com/shard-io/shard-controller/sharding]: Manager and Worker, labels, selectors. Begin here.
//   - [github.com/shard-io/shard-controller/ring]: key to slot to shard: the consistent-hash ring, usable alone.
//   - [github.com/shard-io/shard-controller/balancer]: strategies that say where an object belongs.
//   - [github.com/shard-io/shard-controller/health]: heartbeats and failure detection on Leases, and probes.
//   - [github.com/shard-io/shard-controller/apis/shard/v1]: the resources ShardConfig and ShardInstance.
//   - [github.com/shard-io/shard-controller/apis/crd]: their CustomResourceDefinitions, and an installer.
//   - github.com/shard-io/shard-controller/generated: typed clients, informers, listers, apply configurations.
//
// The directories examples/manager and examples/worker hold a complete sharded controller; the README shows how
// to see it run in a minute, and docs/protocol.md says what is promised and why it holds.
package shardcontroller
