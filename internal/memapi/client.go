package memapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// Client is one actor's connection to a Server: the http.RoundTripper under its REST clients. All
// faults belong to a Client. Use from any goroutine.
type Client struct {
	server *Server
	name   string

	// The server's lock guards these, so that watches and requests see one state.
	watchDelay time.Duration
	cacheAge   time.Duration
	stalled    time.Time
	link       Link
	cut        time.Time // when link stopped being Connected
	mended     chan struct{}
	frozen     bool
	gone       bool
	crash      crash
	lens       Lens

	mu      sync.Mutex
	n       int64
	streams map[uint64]uint64
	faults  Faults
	queue   []scripted
	counts  map[Fault]int64
}

// Client gives the connection of the named actor; always the same one for the same name.
func (s *Server) Client(actor string) *Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[actor]
	if c == nil {
		c = &Client{server: s, name: actor, streams: map[uint64]uint64{}, counts: map[Fault]int64{},
			mended: make(chan struct{})}
		s.clients[actor] = c
	}
	return c
}

// Config is a rest.Config whose clients all go through Client(actor): JSON, no client-side rate limit.
func (s *Server) Config(actor string) *rest.Config {
	return &rest.Config{
		Host:          "http://memapi",
		Transport:     s.Client(actor),
		UserAgent:     actor,
		QPS:           -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"},
	}
}

// Name is the actor's name.
func (c *Client) Name() string { return c.name }

// RoundTrip implements http.RoundTripper.
func (c *Client) RoundTrip(hr *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.n++
	n := c.n
	c.mu.Unlock()
	r, err := parse(c.name, n, hr)
	if err != nil {
		return nil, err
	}
	if r.hurried() {
		return c.deliver(hr, r)
	}
	ctx := hr.Context()
	if c.thaw() { // it is past its last look at the context, and goes out whatever has become of that
		ctx = context.WithoutCancel(ctx)
	}
	if err := c.lives(); err != nil {
		return nil, err
	}
	c.look(r)
	f := c.choose(r)
	rep, err := c.exchange(ctx, hr, r, &f)
	c.thaw()
	if dead := c.lives(); dead != nil && err == nil {
		if rep.watch != nil {
			_ = rep.watch.Close()
		}
		err = dead
	}
	c.server.logged(r, f.Fault, rep.code, err)
	if err != nil {
		return nil, err
	}
	if c.lens.In != nil && rep.watch == nil {
		rep.body = c.lens.In(r, rep.body)
	}
	return rep.http(hr, c.server.mediaType(r)), nil
}

// exchange takes a request to the server and the answer back, through everything that can go wrong.
func (c *Client) exchange(ctx context.Context, hr *http.Request, r *Request, f *chosen) (reply, error) {
	if err := sleep(ctx, f.before); err != nil {
		return reply{}, err
	}
	if err := c.cross(ctx, RequestsLost); err != nil {
		return reply{}, err
	}
	if rep, err, done := c.refuse(ctx, r, f); done {
		return rep, err
	}
	accepted, err := negotiate(hr.Header.Get("Accept"))
	if err != nil {
		return failure(err), nil
	}
	r.form = accepted
	if f.Fault == Duplicate {
		first := *r
		c.server.serve(ctx, c, &first)
	}
	if err := c.crashes(r, false); err != nil {
		return reply{}, err
	}
	rep := c.server.serve(hr.Context(), c, r)
	if err := c.crashes(r, true); err != nil {
		return reply{code: rep.code}, err
	}
	if rep.watch != nil {
		rep.watch.adopt(f.plan)
	}
	if err := c.back(ctx, r, f); err != nil {
		if rep.watch != nil {
			_ = rep.watch.Close()
		}
		return reply{code: rep.code}, err
	}
	return rep, nil
}

// back brings the answer home.
func (c *Client) back(ctx context.Context, r *Request, f *chosen) error {
	if f.Fault == LostResponse {
		return errReset("read")
	}
	if f.Fault == LateResponse {
		if err := sleep(ctx, requestTimeout); err != nil {
			return err
		}
		return errLost
	}
	if err := c.cross(ctx, ResponsesLost); err != nil {
		return err
	}
	return sleep(ctx, f.after)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
