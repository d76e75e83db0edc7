package controlplane

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	// AssetsEnv names the directory to take etcd and kube-apiserver from.
	AssetsEnv = "KUBEBUILDER_ASSETS"
	// CacheEnv names the directory to keep built binaries in. Without it they
	// are kept in shard-controller below the user's cache directory.
	CacheEnv = "SHARD_CONTROLLER_CACHE"
)

// Binaries are the paths of the executables of a control plane.
type Binaries struct {
	Etcd      string
	APIServer string
}

// FindBinaries returns the executables that [Start] runs, and builds them when
// this machine does not have them yet. What it does, and for how long, it says
// on log; it says nothing when there is nothing to do. Any number of processes
// may call it at once: one builds, the others wait for it.
func FindBinaries(ctx context.Context, log io.Writer) (Binaries, error) {
	if err := supported(); err != nil {
		return Binaries{}, err
	}
	if dir := os.Getenv(AssetsEnv); dir != "" {
		return assets(dir)
	}
	src, err := findSource()
	if err != nil {
		return Binaries{}, err
	}
	cache, err := cacheDir()
	if err != nil {
		return Binaries{}, err
	}
	dir, err := newBuilder(src, cache, log).ensure(ctx)
	if err != nil {
		return Binaries{}, err
	}
	return inDirectory(dir), nil
}

func inDirectory(dir string) Binaries {
	return Binaries{Etcd: filepath.Join(dir, "etcd"), APIServer: filepath.Join(dir, "kube-apiserver")}
}

// assets is strict: who names a directory wants what is in there, and not
// something else instead.
func assets(dir string) (Binaries, error) {
	b := inDirectory(dir)
	for _, path := range []string{b.Etcd, b.APIServer} {
		if err := executable(path); err != nil {
			return Binaries{}, fmt.Errorf("controlplane: %s is %q, which must hold the executables etcd and kube-apiserver: %w", AssetsEnv, dir, err)
		}
	}
	return b, nil
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not an executable file", path)
	}
	return nil
}

func cacheDir() (string, error) {
	dir := os.Getenv(CacheEnv)
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("controlplane: no cache directory for the binaries, set %s: %w", CacheEnv, err)
		}
		dir = filepath.Join(user, "shard-controller")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "controlplane"))
	if err != nil {
		return "", fmt.Errorf("controlplane: %s: %w", CacheEnv, err)
	}
	return dir, nil
}
