//go:build unix

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// alive says whether there is a process with this id.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// testWorkdir is in a directory of the test, which sees what is left.
func testWorkdir(t *testing.T) *workdir {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	d, err := newWorkdir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.release(); <-d.gone })
	return d
}

// startScript runs a shell script as a server that takes a second at most to
// be killed.
func startScript(t *testing.T, needs *guard, script string) *server {
	t.Helper()
	s, err := command{
		name: "script", path: shell, args: []string{"-c", script}, env: minimalEnv(""),
		log: filepath.Join(t.TempDir(), "log"), grace: time.Second, needs: needs,
	}.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.release)
	return s
}

func TestWorkdirIsPrivateAndRemoved(t *testing.T) {
	d := testWorkdir(t)
	info, err := os.Stat(d.path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v; want a directory of mode 0700", info, err)
	}
	if err := d.write(map[string][]byte{"key": nil}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.file("key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want a file of mode 0600", info, err)
	}
	d.release()
	d.release() // may be repeated
	<-d.gone
	if _, err := os.Stat(d.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	wantError(t, d.write(map[string][]byte{"key": nil}), "no such file")
}

func TestWorkdirWithoutPlace(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	_, err := newWorkdir()
	wantError(t, err, "temporary directory", "missing")
}

func TestServerIsStopped(t *testing.T) {
	for _, tt := range []struct{ name, script, log string }{
		{"politely", `trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.01; done`, "bye"},
		{"by force", `trap 'echo no' TERM; echo ready; while :; do sleep 0.01; done`, "no"},
		{"when it has exited by itself", `echo ready`, "ready"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startScript(t, testWorkdir(t).guard, tt.script)
			waitFor(t, "the script runs", func() bool { return strings.Contains(s.output(9), "ready") })
			if err := s.stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if alive(s.pid) || s.running() {
				t.Error("it still runs")
			}
			if out := s.output(1); out != tt.log {
				t.Errorf("its last words are %q, want %q", out, tt.log)
			}
		})
	}
}

func TestFrozenServerIsStopped(t *testing.T) {
	s := startScript(t, testWorkdir(t).guard, `trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.01; done`)
	waitFor(t, "the script runs", func() bool { return s.output(1) == "ready" })
	if err := freeze(s.pid); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := s.output(1); out != "bye" {
		t.Errorf("its last words are %q; want a polite end", out)
	}
}

func TestServerThatExitsIsNoticed(t *testing.T) {
	s := startScript(t, testWorkdir(t).guard, `echo this is why; exit 3`)
	<-s.exited
	err := eventually(t.Context(), s, func(context.Context) error { return errors.New("never") })
	wantError(t, err, "script exited", "this is why")
	missing, err := command{name: "x", path: "/does/not/exist", log: filepath.Join(t.TempDir(), "log"), needs: s.guard}.start()
	if err != nil {
		t.Fatal(err)
	}
	defer missing.release()
	<-missing.exited
	wantError(t, missing.exitError(), "/does/not/exist")
}

func TestStopWaitsNoLongerThanAsked(t *testing.T) {
	s := startScript(t, testWorkdir(t).guard, `trap : TERM; echo ready; while :; do sleep 0.01; done`)
	waitFor(t, "the script runs", func() bool { return s.output(1) == "ready" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want that it was canceled", err)
	}
	<-s.gone // the guard goes on
	if alive(s.pid) {
		t.Error("the server outlives its guard")
	}
}

func TestServerGoesBeforeWhatItNeeds(t *testing.T) {
	d := testWorkdir(t)
	first := startScript(t, d.guard, `trap 'exit' TERM; while :; do sleep 0.01; done`)
	second := startScript(t, first.guard, `trap 'sleep 0.3; exit' TERM; echo ready; while :; do sleep 0.01; done`)
	waitFor(t, "the second runs", func() bool { return second.output(1) == "ready" })
	// As when this process dies: all lifelines are cut at once.
	d.release()
	first.release()
	second.release()
	<-second.exited
	if !first.running() {
		t.Error("the first was gone before the second")
	}
	<-first.exited
	<-d.gone
	if _, err := os.Stat(d.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestKilledGuard(t *testing.T) {
	s := startScript(t, testWorkdir(t).guard, `echo $PPID; while :; do sleep 0.01; done`)
	waitFor(t, "the script runs", func() bool { return s.output(1) != "" })
	var guard int
	if _, err := fmt.Sscan(s.output(1), &guard); err != nil {
		t.Fatal(err)
	}
	if err := kill(guard); err != nil {
		t.Fatal(err)
	}
	<-s.gone
	if !s.running() {
		t.Fatal("the server has gone with its guard; this test needs it alive")
	}
	if err := s.stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the orphan is gone", func() bool { return !s.running() })
}

func TestOutputOfThisRunOnly(t *testing.T) {
	log := writeFile(t, 0o600, "of the last run\n", t.TempDir(), "log")
	s, err := command{
		name: "script", path: shell, args: []string{"-c", "echo a; echo b; echo c"}, log: log, needs: testWorkdir(t).guard,
	}.start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	<-s.exited
	if got := s.output(2); got != "b\nc" {
		t.Errorf("the last two lines are %q", got)
	}
	if got := s.output(9); got != "a\nb\nc" {
		t.Errorf("all lines are %q", got)
	}
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	if got := s.output(9); !strings.Contains(got, "no such file") {
		t.Errorf("without a log: %q", got)
	}
}

func TestServerWithoutPlaceForItsLog(t *testing.T) {
	_, err := command{path: shell, log: filepath.Join(t.TempDir(), "missing", "log"), needs: testWorkdir(t).guard}.start()
	wantError(t, err, "missing/log")
}

func TestMinimalEnvironment(t *testing.T) {
	t.Setenv("ETCD_NAME", "from outside")
	if got := strings.Join(minimalEnv("/x"), " "); got != "PATH="+os.Getenv("PATH")+" HOME=/x TMPDIR=/x" {
		t.Errorf("got %s", got)
	}
}

func TestFreePort(t *testing.T) {
	port, err := freePort()
	if err != nil || port < firstPort || port >= lastPort {
		t.Fatalf("got %d, %v", port, err)
	}
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
}

func TestStolenPortsAreReplaced(t *testing.T) {
	other := errors.New("something else")
	for _, tt := range []struct {
		name   string
		errs   []error // of the attempts, one after the other
		want   error
		starts int
	}{
		{"at once", []error{nil}, nil, 1},
		{"stolen twice", []error{errPortTaken, errPortTaken, nil}, nil, 3},
		{"stolen always", []error{errPortTaken, errPortTaken, errPortTaken, errPortTaken, errPortTaken}, errPortTaken, 5},
		{"another fault", []error{errPortTaken, other}, other, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			starts := 0
			err := onFreePort(func(int) error { starts++; return tt.errs[starts-1] })
			if !errors.Is(err, tt.want) || starts != tt.starts {
				t.Errorf("got %v after %d starts; want %v after %d", err, starts, tt.want, tt.starts)
			}
		})
	}
}
