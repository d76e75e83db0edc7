package scaling

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// run is a ring whose decisions are carried out at once, in rounds of 5 s.
type run struct {
	t       testing.TB
	scaler  *Scaler
	memory  Memory
	in      Input
	last    Decision
	changes []string // "reason from→to"
}

const round = 5 * time.Second

func newRun(t testing.TB, o Options, shards int) *run {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &run{t: t, scaler: s, in: Input{Now: time.Unix(1_000_000_000, 0), Shards: shards}}
}

// even are loads of shards that share a demand evenly.
func even(shards int, demand float64, at time.Time) []ShardLoad {
	loads := make([]ShardLoad, shards)
	for i := range loads {
		loads[i] = ShardLoad{ID: fmt.Sprintf("s%d", i), Load: demand / float64(shards), At: at}
	}
	return loads
}

// step decides once and carries it out.
func (r *run) step(demand float64) Decision {
	r.t.Helper()
	r.in.Now = r.in.Now.Add(round)
	r.in.Loads = even(r.in.Shards, demand, r.in.Now)
	return r.decide()
}

func (r *run) decide() Decision {
	r.t.Helper()
	var err error
	r.last, r.memory, err = r.scaler.Decide(r.memory, r.in)
	if err != nil {
		r.t.Fatal(err)
	}
	if o := r.scaler.Options(); r.last.Desired < o.Min || r.last.Desired > o.Max || r.last.Text == "" || r.last.Reason == "" {
		r.t.Fatalf("%+v with options %+v", r.last, o)
	}
	if r.last.Acts() {
		r.changes = append(r.changes, fmt.Sprintf("%s %d→%d", r.last.Reason, r.in.Shards, r.last.Desired))
		r.in.Shards = r.last.Desired
	}
	return r.last
}

// for_ goes on for a time with a constant demand.
func (r *run) for_(d time.Duration, demand float64) {
	r.t.Helper()
	for range int(d / round) {
		r.step(demand)
	}
}

func (r *run) expect(want ...string) {
	r.t.Helper()
	if strings.Join(r.changes, ", ") != strings.Join(want, ", ") {
		r.t.Errorf("the changes are %v, want %v; at last %+v", r.changes, want, r.last)
	}
	r.changes = nil
}

