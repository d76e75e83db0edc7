// Package e2enode has the end-to-end test on a cluster with real Pods: the manifests of examples/deploy as kustomize renders them, with the images
// that "make images" builds. It needs KUBECONFIG, for a cluster that has the images and nothing else in it that is to live: it installs, breaks
// and uninstalls the whole system.
//
// Its witnesses are outside of what it tests: the labels as the API server has seen them (package timeline), the journals that the workers write
// to their logs (package journal), and the kubelet's statistics.
//
//	make images e2e KUBECONFIG=...
//	make images e2e-node
package e2enode
