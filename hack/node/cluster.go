//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	nodeName  = "node1"
	nodeIP    = "172.30.0.10"
	serviceIP = "10.0.0.1" // of the Service "kubernetes": an address of the node, as nothing here translates addresses
	patience  = 3 * time.Minute
)

// cluster is what runs inside the namespaces.
type cluster struct {
	*spec
	died chan error
	last time.Time
}

// beCluster starts everything, runs the command, and returns its exit code. It does not stop anything: process 1 ends next.
func beCluster(path string) int {
	data, err := os.ReadFile(path)
	c := &cluster{spec: &spec{}, died: make(chan error, 1), last: time.Now()}
	if err == nil {
		err = json.Unmarshal(data, c.spec)
	}
	if err == nil {
		err = os.Setenv("PATH", c.Programs+":"+os.Getenv("PATH"))
	}
	if err == nil {
		err = c.start()
	}
	if err != nil {
		say("%v", err)
		return 1
	}
	return c.command()
}

func (c *cluster) start() error {
	begun := time.Now()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"network", network}, {"certificates", c.certificates}, {"etcd", c.etcd}, {"API server", c.apiServer},
		{"controller manager and scheduler", c.controllers}, {"containerd", c.containerd}, {fmt.Sprintf("%d images imported", len(c.Images)+1), c.importImages},
		{"kubelet, node Ready", c.kubelet},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		say("%5.1f s  %s", time.Since(begun).Seconds(), step.what)
	}
	return nil
}

func (c *cluster) path(name string) string { return filepath.Join(c.Dir, name) }
func (c *cluster) pki(name string) string  { return filepath.Join(c.Dir, "pki", name) }

// command runs the command, or waits forever; if a part of the cluster ends, that is the end.
func (c *cluster) command() int {
	env := append(os.Environ(), "KUBECONFIG="+c.pki("admin.kubeconfig"), "E2E_ON_NODE=1")
	if len(c.Command) == 0 {
		say("running until Ctrl-C. In another terminal:")
		say("  nsenter -t $(pgrep -f -- '%s %s') -a env KUBECONFIG=%s %s/kubectl get pods -A", clusterStage, c.path("spec.json"), c.pki("admin.kubeconfig"), c.Programs)
		say("%v", <-c.died)
		return 1
	}
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		say("%v", err)
		return 1
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-c.died:
		say("%v", err)
		return 1
	case <-done:
		return max(cmd.ProcessState.ExitCode(), -cmd.ProcessState.ExitCode())
	}
}

// network gives the node an address that it can be reached at by its Pods, and no way out.
func network() error {
	for _, args := range []string{
		"link set lo up", "link add eth0 type veth peer name eth0-peer", "link set eth0-peer up", "addr add " + nodeIP + "/24 dev eth0", "link set eth0 up",
		"route add default via 172.30.0.1 dev eth0", "addr add " + serviceIP + "/32 dev lo",
	} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// launch starts a part of the cluster, which is never to end, with its output in a file.
func (c *cluster) launch(name, program string, args ...string) error {
	if err := os.MkdirAll(c.path("log"), 0o755); err != nil {
		return err
	}
	path := c.path("log/" + name + ".log")
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		err := cmd.Wait()
		text, _ := os.ReadFile(path)
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		err = fmt.Errorf("%s has ended: %w\n%s", name, err, bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
		select {
		case c.died <- err:
		default:
		}
	}()
	return nil
}

// ready waits until a command succeeds and prints what it is to print.
func (c *cluster) ready(want, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
		if err == nil && strings.Contains(string(out), want) {
			return nil
		}
		select {
		case err := <-c.died:
			return err
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not ready after %s: %s %s: %s", patience, program, strings.Join(args, " "), out), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *cluster) kubectl(want string, args ...string) error {
	return c.ready(want, "kubectl", append([]string{"--kubeconfig", c.pki("admin.kubeconfig")}, args...)...)
}
