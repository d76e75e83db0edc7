package scaling

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var bothModels = Options{Horizon: 2 * time.Minute, Models: []Model{Trend{}, Seasonal{}}}

// schooled is a ring that has seen a day of spikes, and the next one up to the time that is given.
func schooled(t testing.TB, o Options, until time.Duration) *run {
	t.Helper()
	r := newRun(t, o, 4)
	for s := time.Duration(0); s < 24*time.Hour+until; s += round {
		r.in.Now = epoch.Add(s)
		r.step(spikes(s) - 1)
	}
	return r
}

func saved(t testing.TB, m Memory) string {
	t.Helper()
	text, err := m.Save()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestRestoredForecastsAtOnce: the next leader adds shards for the spike of every day that it has never seen, and trusts the models from its first round on.
func TestRestoredForecastsAtOnce(t *testing.T) {
	before := schooled(t, bothModels, 8*time.Hour+55*time.Minute)
	text := saved(t, before.memory)
	if len(text) > 2000 {
		t.Errorf("the text of a day has %d characters, less than 2000 are promised", len(text))
	}
	next := newRun(t, bothModels, before.in.Shards)
	next.in.Now = before.in.Now.Add(15 * time.Second) // an election takes that long
	var err error
	if next.memory, err = Restore(text, next.in.Now, bothModels.Models...); err != nil {
		t.Fatal(err)
	}
	first := next.step(1)
	for i, want := range before.last.Forecasts {
		got := first.Forecasts[i]
		if !got.Used || !want.Used || math.Abs(got.Demand-want.Demand) > 0.01 || math.Abs(got.Error-want.Error) > 0.01 {
			t.Errorf("in the first round: %+v, that of the former leader was %+v", got, want)
		}
	}
	next.for_(5*time.Minute, 1)
	if len(next.changes) == 0 || !strings.HasPrefix(next.changes[0], "Predicted") {
		t.Errorf("with what was learnt: %v %+v", next.changes, next.last)
	}
	blank := newRun(t, bothModels, before.in.Shards)
	blank.in.Now = before.in.Now
	blank.for_(5*time.Minute, 1)
	if blank.expect(); blank.last.Forecasts[1].Known {
		t.Errorf("without: %+v", blank.last)
	}
}

func TestSavedIsRestored(t *testing.T) {
	day := schooled(t, bothModels, time.Hour)
	started, _ := New(bothModels)
	_, young, err := started.Decide(Memory{}, Input{Now: epoch, Shards: 1, Loads: even(1, 0.5, epoch)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		memory Memory
		models []Model
	}{
		"nothing":       {Memory{}, nil},
		"one round":     {young, bothModels.Models},
		"a day":         {day.memory, bothModels.Models},
		"not shown yet": {Memory{trackers: []tracker{{model: Seasonal{}}}}, []Model{Seasonal{}}},
		"other settings": {Memory{trackers: []tracker{{model: Seasonal{Period: time.Hour, Part: 7 * time.Minute, Means: []float64{-1, 0, 1, 2, 3, 1e15, 5, -1, 8}}}}},
			[]Model{Seasonal{Period: time.Hour, Part: 7 * time.Minute}}},
		"a week": {Memory{trackers: []tracker{{model: Seasonal{Period: 7 * 24 * time.Hour, Means: slices.Repeat([]float64{2.5}, 7*288)}}}},
			[]Model{Seasonal{Period: 7 * 24 * time.Hour}}},
	} {
		text := saved(t, c.memory)
		if (text == "") != (c.models == nil) || len(text) > maxSaved {
			t.Errorf("%s: %d characters", name, len(text))
		}
		restored, err := Restore(text, day.in.Now, c.models...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := saved(t, restored); again != text {
			t.Errorf("%s: restored and saved it is another text", name)
		}
		if restored.LearntSince(c.memory) || c.memory.LearntSince(restored) {
			t.Errorf("%s: what was restored is not what was saved", name)
		}
	}
}

func TestNotSaved(t *testing.T) {
	of := func(m Model) Memory { return Memory{trackers: []tracker{{model: m}}} }
	for name, c := range map[string]struct {
		memory Memory
		want   string
	}{
		"a model of somebody's own":  {of(lies{}), "lies has no saved form"},
		"a pointer":                  {of(&Trend{}), "trend has no saved form"},
		"too much":                   {of(Seasonal{Period: 7 * 24 * time.Hour, Part: time.Minute, Means: make([]float64, 7*1440)}), "must have at most 16384"},
		"not a number":               {of(Trend{Level: math.NaN()}), "NaN"},
		"infinite":                   {of(Seasonal{Differs: math.Inf(1)}), "+Inf"},
		"negative":                   {of(Seasonal{Sum: -1}), "-1"},
		"enormous":                   {of(Seasonal{Means: append(make([]float64, 287), 1e30)}), "mean of 1"},
		"means of another period":    {of(Seasonal{Means: []float64{1}}), "1 parts"},
		"a time far away":            {of(Trend{At: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}), "3000"},
		"an observation before none": {of(Trend{At: epoch}), "first observation"},
	} {
		text, err := c.memory.Save()
		if err == nil || !strings.Contains(err.Error(), c.want) || text != "" {
			t.Errorf("%s: %d characters, error %v, want one with %q", name, len(text), err, c.want)
		}
	}
}

// seal makes a text of what Save has within.
func seal(data []byte) string {
	return "forecast-1." + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(slices.Clone(data), crc32.ChecksumIEEE(data)))
}

func TestRestoreRefuses(t *testing.T) {
	r := schooled(t, bothModels, time.Hour)
	text, now := saved(t, r.memory), r.in.Now
	data, err := unseal(text)
	if err != nil {
		t.Fatal(err)
	}
	damaged := []byte(text)
	damaged[len(damaged)/2] ^= 1
	for name, c := range map[string]struct {
		text   string
		now    time.Time
		models []Model
		want   string
	}{
		"foreign":                       {`{"trend":1}`, now, bothModels.Models, "must begin with \"forecast-1.\""},
		"nearly foreign":                {"forecast-.x", now, bothModels.Models, "must begin with \"forecast-1.\""},
		"of a later version":            {strings.Replace(text, "-1.", "-2.", 1), now, bothModels.Models, "version 2, this program knows version 1"},
		"cut off":                       {text[:len(text)-5], now, bothModels.Models, "damaged"},
		"cut off at the beginning":      {text[:11], now, bothModels.Models, "damaged"},
		"damaged":                       {string(damaged), now, bothModels.Models, "damaged"},
		"too long":                      {text + strings.Repeat("A", maxSaved), now, bothModels.Models, "must be at most 16384"},
		"sealed, and cut off":           {seal(data[:len(data)-1]), now, bothModels.Models, "ends too early"},
		"sealed, and longer":            {seal(append(slices.Clone(data), 0)), now, bothModels.Models, "1 bytes too many"},
		"sealed, and empty":             {seal(nil), now, bothModels.Models, "ends too early"},
		"fewer models":                  {text, now, []Model{Trend{}}, "saved for 2 models, there are 1"},
		"no models":                     {text, now, nil, "saved for 2 models, there are 0"},
		"models in another order":       {text, now, []Model{Seasonal{}, Trend{}}, "not this seasonal"},
		"another period":                {text, now, []Model{Trend{}, Seasonal{Period: time.Hour}}, "other settings"},
		"another half-life":             {text, now, []Model{Trend{SlopeHalfLife: time.Second}, Seasonal{}}, "other settings"},
		"a model of somebody's own":     {text, now, []Model{Trend{}, lies{}}, "lies has no saved form"},
		"of a time that is yet to come": {text, now.Add(-time.Hour), bothModels.Models, "in the future"},
	} {
		m, err := Restore(c.text, c.now, c.models...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
		if !reflect.DeepEqual(m, Memory{}) {
			t.Errorf("%s: it remembers something all the same", name)
		}
	}
	if _, err := Restore(text, now.Add(-time.Minute), bothModels.Models...); err != nil {
		t.Errorf("with a clock that is a minute behind: %v", err)
	}
}

func TestLearntSince(t *testing.T) {
	of := func(models ...Model) (m Memory) {
		for _, model := range models {
			m.trackers = append(m.trackers, tracker{model: model})
		}
		return m
	}
	day := func(means ...float64) Seasonal {
		return Seasonal{Means: append(slices.Repeat([]float64{2}, 288-len(means)), means...)}
	}
	for name, c := range map[string]struct {
		now, then Memory
		want      bool
	}{
		"nothing":                      {Memory{}, Memory{}, false},
		"the same":                     {of(day(), Trend{Level: 2}), of(day(), Trend{Level: 2}), false},
		"a day, from nothing":          {of(day()), Memory{}, true},
		"a day without load":           {of(Seasonal{Means: make([]float64, 288)}), Memory{}, false},
		"a trend without load":         {of(Trend{At: epoch}), Memory{}, false},
		"a level":                      {of(Trend{Level: 0.1}), Memory{}, true},
		"nearly the same level":        {of(Trend{Level: 100}), of(Trend{Level: 104}), false},
		"another level":                {of(Trend{Level: 100}), of(Trend{Level: 106}), true},
		"nearly the same small level":  {of(Trend{Level: 0.1}), of(Trend{Level: 0.14}), false},
		"a part":                       {of(day(2.2)), of(day()), true},
		"nearly the same":              {of(day(2.05)), of(day()), false},
		"a part that was not seen":     {of(day(2)), of(day(-1)), true},
		"… and is nothing":             {of(day(0)), of(day(-1)), false},
		"later, and nothing else":      {of(Trend{Level: 2, At: epoch.Add(time.Hour)}), of(Trend{Level: 2, At: epoch}), false},
		"of models of somebody's own":  {of(lies{now: 3}), of(lies{now: 5}), false},
		"another model under the name": {of(lies{}, day()), of(day()), false},
	} {
		if got := c.now.LearntSince(c.then); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// FuzzRestore: whatever is refused is refused with an error, and whatever is not can be used and saved. Data is sealed as Save does, or the checksum
// would refuse nearly all of it.
func FuzzRestore(f *testing.F) {
	r := schooled(f, bothModels, 0)
	text := saved(f, r.memory)
	data, err := unseal(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, text)
	f.Add(data[:40], text[:100])
	f.Add([]byte{2, 1}, "forecast-2.")
	scaler, err := New(bothModels)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		for _, text := range []string{text, seal(data)} {
			memory, err := Restore(text, r.in.Now, bothModels.Models...)
			if err != nil || text == "" {
				continue
			}
			again, err := Restore(saved(t, memory), r.in.Now, bothModels.Models...)
			if err != nil || !reflect.DeepEqual(memory, again) {
				t.Fatalf("restored and saved it is another one, or none: %v", err)
			}
			in := Input{Now: r.in.Now, Shards: 4}
			for range 3 {
				in.Now = in.Now.Add(10 * time.Minute)
				in.Loads = even(4, 2, in.Now)
				d, next, err := scaler.Decide(memory, in)
				if err != nil || d.Desired < 1 || d.Desired > 10 {
					t.Fatalf("%+v, error %v", d, err)
				}
				memory = next
			}
		}
	})
}
