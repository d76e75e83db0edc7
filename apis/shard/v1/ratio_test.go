package v1

import (
	"encoding/json"
	"math"
	"testing"
)

func TestRatioFrom(t *testing.T) {
	for _, test := range []struct {
		in   float64
		want int32 // thousandths
		ok   bool
	}{
		{0, 0, true},
		{math.Copysign(0, -1), 0, true},
		{0.3, 300, true},
		{0.1 + 0.2, 300, true},
		{0.0004, 0, true},
		{0.0005, 1, true},
		{0.6514, 651, true},
		{0.6516, 652, true},
		{1, 1000, true},
		{MaxRatio, 1000 * MaxRatio, true},
		{math.Nextafter(MaxRatio, 2*MaxRatio), 0, false},
		{-0.001, 0, false},
		{math.NaN(), 0, false},
		{math.Inf(1), 0, false},
		{math.Inf(-1), 0, false},
	} {
		got, err := RatioFrom(test.in)
		if (err == nil) != test.ok || got.Milli() != test.want {
			t.Errorf("RatioFrom(%v) = %d thousandths, error %v; want %d, ok %v", test.in, got.Milli(), err, test.want, test.ok)
		}
	}
}

func TestRatioFromMilli(t *testing.T) {
	for milli, ok := range map[int32]bool{-1: false, 0: true, 650: true, 1000 * MaxRatio: true, 1000*MaxRatio + 1: false} {
		got, err := RatioFromMilli(milli)
		if (err == nil) != ok || (ok && got.Milli() != milli) {
			t.Errorf("RatioFromMilli(%d) = %v, error %v; want ok %v", milli, got, err, ok)
		}
	}
}

func TestRatioJSONDecoding(t *testing.T) {
	for _, test := range []struct {
		in, want string // want "": refused
	}{
		{"0", "0"},
		{"-0", "0"},
		{"-0.0", "0"},
		{"1", "1"},
		{"1.0", "1"},
		{"0.8", "0.8"},
		{"0.650", "0.65"},
		{"65e-2", "0.65"},
		{"1000", "1000"},
		{"0.12345", "0.123"},
		{" 0.5 ", "0.5"},
		{"null", "0.001"}, // changes nothing
		{"1000.1", ""},
		{"-0.1", ""},
		{"1e400", ""},
		{`"0.8"`, ""},
		{"NaN", ""},
		{"Infinity", ""},
		{"0x1", ""},
		{"1_0", ""},
		{".5", ""},
		{"+1", ""},
		{"true", ""},
		{"{}", ""},
		{"[1]", ""},
		{"0\v", ""}, // found by FuzzRatioJSON
		{"", ""},
	} {
		got := Ratio{milli: 1}
		err := got.UnmarshalJSON([]byte(test.in))
		if test.want == "" {
			if err == nil || got.milli != 1 {
				t.Errorf("decoding %q = %v, error %v; want an error and nothing changed", test.in, got, err)
			}
			continue
		}
		if err != nil || got.String() != test.want {
			t.Errorf("decoding %q = %v, error %v; want %s", test.in, got, err, test.want)
		}
	}
}

// Every value that a Ratio can have comes back from JSON, and from float64, as it was.
func TestRatioRoundTripsAllValues(t *testing.T) {
	for milli := int32(0); milli <= maxMilli; milli++ {
		r := Ratio{milli: milli}
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back Ratio
		if err := json.Unmarshal(data, &back); err != nil || back != r {
			t.Fatalf("%d thousandths are %s in JSON and come back as %d, error %v", milli, data, back.milli, err)
		}
		if back, err := RatioFrom(r.Float64()); err != nil || back != r {
			t.Fatalf("%d thousandths are %v and come back as %d, error %v", milli, r.Float64(), back.milli, err)
		}
	}
}

func TestRatioZeroIsLeftOutWhereItMeansUnset(t *testing.T) {
	data, err := json.Marshal(ShardConfigSpec{Rebalance: &Rebalance{}})
	if want := `{"rebalance":{}}`; err != nil || string(data) != want {
		t.Errorf("empty spec is %s, error %v; want %s", data, err, want)
	}
	data, err = json.Marshal(ShardInstanceStatus{Load: &Ratio{}})
	if want := `{"load":0}`; err != nil || string(data) != want {
		t.Errorf("status with load 0 is %s, error %v; want %s", data, err, want)
	}
}

// FuzzRatioJSON holds decoding against encoding/json: what it accepts is a JSON number within the bounds, and encoding and decoding it
// again changes nothing.
func FuzzRatioJSON(f *testing.F) {
	for _, seed := range []string{"0", "0.65", "1e3", "-1", "1e-9", `"1"`, "null", "[", " 1", "1 2", "999.9995", "1000.0004", "\x00", "0\v"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Ratio
		if err := r.UnmarshalJSON(data); err != nil {
			return
		}
		var reference *float64
		if err := json.Unmarshal(data, &reference); err != nil {
			t.Fatalf("accepted %q, which is no JSON number: %v", data, err)
		}
		if reference != nil && (*reference < 0 || *reference > MaxRatio || math.Abs(*reference-r.Float64()) > 0.0005000001) {
			t.Fatalf("%q became %v", data, r)
		}
		encoded, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back Ratio
		if err := back.UnmarshalJSON(encoded); err != nil || back != r {
			t.Fatalf("%q became %v, then %s, then %v, error %v", data, r, encoded, back, err)
		}
	})
}
