package e2enode

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// process finds the process of a Pod's only container, where the test runs on the node.
func (c *cluster) process(pod *corev1.Pod) int {
	c.Helper()
	if len(pod.Status.ContainerStatuses) == 0 {
		c.Fatalf("%s has no container", pod.Name)
	}
	_, id, _ := strings.Cut(pod.Status.ContainerStatuses[0].ContainerID, "://")
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	c.must(err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || id == "" || !bytes.Contains(data, []byte(id)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		c.must(err)
		return pid
	}
	c.Fatalf("no process is in container %s of %s", id, pod.Name)
	return 0
}

// route changes the routes in the network namespace of a process.
func (c *cluster) route(pid int, args ...string) {
	c.Helper()
	args = append([]string{"-t", fmt.Sprint(pid), "-n", "ip", "route"}, args...)
	if out, err := exec.CommandContext(c.Context(), "nsenter", args...).CombinedOutput(); err != nil {
		c.Fatalf("nsenter %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// needsOneNode skips what takes for granted that a Pod has nowhere else to go.
func (c *cluster) needsOneNode() {
	c.Helper()
	nodes, err := c.kube.CoreV1().Nodes().List(c.Context(), metav1.ListOptions{})
	c.must(err)
	if len(nodes.Items) > 1 {
		c.Skipf("there are %d nodes", len(nodes.Items))
	}
}

// needsNode skips what can only be done on the node.
func (c *cluster) needsNode() {
	c.Helper()
	if !c.onNode {
		c.Skip("the processes of the Pods are not to be seen from here: see make e2e-node")
	}
}
