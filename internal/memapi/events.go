package memapi

import (
	"context"
	"net/http"
)

// hurried says whether the request is a write of an Event.
//
// Such a write never waits: whatever would delay it breaks its connection at once. For client-go's event broadcaster
// (tools/events, finishSeries and refreshExistingEventSeries) sends some of them while it holds a mutex. Whoever
// waits for a mutex is not durably blocked in the sense of testing/synctest, so while a request of that kind waited for the
// clock of the bubble and another Event waited for the mutex, that clock would stand still for ever.
func (r *Request) hurried() bool {
	return r.Resource.Resource == "events" && r.Verb != "get" && r.Verb != "list" && r.Verb != "watch"
}

// hurry takes from f what would take time.
func (c *Client) hurry(f chosen) chosen {
	f.before, f.after = 0, 0
	switch f.Fault {
	case TooManyRequests, Hang, LateResponse: // the REST client waits after the first
		c.mu.Lock()
		defer c.mu.Unlock()
		c.counts[f.Fault]--
		f.Fault = ConnectionReset
		c.counts[f.Fault]++
	}
	return f
}

// deliver is RoundTrip for a request that must not wait.
func (c *Client) deliver(hr *http.Request, r *Request) (*http.Response, error) {
	f := c.hurry(c.choose(r))
	rep, err := reply{}, errReset("write")
	if c.reaches() {
		rep, err = c.exchange(context.WithoutCancel(hr.Context()), hr, r, &f)
	}
	c.server.logged(r, f.Fault, rep.code, err)
	if err != nil {
		return nil, err
	}
	return rep.http(hr, c.server.mediaType(r)), nil
}

// reaches says whether request and answer would pass now, without waiting for anything.
func (c *Client) reaches() bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return !c.gone && !c.frozen && c.link == Connected && !c.server.down && !c.server.closed
}
