//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"github.com/shard-io/shard-controller/apis/crd"
	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/generated/informers/externalversions"
	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/internal/timeline"
)

const (
	// ring is measured. Its objects are in the namespaces with the label selected.
	ring     = "bench"
	selected = "bench"
	// bareRing has workers and no manager: the bare loop takes its place.
	bareRing = "bare"
)

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)

// build builds the programs; remove takes them away again.
func build(ctx context.Context) (programs map[string]string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "shard-bench-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { _ = os.RemoveAll(dir) }
	const module = "github.com/shard-io/shard-controller/"
	programs, err = child.Build(ctx, dir, false, module+"examples/manager", module+"internal/bench/worker")
	if err != nil {
		remove()
		return nil, nil, err
	}
	return programs, remove, nil
}

// cluster is a control plane with the definitions installed, and the processes
// that were started on it.
type cluster struct {
	plane      *controlplane.ControlPlane
	programs   map[string]string
	kubeconfig string
	kube       kubernetes.Interface
	meta       metadata.Interface
	shards     versioned.Interface
	settings   settings
	dir        string
	removeDir  bool
	processes  []*child.Process
	recording  sync.WaitGroup
	cancel     context.CancelFunc
	background context.Context
}

func startCluster(ctx context.Context, programs map[string]string, s settings) (*cluster, error) {
	c := &cluster{programs: programs, settings: s, dir: s.logDir}
	c.background, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := c.start(ctx); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

func (c *cluster) start(ctx context.Context) (err error) {
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "shard-bench-logs-"); err != nil {
			return err
		}
		c.removeDir = true
	} else if err = os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	if c.plane, err = controlplane.Start(ctx, controlplane.Options{}); err != nil {
		return err
	}
	cfg := c.plane.Config()
	if c.kubeconfig, err = c.plane.KubeconfigFile(cfg); err != nil {
		return err
	}
	if err = crd.Install(ctx, cfg); err != nil {
		return err
	}
	if c.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return err
	}
	if c.meta, err = metadata.NewForConfig(cfg); err != nil {
		return err
	}
	c.shards, err = versioned.NewForConfig(cfg)
	return err
}

// stop ends the processes, then the control plane.
func (c *cluster) stop() {
	c.cancel()
	c.recording.Wait()
	for _, p := range c.processes {
		p.Kill()
	}
	if c.plane != nil {
		c.plane.Stop()
	}
	if c.removeDir {
		_ = os.RemoveAll(c.dir)
	}
}

// createRing makes a ring in a namespace of its name.
func (c *cluster) createRing(ctx context.Context, name string, children bool, change ...func(*v1.ShardConfig)) error {
	if err := c.createNamespace(ctx, name, false); err != nil {
		return err
	}
	config := &v1.ShardConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: name}}
	config.Spec.HealthCheckInterval = &metav1.Duration{Duration: c.settings.lease}
	config.Spec.Targets = []v1.Target{{
		Resource: "secrets", NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{selected: "true"}},
	}}
	if children {
		config.Spec.Targets[0].Controlled = []v1.ControlledResource{{Resource: "configmaps"}}
	}
	for _, f := range change {
		f(config)
	}
	_, err := c.shards.ShardV1().ShardConfigs(name).Create(ctx, config, metav1.CreateOptions{})
	return err
}

func (c *cluster) createNamespace(ctx context.Context, name string, inRing bool) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if inRing {
		namespace.Labels[selected] = "true"
	}
	_, err := c.kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	return err
}

func (c *cluster) startManager(flags ...string) (*child.Process, error) {
	return c.startProcess("manager", "manager", append([]string{
		"--namespace=" + ring, "--identity=manager", fmt.Sprintf("--concurrency=%d", c.settings.concurrency),
	}, flags...)...)
}

