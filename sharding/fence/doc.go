// Package fence makes the API server refuse writes of everybody but the owner to the objects of a ring. It generates a
// ValidatingAdmissionPolicy from a ShardConfig and the identities of managers and workers. There is no webhook and no certificate: the
// API server evaluates the policy itself, on the very object that its compare-and-swap replaces.
//
// # What it guarantees
//
// While the policy is in force, for objects of the ring's targets and their children, in the namespaces that the targets select:
//
//   - A worker changes and deletes nothing but what its shard owns at that moment, by whatever verb and through whatever subresource:
//     a process that was paused, cut off or replaced is refused, whatever it believes. Its shard is the Pod that its token is bound
//     to; a credential that is bound to none is refused.
//   - The owner hands a root over only to the shard that the manager has asked for, in a write that takes the drain label off and
//     raises the epoch. It hands its children to whom it wants, and takes nobody's.
//   - A manager changes labels and annotations of rings, and nothing else; when it changes an owner the epoch grows.
//   - Others change neither owner nor any label or annotation of the ring. All else they may do, as RBAC allows.
//   - A worker writes the Lease and the ShardInstance of its own shard, and no other one's in the namespace of the ring.
//   - The garbage collector, the namespace controller and kubelets are not hindered. Controllers of kube-system may copy a root's labels
//     to its children.
//
// A refusal is 403 Forbidden. Its message names the rule, the owner and the caller:
//
//	fence of ring "auditor" [NotOwner]: the owner is shard "w-b"; the caller is shard "w-a" (system:serviceaccount:shop:worker)
//
// # What it does not guarantee
//
//   - Creation: nothing is there yet that could have an owner. A worker creates with its own label, or without one (the manager gives
//     a child the owner of its root); so a paused worker can still create a child of a root that it has lost. Give children names that
//     follow from the root's, so that a second one collides, and update them, which is fenced.
//   - Children without an owner label are known by the kind of their controller, as far as the plural in the target is regular. Workers do not
//     write to them before they have an owner.
//   - Requests with CONNECT (exec, attach, port-forward, proxy) are not looked at.
//   - Effects outside of the API server: see the epoch.
//   - Two processes with the token of one Pod are the same shard to it, and a Pod that is created again under its name too; that is what
//     the Lease is for. After a Pod is deleted by force, its token is good for some ten seconds.
//   - Who may impersonate, or change admission policies, may do anything.
//
// docs/fence.md has the table of the rules; testdata/rules.yaml has them as requests with their answers.
package fence
