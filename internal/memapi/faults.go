package memapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Fault is something that goes wrong with one request.
type Fault int

// The faults of a request. Those up to Hang, and Forbidden, leave the server as it was.
const (
	NoFault Fault = iota
	// TooManyRequests: 429 with Retry-After; client-go's REST client waits and tries again by itself.
	TooManyRequests
	// InternalError: 500.
	InternalError
	// Unavailable: 503 without Retry-After.
	Unavailable
	// ServerTimeout: 504.
	ServerTimeout
	// Conflict: 409 to an update or a patch, as if somebody had written in between; no fault for other requests.
	Conflict
	// Expired: 410 to a list or watch; no fault for other requests.
	Expired
	// ConnectionReset: the connection breaks before the request takes effect.
	ConnectionReset
	// Hang: no answer until the caller gives up, or 504 after a minute; no effect.
	Hang
	// LostResponse: the request takes effect, and the connection breaks.
	LostResponse
	// LateResponse: the request takes effect, and no answer comes until the caller gives up, or the
	// connection breaks after a minute.
	LateResponse
	// Duplicate: the request takes effect twice, as when a proxy repeats it; the second answer counts.
	Duplicate
	// Forbidden: 403 with the words of a server that authorizes by roles; no effect.
	Forbidden

	faultCount
)

var faultNames = [faultCount]string{"none", "429", "500", "503", "504", "409", "410", "reset", "hang", "lost-response", "late-response", "duplicate", "403"}

// String is a short name for logs and tables.
func (f Fault) String() string {
	if f < 0 || f >= faultCount {
		return fmt.Sprintf("Fault(%d)", int(f))
	}
	return faultNames[f]
}

// Faults say how often what goes wrong for one actor. All chances are between 0 and 1.
type Faults struct {
	// Rates are the chances of each fault, per request; their sum should not exceed 1.
	Rates map[Fault]float64
	// Match limits Rates and latency to some requests; nil means all.
	Match func(*Request) bool
	// MinLatency and MaxLatency bound the time that a request and its answer take, each way.
	MinLatency, MaxLatency time.Duration
	// RetryAfter goes with TooManyRequests, in whole seconds; 0 means one second.
	RetryAfter time.Duration
	// WatchDrop, WatchGone and WatchStall are the chances per watch that it breaks, is told 410, or
	// delivers nothing for a while.
	WatchDrop, WatchGone, WatchStall float64
	// WatchWithin bounds when, after the start of the watch; 0 means ten minutes.
	WatchWithin time.Duration
	// StallFor bounds how long a stalled watch delivers nothing; 0 means one minute.
	StallFor time.Duration
}

type scripted struct {
	fault Fault
	times int
	match func(*Request) bool
}

// chosen is what happens to one request.
type chosen struct {
	Fault
	before, after, retryAfter time.Duration
	plan                      watchPlan
}

// watchPlan is what happens to one watch.
type watchPlan struct {
	dropAt, stallFrom, stallUntil time.Time
	gone                          bool
}

// SetFaults replaces the random faults of this actor. What happens to a request is drawn from a hash of
// the server's seed, the actor's name, what is asked for (verb, resource, namespace, name) and how many
// times this actor has asked for just that. It does not depend on what other goroutines do in between,
// so that a seed replays.
func (c *Client) SetFaults(f Faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = f
}

// Inject makes the next times requests that match (nil: any) meet the fault. Injected faults come before
// random ones, in the order of the calls.
func (c *Client) Inject(fault Fault, times int, match func(*Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, scripted{fault: fault, times: times, match: match})
}

// FaultCounts says how often each fault has happened to this actor.
func (c *Client) FaultCounts() map[Fault]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[Fault]int64, len(c.counts))
	for f, n := range c.counts {
		out[f] = n
	}
	return out
}

// choose decides what happens to r.
func (c *Client) choose(r *Request) chosen {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.faults
	out := chosen{retryAfter: max(f.RetryAfter, time.Second)}
	if r.Verb == "watch" {
		c.number(r)
	}
	if f.active() && (f.Match == nil || f.Match(r)) {
		c.number(r)
		out.Fault = f.pick(c.draw(r, "fault"))
		spread := float64(f.MaxLatency - f.MinLatency)
		out.before = f.MinLatency + time.Duration(c.draw(r, "before")*spread)
		out.after = f.MinLatency + time.Duration(c.draw(r, "after")*spread)
		if r.Verb == "watch" {
			out.plan = c.planWatch(r, f)
		}
	}
	for i := range c.queue {
		if q := &c.queue[i]; q.times > 0 && (q.match == nil || q.match(r)) {
			q.times--
			out.Fault = q.fault
			break
		}
	}
	if !out.applies(r.Verb) {
		out.Fault = NoFault
	}
	if out.Fault != NoFault {
		c.counts[out.Fault]++
	}
	return out
}

func (f *Faults) active() bool {
	return len(f.Rates) > 0 || f.MaxLatency > 0 || f.WatchDrop+f.WatchGone+f.WatchStall > 0
}