// TestDecisions is a table of demands over time and of the changes that follow.
func TestDecisions(t *testing.T) {
	type phase struct {
		d      time.Duration
		demand float64
	}
	for _, c := range []struct {
		name   string
		o      Options
		shards int
		phases []phase
		want   string
		reason Reason
	}{
		{"nothing to do", Options{}, 4, []phase{{time.Hour, 2}}, "", WithinThresholds},
		{"within the tolerance above", Options{}, 4, []phase{{time.Hour, 3.5}}, "", WithinThresholds},
		{"within the tolerance below", Options{}, 4, []phase{{time.Hour, 1.1}}, "", WithinThresholds},
		{"up, not before 30 s", Options{}, 4, []phase{{30 * time.Second, 3.9}}, "", StabilizingUp},
		{"up", Options{}, 4, []phase{{time.Hour, 3.9}}, "LoadHigh 4→5", WithinThresholds},
		{"up by more", Options{}, 4, []phase{{time.Hour, 6}}, "LoadHigh 4→8", WithinThresholds},
		{"at most double", Options{}, 1, []phase{{time.Hour, 3}}, "LoadHigh 1→2, LoadHigh 2→4", WithinThresholds},
		{"at most four in 30 s", Options{Max: 100}, 8, []phase{{45 * time.Second, 20}}, "LoadHigh 8→12", RateLimited},
		{"at most one in 30 s", Options{MaxStepUp: 1}, 2, []phase{{110 * time.Second, 5}}, "LoadHigh 2→3, LoadHigh 3→4, LoadHigh 4→5", RateLimited},
		{"not above the maximum", Options{Max: 3}, 2, []phase{{time.Hour, 9}}, "LoadHigh 2→3", AtMax},
		{"a peak of 25 s", Options{}, 4, []phase{{time.Minute, 2}, {25 * time.Second, 6}, {time.Hour, 2}}, "", WithinThresholds},
		{"down, not before 5 min", Options{}, 4, []phase{{5 * time.Minute, 0.9}}, "", StabilizingDown},
		{"down", Options{}, 4, []phase{{time.Hour, 0.9}}, "LoadLow 4→3", WithinThresholds},
		{"down by steps", Options{}, 9, []phase{{7*time.Minute + 20*time.Second, 0.5}}, "LoadLow 9→8, LoadLow 8→7, LoadLow 7→6", RateLimited},
		{"down by larger steps", Options{MaxStepDown: 4}, 9, []phase{{time.Hour, 0.5}}, "LoadLow 9→5, LoadLow 5→1", WithinThresholds},
		{"not below the minimum", Options{Min: 3}, 4, []phase{{time.Hour, 0.01}}, "LoadLow 4→3", AtMin},
		{"a dip of 4 min", Options{}, 4, []phase{{6 * time.Minute, 2}, {4 * time.Minute, 0.4}, {time.Hour, 2}}, "", WithinThresholds},
		{"up and not down within the window", Options{}, 4, []phase{{time.Minute, 6}, {4 * time.Minute, 1}}, "LoadHigh 4→8", StabilizingDown},
		{"no consolidation", Options{}, 6, []phase{{time.Hour, 2}}, "", WithinThresholds},
		{"consolidation", Options{ConsolidateBelow: 0.7}, 6, []phase{{time.Hour, 2}}, "Consolidating 6→5, Consolidating 5→4, Consolidating 4→3", WithinThresholds},
		{"below the minimum", Options{Min: 3}, 1, []phase{{round, 0}}, "BelowMin 1→3", BelowMin},
		{"none yet", Options{}, 0, []phase{{round, 0}}, "BelowMin 0→1", BelowMin},
		{"above the maximum", Options{Max: 3}, 9, []phase{{round, 8}}, "AboveMax 9→3", AboveMax},
		{"no load at all", Options{Min: 2}, 2, []phase{{time.Hour, 0}}, "", AtMin},
		{"minimum is maximum", Options{Min: 2, Max: 2}, 2, []phase{{time.Hour, 5}, {time.Hour, 0}}, "", AtMin},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRun(t, c.o, c.shards)
			for _, p := range c.phases {
				r.for_(p.d, p.demand)
			}
			if got := strings.Join(r.changes, ", "); got != c.want || r.last.Reason != c.reason {
				t.Errorf("the changes are %q, want %q; at last %s (%s), want %s", got, c.want, r.last.Reason, r.last.Text, c.reason)
			}
		})
	}
}

// TestBlocks checks that nothing happens in circumstances that forbid it, except what the limits ask for.
func TestBlocks(t *testing.T) {
	for want, b := range map[Reason]Blocks{
		PlanInFlight: {PlanInFlight: true}, RollingOut: {RollingOut: true}, Frozen: {PlanInFlight: true, Frozen: true},
	} {
		for _, demand := range []float64{8, 0.1} {
			r := newRun(t, Options{}, 4)
			r.in.Blocked = b
			r.for_(time.Hour, demand)
			r.expect()
			if r.last.Reason != want || r.last.Recommended == 4 {
				t.Errorf("demand %v: %+v, want %s", demand, r.last, want)
			}
			r.in.Blocked = Blocks{} // it was needed all the time, so it is done at once
			if r.step(demand); len(r.changes) != 1 {
				t.Errorf("demand %v, no more blocked: %+v", demand, r.last)
			}
			r.in.Blocked, r.in.Shards = b, 40
			if r.step(demand); r.in.Shards != 10 {
				t.Errorf("demand %v, blocked, above the maximum: %+v", demand, r.last)
			}
		}
	}
}

