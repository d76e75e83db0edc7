//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchy is a tree of cgroups that this process is in: one per controller in version 1, one for all in version 2.
type hierarchy struct {
	controllers string // of version 1: "cpu,cpuacct"; a name: "name=systemd"; of version 2: ""
	path        string // of the cgroup of this process
}

func (h hierarchy) mountPoint() string {
	if h.controllers == "" {
		return cgroupRoot
	}
	return filepath.Join(cgroupRoot, strings.TrimPrefix(h.controllers, "name="))
}

func hierarchies() ([]hierarchy, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return parseHierarchies(string(data))
}

// parseHierarchies reads /proc/self/cgroup. Where there is version 1, the empty hierarchy of version 2 beside it is left out.
func parseHierarchies(text string) ([]hierarchy, error) {
	var all []hierarchy
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("/proc/self/cgroup: %q is not of three parts", line)
		}
		all = append(all, hierarchy{controllers: parts[1], path: parts[2]})
	}
	if len(all) > 1 {
		all = slices.DeleteFunc(all, func(h hierarchy) bool { return h.controllers == "" })
	}
	return all, nil
}

// cgroups are the cgroups of the cluster, as seen from outside: below those that this process is in.
type cgroups struct{ own, below []string }

// enterCgroups makes a cgroup below each of this process's own, and goes there, so that what it starts has that as its root.
func enterCgroups(name string) (*cgroups, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	c := &cgroups{}
	for _, h := range all {
		own := filepath.Join(h.mountPoint(), h.path)
		below := filepath.Join(own, name)
		if err := os.Mkdir(below, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // left by a process that was killed
			return nil, err
		}
		c.own, c.below = append(c.own, own), append(c.below, below)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // nothing can enter a new cpuset of version 1 without
			if data, err := os.ReadFile(filepath.Join(own, file)); err == nil && h.controllers != "" {
				if err := os.WriteFile(filepath.Join(below, file), data, 0); err != nil {
					return nil, err
				}
			}
		}
		if err := moveTo(below); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func moveTo(cgroup string) error {
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)
}

// leave brings this process back to where it was.
func (c *cgroups) leave() {
	for _, own := range c.own {
		if err := moveTo(own); err != nil {
			say("leaving a cgroup: %v", err)
		}
	}
}

// remove removes what the cluster has made, once its processes are gone.
func (c *cgroups) remove() {
	for _, below := range c.below {
		for range 50 {
			removeCgroups(below)
			if _, err := os.Stat(below); err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func removeCgroups(root string) {
	var all []string
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			all = append(all, path)
		}
		return nil
	})
	for _, path := range slices.Backward(all) {
		_ = os.Remove(path)
	}
}