func (f *Faults) pick(x float64) Fault {
	for fault := NoFault + 1; fault < faultCount; fault++ {
		if x -= f.Rates[fault]; x < 0 {
			return fault
		}
	}
	return NoFault
}

func (c *Client) planWatch(r *Request, f Faults) watchPlan {
	within, stall := f.WatchWithin, f.StallFor
	if within == 0 {
		within = 10 * time.Minute
	}
	if stall == 0 {
		stall = time.Minute
	}
	p := watchPlan{}
	x := c.draw(r, "watch")
	if x < f.WatchDrop+f.WatchGone {
		p.dropAt = r.Time.Add(time.Duration(c.draw(r, "drop-at") * float64(within)))
		p.gone = x >= f.WatchDrop
	}
	if c.draw(r, "stall") < f.WatchStall {
		p.stallFrom = r.Time.Add(time.Duration(c.draw(r, "stall-at") * float64(within)))
		p.stallUntil = p.stallFrom.Add(time.Duration(c.draw(r, "stall-for") * float64(stall)))
	}
	return p
}

// number counts r among the requests of this actor for the same thing, once.
func (c *Client) number(r *Request) {
	if r.nth > 0 {
		return
	}
	r.stream = r.streamID()
	c.streams[r.stream]++
	r.nth = c.streams[r.stream]
}

// streamID names what is asked for.
func (r *Request) streamID() uint64 {
	return hash64(0, r.Verb, r.Resource.Group, r.Resource.Resource, r.Subresource, r.Namespace, r.Name,
		r.query.Get("labelSelector"), r.Path)
}

// draw gives a number in [0, 1) for one purpose of one request.
func (c *Client) draw(r *Request, purpose string) float64 {
	h := hash64(c.server.options.Seed^r.stream*0x9e3779b97f4a7c15, c.name, purpose)
	return float64(mix(h^mix(r.nth))>>11) / (1 << 53)
}

// hash64 is FNV-1a over the words, finished by mix: the same in every process.
func hash64(seed uint64, words ...string) uint64 {
	h := mix(seed) ^ 0xcbf29ce484222325
	for _, w := range words {
		for i := range len(w) {
			h = (h ^ uint64(w[i])) * 0x100000001b3
		}
		h = (h ^ 0xff) * 0x100000001b3
	}
	return mix(h)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// applies says whether a request of this verb can meet the fault.
func (f Fault) applies(verb string) bool {
	switch f {
	case Conflict:
		return verb == "update" || verb == "patch"
	case Expired:
		return verb == "list" || verb == "watch"
	}
	return true
}

// refuse answers a request that a fault keeps from taking effect.
func (c *Client) refuse(ctx context.Context, r *Request, f *chosen) (reply, error, bool) {
	switch f.Fault {
	case TooManyRequests:
		seconds := int(math.Ceil(f.retryAfter.Seconds()))
		return failure(apierrors.NewTooManyRequests("too many requests, please try again later", seconds)), nil, true
	case InternalError:
		return failure(apierrors.NewInternalError(fmt.Errorf("injected into request %d of %s", r.N, r.Actor))), nil, true
	case Unavailable:
		return failure(apierrors.NewServiceUnavailable("the server is currently unable to handle the request")), nil, true
	case ServerTimeout:
		return failure(serverTimeout()), nil, true
	case Conflict:
		return failure(apierrors.NewConflict(r.Resource.GroupResource(), r.Name, errModified)), nil, true
	case Expired:
		return failure(apierrors.NewResourceExpired("too old resource version")), nil, true
	case Forbidden:
		return failure(forbidden(r)), nil, true
	case ConnectionReset:
		return reply{}, errReset("write"), true
	case Hang:
		if err := sleep(ctx, requestTimeout); err != nil {
			return reply{}, err, true
		}
		return failure(serverTimeout()), nil, true
	}
	return reply{}, nil, false
}

func serverTimeout() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusGatewayTimeout,
		Reason: metav1.StatusReasonTimeout, Message: "the server was unable to complete the request in time", Details: &metav1.StatusDetails{}}}
}

// forbidden says who may not do what, as the server's authorizer does.
func forbidden(r *Request) error {
	verb, resource := r.Verb, r.Resource.Resource
	if verb == "apply" {
		verb = "patch"
	}
	if r.Subresource != "" {
		resource += "/" + r.Subresource
	}
	where := "at the cluster scope"
	if r.Namespace != "" {
		where = fmt.Sprintf("in the namespace %q", r.Namespace)
	}
	// The words are the API server's.
	text := fmt.Sprintf("User %q cannot %s resource %q in API group %q %s", r.Actor, verb, resource, r.Resource.Group, where)
	return apierrors.NewForbidden(schema.GroupResource{Group: r.Resource.Group, Resource: resource}, r.Name, errors.New(text))
}

// adopt gives the watch its fate.
func (w *watcher) adopt(p watchPlan) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.plan = p
	w.wake()
}
