package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// kubernetesVersion is what the programs call themselves; it is that of go.mod.
const kubernetesVersion = "v1.37.2"

// program is an executable that is built from a package of one of the modules here.
type program struct {
	name, module, pkg string
	ldflags           string
	tags              string
	static            bool
}

func programs() []program {
	const (
		kubernetes = "k8s.io/kubernetes/cmd/"
		version    = "k8s.io/component-base/version"
		containerd = "github.com/containerd/containerd/v2/cmd/"
		cni        = "github.com/containernetworking/plugins/plugins/"
	)
	stamp := fmt.Sprintf("-X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=37", version, kubernetesVersion, version, version)
	return []program{
		{name: "runc", module: "runtime", pkg: "github.com/opencontainers/runc", tags: "seccomp"},
		{name: "containerd", module: "runtime", pkg: containerd + "containerd"},
		{name: "containerd-shim-runc-v2", module: "runtime", pkg: containerd + "containerd-shim-runc-v2"},
		{name: "ctr", module: "runtime", pkg: containerd + "ctr"},
		{name: "bridge", module: "runtime", pkg: cni + "main/bridge"},
		{name: "loopback", module: "runtime", pkg: cni + "main/loopback"},
		{name: "host-local", module: "runtime", pkg: cni + "ipam/host-local"},
		{name: "kube-controller-manager", module: ".", pkg: kubernetes + "kube-controller-manager", ldflags: stamp},
		{name: "kube-scheduler", module: ".", pkg: kubernetes + "kube-scheduler", ldflags: stamp},
		{name: "kubectl", module: ".", pkg: kubernetes + "kubectl", ldflags: stamp},
		{name: "kubelet", module: ".", pkg: kubernetes + "kubelet", ldflags: stamp},
		{name: "pause", module: ".", pkg: "./pause", static: true},
	}
}

// builder builds the programs of a node into a folder of the user's cache, which is named after what they are built from.
type builder struct {
	source string // hack/node
	cache  string // ~/.cache/shard-controller/node
	say    func(format string, args ...any)
}

// ensure returns the folder with the programs, and builds what is missing in it.
func (b *builder) ensure(ctx context.Context) (string, error) {
	key, err := b.key()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.cache, key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		b.say("somebody else is building the node; waiting")
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
			return "", err
		}
	}
	var missing []program
	for _, p := range programs() {
		if _, err := os.Stat(filepath.Join(dir, p.name)); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return dir, nil
	}
	b.say("building %d programs into %s: once per machine, about 20 CPU minutes when nothing is in the Go build cache", len(missing), dir)
	for i, p := range missing {
		begun := time.Now()
		b.say("%s (%d of %d)", p.name, i+1, len(missing))
		if err := b.build(ctx, p, filepath.Join(dir, p.name)); err != nil {
			return "", fmt.Errorf("building %s: %w", p.name, err)
		}
		b.say("%s: %s", p.name, since(begun))
	}
	return dir, nil
}

// key depends on everything that the programs are made of.
func (b *builder) key() (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "runtime/go.mod", "runtime/go.sum", "pause/main.go"} {
		data, err := os.ReadFile(filepath.Join(b.source, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
	}
	fmt.Fprintf(h, "%+v", programs())
	return fmt.Sprintf("%s-%s-%x", kubernetesVersion, runtime.GOARCH, h.Sum(nil)[:6]), nil
}

// build writes the program under another name first, so that one that is there is complete.
func (b *builder) build(ctx context.Context, p program, path string) error {
	unfinished := path + ".unfinished"
	args := []string{"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + p.ldflags), "-o", unfinished}
	if p.tags != "" {
		args = append(args, "-tags", p.tags)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, p.pkg)...)
	cmd.Dir = filepath.Join(b.source, p.module)
	cmd.Env = append(os.Environ(), "GOWORK=off", "PWD="+cmd.Dir)
	if p.static {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	}
	if p.name == "runc" {
		env, err := b.seccomp(ctx)
		if err != nil {
			return err
		}
		cmd.Env = append(cmd.Env, env...)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, &out)
	}
	return os.Rename(unfinished, path)
}

// seccomp is the environment in which runc finds the C library that it needs for the seccomp profiles of Pods: as it is
// installed, or else from a Debian package that is unpacked into the cache.
func (b *builder) seccomp(ctx context.Context) ([]string, error) {
	if exec.CommandContext(ctx, "pkg-config", "--exists", "libseccomp").Run() == nil {
		return nil, nil
	}
	dir := filepath.Join(b.cache, "libseccomp")
	found := func() []string {
		files, _ := filepath.Glob(filepath.Join(dir, "usr/lib/*/pkgconfig/libseccomp.pc"))
		if len(files) == 0 {
			return nil
		}
		return []string{"PKG_CONFIG_LIBDIR=" + filepath.Dir(files[0]), "PKG_CONFIG_SYSROOT_DIR=" + dir}
	}
	if env := found(); env != nil {
		return env, nil
	}
	b.say("libseccomp is not installed; unpacking libseccomp-dev of this Debian into %s", dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", "apt-get download libseccomp-dev && dpkg -x libseccomp-dev_*.deb . && rm libseccomp-dev_*.deb")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if env := found(); err == nil && env != nil {
		return env, nil
	}
	return nil, fmt.Errorf("runc needs a C compiler, pkg-config and libseccomp with its headers (libseccomp-dev, libseccomp-devel): install them: %w\n%s",
		errors.Join(err), out)
}

// controlPlane returns the paths of etcd and kube-apiserver, which the tests of this repository build.
func (b *builder) controlPlane(ctx context.Context, stderr io.Writer) (etcd, apiServer string, err error) {
	cmd := exec.CommandContext(ctx, "go", "run", "./internal/controlplane/run", "-build")
	cmd.Dir = filepath.Join(b.source, "..", "..")
	cmd.Stderr = stderr
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("building etcd and kube-apiserver: %w", err)
	}
	paths := strings.Fields(string(out))
	if len(paths) != 2 {
		return "", "", fmt.Errorf("internal/controlplane/run -build has printed %q, want two paths", out)
	}
	return paths[0], paths[1], nil
}

func since(t time.Time) string { return time.Since(t).Round(100 * time.Millisecond).String() }
