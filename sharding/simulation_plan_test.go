package sharding

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// trouble is a kind of thing that goes wrong in a simulation, or that people do.
type trouble string

const (
	simCrash           trouble = "crash"             // a worker is killed
	simCrashAtWrite    trouble = "crash-at-write"    // a worker is killed right before or right after a write of its own takes effect
	simPauseShort      trouble = "pause"             // a worker is stopped for less than a lease, and continued
	simPauseLong       trouble = "pause-long"        // the same, for longer
	simPauseInWork     trouble = "pause-in-work"     // the same, in the middle of reconciles, right before they write
	simCutLink         trouble = "partition"         // a worker's requests, or the answers to them, or both are lost
	simRestart         trouble = "restart"           // a worker stops in order and keeps its objects; its next process follows
	simRollOut         trouble = "rolling-restart"   // all workers do, one after the other
	simLeave           trouble = "leave"             // a worker hands its objects over and leaves for good
	simJoin            trouble = "join"              // a worker of a new name comes
	simTwin            trouble = "twin"              // a second process with the name of a shard; the first is then killed or stopped
	simManagerCrash    trouble = "manager-crash"     // the leading manager is killed, at a write
	simManagerPause    trouble = "manager-pause"     // the leading manager is stopped, and continued
	simManagerCut      trouble = "manager-partition" // the leading manager's connection is lost, in part or as a whole
	simOutage          trouble = "outage"            // the API server is down
	simBurst           trouble = "burst"             // many requests of one process meet one kind of fault
	simSlowNetwork     trouble = "slow-network"      // the requests of one process take long
	simWatchesDropped  trouble = "watches-closed"    // all watches of one process break
	simWatchesStalled  trouble = "watches-stalled"   // nothing comes by the watches of one process
	simWatchesLate     trouble = "watches-late"      // everything comes late by the watches of one process: its caches are stale
	simStaleLists      trouble = "stale-lists"       // lists that a cache may answer are answered from an old one
	simCompaction      trouble = "compaction"        // the server forgets its history: 410 for whoever wants to go on from there
	simLeaseDeleted    trouble = "lease-deleted"     // somebody deletes the Lease of a shard
	simInstanceDeleted trouble = "instance-deleted"  // somebody deletes a ShardInstance
	simEverybodySilent trouble = "mass-silence"      // the way between all workers and the server is interrupted
)

// weights say how often each kind is chosen.
var weights = []struct {
	trouble
	weight int
}{
	{simCrash, 3}, {simCrashAtWrite, 3}, {simPauseShort, 2}, {simPauseLong, 3}, {simPauseInWork, 4}, {simCutLink, 4}, {simRestart, 3}, {simRollOut, 1}, {simLeave, 2},
	{simJoin, 2}, {simTwin, 2}, {simManagerCrash, 3}, {simManagerPause, 3}, {simManagerCut, 2}, {simOutage, 2}, {simBurst, 6}, {simSlowNetwork, 2},
	{simWatchesDropped, 2}, {simWatchesStalled, 2}, {simWatchesLate, 2}, {simStaleLists, 2}, {simCompaction, 2}, {simLeaseDeleted, 2}, {simInstanceDeleted, 1},
	{simEverybodySilent, 1},
}

// bursts are the faults of requests that come in bursts.
var bursts = []memapi.Fault{
	memapi.TooManyRequests, memapi.InternalError, memapi.Unavailable, memapi.ServerTimeout, memapi.Conflict, memapi.Expired,
	memapi.ConnectionReset, memapi.Hang, memapi.LostResponse, memapi.LateResponse, memapi.Duplicate,
}

// step is one thing that happens in a simulation.
type step struct {
	at    time.Duration
	what  trouble
	who   int           // which of those that are there, modulo their number
	lasts time.Duration // until it is mended, or the next process comes
	n     int           // which write; which kind of link, or fault
	flag  bool          // after the write rather than before; kill rather than stop; come back or not
}

func (s step) String() string {
	text := fmt.Sprintf("%9s %-18s who=%d", s.at.Round(time.Millisecond), s.what, s.who)
	if s.lasts > 0 {
		text += fmt.Sprintf(" lasts=%s", s.lasts.Round(time.Millisecond))
	}
	return text + fmt.Sprintf(" n=%d flag=%t", s.n, s.flag)
}

