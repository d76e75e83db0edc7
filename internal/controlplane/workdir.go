package controlplane

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
)

// workdir is a private temporary directory that is removed when its guard is
// released. The guard makes it, so there is no moment at which it could stay.
type workdir struct {
	*guard
	path string
}

func newWorkdir() (*workdir, error) {
	path := filepath.Join(os.TempDir(), "shard-controlplane-"+rand.Text())
	g, err := startGuard(janitorScript, []string{path}, nil, minimalEnv(""))
	if err != nil {
		return nil, fmt.Errorf("controlplane: temporary directory %s: %w", path, err)
	}
	return &workdir{guard: g, path: path}, nil
}

func (w *workdir) file(name string) string { return filepath.Join(w.path, name) }

// write stores the files of one kind, readable for us alone.
func (w *workdir) write(files map[string][]byte) error {
	for name, data := range files {
		if err := os.WriteFile(w.file(name), data, 0o600); err != nil {
			return fmt.Errorf("controlplane: %w", err)
		}
	}
	return nil
}

// minimalEnv keeps the caller's ETCD_*, proxies and the like away from the
// servers: they are configured by flags only.
func minimalEnv(home string) []string {
	env := []string{"PATH=" + os.Getenv("PATH")}
	if home != "" {
		env = append(env, "HOME="+home, "TMPDIR="+home)
	}
	return env
}
