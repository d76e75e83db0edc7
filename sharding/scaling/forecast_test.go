package scaling

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// lies is a model that says the demand will be so many times what it is.
type lies struct{ times, now float64 }

func (lies) Name() string                                  { return "lies" }
func (l lies) Observe(_ time.Time, demand float64) Model   { l.now = demand; return l }
func (l lies) Forecast(time.Time) (demand float64, k bool) { return l.times * l.now, true }

// feed lets a model see a demand for a while, every 5 s.
func feed(m Model, from time.Time, d time.Duration, demand func(since time.Duration) float64) (Model, time.Time) {
	for s := time.Duration(0); s <= d; s += round {
		m = m.Observe(from.Add(s), demand(s))
	}
	return m, from.Add(d)
}

var epoch = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func TestTrend(t *testing.T) {
	ramp := func(s time.Duration) float64 { return 2 + s.Minutes()*0.3 }
	for _, c := range []struct {
		name   string
		demand func(time.Duration) float64
		want   float64 // 3 minutes after 20
		within float64
	}{
		{"constant", func(time.Duration) float64 { return 4 }, 4, 1e-9},
		{"a ramp", ramp, 2 + 23*0.3, 0.05},
		{"a fall to nothing", func(s time.Duration) float64 { return max(0, 6-s.Minutes()*0.299) }, 0, 0.01},
		{"a step long ago", func(s time.Duration) float64 {
			if s > 10*time.Minute {
				return 6
			}
			return 2
		}, 6, 0.1},
	} {
		m, now := feed(Trend{}, epoch, 20*time.Minute, c.demand)
		if got, ok := m.Forecast(now.Add(3 * time.Minute)); !ok || math.Abs(got-c.want) > c.within {
			t.Errorf("%s: %v, %v; want %v", c.name, got, ok, c.want)
		}
	}
	m, now := feed(Trend{}, epoch, 10*time.Second, ramp)
	if _, ok := m.Forecast(now.Add(time.Minute)); ok {
		t.Error("ten seconds are enough for a trend")
	}
	m, now = feed(Trend{}, epoch, 10*time.Minute, ramp)
	if got := m.Observe(now, 400); got != m {
		t.Error("a second observation of the same moment counts")
	}
	m = m.Observe(now.Add(24*time.Hour), 3)
	if _, ok := m.Forecast(now.Add(25 * time.Hour)); ok {
		t.Error("the trend of yesterday goes on")
	}
}

// spikes is 2, and 6 for twenty minutes from 9:00 on.
func spikes(s time.Duration) float64 {
	if of := s % (24 * time.Hour); of >= 9*time.Hour && of < 9*time.Hour+20*time.Minute {
		return 6
	}
	return 2
}

func TestSeasonal(t *testing.T) {
	at := func(day, hour, minute int) time.Time {
		return epoch.AddDate(0, 0, day).Add(time.Duration(hour*60+minute) * time.Minute)
	}
	first, now := feed(Seasonal{}, epoch, 8*time.Hour, spikes)
	if _, ok := first.Forecast(now.Add(time.Hour)); ok {
		t.Error("it knows a time that it has never seen")
	}
	m, _ := feed(Seasonal{}, epoch, 26*time.Hour, spikes)
	for want, when := range map[float64]time.Time{6: at(1, 9, 10), 2: at(1, 9, 40)} {
		if got, ok := m.Forecast(when); !ok || math.Abs(got-want) > 0.05 {
			t.Errorf("at %v: %v, %v; want %v", when, got, ok, want)
		}
	}
	// A day that is higher by 1 throughout.
	m, _ = feed(m, at(1, 2, 1), 6*time.Hour, func(time.Duration) float64 { return 3 })
	if got, _ := m.Forecast(at(1, 9, 10)); math.Abs(got-7) > 0.05 {
		t.Errorf("on a day that is higher by 1: %v, want 7", got)
	}
	// What does not come again is forgotten by half each day.
	m, _ = feed(Seasonal{}, epoch, 24*time.Hour, spikes)
	m, _ = feed(m, at(1, 0, 1), 24*time.Hour, func(time.Duration) float64 { return 2 })
	if got, _ := m.Forecast(at(2, 9, 10)); math.Abs(got-4) > 0.1 {
		t.Errorf("the day after a day without: %v, want 4", got)
	}
	text, err := json.Marshal(m)
	var back Seasonal
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || !reflect.DeepEqual(Model(back), m) {
		t.Errorf("written down and read back, it is another one: %v", err)
	}
	if got := (Seasonal{Period: 7 * 24 * time.Hour}).Name(); got != "seasonal-168h0m0s" {
		t.Errorf("the name of a week's model is %s", got)
	}
}

// TestPredictedRamp checks that with a forecast shards are added earlier, by about the horizon.
func TestPredictedRamp(t *testing.T) {
	when := func(o Options) (time.Duration, string) {
		r := newRun(t, o, 4)
		r.for_(30*time.Minute, 2)
		for s := round; s < time.Hour; s += round {
			r.step(2 + 0.15*s.Minutes())
			if len(r.changes) > 0 {
				return s, r.changes[0]
			}
		}
		t.Fatalf("nothing happens: %+v", r.last)
		return 0, ""
	}
	without, _ := when(Options{})
	with, what := when(Options{Horizon: 2 * time.Minute})
	if earlier := without - with; earlier < 100*time.Second || earlier > 4*time.Minute || !strings.HasPrefix(what, "Predicted") {
		t.Errorf("with a forecast %s happens %v earlier, the horizon is 2 min", what, earlier)
	}
}

