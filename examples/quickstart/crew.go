//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/shard-io/shard-controller/internal/child"
)

// The programs that the tour runs, by import path.
const (
	managerPackage = "github.com/shard-io/shard-controller/examples/manager"
	workerPackage  = "github.com/shard-io/shard-controller/examples/worker"
)

// auditTime is what a worker waits in each audit, of which it makes four at a time: so it is full at about 30 per second, whatever machine this is.
const auditTime = 120 * time.Millisecond

// crew are the processes of the tour. They end with this process, whatever
// happens to it.
type crew struct {
	dir       string // of logs and journals
	programs  map[string]string
	namespace string
	ring      string
	fenced    bool // workers act only under the fence
	identity  func(ctx context.Context, account, pod string) (string, error)

	mu       sync.Mutex
	manager  *child.Process
	workers  map[string]*child.Process
	journals []string
}

// buildPrograms builds manager and worker from this source tree.
func buildPrograms(ctx context.Context, dir string) (map[string]string, error) {
	programs, err := child.Build(ctx, dir, false, managerPackage, workerPackage)
	if err != nil {
		return nil, fmt.Errorf("run the quickstart from the source tree: %w", err)
	}
	return programs, nil
}

func (c *crew) startManager(ctx context.Context) error {
	p, err := c.start(ctx, "manager", "manager", "manager", "--namespace="+c.namespace, "--identity=manager")
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.manager = p
	return nil
}

// startWorker starts the process that is the shard called id.
func (c *crew) startWorker(ctx context.Context, id string) error {
	journal := filepath.Join(c.dir, id+".journal")
	p, err := c.start(ctx, "worker", "worker", id,
		"--namespace="+c.namespace, "--ring="+c.ring, "--id="+id, "--journal="+journal, fmt.Sprintf("--require-fence=%t", c.fenced),
		"--concurrency=4", "--audit-time="+auditTime.String())
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workers == nil {
		c.workers = map[string]*child.Process{}
	}
	c.workers[id] = p
	c.journals = append(c.journals, journal)
	return nil
}

func (c *crew) start(ctx context.Context, program, account, pod string, args ...string) (*child.Process, error) {
	kubeconfig, err := c.identity(ctx, account, pod)
	if err != nil {
		return nil, fmt.Errorf("identity of %s: %w", pod, err)
	}
	p, err := child.Start(child.Command{
		Path: c.programs[program], Log: filepath.Join(c.dir, pod+".log"), Args: append(args, "--kubeconfig="+kubeconfig),
	})
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", pod, err)
	}
	return p, nil
}

// worker returns the process of a shard that was started.
func (c *crew) worker(id string) *child.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers[id]
}

// live are the shards whose process runs.
func (c *crew) live() set {
	c.mu.Lock()
	defer c.mu.Unlock()
	live := set{}
	for id, p := range c.workers {
		if p.Running() {
			live[id] = true
		}
	}
	return live
}

// check returns an error if the manager has ended, or a worker that nobody
// stopped.
func (c *crew) check(stopped set) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manager != nil && !c.manager.Running() {
		return fmt.Errorf("the manager has ended with status %d, see %s", c.manager.Status(), c.manager.Log)
	}
	for id, p := range c.workers {
		if !stopped[id] && !p.Running() {
			return fmt.Errorf("%s has ended with status %d, see %s", id, p.Status(), p.Log)
		}
	}
	return nil
}

// journalFiles are the journals of all workers that were ever started.
func (c *crew) journalFiles() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.journals)
}

// retire ends the workers in order, then the manager, and kills what has not
// ended after the limit.
func (c *crew) retire(limit time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	deadline := time.Now().Add(limit)
	for _, p := range c.workers {
		if p.Running() {
			_ = p.Signal(syscall.SIGTERM) // it may be ending by itself just now
		}
	}
	for id, p := range c.workers {
		if _, err := p.Wait(time.Until(deadline)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
			p.Kill()
		}
	}
	if c.manager != nil && c.manager.Running() {
		_ = c.manager.Signal(syscall.SIGTERM)
		if _, err := c.manager.Wait(time.Until(deadline)); err != nil {
			errs = append(errs, fmt.Errorf("manager: %w", err))
			c.manager.Kill()
		}
	}
	return errors.Join(errs...)
}

// kill ends everything at once.
func (c *crew) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.workers {
		p.Kill()
	}
	if c.manager != nil {
		c.manager.Kill()
	}
}
