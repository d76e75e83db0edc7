package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// grace is what both servers get to stop by themselves. There is nothing to
// lose when they don't.
const grace = 5 * time.Second

// startEtcd starts etcd on a free port and waits until it serves.
func (c *ControlPlane) startEtcd(ctx context.Context) error {
	ca, err := newAuthority("etcd-ca")
	if err != nil {
		return err
	}
	serving, err := ca.server()
	if err != nil {
		return err
	}
	client, err := ca.client("kube-apiserver")
	if err != nil {
		return err
	}
	if err := c.dir.write(map[string][]byte{
		"etcd-ca.crt": ca.pem,
		"etcd.crt":    serving.cert, "etcd.key": serving.key,
		"etcd-client.crt": client.cert, "etcd-client.key": client.key,
	}); err != nil {
		return err
	}
	probe, err := etcdProbe(ca, client)
	if err != nil {
		return err
	}
	defer probe.CloseIdleConnections()
	c.etcdCA, c.etcdClient = ca, client
	return onFreePort(func(port int) error { return c.runEtcd(ctx, port, probe) })
}

func (c *ControlPlane) runEtcd(ctx context.Context, port int, probe *http.Client) error {
	url := "https://" + address(port)
	s, err := command{
		name: "etcd", path: c.binaries.Etcd, log: c.logFile("etcd.log"),
		env: minimalEnv(c.dir.path), grace: grace, needs: c.dir.guard,
		args: []string{
			"--data-dir=" + c.dir.file("etcd"),
			"--listen-client-urls=" + url,
			"--advertise-client-urls=" + url,
			"--listen-peer-urls=http://127.0.0.1:0", // it has no peers
			"--cert-file=" + c.dir.file("etcd.crt"),
			"--key-file=" + c.dir.file("etcd.key"),
			"--trusted-ca-file=" + c.dir.file("etcd-ca.crt"),
			"--client-cert-auth=true",
			// Its JSON gateway is a client of its own, for which the certificate of the server won't do.
			"--client-cert-file=" + c.dir.file("etcd-client.crt"),
			"--client-key-file=" + c.dir.file("etcd-client.key"),
			"--unsafe-no-fsync=true", // the data does not outlive the process
			"--quota-backend-bytes=4294967296",
			"--log-level=warn",
		},
	}.start()
	if err != nil {
		return err
	}
	if err := eventually(ctx, s, answersOK(probe, url+"/health")); err != nil {
		return errors.Join(err, s.stop(context.WithoutCancel(ctx)))
	}
	c.etcd, c.etcdURL = s, url
	return nil
}

func etcdProbe(ca *authority, client pair) (*http.Client, error) {
	cert, err := tls.X509KeyPair(client.cert, client.key)
	if err != nil {
		return nil, fmt.Errorf("etcd client certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}}, nil
}
