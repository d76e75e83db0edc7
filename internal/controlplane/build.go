package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// builder builds the executables of a source into <cache>/<key>.
type builder struct {
	source source
	cache  string
	log    io.Writer
	// every is the time between two lines of progress.
	every time.Duration
	// poll is how often somebody who waits for another's build looks again.
	poll time.Duration
}

func newBuilder(s source, cache string, log io.Writer) *builder {
	return &builder{source: s, cache: cache, log: log, every: 10 * time.Second, poll: 200 * time.Millisecond}
}

// ensure returns the directory with the executables. A directory of that name
// is complete: it is built under another name and renamed.
func (b *builder) ensure(ctx context.Context) (string, error) {
	dir := filepath.Join(b.cache, b.source.key)
	if b.complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return "", fmt.Errorf("controlplane: cache for the binaries: %w", err)
	}
	lock, err := b.lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if b.complete(dir) {
		return dir, nil
	}
	if err := b.build(ctx, dir); err != nil {
		return "", err
	}
	return dir, nil
}

func (b *builder) complete(dir string) bool {
	for _, t := range b.source.targets {
		if executable(filepath.Join(dir, t.name)) != nil {
			return false
		}
	}
	return true
}

// lock waits until this process alone may build. The lock file stays, because
// removing it would let two processes lock two files of the same name.
func (b *builder) lock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("controlplane: lock for the build: %w", err)
	}
	start, said := time.Now(), time.Time{}
	for {
		ok, err := tryLock(f)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("controlplane: lock %s: %w", path, err), f.Close())
		}
		if ok {
			_ = f.Truncate(0)
			_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
			return f, nil
		}
		if said.IsZero() || time.Since(said) >= b.every {
			said = time.Now()
			b.say("%s is building the control plane already; waiting for it (%s)", holder(path), seconds(time.Since(start)))
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("controlplane: waiting for another build: %w", context.Cause(ctx)), f.Close())
		case <-time.After(b.poll):
		}
	}
}

// holder names the process that wrote its id into the lock file.
func holder(path string) string {
	pid, err := os.ReadFile(path)
	if err != nil || len(pid) == 0 {
		return "another process"
	}
	return "process " + string(pid)
}

func (b *builder) build(ctx context.Context, dir string) error {
	b.removeUnfinished(dir)
	tmp, err := os.MkdirTemp(b.cache, b.source.key+".unfinished-")
	if err != nil {
		return fmt.Errorf("controlplane: build: %w", err)
	}
	defer os.RemoveAll(tmp)
	start := time.Now()
	b.say("building etcd and kube-apiserver %s into %s", b.source.version, dir)
	b.say("once per machine; about 5 minutes on 2 cores plus the download of the modules, less with a warm Go build cache")
	for i, t := range b.source.targets {
		if err := b.compile(ctx, t, filepath.Join(tmp, t.name), fmt.Sprintf("%s (%d of %d)", t.name, i+1, len(b.source.targets))); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("controlplane: build: %w", err)
	}
	// An incomplete directory of the final name is of no use to anybody.
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("controlplane: build: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("controlplane: build: %w", err)
	}
	b.say("the control plane is built, in %s", seconds(time.Since(start)))
	return nil
}

// removeUnfinished clears away what builders left that were killed. The caller
// holds the lock, so nobody else is building.
func (b *builder) removeUnfinished(dir string) {
	old, _ := filepath.Glob(dir + ".unfinished-*")
	for _, path := range old {
		_ = os.RemoveAll(path)
	}
}

// compile builds one executable and reports progress until it is done.
func (b *builder) compile(ctx context.Context, t target, output, title string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false",
		"-ldflags", b.source.ldflags, "-o", output, t.pkg)
	cmd.Dir = b.source.dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "PWD="+b.source.dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out := &goOutput{}
	cmd.Stdout, cmd.Stderr = out, out
	start := time.Now()
	if err := cmd.Start(); ctx.Err() != nil {
		return fmt.Errorf("controlplane: building %s: %w", t.name, context.Cause(ctx))
	} else if err != nil {
		return fmt.Errorf("controlplane: building %s needs the go command: %w", t.name, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(b.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.say("%s: %s, %s", title, seconds(time.Since(start)), out.progress())
		case err := <-done:
			if ctx.Err() != nil {
				return fmt.Errorf("controlplane: building %s: %w", t.name, context.Cause(ctx))
			}
			if err != nil {
				return fmt.Errorf("controlplane: building %s in %s: %w\n%s", t.name, b.source.dir, err, out.message())
			}
			b.say("%s: done in %s, %s", title, seconds(time.Since(start)), out.progress())
			return nil
		}
	}
}

func (b *builder) say(format string, args ...any) {
	fmt.Fprintf(b.log, "controlplane: "+strings.TrimSuffix(format, "\n")+"\n", args...)
}

func seconds(d time.Duration) string { return d.Round(time.Second).String() }
