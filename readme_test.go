package shardcontroller_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// blocks returns the code blocks of the README in a language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		found = append(found, match[1])
	}
	if len(found) == 0 {
		t.Fatalf("the README has no %s blocks", language)
	}
	return found
}

func TestReadmeProgramsCompile(t *testing.T) {
	for _, program := range blocks(t, "go") {
		file := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "go", "vet", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if out, err := exec.CommandContext(t.Context(), "gofmt", "-l", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("a Go block is not formatted: %v %s", err, out)
		}
	}
}

func TestReadmeManifestsAreValid(t *testing.T) {
	for _, manifest := range blocks(t, "yaml") {
		if err := yaml.UnmarshalStrict([]byte(manifest), &v1.ShardConfig{}); err != nil {
			t.Errorf("%v in\n%s", err, manifest)
		}
	}
}

// TestReadmeCommands holds the make targets and program flags that the README names against what there is.
func TestReadmeCommands(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./examples/manager", "./examples/worker").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range strings.Split(strings.Join(blocks(t, "sh"), "\n"), "\n") {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch program, isProgram := strings.CutPrefix(words[0], "bin/"); {
		case words[0] == "make":
			if !strings.Contains(string(makefile), "\n"+words[1]+":") {
				t.Errorf("%q: there is no such target", line)
			}
		case isProgram:
			help, _ := exec.CommandContext(t.Context(), filepath.Join(bin, program), "--help").CombinedOutput()
			for _, word := range words[1:] {
				if flag, isFlag := strings.CutPrefix(word, "--"); isFlag && !strings.Contains(string(help), "  -"+flag+" ") {
					t.Errorf("%q: %s has no flag %s", line, program, word)
				}
			}
		}
	}
}
