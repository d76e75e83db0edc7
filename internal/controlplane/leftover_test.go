//go:build unix

package controlplane

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// startChild runs this test binary as another process, with a directory for
// temporary files of its own.
func startChild(t *testing.T, role string, env ...string) (child *exec.Cmd, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	child = exec.Command(os.Args[0])
	child.Env = append(append(os.Environ(), childEnv+"="+role, "TMPDIR="+tmp), env...)
	child.Stderr = &safeBuffer{}
	// A group, as a shell gives it to what it runs: a signal reaches all of it.
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return child, tmp
}

// nothingLeft waits until the directory for temporary files is empty, which is
// the last thing to happen, and then looks for the processes.
func nothingLeft(t *testing.T, tmp string, pids ...int) {
	t.Helper()
	waitFor(t, "no data in "+tmp, func() bool {
		left, err := os.ReadDir(tmp)
		return err == nil && len(left) == 0
	})
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d still runs", pid)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	for _, tt := range []struct {
		name, role string
		signal     syscall.Signal
	}{
		{"exit without Stop", "exit", 0},
		{"panic", "panic", 0},
		{"Ctrl-C", "wait", syscall.SIGINT},
		{"kill -9", "wait", syscall.SIGKILL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			child, tmp := startChild(t, tt.role)
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			var r report
			if err := json.NewDecoder(out).Decode(&r); err != nil {
				_ = child.Process.Kill()
				t.Fatalf("%v: %v\n%s", err, child.Wait(), child.Stderr)
			}
			if !strings.HasPrefix(r.Dir, tmp) || r.Etcd <= 1 || r.APIServer <= 1 {
				t.Errorf("the child reports %+v", r)
			}
			if tt.signal != 0 {
				if !alive(r.Etcd) || !alive(r.APIServer) {
					t.Error("the servers do not run")
				}
				if err := syscall.Kill(-child.Process.Pid, tt.signal); err != nil {
					t.Fatal(err)
				}
			}
			if err := child.Wait(); err == nil {
				t.Error("the child has ended well, which it never should")
			}
			nothingLeft(t, tmp, r.Etcd, r.APIServer)
		})
	}
}

// TestNothingIsLeftBehindOfAStart kills a process whose API server has not
// become ready yet, and does not listen to polite requests.
func TestNothingIsLeftBehindOfAStart(t *testing.T) {
	binaries := fakes(t, map[string]string{
		"kube-apiserver": `trap : TERM; echo $$ >"$HOME/pid.tmp"; mv "$HOME/pid.tmp" "$HOME/pid"; while :; do sleep 0.1; done`,
	})
	assets := t.TempDir()
	for name, path := range map[string]string{"etcd": binaries.Etcd, "kube-apiserver": binaries.APIServer} {
		if err := os.Symlink(path, filepath.Join(assets, name)); err != nil {
			t.Fatal(err)
		}
	}
	child, tmp := startChild(t, "start", AssetsEnv+"="+assets)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	waitFor(t, "the API server begins", func() bool {
		found, _ := filepath.Glob(filepath.Join(tmp, "*", "pid"))
		if len(found) != 1 {
			return false
		}
		data, err := os.ReadFile(found[0])
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		return err == nil
	})
	if err := syscall.Kill(-child.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) {
		t.Errorf("the child ended with %v", err)
	}
	nothingLeft(t, tmp, pid)
}
