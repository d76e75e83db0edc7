package controlplane

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
	"sync/atomic"
	"time"
)

// shell is where every Unix has one.
const shell = "/bin/sh"

// guardScript runs "$@" and stops it when the guard's standard input ends,
// which is when everybody who holds the other end has closed it or has died.
//
// Descriptors: 1 takes the server's pid, 2 is the log, 3 is held by the server
// alone, so that its end shows at the other end of that pipe, and 4 is held by
// the guard alone, so that whatever this server needs stays until the server is
// gone. A signal to the guard ends the server too, where the shell's read can
// be interrupted. CONT is for a server that is stopped by a signal.
const guardScript = `
grace=$1; shift
trap : HUP INT TERM
"$@" </dev/null >&2 4>&- &
pid=$!
exec 3>&-
echo "$pid"
exec >&-
while read -r _; do :; done
{ kill -TERM "$pid"; kill -CONT "$pid"; } 2>/dev/null
i=0
while kill -0 "$pid" && [ "$i" -lt "$grace" ]; do
	sleep 0.05
	i=$((i + 1))
done 2>/dev/null
{ kill -KILL "$pid"; wait "$pid"; } 2>/dev/null
`

// janitorScript makes the directory $1 and removes it when its input ends.
const janitorScript = `
trap : HUP INT TERM
mkdir -m 0700 "$1" || exit 1
echo ok
exec >&-
while read -r _; do :; done
rm -rf "$1"
`

// stepsPerSecond is how often guardScript looks whether its server is gone.
const stepsPerSecond = 20

// guard is a shell that works until its lifeline is cut, by us or by our death.
type guard struct {
	lifeline *os.File      // the writing end; never written to
	hello    string        // the one line that it says when it has begun
	gone     chan struct{} // closed when it has done all it had to do
	released atomic.Bool
}

// startGuard runs script and waits for its first line. extra become the
// descriptors 3 and up; stderr may be nil.
func startGuard(script string, args []string, stderr *os.File, env []string, extra ...*os.File) (*guard, error) {
	in, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	cmd := exec.Command(shell, append([]string{"-c", script, "controlplane-guard"}, args...)...)
	cmd.Stdin, cmd.ExtraFiles, cmd.Env, cmd.SysProcAttr = in, extra, env, detached()
	if stderr != nil {
		cmd.Stderr = stderr
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, lifeline.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, lifeline.Close())
	}
	g := &guard{lifeline: lifeline, gone: make(chan struct{})}
	hello, readErr := bufio.NewReader(out).ReadString('\n')
	go func() {
		defer close(g.gone)
		_ = cmd.Wait() // its exit status is that of the server
	}()
	if g.hello = strings.TrimSpace(hello); readErr != nil {
		g.release()
		<-g.gone
		return nil, fmt.Errorf("%s did not start: %w", shell, readErr)
	}
	return g, nil
}

// release cuts the lifeline and returns at once.
func (g *guard) release() {
	if g.released.CompareAndSwap(false, true) {
		_ = g.lifeline.Close()
	}
}

// server is etcd or kube-apiserver under its guard.
type server struct {
	*guard
	name   string
	pid    int
	exited chan struct{} // closed when the server itself is gone
	killed atomic.Bool   // by us, so that its end is no news
	log    string        // path of its log
	since  int64         // where the log of this run begins
}

// command is what to run as a server.
type command struct {
	name  string
	path  string
	args  []string
	env   []string
	log   string
	grace time.Duration // between the signals TERM and KILL
	needs *guard        // what must stay until this server is gone
}

func (c command) start() (*server, error) {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	since, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	alive, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer held.Close()
	steps := int(c.grace.Seconds() * stepsPerSecond)
	args := append([]string{strconv.Itoa(steps), c.path}, c.args...)
	g, err := startGuard(guardScript, args, log, c.env, held, c.needs.lifeline)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.name, err), alive.Close())
	}
	s := &server{guard: g, name: c.name, exited: make(chan struct{}), log: c.log, since: since}
	go func() {
		defer close(s.exited)
		defer alive.Close()
		_, _ = io.Copy(io.Discard, alive) // nothing is written: it ends with the server
	}()
	if s.pid, err = strconv.Atoi(g.hello); err != nil {
		g.release()
		return nil, fmt.Errorf("%s: no process id: %w", c.name, err)
	}
	return s, nil
}

// running says whether the server has not exited yet.
func (s *server) running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// stop ends the server and waits until it is gone. If ctx ends first, the guard
// goes on with it all the same.
func (s *server) stop(ctx context.Context) error {
	s.release()
	select {
	case <-s.gone:
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s to stop: %w", s.name, context.Cause(ctx))
	}
	if s.running() { // somebody killed the guard
		_ = kill(s.pid)
		<-s.exited
	}
	return nil
}

// output returns what this run of the server has logged: its last lines.
func (s *server) output(lines int) string {
	f, err := os.Open(s.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 1 << 20
	if info, err := f.Stat(); err == nil {
		_, _ = f.Seek(max(s.since, info.Size()-most), io.SeekStart)
	}
	data, _ := io.ReadAll(io.LimitReader(f, most))
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
