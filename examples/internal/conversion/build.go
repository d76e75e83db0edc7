//go:build unix

package conversion

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Environment of a program with a witness: the file of its journal, and the name of the writer.
const (
	journalEnv = "WITNESS_JOURNAL"
	shardEnv   = "WITNESS_SHARD"
)

// programs are the paths of the executables.
type programs struct{ before, after, manager string }

// build builds both versions of the operator, with a witness in them, and the ring's manager.
func (e *Example) build(t *testing.T) programs {
	t.Helper()
	dir := t.TempDir()
	goBuild(t, ".", "-overlay", e.overlay(t, dir), "-o", dir+string(filepath.Separator), "./before", "./after")
	goBuild(t, e.Root, "-o", dir+string(filepath.Separator), "./examples/manager")
	return programs{before: filepath.Join(dir, "before"), after: filepath.Join(dir, "after"), manager: filepath.Join(dir, "manager")}
}

// goBuild builds programs without what only debuggers need: linking takes most of the time.
func goBuild(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-ldflags=-s -w"}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// overlay writes what shows the go command programs whose main.go lets testdata/witness.go take the place of some of its functions.
func (e *Example) overlay(t *testing.T, dir string) string {
	t.Helper()
	replace := map[string]string{}
	for _, version := range []string{"before", "after"} {
		text, err := rename(read(t, version, "main.go"), e.Witnessed)
		if err != nil {
			t.Fatalf("%s/main.go: %v", version, err)
		}
		changed := filepath.Join(dir, version+"-main.go")
		write(t, changed, []byte(text))
		replace[absolute(t, version, "main.go")] = changed
		replace[absolute(t, version, "witness.go")] = absolute(t, "testdata", "witness.go")
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	write(t, file, data)
	return file
}

func absolute(t *testing.T, elements ...string) string {
	t.Helper()
	name, err := filepath.Abs(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// rename gives functions and methods of a Go text other names, and leaves their callers as they are. They are named by the beginning of
// their declaration, up to the parameters: "func (c *controller) sync(".
func rename(text string, declarations []string) (string, error) {
	out := strings.Split(text, "\n")
	for _, declaration := range declarations {
		at := strings.LastIndex(declaration, " ") + 1
		renamed := declaration[:at] + "unwitnessed" + strings.ToUpper(declaration[at:at+1]) + declaration[at+1:]
		found := 0
		for i, line := range out {
			if rest, declares := strings.CutPrefix(line, declaration); declares {
				out[i] = renamed + rest
				found++
			}
		}
		if found != 1 {
			return "", fmt.Errorf("has %d lines that begin with %q, must have one", found, declaration)
		}
	}
	return strings.Join(out, "\n"), nil
}
