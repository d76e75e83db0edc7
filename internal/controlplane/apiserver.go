package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// defaultAuditPolicy records who did what to which object, and no contents.
const defaultAuditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// prepareAPIServer writes what the API server needs besides etcd.
func (c *ControlPlane) prepareAPIServer() error {
	ca, err := newAuthority("kubernetes-ca")
	if err != nil {
		return err
	}
	serving, err := ca.server("kubernetes", "kubernetes.default", "kubernetes.default.svc")
	if err != nil {
		return err
	}
	// The group bypasses RBAC inside the API server; admission still applies.
	if c.admin, err = ca.client("admin", "system:masters"); err != nil {
		return err
	}
	public, private, err := signingKey()
	if err != nil {
		return err
	}
	c.ca = ca
	policy := c.options.AuditPolicy
	if policy == "" {
		policy = defaultAuditPolicy
	}
	return c.dir.write(map[string][]byte{
		"ca.crt":        ca.pem,
		"apiserver.crt": serving.cert, "apiserver.key": serving.key,
		"serviceaccount.pub": public, "serviceaccount.key": private,
		"audit-policy.yaml": []byte(policy),
	})
}

func (c *ControlPlane) apiServerFlags(port int) []string {
	flags := []string{
		"--etcd-servers=" + c.etcdURL,
		"--etcd-cafile=" + c.dir.file("etcd-ca.crt"),
		"--etcd-certfile=" + c.dir.file("etcd-client.crt"),
		"--etcd-keyfile=" + c.dir.file("etcd-client.key"),
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		"--endpoint-reconciler-type=none", // a loopback address is no endpoint
		"--service-cluster-ip-range=10.0.0.0/24",
		"--cert-dir=" + c.dir.path,
		"--tls-cert-file=" + c.dir.file("apiserver.crt"),
		"--tls-private-key-file=" + c.dir.file("apiserver.key"),
		"--client-ca-file=" + c.dir.file("ca.crt"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.dir.file("serviceaccount.pub"),
		"--service-account-signing-key-file=" + c.dir.file("serviceaccount.key"),
		// Or it waits for the end of every watch when it is to stop.
		"--shutdown-watch-termination-grace-period=1s",
		// Nobody here creates the ServiceAccount "default" that it would
		// demand of every Pod without one.
		"--disable-admission-plugins=ServiceAccount",
	}
	if c.options.AuditLog != "" {
		flags = append(flags, "--audit-log-path="+c.options.AuditLog, "--audit-policy-file="+c.dir.file("audit-policy.yaml"))
	}
	return append(flags, c.options.APIServerFlags...)
}

// runAPIServer starts the API server on a port and waits until it is ready.
func (c *ControlPlane) runAPIServer(ctx context.Context, port int) error {
	s, err := command{
		name: "kube-apiserver", path: c.binaries.APIServer, log: c.logFile("kube-apiserver.log"),
		env: minimalEnv(c.dir.path), grace: grace, needs: c.etcd.guard,
		args: c.apiServerFlags(port),
	}.start()
	if err != nil {
		return err
	}
	if err := c.waitReady(ctx, s); err != nil {
		return errors.Join(err, s.stop(context.WithoutCancel(ctx)))
	}
	c.apiServer = s
	c.watch(s)
	return nil
}

func (c *ControlPlane) waitReady(ctx context.Context, s *server) error {
	config := c.Config()
	// A transport of our own: client-go shares its transports among equal
	// configurations, and this one must not outlive an outage.
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	if err := eventually(ctx, s, answersOK(client, config.Host+"/readyz")); err != nil {
		return err
	}
	// The server creates its own namespaces after it has become ready.
	return eventually(ctx, s, answersOK(client, config.Host+"/api/v1/namespaces/default"))
}

// StopAPIServer begins an outage: the API server is stopped, gracefully as far
// as that takes a few seconds, and etcd keeps the data. It returns when the
// process is gone. Stopping a stopped API server is not an error.
func (c *ControlPlane) StopAPIServer(ctx context.Context) error {
	return c.endAPIServer(ctx, func(*server) {})
}

// KillAPIServer begins an outage as a crash does: requests in flight get no
// answer, and whether they were carried out is open. Otherwise it is like
// [ControlPlane.StopAPIServer].
func (c *ControlPlane) KillAPIServer(ctx context.Context) error {
	return c.endAPIServer(ctx, func(s *server) {
		s.killed.Store(true)
		_ = kill(s.pid)
		<-s.exited
	})
}

func (c *ControlPlane) endAPIServer(ctx context.Context, first func(*server)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apiServer == nil {
		return nil
	}
	first(c.apiServer)
	if err := c.apiServer.stop(ctx); err != nil {
		return fmt.Errorf("controlplane: %w", err)
	}
	c.apiServer = nil
	return nil
}

// StartAPIServer ends an outage: the API server comes back on the same port
// with the same data and the same keys, so that clients, certificates and
// tokens stay good. It returns when the server is ready. Starting one that runs
// already is not an error.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stopped:
		return errStopped
	case c.apiServer != nil && c.apiServer.running():
		return nil
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if c.apiServer != nil { // it exited by itself; its guard still holds etcd
		if err := c.apiServer.stop(ctx); err != nil {
			return wrap(err)
		}
		c.apiServer = nil
	}
	for {
		err := c.runAPIServer(ctx, c.port)
		if !errors.Is(err, errPortTaken) {
			return wrap(err)
		}
		// The clients know this port only, so no other one will do.
		select {
		case <-ctx.Done():
			return wrap(err)
		case <-time.After(pollInterval):
		}
	}
}

// PauseAPIServer freezes the API server: connections stay open and nothing is
// answered, until [ControlPlane.ResumeAPIServer].
func (c *ControlPlane) PauseAPIServer() error { return c.signalAPIServer("pause", freeze) }

// ResumeAPIServer lets a paused API server go on.
func (c *ControlPlane) ResumeAPIServer() error { return c.signalAPIServer("resume", thaw) }

func (c *ControlPlane) signalAPIServer(verb string, signal func(pid int) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apiServer == nil || !c.apiServer.running() {
		return fmt.Errorf("controlplane: cannot %s the API server: it is not running", verb)
	}
	if err := signal(c.apiServer.pid); err != nil {
		return fmt.Errorf("controlplane: cannot %s the API server: %w", verb, err)
	}
	return nil
}

// client returns a typed client of the cluster admin.
func (c *ControlPlane) client() (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(c.Config())
	return client, wrap(err)
}

var createOptions = metav1.CreateOptions{FieldManager: "controlplane"}