// TestExternal checks that a number from outside decides alone, within the limits.
func TestExternal(t *testing.T) {
	for wanted, want := range map[int]int{1: 2, 2: 2, 7: 7, 400: 10} {
		r := newRun(t, Options{Min: 2}, 4)
		r.in.Wanted = wanted
		if r.step(0.1); r.in.Shards != want || r.last.Reason != External {
			t.Errorf("%d wanted: %+v", wanted, r.last)
		}
		r.for_(time.Hour, 50)
		if r.in.Shards != want || r.last.Recommended != 10 {
			t.Errorf("%d wanted and a high load: %+v", wanted, r.last)
		}
	}
}

// TestUnknown checks that what is not known decides nothing.
func TestUnknown(t *testing.T) {
	stale := func(l *ShardLoad) { l.At = l.At.Add(-2 * time.Minute) }
	future := func(l *ShardLoad) { l.At = l.At.Add(2 * time.Minute) }
	never := func(l *ShardLoad) { l.At = time.Time{} }
	for name, spoil := range map[string]func(*ShardLoad){
		"stale": stale, "of the future": future, "never": never,
		"NaN": func(l *ShardLoad) { l.Load = math.NaN() }, "infinite": func(l *ShardLoad) { l.Load = math.Inf(1) }, "negative": func(l *ShardLoad) { l.Load = -1 },
	} {
		for _, c := range []struct {
			demand float64
			want   string
			reason Reason
		}{
			{0.1, "", LoadUnknown}, {2, "", LoadUnknown},
			{3.7, "", LoadUnknown},           // without the unknown one, 2.8 of 4
			{6, "LoadHigh 4→6", LoadUnknown}, // without it, 4.5 of 4: enough for a decision
		} {
			r := newRun(t, Options{}, 4)
			for range 100 {
				r.in.Now = r.in.Now.Add(round)
				r.in.Loads = even(4, c.demand, r.in.Now)
				spoil(&r.in.Loads[2])
				r.decide()
			}
			if got := strings.Join(r.changes, ", "); got != c.want || r.last.Reason != c.reason || r.last.LoadKnown {
				t.Errorf("%s, demand %v: %v, %+v", name, c.demand, got, r.last)
			}
		}
	}
	// Nobody reports.
	r := newRun(t, Options{}, 4)
	for range 100 {
		r.in.Now = r.in.Now.Add(round)
		r.decide()
	}
	if r.expect(); r.last.Reason != LoadUnknown || !strings.Contains(r.last.Text, "all shards") {
		t.Errorf("nobody reports: %+v", r.last)
	}
}

// TestStarting checks that shards that are starting count as idle, so that no more are added for the load that they will take.
func TestStarting(t *testing.T) {
	r := newRun(t, Options{}, 4)
	r.for_(time.Minute, 6)
	r.expect("LoadHigh 4→8")
	for range 100 { // the new ones do not come up, the old ones stay overloaded
		r.in.Now = r.in.Now.Add(round)
		r.in.Loads = even(8, 0, r.in.Now)
		for i := range r.in.Loads {
			if r.in.Loads[i].Load = 1.5; i >= 4 {
				r.in.Loads[i] = ShardLoad{ID: "new", Starting: true}
			}
		}
		r.decide()
	}
	if r.expect(); math.Abs(r.last.Demand-6) > 1e-9 {
		t.Errorf("while four shards start: %+v", r.last)
	}
}

