//go:build linux

package main

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func (c *cluster) certificates() error {
	a, err := newAuthority(c.path("pki"), "https://"+nodeIP+":443")
	if err != nil {
		return err
	}
	errs := []error{a.accountKeys()}
	issue := func(name string, subject pkix.Name, addresses ...string) {
		_, _, err := a.issue(name, subject, addresses...)
		errs = append(errs, err)
	}
	issue("apiserver", pkix.Name{CommonName: "kube-apiserver"},
		nodeIP, serviceIP, "127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
	issue("kubelet-server", pkix.Name{CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}}, nodeIP, nodeName)
	issue("kubelet-client", pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}})
	for name, user := range map[string][]string{
		"admin": {"admin", "system:masters"}, "controller-manager": {"system:kube-controller-manager"}, "scheduler": {"system:kube-scheduler"},
		"kubelet": {"system:node:" + nodeName, "system:nodes"},
	} {
		_, err := a.kubeconfig(name, user[0], user[1:]...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *cluster) etcd() error {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	if err := c.launch("etcd", c.Etcd, "--data-dir", c.path("etcd"), "--unsafe-no-fsync", "--log-level", "warn",
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "default="+peer); err != nil {
		return err
	}
	return nil // the API server waits for it
}

func (c *cluster) apiServer() error {
	if err := c.launch("kube-apiserver", c.APIServer, "--etcd-servers", "http://127.0.0.1:2379", "--bind-address", "0.0.0.0", "--secure-port", "443",
		"--advertise-address", nodeIP, "--service-cluster-ip-range", "10.0.0.0/24", "--authorization-mode", "Node,RBAC",
		"--enable-admission-plugins", "NodeRestriction", "--allow-privileged=true",
		"--client-ca-file", c.pki("ca.crt"), "--tls-cert-file", c.pki("apiserver.crt"), "--tls-private-key-file", c.pki("apiserver.key"),
		"--kubelet-client-certificate", c.pki("kubelet-client.crt"), "--kubelet-client-key", c.pki("kubelet-client.key"),
		"--kubelet-certificate-authority", c.pki("ca.crt"), "--kubelet-preferred-address-types", "InternalIP",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", c.pki("sa.pub"),
		"--service-account-signing-key-file", c.pki("sa.key")); err != nil {
		return err
	}
	return c.kubectl("ok", "get", "--raw=/readyz")
}

func (c *cluster) controllers() error {
	common := func(name, port string) []string {
		config := c.pki(name + ".kubeconfig")
		return []string{"--kubeconfig", config, "--authentication-kubeconfig", config, "--authorization-kubeconfig", config,
			"--bind-address", "127.0.0.1", "--secure-port", port, "--leader-elect=false", "--cert-dir", c.path("pki")}
	}
	if err := c.launch("kube-controller-manager", "kube-controller-manager", append(common("controller-manager", "10257"),
		"--use-service-account-credentials", "--service-account-private-key-file", c.pki("sa.key"), "--root-ca-file", c.pki("ca.crt"))...); err != nil {
		return err
	}
	if err := c.launch("kube-scheduler", "kube-scheduler", common("scheduler", "10259")...); err != nil {
		return err
	}
	return c.kubectl("default", "get", "serviceaccount", "default", "-o", "name")
}

func (c *cluster) containerd() error {
	for name, text := range map[string]string{"containerd.toml": containerdConfig, "10-bridge.conflist": bridgeConfig, "kubelet.yaml": kubeletConfig} {
		text = strings.NewReplacer("$DIR", c.Dir, "$PROGRAMS", c.Programs, "$IP", nodeIP, "$PAUSE", pauseImage).Replace(text)
		if name == "10-bridge.conflist" {
			name = "cni/" + name
		}
		if err := errors.Join(os.MkdirAll(c.path("cni"), 0o755), os.WriteFile(c.path(name), []byte(text), 0o644)); err != nil {
			return err
		}
	}
	if err := c.launch("containerd", "containerd", "--config", c.path("containerd.toml")); err != nil {
		return err
	}
	return c.ready("Server", "ctr", "-a", containerdSocket, "version")
}

func (c *cluster) importImages() error {
	pause := c.path("pause.tar")
	if err := saveImage(pause, pauseImage, c.Programs+"/pause"); err != nil {
		return err
	}
	for _, path := range append([]string{pause}, c.Images...) {
		if out, err := exec.Command("ctr", "-a", containerdSocket, "-n", "k8s.io", "images", "import", path).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", path, err, out)
		}
	}
	return nil
}

func (c *cluster) kubelet() error {
	if err := c.launch("kubelet", "kubelet", "--config", c.path("kubelet.yaml"), "--kubeconfig", c.pki("kubelet.kubeconfig"), "--hostname-override", nodeName,
		"--node-ip", nodeIP, "--root-dir", c.path("kubelet"), "--cert-dir", c.path("pki")); err != nil {
		return err
	}
	return c.kubectl("True", "get", "node", nodeName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
}
