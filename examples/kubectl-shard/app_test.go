package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseTakesFlagsAndArgumentsInAnyOrder(t *testing.T) {
	for args, want := range map[string]string{
		"":                           "|||",
		"a b":                        "a b|||",
		"a -n x b":                   "a b|x||",
		"--namespace=x a -ojson":     "a|x|json|",
		"-o yaml a --all":            "a||yaml|true",
		"a -- -n b":                  "a -n b|||",
		"-oyaml -- -ojson":           "-ojson||yaml|",
		"a --all b -n x c -o json d": "a b c d|x|json|true",
	} {
		o := &options{}
		set := flag.NewFlagSet("x", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		o.register(set)
		all := set.Bool("all", false, "")
		rest, err := parse(set, strings.Fields(args))
		got := strings.Join(rest, " ") + "|" + o.namespace + "|" + o.output + "|"
		if *all {
			got += "true"
		}
		if err != nil || got != want {
			t.Errorf("%q: got %s, want %s, error %v", args, got, want, err)
		}
	}
}

// TestHelp keeps what the program says about itself.
func TestHelp(t *testing.T) {
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: &out}
	for _, args := range [][]string{nil, {"-h"}, {"help"}} {
		out.Reset()
		if code := a.run(t.Context(), args); code != exitOK {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	for _, c := range commands() {
		out.WriteString("\n== help " + c.name + "\n")
		if code := a.run(t.Context(), []string{"help", c.name}); code != exitOK {
			t.Errorf("help %s: exit code %d", c.name, code)
		}
	}
	golden(t, "help.txt", out.String())
}

func TestExitCodes(t *testing.T) {
	for code, err := range map[int]error{exitOK: nil, exitFound: found("x"), exitUsage: usagef("x"), exitFault: io.EOF} {
		var errs bytes.Buffer
		if got := (&app{stderr: &errs}).exit(err); got != code || (err != nil) != (errs.Len() > 0) {
			t.Errorf("%v: exit code %d, want %d; said %q", err, got, code, errs.String())
		}
	}
	var errs bytes.Buffer
	if got := (&app{stderr: &errs}).exit(errSaid); got != exitFound || errs.Len() > 0 {
		t.Errorf("what was said is said again: %d %q", got, errs.String())
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file, screen bytes.Buffer
		lines, line := &progress{out: &file}, &progress{out: &screen, terminal: true}
		for i := range 25 {
			for _, p := range []*progress{lines, line} {
				p.say("%d done", i/2)
			}
			time.Sleep(time.Second)
		}
		line.note("noted")
		line.end()
		if got, want := file.String(), "5 done\n10 done\n"; got != want {
			t.Errorf("to a file: %q, want %q", got, want)
		}
		if got := screen.String(); !strings.HasPrefix(got, "\r\x1b[K0 done\r\x1b[K1 done") || !strings.HasSuffix(got, "\r\x1b[K12 done\r\x1b[Knoted\n") {
			t.Errorf("to a terminal: %q", got)
		}
	})
}

func TestCandidates(t *testing.T) {
	inMemory(t, func(w *world) {
		w.ring("r", nil)
		w.pretend("w-1", false)
		w.pretend("w-2", false)
		for words, want := range map[string]string{
			"":                            "status owner explain ring verify cordon uncordon drain migrate rebalance install completion",
			"c":                           "cordon completion",
			"status -o ":                  "json yaml",
			"status --output y":           "yaml",
			"drain ":                      "w-1 w-2",
			"drain w-1 ":                  "",
			"drain -n sys ":               "w-1 w-2",
			"drain --wait ":               "w-1 w-2",
			"drain -n ":                   "",
			"drain --w":                   "--wait",
			"migrate --from ":             "w-1 w-2",
			"migrate --from w-1 --to w-2": "w-2",
			"migrate --dr":                "--dry-run",
			"completion z":                "zsh",
			"nonsense ":                   "",
			"cordon -n elsewhere ":        "",
			"status --nonsense --ku":      "--kubeconfig",
		} {
			a := &app{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer), dial: w.dial}
			got := strings.Join(a.candidates(w.ctx, commands(), strings.Split(words, " ")), " ")
			if got != want {
				t.Errorf("%q: got %q, want %q", words, got, want)
			}
		}
	})
}

// TestCompletionInBash lets bash complete.
func TestCompletionInBash(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "kubectl-shard")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Symlink("kubectl-shard", filepath.Join(dir, "kubectl_complete-shard")); err != nil {
		t.Fatal(err)
	}
	script := `source <(kubectl-shard completion bash)
complete_it() { COMP_WORDS=(kubectl-shard "$@"); COMP_CWORD=$#; _kubectl_shard; echo "${COMPREPLY[*]}"; }
complete_it un; complete_it status --output ""; complete_it completion ""
kubectl_complete-shard un
`
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if got, want := strings.Split(string(out), "\n"), []string{"uncordon", "json yaml", "bash fish zsh", "uncordon", ":4", ""}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q, %v", got, want, err)
	}
}