// TestQueues is about shards that are full: how much they would have to do shows in their queues.
func TestQueues(t *testing.T) {
	// Twice as much arrives as four full shards can do. Without the queues, one would be added.
	r := newRun(t, Options{Max: 20}, 4)
	queued := 0.0
	full := func(arrives float64) {
		r.in.Now = r.in.Now.Add(round)
		does := min(100*float64(r.in.Shards), arrives+queued/5)
		queued = max(0, queued+5*(arrives-does))
		r.in.Loads = even(r.in.Shards, does/100, r.in.Now)
		for i := range r.in.Loads {
			r.in.Loads[i].Queued, r.in.Loads[i].Done = queued/float64(r.in.Shards), does/float64(r.in.Shards)
		}
		r.decide()
	}
	for range 60 {
		full(800)
	}
	most := r.in.Shards
	for range 200 { // the backlog is worked off by shards that are full, and no more are added
		full(800)
		most = max(most, r.in.Shards)
	}
	if most < 10 || most > 11 || queued > 4000 {
		t.Errorf("800 arrive, a shard does 100: %d shards, %v wait, %v", most, queued, r.changes)
	}
	// A queue above its limit asks for one shard more, as long as it does not get shorter.
	r = newRun(t, Options{QueueLimit: 50}, 4)
	queue := func(waiting float64) {
		r.in.Now = r.in.Now.Add(round)
		r.in.Loads = even(r.in.Shards, 2, r.in.Now)
		r.in.Loads[0].Queued = waiting
		r.decide()
	}
	for range 100 {
		queue(210)
	}
	r.expect() // within the tolerance of 4 × 50
	for i := range 12 {
		queue(300 + float64(i))
	}
	r.expect("QueueLong 4→5")
	for range 20 {
		queue(100)
	}
	for i := range 50 { // it has jumped, and gets shorter
		queue(800 - 10*float64(i))
	}
	r.expect()
}

// TestMetrics is the table of what metrics ask for.
func TestMetrics(t *testing.T) {
	for _, c := range []struct {
		name   string
		load   float64
		metric Metric
		want   string
		reason Reason
	}{
		{"near its target", 2, Metric{Value: 105, Target: 100}, "", WithinThresholds},
		{"above, per shard", 2, Metric{Value: 200, Target: 100}, "MetricHigh 4→8", MetricHigh},
		{"above, in total", 2, Metric{Value: 580, Target: 100, Total: true}, "MetricHigh 4→6", WithinThresholds},
		{"below, but the load is not", 2, Metric{Value: 1, Target: 100}, "", WithinThresholds},
		{"below as well", 0.4, Metric{Value: 150, Target: 100, Total: true}, "LoadLow 4→3, LoadLow 3→2", WithinThresholds},
		{"near its target, and a low load", 0.4, Metric{Value: 100, Target: 100}, "", WithinThresholds},
		{"NaN", 2, Metric{Value: math.NaN(), Target: 100}, "", MetricUnknown},
		{"infinite", 2, Metric{Value: math.Inf(1), Target: 100}, "", MetricUnknown},
		{"negative", 0.1, Metric{Value: -5, Target: 100}, "", MetricUnknown},
		{"very high", 2, Metric{Value: 1 << 20, Target: 1, Total: true}, "MetricHigh 4→8, MetricHigh 8→10", AtMax},
		{"enormous", 2, Metric{Value: 1<<20 + 1, Target: 1}, "", MetricUnknown},
		{"beyond all measure", 2, Metric{Value: math.MaxFloat64, Target: 1e-300}, "", MetricUnknown},
		{"unknown, and a high load", 6, Metric{Value: math.NaN(), Target: 1}, "LoadHigh 4→8", MetricUnknown},
	} {
		r := newRun(t, Options{}, 4)
		for range 130 {
			r.in.Now = r.in.Now.Add(round)
			r.in.Loads = even(r.in.Shards, c.load, r.in.Now)
			c.metric.Name, c.metric.At = "waiting", r.in.Now
			r.in.Metrics = []Metric{c.metric}
			r.decide()
			if c.name == "above, per shard" && len(r.changes) > 0 {
				break
			}
		}
		if got := strings.Join(r.changes, ", "); got != c.want || r.last.Reason != c.reason {
			t.Errorf("%s: %q, %s (%s); want %q, %s", c.name, got, r.last.Reason, r.last.Text, c.want, c.reason)
		}
	}
	r := newRun(t, Options{}, 4)
	r.in.Metrics = []Metric{{Name: "old", Value: 500, Target: 1, At: r.in.Now}}
	r.for_(5*time.Minute, 2) // the metric is not renewed
	if r.last.Reason != MetricUnknown || !strings.Contains(r.last.Text, "old") || r.in.Shards > 10 {
		t.Errorf("a stale metric: %+v", r.last)
	}
}

