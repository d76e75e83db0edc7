//go:build unix

package main

import (
	"strings"
	"testing"
)

func TestVerdicts(t *testing.T) {
	fault := trials{Kind: "pause", Control: true, tally: tally{Trials: 10, Tried: 5, Faulty: 5, Accepted: 7}}
	fence := trials{Kind: "pause", Needs: true, tally: tally{Trials: 10, Tried: 5, Refused: 9}}
	quick, slow := duration{Values: []float64{1, 2}, Limit: 2}, duration{Values: []float64{1, 3}, Limit: 2}
	for _, test := range []struct {
		name   string
		report report
		want   string
	}{
		{"nothing", report{}, invalid},
		{"the fault shows, and the fence holds", report{Trials: []trials{fault, fence}}, good},
		{"the fault does not show", report{Trials: []trials{{Control: true, tally: tally{Trials: 10, Faulty: 4, Accepted: 9}}, fence}}, invalid},
		{"the fence was hardly tried", report{Trials: []trials{fault, {Needs: true, tally: tally{Trials: 10, Tried: 4}}}}, invalid},
		{"one write came through", report{Trials: []trials{fault, {Needs: true, tally: tally{Trials: 10, Tried: 9, Faulty: 1, Accepted: 1}}}}, violated},
		{"a violation in an invalid run", report{Trials: []trials{{Control: true, tally: tally{Trials: 1}}, {tally: tally{Trials: 10, Accepted: 1}}}}, violated},
		{"no trials", report{Trials: []trials{{Kind: "pause"}}}, invalid},
		{"in time", report{Durations: []duration{quick}}, good},
		{"too late", report{Durations: []duration{quick, slow}}, violated},
		{"nothing was timed", report{Durations: []duration{{Limit: 1}}}, invalid},
		{"a check that holds", report{Checks: []check{{N: 1}}}, good},
		{"a check that does not", report{Checks: []check{{N: 1}, {N: 1, Bad: 1}}}, violated},
		{"a check of nothing", report{Checks: []check{{}}}, invalid},
	} {
		if got := test.report.verdict(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if text := test.report.markdown(); !strings.HasSuffix(text, "**"+test.want+"**\n") {
			t.Errorf("%s: the report ends otherwise:\n%s", test.name, text)
		}
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{{nil, 0.5, 0}, {[]float64{7}, 0.99, 7}, {[]float64{3, 1, 2}, 0.5, 2}, {hundred, 0.99, 99}, {hundred, 1, 100}} {
		if got := quantile(test.values, test.q); got != test.want {
			t.Errorf("quantile %v of %d values: %v, want %v", test.q, len(test.values), got, test.want)
		}
	}
}

func TestSettings(t *testing.T) {
	change := func(f func(*settings)) settings { s := quick; f(&s); return s }
	for _, test := range []struct {
		settings settings
		says     string
	}{
		{quick, ""},
		{full, ""},
		{change(func(s *settings) { s.only = "races,pauses" }), ""},
		{change(func(s *settings) { s.only = "races,nothing" }), `-only: there is nothing of the name "nothing"`},
		{change(func(s *settings) { s.arms = "nothing" }), `-arms: there is nothing of the name "nothing"`},
		{change(func(s *settings) { s.anchors = 2 }), "-anchors: 2"},
		{change(func(s *settings) { s.width = s.anchors }), "-width: 3"},
		{change(func(s *settings) { s.lease = 1 }), "-lease: 1ns"},
		{change(func(s *settings) { s.slack = 0.9 }), "-slack: 0.9"},
	} {
		err := test.settings.validate()
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("error %v, want %q", err, test.says)
		}
	}
}
