//go:build unix

package child

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleEnv makes the test binary play a parent that starts a child and waits.
const roleEnv = "CHILD_TEST_LOG"

func TestMain(m *testing.M) {
	log := os.Getenv(roleEnv)
	if log == "" {
		os.Exit(m.Run())
	}
	p, err := Start(Command{Path: "/bin/sleep", Args: []string{"1000"}, Log: log})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID)
	select {}
}

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Command{Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestExitStatus(t *testing.T) {
	for script, want := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -TERM $$": 128 + 15, "kill -KILL $$": 128 + 9} {
		got, err := shell(t, script).Wait(time.Minute)
		if err != nil || got != want {
			t.Errorf("%s: status %d, %v; want %d", script, got, err, want)
		}
	}
}

func TestOutputIsOfThisProcessOnly(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for _, word := range []string{"first", "second"} {
		p, err := Start(Command{Path: "/bin/sh", Args: []string{"-c", "echo $0; echo $0 >&2", word}, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		if got, want := p.Output(), word+"\n"+word+"\n"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
	}
}

func TestSignals(t *testing.T) {
	p := shell(t, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done")
	waitFor(t, func() bool { return p.Output() == "ready\n" })
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return state(p.PID) == "T" })
	if !p.Running() || p.Status() != -1 {
		t.Error("a stopped child counts as ended")
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT} {
		if err := p.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := p.Wait(time.Minute); err != nil || got != 7 {
		t.Errorf("status %d, %v; want 7", got, err)
	}
	if p.Signal(syscall.SIGCONT) == nil {
		t.Error("a signal to a child that has ended is no error")
	}
}

func TestKillEndsAStoppedChild(t *testing.T) {
	p := shell(t, "exec sleep 1000")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if got := p.Status(); got != 128+9 {
		t.Errorf("status %d, want %d", got, 128+9)
	}
}

func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), roleEnv+"="+filepath.Join(t.TempDir(), "log"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	hello, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(hello))
	if err != nil {
		t.Fatalf("the parent says %q", hello)
	}
	if state(pid) == "" {
		t.Fatalf("process %d does not run", pid)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	waitFor(t, func() bool { s := state(pid); return s == "" || s == "Z" })
}

func TestBadCommands(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for name, c := range map[string]Command{
		"no log":       {Path: "/bin/sh"},
		"no program":   {Path: "/does/not/exist", Log: log},
		"no directory": {Path: "/bin/sh", Log: filepath.Join(log, "no", "log")},
	} {
		p, err := Start(c)
		if err != nil {
			continue
		}
		if status, err := p.Wait(time.Minute); err == nil && status == 0 {
			t.Errorf("%s: neither an error nor an exit status", name)
		}
	}
}

func TestMemory(t *testing.T) {
	p := shell(t, "exec sleep 1000")
	var m Memory
	waitFor(t, func() bool { // a process that is just being made has hardly any
		m, _ = p.Memory()
		return m.Resident >= 100<<10
	})
	if m.Resident > 100<<20 || m.Peak < m.Resident {
		t.Errorf("the memory of sleep is %+v", m)
	}
}

func TestMetric(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "# TYPE a gauge\na 3\nab 4\nb{x=\"1 } 2\"} 5\nb{x=\"2\"} 1.5e1\n")
	}))
	defer server.Close()
	p := shell(t, fmt.Sprintf(`echo 'I1122 main.go:1] "Serving metrics" address="%s"'; exec sleep 1000`, server.URL))
	waitFor(t, func() bool { return p.Address("metrics") != "" })
	for name, want := range map[string]float64{"a": 3, "ab": 4, "b": 20} {
		if got, err := p.Metric(t.Context(), name); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, want)
		}
	}
	if _, err := p.Metric(t.Context(), "c"); err == nil {
		t.Error("no error for a metric that does not exist")
	}
	if p.Address("probes") != "" {
		t.Error("an address of what is not served")
	}
}

// state is the state of a process as ps has it; empty if there is none.
func state(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(data), ") ")
	return after[:1]
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still not so after a minute")
		}
	}
}
