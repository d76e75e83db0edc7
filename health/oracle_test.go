package health

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// oracle knows everything that ever happened to one shard, and answers each
// question by going through all of it, straight from the words of the promise.
// One shard alone is never a mass silence.
type oracle struct {
	timing       Timing
	self         string
	reads        []time.Time
	observations []seenAt
	gaps         []time.Time
	evaluations  []time.Time
}

type seenAt struct {
	Observation
	at time.Time
}

// connected returns since when reads had been succeeding at a time; zero: they had not.
func (o *oracle) connected(at time.Time) time.Time {
	var since, last time.Time
	for _, r := range o.reads {
		if r.After(at) {
			break
		}
		if last.IsZero() || r.Sub(last) > o.timing.SilentAfter() {
			since = r
		}
		last = r
	}
	if last.IsZero() || at.Sub(last) > o.timing.SilentAfter() {
		return time.Time{}
	}
	return since
}

// differs says whether observation i is news.
func (o *oracle) differs(i int) bool {
	a := o.observations[i]
	if i == 0 {
		return !a.Missing
	}
	b := o.observations[i-1]
	if a.Missing || b.Missing {
		return a.Missing != b.Missing
	}
	return a.Record.UID != b.Record.UID || a.Record.Holder != b.Record.Holder ||
		a.Record.Renewed != b.Record.Renewed || a.Record.Transitions != b.Record.Transitions
}

// state is what the state must be now.
func (o *oracle) state(now time.Time) State {
	state := State("")
	for i, seen := range o.observations {
		if !o.differs(i) {
			continue
		}
		if i > 0 {
			state = o.settled(state, i-1, seen.at, now)
		}
		switch {
		case seen.Missing:
			if state != Released && state != Dead {
				state = Unknown
			}
		case seen.Record.Holder == "":
			state = Released
		case seen.Record.Holder == o.self:
			state = Dead
		case strings.HasPrefix(seen.Record.Holder, ManagerPrefix) || o.connected(seen.at).IsZero():
			state = Unknown
		default:
			state = Alive
		}
	}
	return o.settled(state, len(o.observations)-1, now.Add(1), now)
}

// settled is what became, until before, of a state in which observation last was
// the latest.
func (o *oracle) settled(state State, last int, before, now time.Time) State {
	if last < 0 || state == Released || state == Dead {
		return state
	}
	first := last
	for !o.differs(first) {
		first--
	}
	changed := o.observations[first].at
	current := o.observations[first]
	for _, e := range o.evaluations {
		connected := o.connected(e)
		if e.Before(changed) || !e.Before(before) || connected.IsZero() {
			continue
		}
		from := changed
		for _, g := range o.gaps {
			if current.Missing && g.After(from) && !g.After(e) {
				from = g
			}
		}
		if connected.After(from) {
			from = connected
		}
		worker := !current.Missing && !strings.HasPrefix(current.Record.Holder, ManagerPrefix)
		if worker && state != Dead && e.Sub(from) >= 3*o.timing.RetryPeriod() {
			state = Silent
		}
		for j := first; j <= last; j++ {
			c := o.observations[j]
			lease := o.timing.LeaseDuration
			for k := first; k <= last && !current.Missing && !o.observations[k].at.After(e); k++ {
				lease = max(o.timing.LeaseDuration, o.observations[k].Record.LeaseDuration)
			}
			if !c.Begun.IsZero() && !c.at.After(e) && c.Begun.Sub(from) >= lease && e.Sub(c.Begun) <= o.timing.RetryPeriod() {
				state = Dead
			}
		}
		if state == Dead {
			return state
		}
	}
	return state
}

