//go:build unix

package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is for things that take milliseconds on an idle machine.
const patience = 30 * time.Second

func sh(t *testing.T, script string, grace time.Duration) (*Process, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := Start(Spec{Path: "sh", Args: []string{"-c", script}, Env: []string{"GREETING=hello"}, Log: log, Grace: grace})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Signal(syscall.SIGKILL)
		<-p.Exited()
	})
	return p, log
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func logged(path, text string) func() bool {
	return func() bool {
		data, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(data), text)
	}
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestAProgramThatEnds(t *testing.T) {
	p, log := sh(t, `echo "$GREETING"; echo out of order >&2; exit 7`, 0)
	<-p.Exited()
	if p.ExitCode() != 7 || p.Running() {
		t.Errorf("exit code %d, running %t, want 7, false", p.ExitCode(), p.Running())
	}
	if !logged(log, "hello\nout of order\n")() {
		t.Error("the log lacks what the program wrote")
	}
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a signal afterwards: %v, want ErrProcessDone", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("Stop afterwards: %v", err)
	}
}

func TestSignals(t *testing.T) {
	tests := []struct {
		name   string
		script string
		act    func(p *Process) error
		code   int
	}{
		{"TERM reaches the program", `trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done`,
			func(p *Process) error { return p.Signal(syscall.SIGTERM) }, 3},
		{"KILL", `echo ready; while :; do sleep 0.01; done`,
			func(p *Process) error { return p.Signal(syscall.SIGKILL) }, 128 + 9},
		{"Stop is TERM", `trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done`,
			func(p *Process) error { return p.Stop(context.Background()) }, 4},
		{"Stop ends one that does not listen", `trap '' TERM; echo ready; while :; do sleep 0.01; done`,
			func(p *Process) error { return p.Stop(context.Background()) }, 128 + 9},
		{"Stop ends one that is paused", `trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done`,
			func(p *Process) error { return errors.Join(p.Signal(syscall.SIGSTOP), p.Stop(context.Background())) }, 5},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p, log := sh(t, tc.script, time.Second)
			await(t, "the program is ready", logged(log, "ready"))
			if p.ExitCode() != -1 || !p.Running() {
				t.Errorf("before: exit code %d, running %t", p.ExitCode(), p.Running())
			}
			if err := tc.act(p); err != nil {
				t.Fatal(err)
			}
			<-p.Exited()
			if p.ExitCode() != tc.code {
				t.Errorf("exit code %d, want %d", p.ExitCode(), tc.code)
			}
			await(t, "the process is gone", func() bool { return gone(p.Pid()) })
		})
	}
}

func TestStopDoesNotWaitForever(t *testing.T) {
	p, log := sh(t, `trap '' TERM; echo ready; while :; do sleep 0.01; done`, time.Minute)
	await(t, "the program is ready", logged(log, "ready"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop = %v, want the cancellation", err)
	}
}

func TestStartRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Start(Spec{Path: filepath.Join(dir, "missing"), Log: filepath.Join(dir, "log")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing program: %v", err)
	}
	if _, err := Start(Spec{Path: "sh", Log: filepath.Join(dir, "no", "log")}); err == nil {
		t.Error("a log in a missing directory: no error")
	}
}

// TestMain lets the test binary play the parent that is killed.
func TestMain(m *testing.M) {
	if log := os.Getenv("CHILD_TEST_PARENT"); log != "" {
		p, err := Start(Spec{Path: "sh", Args: []string{"-c", "echo ready; while :; do sleep 0.01; done"}, Log: log, Grace: time.Second})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.Pid())
		<-p.Exited()
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestNothingOutlivesAKilledParent is what the package is for.
func TestNothingOutlivesAKilledParent(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "CHILD_TEST_PARENT="+log)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	await(t, "the program is ready", logged(log, "ready"))
	if gone(pid) {
		t.Fatal("the program is gone before its parent")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	await(t, "the program ends after its parent", func() bool { return gone(pid) })
}
