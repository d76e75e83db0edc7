// Package controlplane runs a real Kubernetes control plane, etcd and
// kube-apiserver, on loopback, for the tests, the quickstart and the benchmarks
// of this module.
//
// What it is not: there is no kube-controller-manager, no scheduler and no
// kubelet. Nothing deletes dependents of a deleted owner, nothing finishes the
// deletion of a namespace ([ControlPlane.FinalizeNamespace] does it on demand),
// nothing creates the ServiceAccount "default", and a Pod is a record that
// never runs. The ClusterRoles admin, edit and view are empty, because their
// rules are aggregated by a controller. The data is written without fsync and removed at the end.
//
// What it is: the API server itself, with everything that such a server
// decides: schemas, CEL, admission policies, RBAC, server-side apply,
// resourceVersions, watches, flow control. Clients authenticate with client
// certificates ([ControlPlane.UserConfig]) or with ServiceAccount tokens bound
// to a Pod ([ControlPlane.PodConfig]).
//
// # Binaries
//
// With KUBEBUILDER_ASSETS set, etcd and kube-apiserver are taken from that
// directory, whatever their version. Otherwise they are built, once per
// machine, from the Go modules that hack/controlplane/go.mod pins, and kept in
// the user's cache directory (or in the directory that SHARD_CONTROLLER_CACHE
// names), outside of the source tree. That takes about five minutes on two
// cores and says so; every start after that takes seconds.
//
// # Nothing is left behind
//
// Each server runs under a small shell process in a session of its own, which
// holds the reading end of a pipe from this process. When the pipe closes,
// because of [ControlPlane.Stop] or because this process is gone, in whatever
// way, the API server is stopped first, then etcd, then the directory with
// their data is removed. Only killing these shell processes themselves with
// signal 9 defeats that.
//
// # Tests
//
// A package gives its tests one control plane for all of them by
//
//	func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }
//
// and gets it by [ForTest]. It is started by the first test that asks for it.
// Tests that share it keep apart by namespace and by names of their own.
package controlplane
