package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/shard-io/shard-controller/internal/loadsim"
)

const (
	scenarioHead = `| load | shards | decisions | overload | work that waits | imbalance | plans | objects moved | HPA: shards, decisions, overload, imbalance |
|---|---|---:|---:|---:|---:|---:|---:|---|`
	waveHead = `| spikes, %d days | who decides | shard-hours | less than static | overload | after the first day | work that waits | decisions |
|---|---|---:|---:|---:|---:|---:|---:|
`
)

// scenarioRow is a line of the table of scenarios.
func scenarioRow(ours, hpa loadsim.Result) string {
	first, last, other := ours.Points[0], ours.Points[len(ours.Points)-1], hpa.Points[len(hpa.Points)-1]
	return fmt.Sprintf("| [%s](img/scaling-%s.svg) | %s | %d | %.2f %% | %.2f s | %.2f → %.2f | %d | %s | %s, %d, %.2f %%, %.2f |\n",
		strings.ReplaceAll(ours.Name, "-", " "), ours.Name, shards(ours), len(ours.Changes), 100*ours.Overload, ours.Delayed,
		first.Imbalance, last.Imbalance, len(ours.Plans), moved(ours), shards(hpa), len(hpa.Changes), 100*hpa.Overload, other.Imbalance)
}

// shards is the first and the last number of shards, and the largest if it is neither.
func shards(r loadsim.Result) string {
	first, last, most := r.Points[0].Wanted, r.Points[len(r.Points)-1].Wanted, 0
	if len(r.Changes) > 0 {
		first = r.Changes[0].From
	}
	for _, p := range r.Points {
		most = max(most, p.Wanted)
	}
	switch {
	case len(r.Changes) == 0:
		return fmt.Sprint(first)
	case most > first && most > last:
		return fmt.Sprintf("%d → %d → %d", first, most, last)
	}
	return fmt.Sprintf("%d → %d", first, last)
}

// moved is how many objects have moved, as a part of all.
func moved(r loadsim.Result) string {
	return fmt.Sprintf("%.1f %%", 100*float64(r.Points[len(r.Points)-1].Moved)/float64(r.Objects))
}

// waveRow is a line of the table of waves.
func waveRow(spikes string, r, static loadsim.Result) string {
	name := r.Name
	if name == "wave" {
		name = "scaler, sustained 30 s"
	}
	return fmt.Sprintf("| %s | %s | %.0f | %.0f %% | %.3f %% | %.3f %% | %.2f s | %d |\n", spikes, name, r.ShardHours, 100*(1-r.ShardHours/static.ShardHours),
		100*r.Overload, 100*r.OverloadSince(24*time.Hour), r.Delayed, len(r.Changes))
}

// fill replaces what is between the markers of a page.
func fill(path string, parts map[string]string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for name, text := range parts {
		begin, end := fmt.Sprintf("<!-- begin %s: make sim-load writes this -->\n", name), fmt.Sprintf("<!-- end %s -->", name)
		before, rest, found := bytes.Cut(page, []byte(begin))
		_, after, closed := bytes.Cut(rest, []byte(end))
		if !found || !closed {
			return fmt.Errorf("%s: there are no markers for %s: %q and %q are needed", path, name, strings.TrimSpace(begin), end)
		}
		page = []byte(string(before) + begin + text + end + string(after))
	}
	return os.WriteFile(path, page, 0o644)
}
