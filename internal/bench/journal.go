//go:build unix

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"slices"
	"time"
)

// note is a line of a worker's journal.
type note struct {
	at   time.Time
	what string // asked, begun, ended or taken
	name string
	hops int // how many times the state of the object has been imported
}

// readJournal reads what a worker has taken down so far.
func readJournal(path string) ([]note, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var notes []note
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var n note
		var nanoseconds int64
		if _, err := fmt.Sscan(lines.Text(), &nanoseconds, &n.what, &n.name, &n.hops); err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, len(notes)+1, err)
		}
		n.at = time.Unix(0, nanoseconds)
		notes = append(notes, n)
	}
	return notes, lines.Err()
}

// pauses are for how long objects were not reconciled as they moved, in milliseconds.
type pauses struct {
	// rests is from the moment at which the source knew that it was to hand the object over, so that it might let it rest, to the first
	// reconcile at the target. Of every object.
	rests []float64
	// gaps is from the end of the last reconcile at the source to the first at the target. Of objects that are reconciled all the time.
	gaps []float64
	// taken is how many states were imported, and wrong how many of these had not as many hops as they should, or came more than once.
	taken, wrong int
	// doubled is how many objects the target began with before the source had ended.
	doubled int
}

// pausesOf judges the journals of source and target over the time of one migration. restless says of which objects gaps mean something; hops
// is what every state must count.
func pausesOf(source, target []note, begun time.Time, restless func(string) bool, hops int) pauses {
	p := pauses{}
	asked, last, first := map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
	for _, n := range source {
		switch {
		case n.what == "asked" && !n.at.Before(begun):
			asked[n.name] = n.at
		case n.what == "ended":
			last[n.name] = n.at
		}
	}
	seen := map[string]bool{}
	for _, n := range target {
		if n.at.Before(begun) {
			continue
		}
		if _, known := first[n.name]; n.what == "begun" && !known {
			first[n.name] = n.at
		}
		if n.what == "taken" {
			p.taken++
			if seen[n.name] || n.hops != hops {
				p.wrong++
			}
			seen[n.name] = true
		}
	}
	for name, at := range first {
		if since, ok := asked[name]; ok {
			p.rests = append(p.rests, milliseconds(at.Sub(since)))
		}
		since, ok := last[name]
		if ok && at.Before(since) {
			p.doubled++
		}
		if ok && restless(name) {
			p.gaps = append(p.gaps, milliseconds(at.Sub(since)))
		}
	}
	slices.SortFunc(p.rests, cmp.Compare)
	slices.SortFunc(p.gaps, cmp.Compare)
	return p
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