// TestIndivisible checks that no shards are added for one object that fills a shard alone.
func TestIndivisible(t *testing.T) {
	for _, c := range []struct {
		shards          int
		demand, largest float64
		want            string
		reason          Reason
	}{
		{1, 1, 1, "", Indivisible},
		{1, 1.2, 1, "LoadHigh 1→2", WithinThresholds},
		{2, 1.79, 1, "", Indivisible}, {2, 1.87, 1, "", Indivisible}, {2, 1.89, 1, "LoadHigh 2→3", WithinThresholds},
		{2, 2.5, 1, "LoadHigh 2→3", WithinThresholds}, // 4 by the load alone
		{2, 2.5, 0.5, "LoadHigh 2→4", WithinThresholds},
		{2, 2.5, math.NaN(), "LoadHigh 2→4", WithinThresholds},
		{2, 30, 29.5, "", Indivisible},
	} {
		r := newRun(t, Options{}, c.shards)
		r.in.LargestLoad = c.largest
		r.for_(10*time.Minute, c.demand)
		if got := strings.Join(r.changes, ", "); got != c.want || r.last.Reason != c.reason {
			t.Errorf("%+v: %q, %s (%s)", c, got, r.last.Reason, r.last.Text)
		}
	}
}

// TestIndivisibleQueue has an object that cannot keep up, so that its shard's load grows and grows: the others get the shards that they need.
func TestIndivisibleQueue(t *testing.T) {
	r := newRun(t, Options{}, 6)
	for i := range 20 {
		r.in.Now = r.in.Now.Add(round)
		r.in.Loads = even(r.in.Shards, 5.7, r.in.Now)
		for j := range r.in.Loads {
			r.in.Loads[j].Done = 50
		}
		r.in.Loads[0].Load, r.in.Loads[0].Queued = 1+float64(i), 100*float64(i)
		r.in.LargestLoad = r.in.Loads[0].Load
		r.decide()
		if len(r.changes) > 0 {
			break
		}
	}
	r.expect("LoadHigh 6→7")
}

// TestGaps checks that the windows begin anew when nobody has decided for a while, and that loads which nobody saw do not count.
func TestGaps(t *testing.T) {
	r := newRun(t, Options{}, 4)
	r.for_(30*time.Second, 6)
	r.in.Now = r.in.Now.Add(10 * time.Minute)
	r.for_(30*time.Second, 6)
	r.expect()
	r.for_(10*time.Second, 6)
	r.expect("LoadHigh 4→8")
}

// TestPure checks that the arguments stay as they are, and that the same arguments give the same decision.
func TestPure(t *testing.T) {
	r := newRun(t, Options{Horizon: time.Minute, Models: []Model{Trend{}, Seasonal{Period: time.Hour}}}, 4)
	r.for_(3*time.Hour, 3)
	before := r.memory
	copied := fmt.Sprintf("%+v", before)
	r.in.Now = r.in.Now.Add(round)
	r.in.Loads = even(4, 3.7, r.in.Now)
	first, m1, _ := r.scaler.Decide(before, r.in)
	for range 5 { // other futures of the same past
		other := r.in
		other.Loads = even(4, 9, r.in.Now)
		_, _, _ = r.scaler.Decide(before, other)
	}
	second, m2, _ := r.scaler.Decide(before, r.in)
	if !reflect.DeepEqual(first, second) || !reflect.DeepEqual(m1, m2) || fmt.Sprintf("%+v", before) != copied {
		t.Errorf("%+v and %+v", first, second)
	}
}

