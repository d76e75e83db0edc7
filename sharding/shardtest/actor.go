package shardtest

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// Fault is what goes wrong with one request.
type Fault string

// The faults. The last three are those after which the caller does not know whether its write has taken effect.
const (
	TooManyRequests Fault = "429" // with Retry-After: client-go waits and tries again by itself
	InternalError   Fault = "500"
	Unavailable     Fault = "503"
	Conflict        Fault = "409" // of an update or patch, as if somebody had written in between; other requests do not meet it
	Expired         Fault = "410" // of a list or watch; other requests do not meet it
	Forbidden       Fault = "403" // as if a role did not allow it
	Reset           Fault = "reset"
	Hang            Fault = "hang"          // no effect, and no answer until the caller gives up, or 504 after a minute
	LostResponse    Fault = "lost-response" // it takes effect, and the connection breaks
	Duplicate       Fault = "duplicate"     // it takes effect twice, as when a proxy repeats it
)

var faults = map[Fault]memapi.Fault{
	TooManyRequests: memapi.TooManyRequests, InternalError: memapi.InternalError, Unavailable: memapi.Unavailable,
	Conflict: memapi.Conflict, Expired: memapi.Expired, Forbidden: memapi.Forbidden, Reset: memapi.ConnectionReset, Hang: memapi.Hang,
	LostResponse: memapi.LostResponse, Duplicate: memapi.Duplicate,
}

func (f Fault) fault() (memapi.Fault, error) {
	if fault, known := faults[f]; known {
		return fault, nil
	}
	return memapi.NoFault, fmt.Errorf("there is no fault %q: use the constants of package shardtest", string(f))
}

// Request is what an actor asks for.
type Request struct {
	// Verb is get, list, watch, create, update, patch, apply, delete or deletecollection.
	Verb string
	// Resource, Subresource, Namespace and Name say what of; they are empty where they do not apply.
	Resource        schema.GroupResource
	Subresource     string
	Namespace, Name string
}

func matching(match func(Request) bool) func(*memapi.Request) bool {
	if match == nil {
		return nil
	}
	return func(r *memapi.Request) bool {
		return match(Request{r.Verb, r.Resource.GroupResource(), r.Subresource, r.Namespace, r.Name})
	}
}

// Faults are what goes wrong with an actor's requests at random.
type Faults struct {
	// Rates are the chances of faults, per request, from 0 to 1; their sum must not exceed 1.
	Rates map[Fault]float64
	// MinLatency and MaxLatency bound how long a request and its answer take, each way.
	MinLatency, MaxLatency time.Duration
	// WatchDrops is the chance that a watch breaks within ten minutes from its start.
	WatchDrops float64
	// Match limits all these to some requests; nil means all. It is called on the goroutines of requests.
	Match func(Request) bool
}

// Actor is a process, as the API server sees it: whoever uses one Config. Its methods may be called from any goroutine.
type Actor struct{ client *memapi.Client }

// Fail makes the next times requests that match (nil: any) meet the fault: math.MaxInt for good. It returns an error for a fault that
// does not exist.
func (a *Actor) Fail(fault Fault, times int, match func(Request) bool) error {
	f, err := fault.fault()
	if err == nil {
		a.client.Inject(f, times, matching(match))
	}
	return err
}

// SetFaults replaces what goes wrong at random; the zero value ends it. What a request meets depends on the server's seed, the actor, what is
// asked for, and how often that was before; not on what other goroutines do in between.
func (a *Actor) SetFaults(f Faults) error {
	rates, sum := map[memapi.Fault]float64{}, 0.0
	for fault, rate := range f.Rates {
		known, err := fault.fault()
		if err != nil {
			return fmt.Errorf("faults: Rates: %w", err)
		}
		if rate < 0 || rate > 1 {
			return fmt.Errorf("faults: Rates[%s] is %g, must be from 0 to 1", fault, rate)
		}
		rates[known] = rate
		sum += rate
	}
	switch {
	case sum > 1:
		return fmt.Errorf("faults: the sum of Rates is %g, must not exceed 1", sum)
	case f.MinLatency < 0 || f.MaxLatency < f.MinLatency:
		return fmt.Errorf("faults: MinLatency is %s and MaxLatency %s, want 0 <= MinLatency <= MaxLatency", f.MinLatency, f.MaxLatency)
	case f.WatchDrops < 0 || f.WatchDrops > 1:
		return fmt.Errorf("faults: WatchDrops is %g, must be from 0 to 1", f.WatchDrops)
	}
	a.client.SetFaults(memapi.Faults{
		Rates: rates, MinLatency: f.MinLatency, MaxLatency: f.MaxLatency, WatchDrop: f.WatchDrops, Match: matching(f.Match),
	})
	return nil
}

// Cut separates the actor from the server, both ways: requests wait, and time out after 30 s; watches break after 45 s. A worker
// that is cut off fences itself when two thirds of the ring's healthCheckInterval have passed since its last renewal.
func (a *Actor) Cut() { a.client.SetLink(memapi.Partitioned) }

// Mend ends what Cut began. What still waits arrives late.
func (a *Actor) Mend() { a.client.SetLink(memapi.Connected) }

// Freeze stops the process, as SIGSTOP does, as far as the server can tell: what it was about to send is sent after Thaw, whatever has
// happened in between. What goes on inside the process is not stopped.
func (a *Actor) Freeze() { a.client.Freeze() }

// Thaw continues the process.
func (a *Actor) Thaw() { a.client.Thaw() }

// Crash ends the process, as SIGKILL does: nothing that it does from now on has an effect. Its next process needs another name.
func (a *Actor) Crash() { a.client.Crash() }

// CrashAtWrite crashes the process at its nth write from now on, counted from 1: after it has taken effect, before the answer is there.
func (a *Actor) CrashAtWrite(n int) { a.client.CrashAtWrite(n, true, nil) }

// DropWatches breaks all open watches of the actor.
func (a *Actor) DropWatches() { a.client.DropWatches() }

// DelayWatches makes every event reach the actor that much later: its caches are that old. It does not concern reads.
func (a *Actor) DelayWatches(d time.Duration) { a.client.DelayWatches(d) }
