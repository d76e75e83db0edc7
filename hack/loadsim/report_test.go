package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/internal/loadsim"
)

func result(wanted ...int) loadsim.Result {
	r := loadsim.Result{Name: "a-name", Objects: 10}
	for i, n := range wanted {
		r.Points = append(r.Points, loadsim.Point{At: time.Duration(i+1) * time.Minute, Wanted: n, Demand: float64(n), Imbalance: 1, Moved: int64(i)})
		if i > 0 && n != wanted[i-1] {
			r.Changes = append(r.Changes, loadsim.Change{From: wanted[i-1], To: n})
		}
	}
	return r
}

func TestShards(t *testing.T) {
	for want, r := range map[string]loadsim.Result{"3": result(3, 3), "3 → 5": result(3, 5), "5 → 3": result(5, 3), "3 → 9 → 4": result(3, 9, 4)} {
		if got := shards(r); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestFill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	page := "a\n<!-- begin x: make sim-load writes this -->\nold\n<!-- end x -->\nb\n"
	if err := os.WriteFile(path, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := fill(path, map[string]string{"x": "new\n"}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if want := strings.Replace(page, "old", "new", 1); err != nil || string(got) != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
	if err := fill(path, map[string]string{"y": ""}); err == nil || !strings.Contains(err.Error(), "markers for y") {
		t.Errorf("without markers: %v", err)
	}
}

// TestCharts draws a chart, and looks for its words.
func TestCharts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chart.svg")
	if err := chart(path, result(1, 5, 5, 2), result(1, 2, 2, 2)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "a name", "demand and shards", "shards by HPA", "minutes", "objects moved"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the chart does not have %q", want)
		}
	}
	c := curve{result: result(1, 1, 1, 4, 4, 2), value: func(p loadsim.Point) float64 { return p.Demand }}
	if points, unit := c.points(); len(points) != 4 || points[1].X != 4 || points[3].Y != 2 || unit != "minutes" {
		t.Errorf("the points are %v %s", points, unit)
	}
	if err := write(t.TempDir(), 1); err == nil {
		t.Error("one day is enough")
	}
}
