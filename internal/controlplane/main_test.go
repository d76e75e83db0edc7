//go:build unix

package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// childEnv makes the test binary play another process instead of testing.
const childEnv = "CONTROLPLANE_TEST_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		playChild(role)
	}
	os.Exit(Main(m))
}

// report is what a child says on its standard output once it is ready.
type report struct {
	Etcd, APIServer int // process ids
	Dir             string
}

// playChild does not return normally: that is the point of it.
func playChild(role string) {
	switch role {
	case "lock":
		f, err := os.OpenFile(os.Args[1], os.O_RDWR|os.O_CREATE, 0o644)
		check(err)
		ok, err := tryLock(f)
		check(err)
		fmt.Fprintf(f, "%d", os.Getpid())
		check(json.NewEncoder(os.Stdout).Encode(ok))
		select {}
	case "start":
		_, err := Start(context.Background(), Options{})
		check(fmt.Errorf("this start cannot succeed, and: %w", err))
	}
	c, err := Start(context.Background(), Options{})
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(report{Etcd: c.etcd.pid, APIServer: c.apiServer.pid, Dir: c.dir.path}))
	switch role {
	case "exit":
		os.Exit(3)
	case "panic":
		panic("as it was asked to")
	case "wait":
		select {}
	}
	check(fmt.Errorf("no such role: %q", role))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// safeBuffer is a log that several goroutines may use.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// waitFor fails the test if the condition does not become true in a time that
// is long even on a busy machine.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after a minute: %s", what)
		}
	}
}

// wantError checks that an error says all of these.
func wantError(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one that says %q", says)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("the error is %q; want it to say %q", err, s)
		}
	}
}

// writeFile makes a file, and the directories above it.
func writeFile(t *testing.T, mode os.FileMode, content string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return name
}
