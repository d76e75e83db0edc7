//go:build unix

package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is all that was measured.
type report struct {
	Machine machine   `json:"machine"`
	Begun   time.Time `json:"begun"`
	Tables  []table   `json:"tables"`
}

// table is the result of one measurement.
type table struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Took  string `json:"took"`
	Rows  []row  `json:"rows"`
}

// row is one figure.
type row struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"goal,omitempty"`
	Note  string  `json:"note,omitempty"`
}

func (t *table) add(what string, value float64, unit string, more ...string) {
	r := row{What: what, Value: value, Unit: unit}
	if len(more) > 0 {
		r.Goal = more[0]
	}
	if len(more) > 1 {
		r.Note = more[1]
	}
	t.Rows = append(t.Rows, r)
}

func (t *table) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n| | figure | goal | |\n|---|---:|---|---|\n", t.Title)
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s |\n", r.What, number(r.Value), r.Unit, r.Goal, r.Note)
	}
	fmt.Fprintf(&b, "\n(took %s)\n", t.Took)
	return b.String()
}

// number has three digits that count, and no more.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) || a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
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

func median(values []float64) float64 { return quantile(values, 0.5) }

// machine is what the figures were measured on.
type machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	MemoryMiB int    `json:"memoryMiB"`
	OS        string `json:"os"`
	Go        string `json:"go"`
	Load      string `json:"loadAverageBefore"`
}

func (m machine) markdown() string {
	return fmt.Sprintf("%s, %d cores, %d MiB, %s, %s; load average before: %s\n", m.CPU, m.Cores, m.MemoryMiB, m.OS, m.Go, m.Load)
}

func describeMachine() machine {
	m := machine{
		CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
	}
	var kib int
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib); err == nil {
		m.MemoryMiB = kib >> 10
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(data))[:3], " ")
	}
	return m
}

// field reads one value of a file of lines "name: value"; "unknown" if there is none.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