func (c *cluster) startWorker(ring, id string, children bool, flags ...string) (*child.Process, error) {
	return c.startProcess("worker", id, append([]string{"--namespace=" + ring, "--ring=" + ring, "--id=" + id, fmt.Sprintf("--children=%v", children)}, flags...)...)
}

func (c *cluster) startProcess(program, name string, flags ...string) (*child.Process, error) {
	p, err := child.Start(child.Command{
		Path: c.programs[program], Args: append([]string{"--kubeconfig=" + c.kubeconfig}, flags...), Log: filepath.Join(c.dir, name+".log"),
	})
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return p, err
}

// record follows the owner labels of a ring.
func (c *cluster) record(ring string, resources ...schema.GroupVersionResource) *timeline.Recorder {
	r := &timeline.Recorder{Client: c.meta, Ring: ring, Resources: resources, Concerns: func(o *metav1.PartialObjectMetadata) bool {
		return o.Namespace != ring && o.Namespace != "kube-system"
	}}
	c.recording.Go(func() { r.Run(c.background) })
	return r
}

// waitActive waits until all shards of a ring hold their Leases.
func (c *cluster) waitActive(ctx context.Context, ring string, ids ...string) error {
	return until(ctx, func() (bool, error) {
		for _, id := range ids {
			lease, err := c.kube.CoordinationV1().Leases(ring).Get(ctx, id, metav1.GetOptions{})
			if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
				return false, nil
			}
		}
		return true, nil
	})
}

// waitReady waits until the manager sees so many shards alive.
func (c *cluster) waitReady(ctx context.Context, n int32) error {
	return until(ctx, func() (bool, error) {
		config, err := c.shards.ShardV1().ShardConfigs(ring).Get(ctx, ring, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return config.Status.ReadyShards == n, nil
	})
}

// waitOwned waits until the workers of the ring say that they own n objects together.
func (c *cluster) waitOwned(ctx context.Context, n int) error {
	return until(ctx, func() (bool, error) {
		list, err := c.shards.ShardV1().ShardInstances(ring).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		sum := 0
		for i := range list.Items {
			sum += int(list.Items[i].Status.AssignedResourceCount)
		}
		return sum == n, nil
	})
}

// waitChildren waits until there are n ConfigMaps in a namespace.
func (c *cluster) waitChildren(ctx context.Context, namespace string, n int) error {
	return until(ctx, func() (bool, error) {
		list, err := c.meta.Resource(configMaps).Namespace(namespace).List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return false, err
		}
		have := int64(len(list.Items))
		if list.RemainingItemCount != nil {
			have += *list.RemainingItemCount
		}
		return have == int64(n), nil
	})
}

// quiet waits until nothing has happened to the objects for that long, and the
// condition then holds. Judging a timeline costs time that the servers need, so
// that is not done before.
func quiet(ctx context.Context, line *timeline.Recorder, period time.Duration, condition func() error) error {
	last, since := -1, time.Now()
	return until(ctx, func() (bool, error) {
		if n := line.Len(); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < period {
			return false, nil
		}
		since = time.Now() // not again and again
		err := condition()
		return err == nil, err
	})
}

// informers are of what is in the namespace of the rings. Listers are asked for before startInformers.
func (c *cluster) informers() externalversions.SharedInformerFactory {
	return externalversions.NewSharedInformerFactoryWithOptions(c.shards, 0, externalversions.WithNamespace(ring))
}

// startInformers returns when their caches are filled. They are kept up to date until the end of the measurement.
func (c *cluster) startInformers(ctx context.Context, factory externalversions.SharedInformerFactory) error {
	factory.StartWithContext(c.background)
	c.recording.Go(func() {
		<-c.background.Done()
		factory.Shutdown()
	})
	return factory.WaitForCacheSyncWithContext(ctx).Err
}

// until polls; an API server that does not answer for once is no reason to stop.
func until(ctx context.Context, condition func() (bool, error)) error {
	for {
		ok, err := condition()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waited in vain: %w", context.Cause(ctx)), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
