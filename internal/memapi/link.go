package memapi

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// Link is the state of the network between one actor and the server.
type Link int

// The states of a Link. While it is not Connected a request waits for up to 30 s and then fails with a
// time-out, and a watch breaks after 45 s, as HTTP/2 connections with health checks do; when the link
// mends before that, requests, answers and events arrive late.
const (
	Connected Link = iota
	// RequestsLost: nothing reaches the server, and the watches that are open go on for a while.
	RequestsLost
	// ResponsesLost: requests take effect, but neither their answers nor watch events come back.
	ResponsesLost
	// Partitioned: nothing passes either way.
	Partitioned
)

const (
	dialTimeout = 30 * time.Second
	pingTimeout = 45 * time.Second
	// requestTimeout is when the real server gives up on a request of its own.
	requestTimeout = 60 * time.Second
)

var errLost = errors.New("http2: client connection lost")

// SetLink changes the network of this actor.
func (c *Client) SetLink(l Link) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.link == Connected {
		c.cut = time.Now()
	}
	c.link = l
	c.changed()
}

// StallWatches holds back all events of this actor's watches, open and future, for d from now.
func (c *Client) StallWatches(d time.Duration) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.stalled = time.Now().Add(d)
	c.changed()
}

// DelayWatches makes every event reach this actor d after it was committed: its caches are that stale.
// Bookmarks still come, and never overtake an event.
func (c *Client) DelayWatches(d time.Duration) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.watchDelay = d
	c.changed()
}

// StaleReads answers this actor's reads that a watch cache may answer (resourceVersion=0, or not older
// than a given one) as of d ago. Reads without a resourceVersion are always current.
func (c *Client) StaleReads(d time.Duration) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.cacheAge = d
}

// DropWatches breaks all open watches of this actor now.
func (c *Client) DropWatches() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	for _, t := range c.server.tables {
		for _, w := range slices.Clone(t.watchers) {
			if w.client == c {
				w.end(io.ErrUnexpectedEOF)
			}
		}
	}
}

// changed wakes whoever waits for the link. The caller holds the server's lock.
func (c *Client) changed() {
	close(c.mended)
	c.mended = make(chan struct{})
	for _, t := range c.server.tables {
		for _, w := range t.watchers {
			if w.client == c {
				w.wake()
			}
		}
	}
}

// SetDown takes the server down, or up again with all its objects: requests are refused at once, and
// watches break. History survives; call Compact as well for a restart that lost the watch cache.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = false
	if s.down = down; down {
		s.endWatches(io.ErrUnexpectedEOF)
	}
	s.wakeAll()
}

// SetSilent makes a server that is down answer nothing instead of refusing, as one whose machine is down too: who asks it
// waits for as long as on a link that is cut. It ends with the outage.
func (s *Server) SetSilent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = s.down
}

// wakeAll wakes whoever waits for the server. The caller holds the lock.
func (s *Server) wakeAll() {
	for _, c := range s.clients {
		c.changed()
	}
}

// blocks says whether the link stops traffic in direction d, RequestsLost or ResponsesLost.
func (l Link) blocks(d Link) bool { return l == d || l == Partitioned }

// cross waits until the link lets traffic through in direction d.
func (c *Client) cross(ctx context.Context, d Link) error {
	var limit *time.Timer
	for {
		c.server.mu.Lock()
		off, blocked, mended, gone := c.server.down || c.server.closed, c.link.blocks(d), c.mended, c.gone
		silent := c.server.silent && !c.server.closed && d == RequestsLost
		c.server.mu.Unlock()
		switch {
		case gone:
			return errGone
		case ctx.Err() != nil:
			return ctx.Err()
		case silent:
		case off && d == RequestsLost:
			return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		case off:
			return errReset("read")
		case !blocked:
			return nil
		}
		if limit == nil {
			limit = time.NewTimer(dialTimeout)
			defer limit.Stop()
		}
		select {
		case <-mended:
		case <-ctx.Done():
		case <-limit.C:
			return &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
		}
	}
}

func errReset(op string) error {
	return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, syscall.ECONNRESET)}
}

// broken says whether the link has been down for so long that watches break. The server's lock is held
// here and below.
func (c *Client) broken(now time.Time) bool {
	at := c.breakAt()
	return !at.IsZero() && !now.Before(at)
}

func (c *Client) breakAt() time.Time {
	if c.link == Connected {
		return time.Time{}
	}
	return c.cut.Add(pingTimeout)
}

// blockedUntil is when events can pass again; now or earlier if they can.
func (c *Client) blockedUntil(now time.Time) time.Time {
	if c.link.blocks(ResponsesLost) {
		return now.Add(pingTimeout)
	}
	return c.stalled
}
