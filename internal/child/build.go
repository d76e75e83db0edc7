//go:build unix

package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// Build builds programs of this module, given by their import paths, into a
// directory, and returns where each is, by the last element of its path. race
// builds them with the race detector.
func Build(ctx context.Context, dir string, race bool, packages ...string) (map[string]string, error) {
	args := []string{"build", "-o", dir + string(os.PathSeparator)}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("child: go build %v: %w\n%s", packages, err, out)
	}
	built := map[string]string{}
	for _, p := range packages {
		built[path.Base(p)] = filepath.Join(dir, path.Base(p))
	}
	return built, nil
}
