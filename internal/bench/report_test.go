//go:build unix

package main

import (
	"flag"
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{7}, 0.99, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
	} {
		if got := quantile(test.values, test.q); got != test.want {
			t.Errorf("quantile %v of %d values: %v, want %v", test.q, len(test.values), got, test.want)
		}
	}
	if hundred[0] != 100 {
		t.Error("the values were put in order in place")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 5000: "5000", 1234.56: "1235", 12.345: "12.3", 1.2345: "1.23", 0.01234: "0.012", -3.456: "-3.46"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	tab := table{Title: "T", Took: "3s"}
	tab.add("speed", 12.34, "/s", "≥ 10", "a note")
	if got, want := tab.markdown(), "| speed | 12.3 /s | ≥ 10 | a note |\n"; !strings.Contains(got, want) {
		t.Errorf("%q does not contain %q", got, want)
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(measurements) {
		t.Errorf("all: %d, %v", len(all), err)
	}
	if two, err := choose("memory,assign"); err != nil || len(two) != 2 || two[0].name != "memory" {
		t.Errorf("two: %v, %v", two, err)
	}
	if _, err := choose("assign,nothing"); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("error %v does not name the unknown one", err)
	}
}

func TestEstimates(t *testing.T) {
	var s settings
	s.register(flag.NewFlagSet("bench", flag.ContinueOnError))
	for _, m := range measurements {
		if got := s.estimate(m.name); got <= setUp || got > limit {
			t.Errorf("%s is said to take %s, want more than %s, and not more than the limit of %s", m.name, got, setUp, limit)
		}
	}
}
