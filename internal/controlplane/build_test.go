//go:build unix

package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// smallBuilder builds two programs that do nothing, the way the real ones are
// built. Their sources can be broken by broken.
func smallBuilder(t *testing.T, broken string) (*builder, *safeBuffer) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, 0o644, "module example.com/small\n\ngo 1.26\n", dir, "go.mod")
	writeFile(t, 0o644, "package main\n\nfunc main() {}\n", dir, "one", "main.go")
	writeFile(t, 0o644, "package main\n\nfunc main() { "+broken+" }\n", dir, "two", "main.go")
	log := &safeBuffer{}
	b := newBuilder(source{
		dir: dir, version: "v0.0.1", key: "v0.0.1-key", ldflags: "-s -w",
		targets: []target{{"etcd", "example.com/small/one"}, {"kube-apiserver", "example.com/small/two"}},
	}, filepath.Join(t.TempDir(), "cache"), log)
	b.poll = time.Millisecond
	return b, log
}

func (b *builder) path(suffix string) string { return filepath.Join(b.cache, b.source.key+suffix) }

// inCache lists what the cache holds besides the lock.
func (b *builder) inCache(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(b.cache)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestBuildOnceAndSaySo(t *testing.T) {
	b, log := smallBuilder(t, "")
	b.every = time.Millisecond
	leftover := b.path(".unfinished-7")
	writeFile(t, 0o644, "", leftover, "half")      // of a builder that was killed
	writeFile(t, 0o644, "", b.path(""), "useless") // and of somebody's clearing up
	dir, err := b.ensure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if out, err := exec.Command(filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Errorf("%s does not run: %v %s", name, err, out)
		}
	}
	if got := b.inCache(t); len(got) != 1 || got[0] != b.source.key {
		t.Errorf("the cache holds %q; want only the result", got)
	}
	for _, want := range []string{
		"building etcd and kube-apiserver v0.0.1 into " + dir,
		"about 5 minutes on 2 cores",
		"etcd (1 of 2): 0s, ", // progress
		"etcd (1 of 2): done in ",
		"kube-apiserver (2 of 2): done in ",
		"the control plane is built, in ",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
	said := log.String()
	if again, err := b.ensure(t.Context()); err != nil || again != dir || log.String() != said {
		t.Errorf("the second time: %q, %v; and the log grew by %q", again, err, strings.TrimPrefix(log.String(), said))
	}
}

func TestFailedBuildExplainsItselfAndLeavesNothing(t *testing.T) {
	b, _ := smallBuilder(t, "undefined()")
	_, err := b.ensure(t.Context())
	wantError(t, err, "building kube-apiserver in "+b.source.dir, "undefined: undefined")
	if got := b.inCache(t); len(got) != 0 {
		t.Errorf("the cache holds %q after a failed build", got)
	}
}

func TestBuildNeedsGo(t *testing.T) {
	b, _ := smallBuilder(t, "")
	t.Setenv("PATH", t.TempDir())
	_, err := b.ensure(t.Context())
	wantError(t, err, "needs the go command")
}

// trigger does something once when the log says a text.
type trigger struct {
	text string
	do   func()
	safeBuffer
}

func (w *trigger) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.do()
	}
	return w.safeBuffer.Write(p)
}

func TestCanceledBuild(t *testing.T) {
	for _, when := range []string{
		"building etcd",      // before the go command is started
		"etcd (1 of 2): 0s,", // while it runs
	} {
		t.Run(when, func(t *testing.T) {
			b, _ := smallBuilder(t, "")
			cause := errors.New("no more time")
			ctx, cancel := context.WithCancelCause(t.Context())
			log := &trigger{text: when, do: func() { cancel(cause) }}
			b.log, b.every = log, time.Millisecond
			if _, err := b.ensure(ctx); !errors.Is(err, cause) {
				t.Errorf("got %v; want the cause of the cancellation; the log:\n%s", err, log)
			}
			if got := b.inCache(t); len(got) != 0 {
				t.Errorf("the cache holds %q after a canceled build", got)
			}
		})
	}
}