// plan is all that a seed decides: it is a pure function of the seed. What follows from it depends on how goroutines interleave, too.
type plan struct {
	seed          uint64
	leaseFor      time.Duration
	electionFor   time.Duration // the lease of the managers' election
	workers, most int
	load          LoadFunc
	stateful      bool          // the workers know something of their roots, which goes along
	checkpoint    time.Duration // how often they write it down; 0 for never
	inline        int           // above how many bytes a state goes through Secrets
	roots         int
	fenced        bool // the API server has the fence
	noisy         bool // a few of all requests fail, all the time
	longWork      time.Duration
	clocks        []float64 // how fast the clocks of processes run, in the order in which they start
	skews         []time.Duration
	duration      time.Duration
	steps         []step
	growTo        int // a ring that grows from 1 and shrinks to 1 again
}

// planOf makes the plan of a seed, for at least duration. Most of that is trouble; a phase of calm follows.
func planOf(seed uint64, duration time.Duration) *plan {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	p := &plan{
		seed: seed, fenced: r.IntN(10) < 6, noisy: r.IntN(10) < 4,
		workers: 2 + r.IntN(4)/3, most: 4, roots: 4 + r.IntN(6),
		leaseFor: leaseOf(r.IntN(40)),
		longWork: time.Duration(1+r.IntN(20)) * time.Second,
	}
	if *simulationLease > 0 {
		p.leaseFor = *simulationLease
	}
	if p.electionFor = p.leaseFor; seed%8 == 3 {
		p.electionFor *= 2 // a leader may survive an outage in which every shard falls silent
	}
	if seed%8 > 0 {
		p.load = func() float64 { return math.NaN() } // not known: it is not written
	}
	if seed%3 == 1 {
		p.stateful, p.inline = true, []int{0, 48}[seed%2]
		p.checkpoint = []time.Duration{0, 5 * p.leaseFor}[seed/6%2]
	}
	p.duration = max(duration-p.startTime()-p.settleTime(), duration/2)
	p.planClocks(r)
	switch {
	case seed%500 == 250:
		p.growTo, p.workers, p.most = 50, 1, 50
	case seed%50 == 10:
		p.growTo, p.workers, p.most = 8, 1, 8
	}
	p.planSteps(r)
	return p
}

// leaseOf makes short leases rare: a seed's costs are its heartbeats.
func leaseOf(n int) time.Duration {
	switch {
	case n == 0:
		return 30 * time.Second
	case n == 1:
		return time.Minute
	case n < 6:
		return 2 * time.Minute
	}
	return 4 * time.Minute
}

// startTime is how long a ring has to begin.
func (p *plan) startTime() time.Duration { return p.leaseFor + 10*time.Second }

// settleTime is how long after the last trouble everything is well again: two leases of patience with mass silence, two for
// a lease that has to expire twice, and what client-go takes to connect again.
func (p *plan) settleTime() time.Duration {
	return 5*p.leaseFor + 2*(p.electionFor-p.leaseFor) + 3*time.Minute
}

// planClocks gives some seeds clocks that differ. With a difference in rate of less than a half, no two may act; with more, only the
// fence of the API server prevents harm.
func (p *plan) planClocks(r *rand.Rand) {
	rates := []float64{1}
	switch r.IntN(6) {
	case 0:
		rates = []float64{.8, 1, 1, 1.1}
	case 1:
		rates, p.fenced = []float64{.5, .75, 1, 1.5, 2}, true
	}
	for range 16 {
		p.clocks = append(p.clocks, rates[r.IntN(len(rates))])
		skew := time.Duration(0)
		if len(rates) > 1 {
			skew = time.Duration(r.Int64N(int64(2*time.Hour))) - time.Hour
		}
		p.skews = append(p.skews, skew)
	}
}

// synchronous says whether the clocks differ so little that a worker stops before others may begin.
func (p *plan) synchronous() bool { return slices.Max(p.clocks)/slices.Min(p.clocks) < 1.45 }

// slowestLease is how long a lease is by the slowest of the clocks.
func (p *plan) slowestLease() time.Duration {
	return time.Duration(float64(p.leaseFor) / slices.Min(p.clocks))
}

// equal says whether the clocks run alike, so that times can be asserted.
func (p *plan) equal() bool { return slices.Max(p.clocks) == slices.Min(p.clocks) }

