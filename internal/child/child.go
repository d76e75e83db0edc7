//go:build unix

package child

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// guardScript runs "$@" with its output in the file $1, says the child's pid,
// and ends as the child does. Its input is the lifeline: when that ends first,
// the child is killed. A shell's "wait" does not return for a child that is
// merely stopped, and signal 9 ends that one too.
const guardScript = `
trap : HUP INT TERM
log=$1; shift
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
child=$!
echo "$child"
exec >&-
{ while read -r _; do :; done; kill -KILL "$child"; } <&3 2>/dev/null &
watcher=$!
wait "$child"
status=$?
kill -KILL "$watcher" 2>/dev/null
exit "$status"
`

// Command is what to run.
type Command struct {
	Path string
	Args []string
	// Env is the whole environment. Default: PATH, HOME and TMPDIR of this process, and nothing else.
	Env []string
	// Log is the file that the output is appended to. Required.
	Log string
}

// Process is a running or ended child. Its methods may be called by any
// goroutine.
type Process struct {
	PID   int
	Log   string
	since int64 // where the output of this process begins in the log

	lifeline *os.File
	cutOnce  sync.Once
	exited   chan struct{}
	status   int // after exited
}

// Start starts a child. The caller ends it by Kill, or by Signal and Wait.
func Start(c Command) (*Process, error) {
	p, err := start(c)
	if err != nil {
		return nil, fmt.Errorf("child: %s: %w", c.Path, err)
	}
	return p, nil
}

func start(c Command) (*Process, error) {
	if c.Log == "" {
		return nil, errors.New("child: Log must not be empty: give the file that takes the output")
	}
	if _, err := os.Stat(c.Path); err != nil { // the shell would tell the log only
		return nil, err
	}
	p := &Process{Log: c.Log, exited: make(chan struct{})}
	if info, err := os.Stat(c.Log); err == nil {
		p.since = info.Size()
	}
	in, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	p.lifeline = lifeline
	guard := exec.Command("/bin/sh", append([]string{"-c", guardScript, "child-guard", c.Log, c.Path}, c.Args...)...)
	guard.Env, guard.Stdin = c.Env, in
	if c.Env == nil {
		guard.Env = smallEnv()
	}
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of Ctrl-C and the end of the terminal
	out, err := guard.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, lifeline.Close())
	}
	if err := guard.Start(); err != nil {
		return nil, errors.Join(err, lifeline.Close())
	}
	hello, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		p.PID, err = strconv.Atoi(strings.TrimSpace(hello))
	}
	go func() {
		_ = guard.Wait()
		p.status = guard.ProcessState.ExitCode()
		p.cut()
		close(p.exited)
	}()
	if err != nil {
		p.cut()
		<-p.exited
		return nil, fmt.Errorf("the guard did not start: %w", err)
	}
	return p, nil
}

func (p *Process) cut() { p.cutOnce.Do(func() { _ = p.lifeline.Close() }) }

func smallEnv() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Signal sends a signal to the child itself. One that has ended is not
// signalled, and that is an error.
func (p *Process) Signal(s syscall.Signal) error {
	if !p.Running() {
		return fmt.Errorf("child: process %d has ended", p.PID)
	}
	return syscall.Kill(p.PID, s)
}

// Kill ends the child with signal 9, if it still runs, and waits for its end.
func (p *Process) Kill() {
	p.cut()
	<-p.exited
}

// Exited is closed when the child has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Running says whether the child has not ended yet. One that is stopped by a
// signal is running.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Status is the exit status of a child that has ended; 128 and more is a
// signal, as in a shell. It is -1 while the child runs.
func (p *Process) Status() int {
	if p.Running() {
		return -1
	}
	return p.status
}

// Wait waits until the child has ended, at most for the limit, and returns its
// exit status.
func (p *Process) Wait(limit time.Duration) (int, error) {
	select {
	case <-p.exited:
		return p.status, nil
	case <-time.After(limit):
		return -1, fmt.Errorf("child: process %d has not ended within %s", p.PID, limit)
	}
}

// Output returns what this child has written so far.
func (p *Process) Output() string {
	f, err := os.Open(p.Log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.Seek(p.since, io.SeekStart); err != nil {
		return err.Error()
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(data)
}
