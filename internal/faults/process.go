//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/faults/trial"
)

// process is a manager or a shard, in a Pod of its own name.
type process struct {
	*child.Process
	id     string
	name   string // of this process; a shard may have several
	window string // file
	config *rest.Config
}

// quickElection makes the next process lead soon after a manager was killed.
var quickElection = []string{"--election-lease-duration=4s", "--election-renew-deadline=3s", "--election-retry-period=500ms"}

// startManager starts a process of the manager.
func (s *stage) startManager(ctx context.Context) (*process, error) {
	s.managers++
	name := fmt.Sprintf("manager-%d", s.managers)
	return s.startProcess(ctx, "manager", "manager", name, append([]string{"--namespace=" + s.arm.name, "--identity=" + name, "--v=2"}, quickElection...)...)
}

// startOperators starts n shards side by side, and waits until they may act.
func (s *stage) startOperators(ctx context.Context, prefix string, n int) ([]*process, error) {
	started := make([]*process, n)
	err := parallel(ctx, n, n, func(ctx context.Context, i int) (err error) {
		id := fmt.Sprintf("%s-%d", prefix, i)
		if started[i], err = s.startOperator(ctx, id, id); err != nil {
			return err
		}
		return s.active(ctx, id)
	})
	return started, err
}

// startOperator starts one process of a shard.
func (s *stage) startOperator(ctx context.Context, id, name string) (*process, error) {
	window := filepath.Join(s.dir, name+".window")
	p, err := s.startProcess(ctx, "operator", id, name, "--namespace="+s.arm.name, "--ring="+s.arm.name, "--id="+id, "--process="+name,
		"--window="+window, fmt.Sprintf("--fenced=%v", s.arm.client), fmt.Sprintf("--work=%s", s.settings.work))
	if err != nil {
		return nil, err
	}
	p.window = window
	return p, nil
}

// active waits until a shard holds its Lease.
func (s *stage) active(ctx context.Context, id string) error {
	return until(ctx, time.Minute, id+" holds its Lease", func() error {
		lease, err := s.admin.CoordinationV1().Leases(s.arm.name).Get(ctx, id, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if holder := lease.Spec.HolderIdentity; holder == nil || !strings.HasPrefix(*holder, id) {
			return errors.New("it does not")
		}
		return nil
	})
}

// startProcess starts a program with a token that is bound to a Pod.
func (s *stage) startProcess(ctx context.Context, program, pod, name string, flags ...string) (*process, error) {
	account := "worker"
	if program == "manager" {
		account = "manager"
	}
	cfg, err := s.plane.PodConfig(ctx, s.arm.name, account, pod)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := s.plane.KubeconfigFile(cfg)
	if err != nil {
		return nil, err
	}
	started, err := child.Start(child.Command{
		Path: s.programs[program], Args: append([]string{"--kubeconfig=" + kubeconfig}, flags...), Log: filepath.Join(s.dir, name+".log"),
	})
	if err != nil {
		return nil, err
	}
	p := &process{Process: started, id: pod, name: name, config: cfg}
	s.mu.Lock()
	s.processes = append(s.processes, p)
	s.mu.Unlock()
	return p, nil
}

// stop ends a process in order, or otherwise if that takes long.
func (p *process) stop() {
	_ = p.Signal(syscall.SIGTERM)
	if _, err := p.Wait(10 * time.Second); err != nil {
		p.Kill()
	}
}

// inside is how many reconciles are between look and write.
func (p *process) inside() int {
	data, err := os.ReadFile(p.window)
	if err != nil || len(data) == 0 {
		return 0
	}
	return int(data[0])
}

// stopInside stops the process (SIGSTOP) while at least one reconcile is between
// look and write, and says how many are.
func (p *process) stopInside(ctx context.Context) (int, error) {
	for range 1000 {
		for p.inside() == 0 {
			if !pause(ctx, time.Millisecond) {
				return 0, context.Cause(ctx)
			}
		}
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return 0, err
		}
		pause(ctx, 2*time.Millisecond) // until it has really stopped
		if n := p.inside(); n > 0 {
			return n, nil
		}
		if err := p.Signal(syscall.SIGCONT); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%s was never seen between look and write", p.name)
}

// fencedWrites is how many writes the client-side fence of the process refused.
func (p *process) fencedWrites() int { return strings.Count(p.Output(), trial.FencedMessage) }