// TestPredictedSeason checks that shards are there when the demand of every day comes.
func TestPredictedSeason(t *testing.T) {
	r := newRun(t, Options{Horizon: 2 * time.Minute, Models: []Model{Seasonal{}}}, 4)
	for s := time.Duration(0); s < 57*time.Hour; s += round {
		r.in.Now = epoch.Add(s)
		r.step(spikes(s) - 1)
	}
	if r.in.Shards < 6 || r.last.Load > 0.25 {
		t.Errorf("at 9:00 of the third day: %+v", r.last)
	}
	found := false
	for _, change := range r.changes {
		found = found || strings.HasPrefix(change, "Predicted")
	}
	if !found {
		t.Errorf("nothing was predicted: %v", r.changes)
	}
	m, ok := r.memory.Model("seasonal")
	if _, learnt := m.Forecast(r.in.Now.Add(time.Hour)); !ok || !learnt {
		t.Error("the memory does not have the model that has learnt")
	}
	if _, ok := r.memory.Model("none"); ok {
		t.Error("the memory has a model that does not exist")
	}
}

// TestForecastAfterAGap: a manager finds a ring of which no shard has come yet, and then shards that have just begun to report.
func TestForecastAfterAGap(t *testing.T) {
	r := schooled(t, bothModels, time.Hour)
	r.in.Now = epoch.Add(32*time.Hour + 50*time.Minute)
	r.in.Shards, r.in.Loads = 0, nil
	r.decide()
	for _, demand := range []float64{0.1, 0.5, 0.8, 1, 1, 1} {
		r.in.Shards = 4
		r.step(demand)
	}
	season, _ := r.memory.Model("seasonal")
	if got, known := season.Forecast(epoch.Add(33*time.Hour + 5*time.Minute)); !known || got < 4.8 {
		t.Errorf("for the spike: %v, want the 5 of the day before, and hardly less", got)
	}
}

// TestBadForecasts checks that a model that is wrong switches itself off, whatever it says, and that its error is told.
func TestBadForecasts(t *testing.T) {
	for _, times := range []float64{3, 0.1, math.NaN(), math.Inf(1), -2, 1e300} {
		r := newRun(t, Options{Horizon: time.Minute, Models: []Model{lies{times: times}}}, 4)
		r.for_(time.Hour, 2)
		r.expect()
		f := r.last.Forecasts[0]
		if f.Used || f.Model != "lies" || isValue(times) != f.Known || isValue(times) && f.Error < 1 || f.Naive > 1e-9 {
			t.Errorf("%v times: %+v", times, f)
		}
	}
	// One that is right for a long time and wrong then.
	r := newRun(t, Options{Horizon: time.Minute, Models: []Model{lies{times: 1}}}, 4)
	r.for_(time.Hour, 2)
	if !r.last.Forecasts[0].Used {
		t.Errorf("a model that is always right is not used: %+v", r.last.Forecasts)
	}
}

// TestForecastOnlyAdds checks that a forecast of nothing removes nothing, and that one of something keeps what there is.
func TestForecastOnlyAdds(t *testing.T) {
	s, err := New(Options{Horizon: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	x := observation{shards: 4, demand: 2, idle: 2}
	for _, c := range []struct {
		demand, forecast float64
		used             bool
		want             int
		reason           Reason
	}{
		{2, 0, true, 4, WithinThresholds}, {2, 3.3, true, 4, WithinThresholds}, {2, 6, true, 8, Predicted}, {2, 6, false, 4, WithinThresholds},
		{0.4, 0, true, 1, LoadLow}, {0.4, 2, true, 3, LoadLow}, {0.4, 3.1, true, 4, KeptForForecast}, {0.4, 3.1, false, 1, LoadLow},
		{6, 0, true, 8, LoadHigh}, {6, 7, true, 9, Predicted},
	} {
		x.demand, x.idle = c.demand, c.demand
		got := s.arithmetic(x, []Forecast{{Model: "m", Demand: c.forecast, Known: true, Used: c.used}})
		if got.shards != c.want || got.reason != c.reason {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

// TestNoise lets a day go by in which the load of every shard fluctuates by 30 per cent, independently from round to round.
func TestNoise(t *testing.T) {
	for _, demand := range []float64{1.8, 2.4, 3} {
		rng := rand.New(rand.NewPCG(8, 8))
		o := Options{Horizon: 2 * time.Minute, Models: []Model{Trend{}, Seasonal{}}}
		if demand < 2.9 {
			o.ConsolidateBelow = 0.6
		}
		r := newRun(t, o, 4)
		rounds := int(24 * time.Hour / round)
		if testing.Short() {
			rounds /= 24
		}
		for range rounds {
			r.in.Now = r.in.Now.Add(round)
			r.in.Loads = even(4, demand, r.in.Now)
			for i := range r.in.Loads {
				r.in.Loads[i].Load *= 0.7 + 0.6*rng.Float64()
			}
			r.decide()
		}
		r.expect()
	}
}
