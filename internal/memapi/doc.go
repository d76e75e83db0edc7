// Package memapi is a small Kubernetes API server in memory, for tests of protocols: an
// http.RoundTripper under client-go's real REST clients, informers and leader election. It works inside
// testing/synctest bubbles: no network, no goroutine of its own, no clock but package time.
//
// It exists because client-go's fake clientset has no compare-and-swap. Here a write with a stale
// resourceVersion is refused with 409 as the real server refuses it, and every actor has a connection of
// its own on which requests, answers and watches can be lost, delayed, repeated and cut.
//
// # Faithful
//
// The files under testdata/semantics are scripts of HTTP requests with their answers; the tests run
// them against this package and against a real kube-apiserver, and both must give the same answers.
// They cover create, generateName, get, list with selectors, pages of one consistent snapshot, 410 for
// what is compacted, update, the three kinds of patch, server-side apply, preconditions, finalizers,
// deletecollection, the status subresource, generation, dry run, PartialObjectMetadata and watches:
// an object that leaves the selection is DELETED with its last selected content and the revision of the
// write, one that enters it is ADDED; bookmarks and streaming lists (sendInitialEvents) as client-go
// uses them by default. A write that changes nothing is not written and makes no event.
//
// One counter numbers all writes, as etcd's revision does. Watches deliver in the order of the writes.
//
// # Not faithful
//
//   - Validation: only metadata is validated, and neither schemas nor defaults are applied, but for a
//     Secret's type and the phase of a new Pod or Namespace. CEL, admission policies, RBAC, quotas and
//     API priority do not exist; Server.Admit is the place for rules of one's own.
//   - Deletion: propagation policies are ignored, nothing is garbage-collected, Pods go at once. With
//     Options.StrictNamespaces a deleted Namespace stays until Server.EmptyNamespace is called.
//   - Field ownership is recorded from the first server-side apply on, not from creation; what was there
//     before belongs to "before-first-apply". Custom resources need a TypeConverter for lists with keys.
//   - The wire is JSON. Bodies in protobuf are understood for built-in kinds; Tables, CBOR, aggregated
//     discovery, OpenAPI, conversion between versions, scale, eviction and token subresources are not there.
//   - A list at a revision from the future fails at once instead of after three seconds.
//   - Everything a client does happens at one instant unless latency is injected.
//
// # Replay
//
// Uids, generated names and faults come from Options.Seed. What happens to a request is drawn from a
// hash of the seed, the actor and the number of times that this actor has asked for the same thing, so
// it does not depend on how goroutines interleave; what actors ask for may still depend on that.
package memapi
