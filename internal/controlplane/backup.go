package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Backup copies what etcd has, for [ControlPlane.Restore]. Both servers are stopped for that, and are there again when it returns.
func (c *ControlPlane) Backup(ctx context.Context) error {
	return c.offline(ctx, func() error {
		return errors.Join(os.RemoveAll(c.dir.file("backup")), os.CopyFS(c.dir.file("backup"), os.DirFS(c.dir.file("etcd"))))
	})
}

// Restore puts back what [ControlPlane.Backup] has copied: everything that was written since is lost, and resourceVersions go back. This is
// the worst that a restore can be; tools for etcd can raise the revision, so that clients notice.
func (c *ControlPlane) Restore(ctx context.Context) error {
	return c.offline(ctx, func() error {
		if _, err := os.Stat(c.dir.file("backup")); err != nil {
			return err
		}
		return errors.Join(os.RemoveAll(c.dir.file("etcd")), os.CopyFS(c.dir.file("etcd"), os.DirFS(c.dir.file("backup"))))
	})
}

// offline calls f while neither server runs.
func (c *ControlPlane) offline(ctx context.Context, f func() error) error {
	if err := c.StopAPIServer(ctx); err != nil {
		return err
	}
	if err := c.restartEtcd(ctx, f); err != nil {
		return fmt.Errorf("controlplane: %w", err)
	}
	return c.StartAPIServer(ctx)
}

func (c *ControlPlane) restartEtcd(ctx context.Context, between func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errStopped
	}
	if err := c.etcd.stop(ctx); err != nil {
		return err
	}
	if err := between(); err != nil {
		return err
	}
	probe, err := etcdProbe(c.etcdCA, c.etcdClient)
	if err != nil {
		return err
	}
	defer probe.CloseIdleConnections()
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := onFreePort(func(port int) error { return c.runEtcd(ctx, port, probe) }); err != nil {
		return err
	}
	c.watch(c.etcd)
	return nil
}
