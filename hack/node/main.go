//go:build linux

// Node runs a command beside a real Kubernetes cluster of one node: etcd, kube-apiserver, controller-manager, scheduler, kubelet, containerd
// and runc, all built from their Go modules, with a bridge between the Pods. No Docker, no binaries from elsewhere.
//
//	go -C hack/node build -o ../../bin/node . && bin/node -images bin/images kubectl get nodes
//
// Everything runs in namespaces of its own (mount, pid, net, uts, ipc, cgroup): nothing listens outside, and when this process ends, in whatever
// way, all of it has ended. The command runs inside, with KUBECONFIG set and kubectl on its PATH; E2E_ON_NODE=1 tells it that it sees the
// processes of the Pods. Its exit code is that of this program. Without a command the cluster runs until Ctrl-C.
//
// It needs Linux, root, Go, a C compiler, util-linux and iproute2. There is no kube-proxy and no DNS: Pods reach the API server, and nothing
// else by the name or address of a Service. Network policies are not enforced.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// spec is what the cluster inside is told by the process outside.
type spec struct {
	Programs  string   // folder with what builder has built
	Etcd      string   // path of the program
	APIServer string   // path of the program
	Dir       string   // for everything that the cluster writes
	Images    []string // tarballs
	Command   []string // empty: until somebody ends it
	Begun     time.Time
}

type options struct {
	source, cache, images, logs string
	buildOnly                   bool
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == initStage {
		os.Exit(beInit(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == clusterStage {
		os.Exit(beCluster(os.Args[2]))
	}
	cache, _ := os.UserCacheDir()
	var o options
	flag.StringVar(&o.source, "source", "hack/node", "folder of this module")
	flag.StringVar(&o.cache, "cache", filepath.Join(cache, "shard-controller", "node"), "folder for the programs that are built")
	flag.StringVar(&o.images, "images", "", "folder with tarballs of images that Pods can use, in it or in folders of it")
	flag.StringVar(&o.logs, "logs", "", "folder that keeps the logs of the cluster; empty: they are removed")
	flag.BoolVar(&o.buildOnly, "build", false, "only build the programs")
	flag.Parse()
	code, err := run(&o, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
	}
	os.Exit(code)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "node: "+format+"\n", args...) }

func run(o *options, command []string) (int, error) {
	// The kernel ends the cluster when this thread ends, which is the main one and lives as long as the process.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := &spec{Begun: time.Now(), Command: command}
	for _, path := range []*string{&o.source, &o.cache, &o.images} {
		if abs, err := filepath.Abs(*path); err == nil && *path != "" {
			*path = abs
		}
	}
	b := &builder{source: o.source, cache: o.cache, say: say}
	var err error
	if s.Etcd, s.APIServer, err = b.controlPlane(ctx, os.Stderr); err != nil {
		return 1, err
	}
	if s.Programs, err = b.ensure(ctx); err != nil {
		return 1, err
	}
	if o.buildOnly {
		return 0, nil
	}
	if os.Geteuid() != 0 {
		return 1, errors.New("containers need root: run this as root, in a virtual machine for instance")
	}
	if o.images != "" {
		for _, pattern := range []string{"*.tar", "*/*.tar"} {
			found, err := filepath.Glob(filepath.Join(o.images, pattern))
			if err != nil {
				return 1, err
			}
			s.Images = append(s.Images, found...)
		}
		if len(s.Images) == 0 {
			return 1, fmt.Errorf("there are no images in %s: make images", o.images)
		}
	}
	sweep(os.TempDir())
	if s.Dir, err = os.MkdirTemp("", fmt.Sprintf("shard-node-%d-", os.Getpid())); err != nil {
		return 1, err
	}
	defer remove(s.Dir)
	code, err := inside(ctx, s)
	if o.logs != "" {
		err = errors.Join(err, keep(filepath.Join(s.Dir, "log"), o.logs))
	}
	return code, err
}

// keep copies files, over those of a former time.
func keep(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, "*"))
	for _, file := range files {
		data, failed := os.ReadFile(file)
		err = errors.Join(err, failed, os.WriteFile(filepath.Join(to, filepath.Base(file)), data, 0o644))
	}
	return err
}

// inside starts the cluster in its namespaces, and returns when it has ended, with the exit code of the command.
func inside(ctx context.Context, s *spec) (int, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return 1, err
	}
	path := filepath.Join(s.Dir, "spec.json")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return 1, err
	}
	groups, err := enterCgroups(fmt.Sprintf("shard-node-%d", os.Getpid()))
	if err != nil {
		return 1, err
	}
	defer groups.remove()
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, initStage, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL, // Ctrl-C is for this process, and its end is the end of the other
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP,
	}
	err = cmd.Start()
	groups.leave()
	if err != nil {
		return 1, fmt.Errorf("namespaces: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-ctx.Done():
		say("stopping")
		_ = cmd.Process.Kill() // of process 1 of the namespace, which ends all others
		<-done
		return 130, nil
	case err := <-done:
		if code := cmd.ProcessState.ExitCode(); code >= 0 {
			return code, nil
		}
		return 1, err
	}
}

// sweep removes the folders of processes of this program that were killed.
func sweep(dir string) {
	folders, _ := filepath.Glob(filepath.Join(dir, "shard-node-*-*"))
	for _, folder := range folders {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), "shard-node-"), "-")
		if n, err := strconv.Atoi(pid); err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			remove(folder)
		}
	}
}

// remove waits for the kernel to take the mounts of the cluster apart.
func remove(dir string) {
	for range 50 {
		if os.RemoveAll(dir) == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	say("%s could not be removed", dir)
}
