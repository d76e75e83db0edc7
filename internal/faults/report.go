//go:build unix

package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is all that was tried, and what is to be thought of it.
type report struct {
	Machine   string     `json:"machine"`
	Begun     time.Time  `json:"begun"`
	Took      string     `json:"took"`
	Lease     string     `json:"lease"`
	Trials    []trials   `json:"trials"`
	Durations []duration `json:"durations"`
	Checks    []check    `json:"checks"`
}

// trials are those of one kind in one arm.
type trials struct {
	Kind string `json:"kind"`
	Arm  string `json:"arm"`
	tally
	Control bool   `json:"control,omitempty"` // the fence is off: the fault has to show
	Needs   bool   `json:"needsTries"`        // without late writes that were tried, nothing is shown
	Example string `json:"example,omitempty"` // of an accepted late write
}

// duration is how long something took, in seconds.
type duration struct {
	What   string    `json:"what"`
	Values []float64 `json:"values"`
	Limit  float64   `json:"limit"` // of the 99th percentile
}

// check is something that holds or does not.
type check struct {
	What    string `json:"what"`
	Arm     string `json:"arm"`
	N       int    `json:"n"`
	Bad     int    `json:"bad"`
	Unit    string `json:"unit"`              // of Bad
	Example string `json:"example,omitempty"` // of a bad one
}

// Verdicts.
const (
	good     = "ok"
	violated = "VIOLATED"
	invalid  = "INVALID"
)

func (t trials) verdict() string {
	switch {
	case t.Trials == 0:
		return invalid
	case t.Control && 2*t.Faulty < t.Trials, !t.Control && t.Needs && 2*t.Tried < t.Trials:
		return invalid
	case !t.Control && t.Accepted > 0:
		return violated
	}
	return good
}

func (d duration) verdict() string {
	switch {
	case len(d.Values) == 0:
		return invalid
	case quantile(d.Values, 0.99) > d.Limit:
		return violated
	}
	return good
}

func (c check) verdict() string {
	switch {
	case c.Bad > 0:
		return violated
	case c.N == 0:
		return invalid
	}
	return good
}

// verdict is the worst of all: what is invalid proves nothing, and what is
// violated is proved.
func (r *report) verdict() string {
	var all []string
	for _, t := range r.Trials {
		all = append(all, t.verdict())
	}
	for _, d := range r.Durations {
		all = append(all, d.verdict())
	}
	for _, c := range r.Checks {
		all = append(all, c.verdict())
	}
	switch {
	case slices.Contains(all, violated):
		return violated
	case slices.Contains(all, invalid) || len(all) == 0:
		return invalid
	}
	return good
}

func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; lease %s; took %s\n\n", r.Machine, r.Lease, r.Took)
	b.WriteString("| trials | arm | n | with a late write tried | … accepted | late writes accepted | refused by the server | refused in the process | |\n" +
		"|---|---|---:|---:|---:|---:|---:|---:|---|\n")
	for _, t := range r.Trials {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %d | %d | %s |\n", t.Kind, t.Arm, t.Trials, t.Tried, t.Faulty, t.Accepted, t.Refused, t.InClient, t.verdict())
	}
	if len(r.Durations) > 0 {
		b.WriteString("\n| duration | n | p50 | p99 | max | limit of p99 | |\n|---|---:|---:|---:|---:|---:|---|\n")
	}
	for _, d := range r.Durations {
		fmt.Fprintf(&b, "| %s | %d | %.2f s | %.2f s | %.2f s | %.2f s | %s |\n", d.What, len(d.Values),
			quantile(d.Values, 0.5), quantile(d.Values, 0.99), quantile(d.Values, 1), d.Limit, d.verdict())
	}
	b.WriteString("\n| check | arm | n | bad | |\n|---|---|---:|---:|---|\n")
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "| %s | %s | %d | %d %s | %s |\n", c.What, c.Arm, c.N, c.Bad, c.Unit, c.verdict())
	}
	for _, example := range r.examples() {
		fmt.Fprintf(&b, "\n- %s", example)
	}
	fmt.Fprintf(&b, "\n**%s**\n", r.verdict())
	return b.String()
}

// examples say what was wrong.
func (r *report) examples() (all []string) {
	for _, t := range r.Trials {
		if t.Example != "" && !t.Control {
			all = append(all, fmt.Sprintf("%s, %s: %s", t.Kind, t.Arm, t.Example))
		}
	}
	for _, c := range r.Checks {
		if c.Example != "" {
			all = append(all, fmt.Sprintf("%s, %s: %s", c.What, c.Arm, c.Example))
		}
	}
	return all
}

// quantile returns the value below which a share q of them lies, by nearest
// rank; 0 of none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

func seconds(all []time.Duration) []float64 {
	var values []float64
	for _, d := range all {
		values = append(values, d.Seconds())
	}
	return values
}

// describeMachine says on what this was tried.
func describeMachine() string {
	load := "unknown"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Join(strings.Fields(string(data))[:3], " ")
	}
	return fmt.Sprintf("%d cores, %s/%s, %s; load average before: %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), load)
}
