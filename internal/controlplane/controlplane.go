package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// startLimit bounds a start whose context has no deadline. It is generous: on
// an idle machine a start takes a few seconds.
const startLimit = 3 * time.Minute

var errStopped = errors.New("controlplane: stopped")

// Options say how to run a control plane. The zero value is good.
type Options struct {
	// Log takes what is worth saying in words: that the binaries are being
	// built, and if a server exits by itself. It may be written to by any
	// goroutine. Default: os.Stderr.
	Log io.Writer
	// LogDir takes etcd.log and kube-apiserver.log, which are appended to and
	// kept. Default: they go to the temporary directory and are removed with it.
	LogDir string
	// APIServerFlags are added to the command line of kube-apiserver, after
	// those that this package sets: "--feature-gates=X=true".
	APIServerFlags []string
	// AuditLog is the path of a file for the API server's audit log. Default: none.
	AuditLog string
	// AuditPolicy is the audit policy (YAML, audit.k8s.io/v1). Default: the
	// metadata of every request. It needs AuditLog.
	AuditPolicy string
}

func (o Options) validate() error {
	for i, flag := range o.APIServerFlags {
		if !strings.HasPrefix(flag, "--") {
			return fmt.Errorf("controlplane: Options.APIServerFlags[%d] is %q: it must be of the form --name=value", i, flag)
		}
	}
	if o.AuditPolicy != "" && o.AuditLog == "" {
		return errors.New("controlplane: Options.AuditPolicy is set and Options.AuditLog is not: set the path to write the audit log to")
	}
	return nil
}

// ControlPlane is a running etcd and kube-apiserver. Its methods may be called
// by any goroutine.
type ControlPlane struct {
	options  Options
	binaries Binaries
	dir      *workdir
	ca       *authority // of the API server and its clients
	admin    pair
	port     int // of the API server; the same after a restart

	etcdURL    string
	etcdCA     *authority
	etcdClient pair

	mu        sync.Mutex
	etcd      *server
	apiServer *server // nil during an outage
	stopped   bool
}

// Start runs a control plane on loopback and returns when it is ready. It
// builds the binaries first if this machine does not have them. ctx bounds the
// start and nothing after it; without a deadline, the start of the servers may
// take three minutes. The caller ends the control plane by
// [ControlPlane.Stop], or by exiting.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = os.Stderr
	}
	binaries, err := FindBinaries(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	return startWith(ctx, binaries, o)
}

func startWith(ctx context.Context, binaries Binaries, o Options) (*ControlPlane, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := o.absolute(); err != nil {
		return nil, err
	}
	dir, err := newWorkdir()
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{options: o, binaries: binaries, dir: dir}
	if err := c.start(ctx); err != nil {
		c.Stop()
		return nil, wrap(err)
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	c.watch(c.etcd)
	if err := c.prepareAPIServer(); err != nil {
		return err
	}
	return onFreePort(func(port int) error {
		c.port = port
		return c.runAPIServer(ctx, port)
	})
}

// absolute makes the paths independent of the servers' working directory.
func (o *Options) absolute() error {
	for _, path := range []*string{&o.LogDir, &o.AuditLog} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return wrap(err)
		}
		*path = abs
	}
	if o.LogDir == "" {
		return nil
	}
	if err := os.MkdirAll(o.LogDir, 0o755); err != nil {
		return fmt.Errorf("controlplane: Options.LogDir: %w", err)
	}
	return nil
}

func (c *ControlPlane) logFile(name string) string {
	if c.options.LogDir != "" {
		return filepath.Join(c.options.LogDir, name)
	}
	return c.dir.file(name)
}

// Config returns the configuration of a cluster admin (a client certificate of
// the group system:masters). Like every configuration of this package it has no
// client-side rate limit and no user agent of its own; the caller may change it.
func (c *ControlPlane) Config() *rest.Config {
	config := c.config()
	config.CertData, config.KeyData = c.admin.cert, c.admin.key
	return config
}

// config has everything but credentials.
func (c *ControlPlane) config() *rest.Config {
	return &rest.Config{
		Host:            "https://" + address(c.port),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.pem},
		QPS:             -1,
	}
}

// Stop ends the API server, then etcd, and removes their data. It returns when
// they are gone, which takes at most some seconds for each. It may be called
// more than once.
func (c *ControlPlane) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	c.stopped = true
	ctx := context.Background() // the guards are bounded by themselves
	for _, s := range []*server{c.apiServer, c.etcd} {
		if s != nil {
			_ = s.stop(ctx)
		}
	}
	c.dir.release()
	<-c.dir.gone
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, startLimit)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("controlplane: %w", err)
}
