package controlplane

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

const (
	// sourceModule is the module that pins what the servers are built from.
	sourceModule = "github.com/shard-io/shard-controller/hack/controlplane"
	apiServerPkg = "k8s.io/kubernetes/cmd/kube-apiserver"
	etcdPkg      = "go.etcd.io/etcd/server/v3"
)

var (
	kubernetesRequirement = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)`)
	moduleLine            = regexp.MustCompile(`(?m)^module (\S+)`)
)

// source is the module the servers are built from, and how.
type source struct {
	dir     string
	version string   // of Kubernetes: v1.37.2
	ldflags string   // stamps the version, or the server calls itself v0.0.0
	key     string   // names everything the result depends on
	targets []target // in the order in which they are built
}

// target is one executable of a source.
type target struct{ name, pkg string }

// findSource looks for hack/controlplane: first beside this package's own
// source file, then, because that path is not there in a binary built with
// -trimpath, in the working directory and all directories above it.
func findSource() (source, error) {
	var places []string
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		places = append(places, filepath.Join(filepath.Dir(file), "..", ".."))
	}
	if wd, err := os.Getwd(); err == nil {
		places = append(places, upwards(wd)...)
	}
	return findSourceIn(places)
}

// upwards lists a directory and all directories above it.
func upwards(dir string) []string {
	all := []string{dir}
	for dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		all = append(all, dir)
	}
	return all
}

func findSourceIn(roots []string) (source, error) {
	for _, root := range roots {
		dir := filepath.Join(root, "hack", "controlplane")
		s, err := readSource(dir)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, errOtherModule) {
			continue
		}
		return s, err
	}
	return source{}, fmt.Errorf("controlplane: the module %s is in none of %s: run inside a checkout of the repository, "+
		"or set KUBEBUILDER_ASSETS to a directory that holds etcd and kube-apiserver", sourceModule, strings.Join(roots, ", "))
}

var errOtherModule = errors.New("not the module to build the control plane from")

func readSource(dir string) (source, error) {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return source{}, err
	}
	if m := moduleLine.FindSubmatch(mod); m == nil || string(m[1]) != sourceModule {
		return source{}, errOtherModule
	}
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return source{}, fmt.Errorf("controlplane: %s has a go.mod and no go.sum: %v", dir, err)
	}
	m := kubernetesRequirement.FindSubmatch(mod)
	if m == nil {
		return source{}, fmt.Errorf("controlplane: %s does not require k8s.io/kubernetes", filepath.Join(dir, "go.mod"))
	}
	s := source{
		dir:     dir,
		version: string(m[1]),
		ldflags: stamp(string(m[1]), string(m[2]), string(m[3])),
		targets: []target{{"etcd", etcdPkg}, {"kube-apiserver", apiServerPkg}},
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d %d %s\n", len(mod), len(sum), s.ldflags)
	h.Write(mod)
	h.Write(sum)
	s.key = fmt.Sprintf("%s-%s-%s-%x", s.version, runtime.GOOS, runtime.GOARCH, h.Sum(nil)[:6])
	return s, nil
}

func stamp(version, major, minor string) string {
	const pkg = "k8s.io/component-base/version"
	return fmt.Sprintf("-s -w -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s", pkg, version, pkg, major, pkg, minor)
}
