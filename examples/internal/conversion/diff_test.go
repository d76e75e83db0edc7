package conversion

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	for name, tc := range map[string]struct {
		a, b           string
		unified        string
		added, removed int
	}{
		"nothing":          {"one\ntwo\n", "one\ntwo\n", "", 0, 0},
		"a line is added":  {"one\ntwo\n", "one\nnew\ntwo\n", "--- a\n+++ b\n@@ -1,2 +1,3 @@\n one\n+new\n two\n", 1, 0},
		"one is removed":   {"one\nold\ntwo\n", "one\ntwo\n", "--- a\n+++ b\n@@ -1,3 +1,2 @@\n one\n-old\n two\n", 0, 1},
		"one is changed":   {"one\nold\ntwo\n", "one\nnew\ntwo\n", "--- a\n+++ b\n@@ -1,3 +1,3 @@\n one\n-old\n+new\n two\n", 1, 1},
		"from nothing":     {"", "one\n", "--- a\n+++ b\n@@ -0,0 +1 @@\n+one\n", 1, 0},
		"two places":       {"x\n1\n2\n3\n4\ny\n", "X\n1\n2\n3\n4\nY\n", "--- a\n+++ b\n@@ -1,2 +1,2 @@\n-x\n+X\n 1\n@@ -5,2 +5,2 @@\n 4\n-y\n+Y\n", 2, 2},
		"two that touch":   {"x\n1\n2\ny\n", "X\n1\n2\nY\n", "--- a\n+++ b\n@@ -1,4 +1,4 @@\n-x\n+X\n 1\n 2\n-y\n+Y\n", 2, 2},
		"two that overlap": {"x\n1\ny\n", "X\n1\nY\n", "--- a\n+++ b\n@@ -1,3 +1,3 @@\n-x\n+X\n 1\n-y\n+Y\n", 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			got := Diff("a", tc.a, "b", tc.b, 1)
			if diff := cmp.Diff(tc.unified, got.Unified); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got.Added != tc.added || got.Removed != tc.removed {
				t.Errorf("+%d -%d, want +%d -%d", got.Added, got.Removed, tc.added, tc.removed)
			}
		})
	}
}

// TestDiffAppliesAsAPatch has the program patch make the second text of the first.
func TestDiffAppliesAsAPatch(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("there is no program patch here")
	}
	a, err := os.ReadFile("diff.go")
	if err != nil {
		t.Fatal(err)
	}
	b := strings.ReplaceAll(strings.ReplaceAll(string(a), "longest", "common"), "\tvar out strings.Builder\n", "") + "// the end\n"
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, a, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), patch, "-u", file)
	cmd.Stdin = strings.NewReader(Diff("text", string(a), "text", b, 2).Unified)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