// TestBadOptions checks that whatever is wrong is refused with the name of the field.
func TestBadOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Min: -1}, "Min"}, {Options{Min: 5, Max: 4}, "Max"}, {Options{Max: 1 << 30}, "Max"},
		{Options{UpThreshold: 1.1}, "UpThreshold"}, {Options{UpThreshold: math.NaN()}, "UpThreshold"},
		{Options{DownThreshold: -1}, "DownThreshold"}, {Options{DownThreshold: 0.8}, "DownThreshold"}, {Options{DownThreshold: math.NaN()}, "DownThreshold"},
		{Options{Min: 1, UpThreshold: 0.8, DownThreshold: 0.4}, "must be below 0.4"}, {Options{Min: 2, UpThreshold: 0.8, DownThreshold: 0.6}, "must be below 0.533"},
		{Options{Tolerance: 1.1}, "Tolerance"}, {Options{Tolerance: math.NaN()}, "Tolerance"},
		{Options{Sustained: -1}, "Sustained"}, {Options{Cooldown: 25 * time.Hour}, "Cooldown"}, {Options{Horizon: -1}, "Horizon"},
		{Options{MaxStepUp: -1}, "MaxStepUp"}, {Options{MaxStepDown: -1}, "MaxStepDown"},
		{Options{QueueLimit: -1}, "QueueLimit"}, {Options{QueueLimit: math.Inf(1)}, "QueueLimit"},
		{Options{ConsolidateBelow: 0.2}, "0.3 and 0.8"}, {Options{ConsolidateBelow: 0.81}, "0.3 and 0.8"}, {Options{ConsolidateBelow: math.NaN()}, "ConsolidateBelow"},
		{Options{Models: []Model{nil}}, "Models[0]"}, {Options{Models: []Model{Trend{}, Trend{}}}, "Models[1]"},
	} {
		if _, err := New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want %s", c.o, err, c.want)
		}
	}
	for _, o := range []Options{{}, {Tolerance: -1}, {Min: 12}, {Min: 3, UpThreshold: 0.8, DownThreshold: 0.59}, {ConsolidateBelow: 0.8}} {
		if _, err := New(o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestBadInput checks that whatever is wrong is refused with the name of the field, holds, and changes nothing.
func TestBadInput(t *testing.T) {
	r := newRun(t, Options{}, 4)
	r.for_(time.Minute, 6)
	for _, c := range []struct {
		change func(*Input)
		want   string
	}{
		{func(in *Input) { in.Now = time.Time{} }, "Now"}, {func(in *Input) { in.Now = in.Now.Add(-time.Second) }, "Now"},
		{func(in *Input) { in.Shards = -1 }, "Shards"}, {func(in *Input) { in.Wanted = -1 }, "Wanted"},
		{func(in *Input) { in.Metrics = []Metric{{Name: "m"}} }, "Metrics[0].Target (m)"},
		{func(in *Input) { in.Metrics = []Metric{{Name: "m", Target: math.NaN()}} }, "Metrics[0].Target (m)"},
		{func(in *Input) { in.Loads = []ShardLoad{{ID: "s", Weight: math.Inf(1)}} }, "Loads[0].Weight (s)"},
	} {
		in := r.in
		c.change(&in)
		d, m, err := r.scaler.Decide(r.memory, in)
		if err == nil || !strings.Contains(err.Error(), c.want) || d.Reason != Invalid || !reflect.DeepEqual(m, r.memory) || in.Shards > 0 && d.Desired != in.Shards {
			t.Errorf("%s: %+v, %v", c.want, d, err)
		}
	}
}

// TestConstantDemandSettles takes options and a constant demand at random: the number goes one way only, and then stays. So whatever was removed
// did not have to be added again, nor the other way round.
func TestConstantDemandSettles(t *testing.T) {
	rng, settled := rand.New(rand.NewPCG(6, 1)), 0
	for settled < 60 {
		o := Options{
			Min: 1 + rng.IntN(5), Max: 6 + rng.IntN(40), UpThreshold: 0.3 + 0.7*rng.Float64(), DownThreshold: 0.1 + 0.6*rng.Float64(),
			Tolerance: 0.3 * rng.Float64(), MaxStepUp: 1 + rng.IntN(30), MaxStepDown: 1 + rng.IntN(30), Horizon: time.Minute,
		}
		if rng.IntN(2) == 0 {
			o.ConsolidateBelow = o.UpThreshold * rng.Float64()
		}
		if _, err := New(o); err != nil {
			continue
		}
		settled++
		demand := 30 * rng.Float64() * rng.Float64()
		r := newRun(t, o, o.Min+rng.IntN(o.Max-o.Min+1))
		counts := []int{r.in.Shards}
		for range int(75 * time.Minute / round) {
			if r.step(demand); r.in.Shards != counts[len(counts)-1] {
				counts = append(counts, r.in.Shards)
			}
		}
		up := slices.IsSorted(counts)
		slices.Reverse(counts)
		if !up && !slices.IsSorted(counts) {
			t.Fatalf("%+v, demand %v: %v", o, demand, r.changes)
		}
		if load := demand / float64(r.in.Shards); load > o.UpThreshold*1.301 && r.in.Shards < o.Max {
			t.Fatalf("%+v, demand %v: ends with %d shards: %+v", o, demand, r.in.Shards, r.last)
		}
		r.changes = nil
		if r.for_(20*time.Minute, demand); len(r.changes) > 0 {
			t.Fatalf("%+v, demand %v: still changes: %v", o, demand, r.changes)
		}
	}
}

// FuzzScaler feeds loads at random, some of which are no numbers, and checks what always holds: the number stays within the limits; no step is
// larger than allowed; nothing moves while it is blocked or unknown; after shards have been removed, the same demand does not add any.
func FuzzScaler(f *testing.F) {
	f.Add(uint64(1), uint8(2), uint8(9), uint8(3), 0.8, 0.3, 0.0)
	f.Add(uint64(2), uint8(1), uint8(40), uint8(0), 0.5, 0.2, 0.4)
	f.Add(uint64(3), uint8(0), uint8(0), uint8(255), 0.9, 0.44, 0.0)
	f.Fuzz(func(t *testing.T, seed uint64, least, most, steps uint8, up, down, consolidate float64) {
		s, err := New(Options{Min: int(least), Max: int(most), UpThreshold: up, DownThreshold: down, ConsolidateBelow: consolidate,
			MaxStepUp: int(steps % 16), MaxStepDown: int(steps / 16), QueueLimit: 10, Horizon: time.Minute})
		if err != nil {
			return
		}
		o, rng := s.Options(), rand.New(rand.NewPCG(seed, 4))
		r := &run{t: t, scaler: s, in: Input{Now: time.Unix(1e9, 0), Shards: rng.IntN(50)}}
		demand := 1.0
		for range 200 {
			before := r.in.Shards
			demand *= 0.7 + 0.65*rng.Float64()
			r.in.Now = r.in.Now.Add(time.Duration(rng.IntN(40)) * time.Second)
			r.in.Loads = even(before, demand, r.in.Now)
			spoilt := before > 0 && rng.IntN(5) == 0
			if spoilt {
				r.in.Loads[0].Load = []float64{math.NaN(), math.Inf(1), -1}[rng.IntN(3)]
			}
			r.in.Blocked = Blocks{PlanInFlight: rng.IntN(4) == 0}
			d := r.decide()
			inside := before >= o.Min && before <= o.Max
			switch change := d.Desired - before; {
			case inside && change != 0 && r.in.Blocked.PlanInFlight:
				t.Fatalf("blocked, and %+v", d)
			case inside && (change > o.MaxStepUp || change < -o.MaxStepDown || change > max(1, before)):
				t.Fatalf("too large a step: %+v with %+v", d, o)
			case inside && change < 0 && spoilt:
				t.Fatalf("a load is not known, and %+v", d)
			case inside && change < 0 && demand/float64(d.Desired) > o.UpThreshold:
				t.Fatalf("demand %v: %+v overloads those that stay", demand, d)
			}
		}
	})
}
