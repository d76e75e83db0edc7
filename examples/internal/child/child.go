//go:build unix

// Package child runs programs that do not outlive the one that started them,
// not even one that is killed with signal 9.
//
// Each program runs under a small shell process in a session of its own. The
// shell reads from a pipe whose other end this process holds and never writes
// to; when the pipe ends, because of [Process.Stop] or because this process is
// gone, the shell sends the program TERM and, if that does not help, KILL. Only
// killing the shell itself with signal 9 defeats that.
package child

import (
	"bufio"
	"context"
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

// guardScript runs "$@" until it ends or the script's standard input does.
// Descriptor 1 takes the program's pid, 2 is the log, and 3 is held by the
// program alone, so that the end of the program shows at its other end. CONT is
// for a program that is stopped by a signal. The exit status is the program's.
const guardScript = `
grace=$1; shift
trap : HUP INT TERM
"$@" </dev/null >&2 &
pid=$!
exec 3>&-
echo "$pid"
exec >&-
while read -r _; do :; done
{
	kill -TERM "$pid"
	kill -CONT "$pid"
	i=0
	while kill -0 "$pid" && [ "$i" -lt "$grace" ]; do
		sleep 0.05
		i=$((i + 1))
	done
	kill -KILL "$pid"
} 2>/dev/null
wait "$pid"
exit $?
`

// stepsPerSecond is how often guardScript looks whether its program is gone.
const stepsPerSecond = 20

// Spec says what to run.
type Spec struct {
	// Path and Args are the program and its arguments, without its name.
	Path string
	Args []string
	// Env is added to this process's environment.
	Env []string
	// Log is the file that takes what the program writes; it is appended to.
	Log string
	// Grace is the time between TERM and KILL in Stop and when this process
	// dies. Default 5 s.
	Grace time.Duration
}

// Process is a running program. Its methods may be called from any goroutine.
type Process struct {
	pid      int
	guard    *exec.Cmd
	lifeline *os.File
	cut      sync.Once
	exited   chan struct{} // closed when the program has ended
	status   int           // of the program; valid after exited
}

// Start runs the program. It returns an error if the program cannot be found or
// its log cannot be written; that a program fails later shows in Exited.
func Start(s Spec) (*Process, error) {
	path, err := exec.LookPath(s.Path)
	if err != nil {
		return nil, fmt.Errorf("child: %w", err)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("child: log: %w", err)
	}
	defer log.Close()
	if s.Grace <= 0 {
		s.Grace = 5 * time.Second
	}
	steps := strconv.Itoa(int(s.Grace.Seconds() * stepsPerSecond))
	guard := exec.Command("/bin/sh", append([]string{"-c", guardScript, "guard", steps, path}, s.Args...)...)
	guard.Env = append(os.Environ(), s.Env...)
	guard.Stderr = log
	guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of Ctrl-C
	return start(guard)
}

func start(guard *exec.Cmd) (*Process, error) {
	in, lifeline, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("child: %w", err)
	}
	defer in.Close()
	alive, held, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("child: %w", err), lifeline.Close())
	}
	defer held.Close()
	guard.Stdin, guard.ExtraFiles = in, []*os.File{held}
	out, err := guard.StdoutPipe()
	if err == nil {
		err = guard.Start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("child: %w", err), lifeline.Close(), alive.Close())
	}
	hello, err := bufio.NewReader(out).ReadString('\n')
	p := &Process{guard: guard, lifeline: lifeline, exited: make(chan struct{})}
	if err == nil {
		p.pid, err = strconv.Atoi(strings.TrimSpace(hello))
	}
	_ = held.Close() // the program alone holds it now
	go p.watch(alive)
	if err != nil {
		p.release()
		<-p.exited
		return nil, fmt.Errorf("child: the guard did not start: %w", err)
	}
	return p, nil
}

// watch waits for the end of the program and collects its status.
func (p *Process) watch(alive *os.File) {
	_, _ = io.Copy(io.Discard, alive) // nothing is written: it ends with the program
	_ = alive.Close()
	p.release()
	_ = p.guard.Wait()
	p.status = p.guard.ProcessState.ExitCode()
	close(p.exited)
}

func (p *Process) release() { p.cut.Do(func() { _ = p.lifeline.Close() }) }

// Pid is the program's process id.
func (p *Process) Pid() int { return p.pid }

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Running reports whether the program has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// ExitCode is the program's, or 128 plus the number of the signal that ended it.
// It is -1 as long as the program runs.
func (p *Process) ExitCode() int {
	if p.Running() {
		return -1
	}
	return p.status
}

// Signal sends a signal to the program; os.ErrProcessDone if it has ended.
func (p *Process) Signal(s syscall.Signal) error {
	if !p.Running() {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(p.pid, s); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return fmt.Errorf("child: signal %s to process %d: %w", s, p.pid, err)
	}
	return nil
}

// Stop sends TERM, and KILL after Spec.Grace, and waits for the end. If ctx is
// done first, it returns an error, and the stop goes on.
func (p *Process) Stop(ctx context.Context) error {
	p.release()
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("child: process %d still runs: %w", p.pid, context.Cause(ctx))
	}
}