func TestDetectorAgreesWithOracle(t *testing.T) {
	reached := map[State]int{}
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d, err := NewDetector(second15, "manager/me")
		if err != nil {
			t.Fatal(err)
		}
		o := &oracle{timing: second15, self: "manager/me"}
		now, r := t0, Record{Holder: "a_1", LeaseDuration: 15 * time.Second}
		missing := true
		var log []string
		for range 60 {
			now = now.Add(time.Duration(1+rng.IntN(1900)) * time.Millisecond)
			obs := Observation{}
			observe := true
			what := rng.IntN(100)
			if seed%3 == 0 {
				what = what*2/3 + 33 // fewer changes: longer silences
			}
			switch {
			case what < 12:
				r.Renewed++
				missing = false
			case what < 14:
				r.Holder = []string{"", "manager/me", "manager/other", "a_1", "a_2"}[rng.IntN(5)]
				missing = false
			case what < 16:
				r.LeaseDuration = time.Duration(rng.IntN(25)) * time.Second
			case what < 18:
				missing = true
			case what < 20:
				r.UID = fmt.Sprint(rng.IntN(3))
				missing = false
			case what < 21:
				d.Gap(now)
				o.gaps = append(o.gaps, now)
				observe = false
			case what < 60:
				obs.Begun = now // look for oneself
			default:
				observe = false
			}
			if observe {
				obs.Record, obs.Missing = r, missing
				if missing {
					obs.Record = Record{}
				}
				if !missing || len(o.observations) > 0 {
					o.observations = append(o.observations, seenAt{obs, now})
				}
				d.Observe("a", obs, now)
			}
			now = now.Add(1) // one thing at a time
			if rng.IntN(12) > 0 || seed%2 == 0 {
				o.reads = append(o.reads, now)
				d.Read(now, now)
			} else {
				now = now.Add(time.Duration(rng.IntN(7)) * time.Second)
			}
			d.Expect("a", now) // never forgotten
			o.evaluations = append(o.evaluations, now)
			d.Evaluate(now)
			log = append(log, fmt.Sprintf("%v %d %+v", now.Sub(t0), what, obs))
			got, _ := d.State("a")
			want := o.state(now)
			if want == "" {
				want = Unknown
			}
			if len(o.observations) == 0 {
				continue // expected and never seen: scripts cover it
			}
			reached[got]++
			if got != want {
				t.Fatalf("seed %d at %v: detector says %s, oracle %s\n%s", seed, now.Sub(t0), got, want, strings.Join(log, "\n"))
			}
		}
	}
	for _, s := range []State{Unknown, Alive, Silent, Dead, Released} {
		if reached[s] < 50 {
			t.Errorf("state %s was reached %d times only: the test is too tame", s, reached[s])
		}
	}
}

// Clocks that run at rates up to 15 % off, requests that take up to a retry
// period, and a worker that dies or is cut off at any moment: when the manager
// declares it dead, its right to act has ended.
func TestDeadlinePassesBeforeDeathAtAnyClockRate(t *testing.T) {
	narrowest := time.Hour
	for seed := range uint64(1500) {
		rng := rand.New(rand.NewPCG(seed, 2))
		workerRate, managerRate := 0.85+0.3*rng.Float64(), 0.85+0.3*rng.Float64()
		onWorker := func(d time.Duration) time.Duration { return time.Duration(float64(d) / workerRate) } // own time to true time
		onManager := func(at time.Duration) time.Time { return t0.Add(time.Duration(float64(at) * managerRate)) }
		d, err := NewDetector(second15, "manager/me")
		if err != nil {
			t.Fatal(err)
		}
		// True time: renewals are sent, carried out and seen at some time each.
		var sent, executed, right time.Duration
		renewals := 1 + rng.IntN(10)
		var seen []time.Duration
		for range renewals {
			sent += onWorker(second15.RetryPeriod())
			executed = sent + time.Duration(rng.Int64N(int64(onWorker(second15.RetryPeriod()))))
			right = sent + onWorker(second15.RenewDeadline())
			seen = append(seen, executed+time.Duration(rng.Int64N(int64(time.Second))))
		}
		var death time.Duration
		for at := time.Duration(0); death == 0 && at < 5*time.Minute; at += 50 * time.Millisecond {
			now := onManager(at)
			beats := int64(0)
			for _, s := range seen {
				if s <= at {
					beats++
				}
			}
			if beats > 0 {
				d.Observe("a", Observation{Record: Record{Holder: "a_1", Renewed: beats}, Begun: now}, now)
			}
			d.Read(now, now)
			d.Evaluate(now)
			if state, _ := d.State("a"); state == Dead {
				death = at
			}
		}
		if death == 0 {
			t.Fatalf("seed %d: never declared dead", seed)
		}
		if death < executed+5*time.Second {
			t.Fatalf("seed %d: dead at %v, %v after the last renewal", seed, death, death-executed)
		}
		if death <= right {
			t.Fatalf("seed %d: dead at %v, but it may act until %v (rates %.3f and %.3f)", seed, death, right, workerRate, managerRate)
		}
		narrowest = min(narrowest, death-right)
	}
	t.Logf("narrowest margin %v", narrowest)
}
