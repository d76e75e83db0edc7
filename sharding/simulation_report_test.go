package sharding

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// simReport is what simulations have gone through.
type simReport struct {
	mu         sync.Mutex
	seeds      int
	simulated  time.Duration
	took       time.Duration
	faults     map[string]int
	violations int
	kinds      map[string]int // requests
	tame       []string       // seeds that had too little trouble
	moves, takeovers, refused, stale, requests,
	stateful, exports, imports,
	unsynchronised, unfenced int
}

func newReport() *simReport { return &simReport{faults: map[string]int{}, kinds: map[string]int{}} }

// take adds up what has happened in one world, whose processes may still be writing.
func (r *simReport) take(w *world) {
	counts := w.server.RequestCounts() // before the oracle's lock, which server and states take under their own
	if w.states != nil {
		w.states.mu.Lock()
		r.stateful, r.exports, r.imports = 1, w.states.exports, w.states.imports
		w.states.mu.Unlock()
	}
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	r.seeds, r.simulated, r.violations = 1, w.now(), len(w.oracle.broken)
	r.moves, r.takeovers, r.refused, r.stale = w.oracle.moves, w.oracle.takeovers, w.oracle.refused, w.oracle.stale
	troubles := 0
	for kind, n := range w.struck {
		r.faults[string(kind)] += n
		troubles += n
	}
	if r.violations == 0 && (troubles < minTroubles || len(w.struck) < minKinds) {
		r.tame = append(r.tame, fmt.Sprintf("%d: %d of %d kinds", w.seed, troubles, len(w.struck)))
	}
	for _, p := range w.processes {
		for fault, n := range p.client.FaultCounts() {
			r.faults["request: "+fault.String()] += int(n)
		}
	}
	for kind, n := range counts {
		r.requests += int(n)
		what := strings.TrimSpace(fmt.Sprintf("%s %s %s", kind.Verb, kind.Resource, kind.Subresource))
		who := "worker"
		if strings.HasPrefix(kind.Actor, "m-") {
			who = "manager"
		}
		r.kinds[fmt.Sprintf("%-8s %s: %d", who, what, kind.Code)] += int(n)
	}
	if !w.synchronous() {
		r.unsynchronised = 1
	}
	if !w.fenced {
		r.unfenced = 1
	}
}

func (r *simReport) add(o *simReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seeds += o.seeds
	r.simulated += o.simulated
	r.violations += o.violations
	r.tame = append(r.tame, o.tame...)
	r.moves += o.moves
	r.takeovers += o.takeovers
	r.refused += o.refused
	r.stale += o.stale
	r.requests += o.requests
	r.stateful += o.stateful
	r.exports += o.exports
	r.imports += o.imports
	r.unsynchronised += o.unsynchronised
	r.unfenced += o.unfenced
	for kind, n := range o.faults {
		r.faults[kind] += n
	}
	for kind, n := range o.kinds {
		r.kinds[kind] += n
	}
}

func (r *simReport) String() string {
	total := 0
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(r.faults)) {
		fmt.Fprintf(&b, "%9d %s\n", r.faults[kind], kind)
		total += r.faults[kind]
	}
	return fmt.Sprintf("%d seeds, %.0f simulated hours in %s (%.1f hours per second), %d faults of %d kinds, %d violations\n"+
		"%d requests, %d changes of owner, %d of them take-overs; writes of former owners: %d refused by the fence, %d accepted in the %d seeds without one; "+
		"%d seeds with clocks beyond the bound; %d with states, %d exported and %d imported\n%s",
		r.seeds, r.simulated.Hours(), r.took.Round(time.Second), r.simulated.Hours()/r.took.Seconds(), total, len(r.faults), r.violations,
		r.requests, r.moves, r.takeovers, r.refused, r.stale, r.unfenced, r.unsynchronised, r.stateful, r.exports, r.imports, &b)
}

// busiest lists the most frequent kinds of requests: what simulated time is spent on.
func (r *simReport) busiest() string {
	kinds := slices.SortedFunc(maps.Keys(r.kinds), func(a, b string) int { return r.kinds[b] - r.kinds[a] })
	var b strings.Builder
	for _, kind := range kinds[:min(len(kinds), 60)] {
		fmt.Fprintf(&b, "%9d %s\n", r.kinds[kind], kind)
	}
	return b.String()
}

// judge fails the test if there was too little trouble to prove anything.
func (r *simReport) judge(t *testing.T) {
	if r.stateful >= 3 && r.imports < r.stateful {
		t.Errorf("%d seeds with states, and only %d states were imported", r.stateful, r.imports)
	}
	if len(r.tame) > 0 {
		t.Errorf("%d seeds had less than %d troubles of %d kinds: %s", len(r.tame), minTroubles, minKinds, strings.Join(r.tame, "; "))
	}
}