func TestManyBuildersBuildOnce(t *testing.T) {
	first, log := smallBuilder(t, "")
	var wg sync.WaitGroup
	for range 4 {
		b := *first
		wg.Go(func() {
			if _, err := b.ensure(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := strings.Count(log.String(), "is built, in"); n != 1 {
		t.Errorf("built %d times:\n%s", n, log)
	}
}

// lockElsewhere takes the build lock in another process.
func lockElsewhere(t *testing.T, b *builder) *exec.Cmd {
	t.Helper()
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0], b.path(".lock"))
	child.Env = append(os.Environ(), childEnv+"=lock")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	var ok bool
	if err := json.NewDecoder(out).Decode(&ok); err != nil || !ok {
		t.Fatalf("the other process has no lock: %v", err)
	}
	return child
}

func TestWaitForAnotherProcessThatDies(t *testing.T) {
	b, log := smallBuilder(t, "")
	child := lockElsewhere(t, b)
	done := make(chan error, 1)
	go func() { _, err := b.ensure(t.Context()); done <- err }()
	waiting := holder(b.path(".lock")) + " is building the control plane already; waiting for it"
	waitFor(t, "it says that it waits", func() bool { return strings.Contains(log.String(), waiting) })
	if !strings.HasPrefix(waiting, "process ") || strings.Contains(log.String(), "building etcd") {
		t.Errorf("with the lock held by %d the log is:\n%s", child.Process.Pid, log)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "is built, in") {
		t.Errorf("did not build after the other died:\n%s", log)
	}
}

func TestWaitForAnotherProcessThatFinishes(t *testing.T) {
	b, log := smallBuilder(t, "undefined()") // it must not build, and could not
	child := lockElsewhere(t, b)
	done := make(chan error, 1)
	go func() { _, err := b.ensure(t.Context()); done <- err }()
	waitFor(t, "it says that it waits", func() bool { return strings.Contains(log.String(), "waiting for it") })
	for _, target := range b.source.targets {
		writeFile(t, 0o755, "", b.path(""), target.name)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitForAnotherProcessNoLongerThanAsked(t *testing.T) {
	b, log := smallBuilder(t, "")
	lockElsewhere(t, b)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := b.ensure(ctx); done <- err }()
	waitFor(t, "it says that it waits", func() bool { return strings.Contains(log.String(), "waiting for it") })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want that it was canceled", err)
	}
}

func TestGoOutput(t *testing.T) {
	var many bytes.Buffer
	for range maxMessage + 2 {
		many.WriteString("# example.com/x\n")
	}
	for _, tt := range []struct{ name, in, progress, message string }{
		{"nothing yet", "", "no package to compile so far, they are in the Go build cache", ""},
		{"packages", "runtime\nk8s.io/api/core/v1\n", "2 packages compiled", ""},
		{"modules", "go: downloading k8s.io/api v0.37.2\nfmt\n", "1 modules downloaded, 1 packages compiled", ""},
		{"errors", "fmt\n# example.com/x\nx.go:1:2: undefined: y\n", "1 packages compiled", "# example.com/x\nx.go:1:2: undefined: y"},
		{"unfinished line", "fmt\ngo: no such mod", "1 packages compiled", "go: no such mod"},
		{"long", "fmt\n" + many.String(), "1 packages compiled",
			"(2 lines before these)\n" + strings.TrimSuffix(strings.Repeat("# example.com/x\n", maxMessage), "\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var g goOutput
			for i := range tt.in { // the worst way a pipe can deliver it
				_, _ = g.Write([]byte(tt.in[i : i+1]))
			}
			if got := g.progress(); got != tt.progress {
				t.Errorf("progress: %q, want %q", got, tt.progress)
			}
			if got := g.message(); got != tt.message {
				t.Errorf("message: %q, want %q", got, tt.message)
			}
		})
	}
}
