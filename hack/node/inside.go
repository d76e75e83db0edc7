//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// The first arguments of the two processes inside: process 1, and what starts the cluster.
const (
	initStage    = "--as-init"
	clusterStage = "--as-cluster"
)

// beInit is process 1 inside: it starts the cluster, takes leave of everybody's orphans, and ends when the cluster ends.
func beInit(path string) int {
	if err := mounts(); err != nil {
		say("mounts: %v", err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe", clusterStage, path)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		say("%v", err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			say("waiting: %v", err)
			return 1
		case pid == cmd.Process.Pid:
			if status.Exited() {
				return status.ExitStatus()
			}
			return 1
		}
	}
}

// mounts makes /proc and /sys those of the namespaces, and /run one that nobody else sees.
func mounts() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("/: %w", err)
	}
	all, err := hierarchies() // while /proc is still that of outside: which it may be, the paths are those of the namespace
	if err != nil {
		return err
	}
	for _, m := range []struct{ kind, at, data string }{{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"tmpfs", "/run", "mode=755"}} {
		if err := syscall.Mount(m.kind, m.at, m.kind, 0, m.data); err != nil {
			return fmt.Errorf("%s: %w", m.at, err)
		}
	}
	if len(all) == 1 && all[0].controllers == "" {
		return unified()
	}
	if err := syscall.Mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("%s: %w", cgroupRoot, err)
	}
	for _, h := range all {
		if err := os.MkdirAll(h.mountPoint(), 0o755); err != nil {
			return err
		}
		data := h.controllers
		if strings.HasPrefix(data, "name=") {
			data = "none," + data
		}
		if err := syscall.Mount("cgroup", h.mountPoint(), "cgroup", 0, data); err != nil {
			return fmt.Errorf("%s: %w", h.mountPoint(), err)
		}
	}
	return nil
}

// unified mounts version 2, where a cgroup with processes can not have others below it that share its controllers.
func unified() error {
	if err := syscall.Mount("cgroup2", cgroupRoot, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("%s: %w", cgroupRoot, err)
	}
	cgroup := filepath.Join(cgroupRoot, "node")
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		return err
	}
	if err := moveTo(cgroup); err != nil {
		return err
	}
	available, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(available)) {
		if err := os.WriteFile(filepath.Join(cgroupRoot, "cgroup.subtree_control"), []byte("+"+name), 0); err != nil {
			return fmt.Errorf("controller %s: %w", name, err)
		}
	}
	return nil
}
