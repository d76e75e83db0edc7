package memapi

import (
	"errors"
	"io"
	"slices"
)

// errGone is what a process that has crashed would get, if there were anybody to get it.
var errGone = errors.New("memapi: the process is gone")

// crash is when a process is to crash.
type crash struct {
	writes    int // from now on; 0: it is not to crash
	committed bool
	then      func()
}

// Freeze stops the process behind this connection, as SIGSTOP or a suspended machine does, as far as others can tell: nothing
// that it sends leaves it, nothing that is on its way to it arrives, and it does not notice time-outs. What has left
// before takes effect. A request that is about to be sent stays where it is, past the last look at its context, and is sent after Thaw,
// even if its context has ended by then.
//
// What is inside of the process goes on: goroutines run until they need an answer, and timers fire. Whoever simulates a paused
// process has to hold its other effects back by himself; see Frozen.
func (c *Client) Freeze() { c.setFrozen(true) }

// Thaw continues the process.
func (c *Client) Thaw() { c.setFrozen(false) }

func (c *Client) setFrozen(frozen bool) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.frozen = frozen
	c.changed()
}

// Frozen waits until the process runs. It says whether it had to wait.
func (c *Client) Frozen() bool { return c.thaw() }

// thaw returns when the process is not frozen, and says whether it was.
func (c *Client) thaw() (waited bool) {
	for {
		c.server.mu.Lock()
		frozen, mended := c.frozen && !c.gone && !c.server.closed, c.mended
		c.server.mu.Unlock()
		if !frozen {
			return waited
		}
		waited = true
		<-mended
	}
}

// Crash ends the process, as SIGKILL does: all that it does from now on fails at once and has no effect. A later process
// needs another name.
func (c *Client) Crash() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.die()
}

// CrashAtWrite makes the process crash at its nth write from now on, counted from 1: right before it takes effect, or right
// after, before the answer is back. then is called on the goroutine of that request, which must not be kept waiting.
func (c *Client) CrashAtWrite(n int, committed bool, then func()) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.crash = crash{writes: n, committed: committed, then: then}
}

// die is Crash for who holds the server's lock.
func (c *Client) die() {
	c.gone, c.crash.writes = true, 0
	for _, t := range c.server.tables {
		for _, w := range slices.Clone(t.watchers) {
			if w.client == c {
				w.end(io.ErrUnexpectedEOF)
			}
		}
	}
	c.changed()
}

func (c *Client) lives() error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.gone {
		return errGone
	}
	return nil
}

// crashes is asked right before and right after a request takes effect.
func (c *Client) crashes(r *Request, committed bool) error {
	if r.Verb == "get" || r.Verb == "list" || r.Verb == "watch" {
		return nil
	}
	c.server.mu.Lock()
	if c.gone {
		c.server.mu.Unlock()
		return errGone
	}
	then := func() {}
	if c.crash.writes > 0 && c.crash.committed == committed {
		if c.crash.writes--; c.crash.writes == 0 {
			if c.crash.then != nil {
				then = c.crash.then
			}
			c.die()
		}
	}
	gone := c.gone
	c.server.mu.Unlock()
	then()
	if gone {
		return errGone
	}
	return nil
}

// Lens changes what an actor sends and sees, without the server knowing: for a clock that is wrong or runs at another rate, times in
// the bodies can be moved.
type Lens struct {
	// Out changes the body of a request, In that of an answer or some events of a watch. The result may share memory with
	// the body, which must not be changed itself. Nil: as it is.
	Out, In func(r *Request, body []byte) []byte
}

// SetLens is to be called before the actor's first request.
func (c *Client) SetLens(l Lens) { c.lens = l }

func (c *Client) look(r *Request) {
	if c.lens.Out != nil && len(r.body) > 0 {
		r.body = c.lens.Out(r, r.body)
	}
}