// minSteps is how many steps a seed has at least.
const minSteps = minTroubles + 2

// planSteps spreads trouble over time: some of it one by one, with time to settle in between, some in flurries.
func (p *plan) planSteps(r *rand.Rand) {
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	at := time.Duration(0)
	if p.growTo > 0 {
		at = p.planGrowth()
	}
	for count := 0; count < minSteps || at < p.duration; count++ {
		gap := time.Duration(r.Int64N(int64(p.leaseFor))) / 3
		if r.IntN(4) == 0 {
			gap = p.leaseFor + time.Duration(r.Int64N(int64(3*p.leaseFor)))
		}
		if left := p.duration - at; count < minSteps { // leave time for the rest of the minimum
			gap = min(gap, max(0, left)/time.Duration(minSteps-count)*2)
		} else if left > 0 && r.IntN(3) == 0 {
			gap += left / 3
		}
		if at += gap; at >= p.duration && count >= minSteps {
			return
		}
		p.steps = append(p.steps, p.step(r, at, total))
	}
}

func (p *plan) step(r *rand.Rand, at time.Duration, total int) step {
	s := step{at: at, who: r.IntN(1000), n: 1 + r.IntN(12), flag: r.IntN(2) == 0}
	x := r.IntN(total)
	for _, w := range weights {
		if x -= w.weight; x < 0 {
			s.what = w.trouble
			break
		}
	}
	between := func(least, most float64) time.Duration {
		return time.Duration((least + r.Float64()*(most-least)) * float64(p.leaseFor))
	}
	switch s.what {
	case simPauseShort, simSlowNetwork, simWatchesStalled, simWatchesLate, simStaleLists:
		s.lasts = between(.05, .9)
	case simPauseLong, simPauseInWork, simManagerPause, simCutLink, simManagerCut, simEverybodySilent:
		s.lasts = between(.3, 3)
	case simOutage:
		s.lasts = between(.1, 5)
	case simBurst:
		s.lasts = between(.05, .7)
	case simCrash, simCrashAtWrite, simManagerCrash, simRestart, simLeave, simTwin:
		s.lasts = between(0, 2)
	case simRollOut:
		s.lasts = between(.1, .4)
	}
	return s
}

// planGrowth lets shards join until there are growTo, and leave again until there is one. It returns when that is over.
func (p *plan) planGrowth() time.Duration {
	at := 20 * time.Second
	for i := 1; i < p.growTo; i++ {
		p.steps = append(p.steps, step{at: at, what: simJoin})
		at += p.leaseFor / 20
	}
	at += p.leaseFor
	for i := 1; i < p.growTo; i++ {
		p.steps = append(p.steps, step{at: at, what: simLeave, who: i * 7})
		at += p.leaseFor / 10
	}
	return at + p.leaseFor
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: lease %s, election %s, %d workers, %d roots, fence %t, noise %t, clocks %v\n", p.seed, p.leaseFor, p.electionFor, p.workers, p.roots, p.fenced, p.noisy, p.clocks)
	for _, s := range p.steps {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// agenda is what is to happen, in order.
type agenda struct {
	entries []agendum
	count   int
}

type agendum struct {
	at    time.Duration
	order int
	do    func()
}

func (a *agenda) add(at time.Duration, do func()) {
	a.count++
	a.entries = append(a.entries, agendum{at, a.count, do})
	slices.SortFunc(a.entries, func(x, y agendum) int { return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.order, y.order)) })
}

func (a *agenda) next() (agendum, bool) {
	if len(a.entries) == 0 {
		return agendum{}, false
	}
	first := a.entries[0]
	a.entries = a.entries[1:]
	return first, true
}

// TestPlansFollowFromTheirSeeds: the same seed is the same trouble, and enough of it.
func TestPlansFollowFromTheirSeeds(t *testing.T) {
	for seed := range uint64(200) {
		p := planOf(seed, time.Hour)
		if p.String() != planOf(seed, time.Hour).String() {
			t.Errorf("seed %d makes two plans", seed)
		}
		if len(p.steps) < minSteps || p.startTime()+p.duration+p.settleTime() < time.Hour {
			t.Errorf("seed %d: %d steps in %s", seed, len(p.steps), p.duration)
		}
	}
}
