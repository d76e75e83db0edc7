package journal

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// script turns lines "time process run event [epoch]" into records of the object
// "/Secret/ns/a", or of another one named by a sixth field. The shard is the
// first letter of the process: processes a1 and a2 have the same shardId.
func script(t *testing.T, text string) []Record {
	t.Helper()
	var records []Record
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		at, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		run, err := strconv.ParseUint(f[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		r := Record{Time: at, Shard: f[1][:1], Process: f[1], Run: run, Event: Event(f[3]), Key: "/Secret/ns/a", UID: "u"}
		if len(f) > 4 {
			if r.Epoch, err = strconv.ParseInt(f[4], 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if len(f) > 5 {
			r.Key = f[5]
		}
		records = append(records, r)
	}
	return records
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name        string
		journal     string
		overlaps    []string // "process/run process/run"
		regressions []string
		want        Result // the counters
	}{
		{
			name:    "one after the other",
			journal: "10 a1 1 start\n20 a1 1 act\n30 a1 1 end\n31 b1 1 start\n40 b1 1 end",
			want:    Result{Runs: 2, Acts: 1, Objects: 1},
		},
		{
			name:     "one inside the other",
			journal:  "10 a1 1 start\n40 a1 1 end\n20 b1 1 start\n30 b1 1 end",
			overlaps: []string{"a1/1 b1/1"},
			want:     Result{Runs: 2, Objects: 1},
		},
		{
			name:     "the end is part of it",
			journal:  "10 a1 1 start\n20 a1 1 end\n20 b1 1 start\n30 b1 1 end",
			overlaps: []string{"a1/1 b1/1"},
			want:     Result{Runs: 2, Objects: 1},
		},
		{
			name:    "different objects",
			journal: "10 a1 1 start 0 x\n40 a1 1 end 0 x\n20 b1 1 start 0 y\n30 b1 1 end 0 y",
			want:    Result{Runs: 2, Objects: 2, ObjectsTouchedOnce: 2},
		},
		{
			name:    "a killed process had it until its last act",
			journal: "10 a1 1 start\n15 a1 1 act\n16 b1 1 start\n30 b1 1 end",
			want:    Result{Runs: 2, Acts: 1, Interrupted: 1, Objects: 1},
		},
		{
			name:     "and that act counts",
			journal:  "10 a1 1 start\n25 a1 1 act\n16 b1 1 start\n30 b1 1 end",
			overlaps: []string{"a1/1 b1/1"},
			want:     Result{Runs: 2, Acts: 1, Interrupted: 1, Objects: 1},
		},
		{
			name:     "killed before its first act",
			journal:  "20 a1 1 start\n16 b1 1 start\n30 b1 1 end",
			overlaps: []string{"b1/1 a1/1"},
			want:     Result{Runs: 2, Interrupted: 1, Objects: 1},
		},
		{
			name:    "paused in a reconcile, fenced when it woke up",
			journal: "10 a1 1 start\n15 a1 1 act\n90 a1 1 fenced\n50 b1 1 start\n60 b1 1 end",
			want:    Result{Runs: 2, Acts: 1, Fenced: 1, Objects: 1},
		},
		{
			name:     "paused, and it acted when it woke up",
			journal:  "10 a1 1 start\n55 a1 1 act\n90 a1 1 fenced\n50 b1 1 start\n60 b1 1 end",
			overlaps: []string{"a1/1 b1/1"},
			want:     Result{Runs: 2, Acts: 1, Fenced: 1, Objects: 1},
		},
		{
			name:    "paused just before the start, and it did nothing",
			journal: "50 b1 1 start 2\n60 b1 1 end 2\n55 a1 1 start 1\n56 a1 1 fenced 1",
			want:    Result{Runs: 2, Fenced: 1, Objects: 1},
		},
		{
			name:     "two processes with one shardId",
			journal:  "10 a1 1 start\n30 a1 1 end\n20 a2 1 start\n40 a2 1 end",
			overlaps: []string{"a1/1 a2/1"},
			want:     Result{Runs: 2, Objects: 1},
		},
		{
			name:     "one process, twice at once",
			journal:  "10 a1 1 start\n20 a1 2 start\n30 a1 1 end\n40 a1 2 end",
			overlaps: []string{"a1/1 a1/2"},
			want:     Result{Runs: 2, Objects: 1, ObjectsTouchedOnce: 1},
		},
		{
			name:     "three at once are three pairs",
			journal:  "10 a1 1 start\n50 a1 1 end\n20 b1 1 start\n40 b1 1 end\n30 c1 1 start\n60 c1 1 end",
			overlaps: []string{"a1/1 b1/1", "a1/1 c1/1", "b1/1 c1/1"},
			want:     Result{Runs: 3, Objects: 1},
		},
		{
			name:     "a short one between does not hide a long one",
			journal:  "10 a1 1 start\n90 a1 1 end\n20 a1 2 start 0 y\n30 a1 2 end 0 y\n80 b1 1 start\n85 b1 1 end",
			overlaps: []string{"a1/1 b1/1"},
			want:     Result{Runs: 3, Objects: 2, ObjectsTouchedOnce: 1},
		},
		{
			name:        "an epoch that shrinks",
			journal:     "10 a1 1 start 4\n20 a1 1 end 4\n30 b1 1 start 5\n40 b1 1 end 5\n50 c1 1 start 4\n60 c1 1 end 4",
			regressions: []string{"b1/1 c1/1"},
			want:        Result{Runs: 3, Objects: 1},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Check(script(t, tc.journal))
			if err != nil {
				t.Fatal(err)
			}
			var overlaps, regressions []string
			for _, o := range got.Overlaps {
				overlaps = append(overlaps, pair(o.A, o.B))
			}
			for _, r := range got.Regressions {
				regressions = append(regressions, pair(r.Earlier, r.Later))
			}
			if diff := cmp.Diff(tc.overlaps, overlaps); diff != "" {
				t.Errorf("overlaps (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.regressions, regressions); diff != "" {
				t.Errorf("regressions (-want +got):\n%s", diff)
			}
			if want := min(len(tc.overlaps), 1); got.OverlappingObjects() != want {
				t.Errorf("OverlappingObjects() = %d, want %d", got.OverlappingObjects(), want)
			}
			got.Overlaps, got.Regressions = nil, nil
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("counters (-want +got):\n%s", diff)
			}
		})
	}
}

func pair(a, b Interval) string {
	return fmt.Sprintf("%s/%d %s/%d", a.Process, a.Run, b.Process, b.Run)
}

func TestCheckANewObjectCountsItsEpochsAnew(t *testing.T) {
	records := script(t, "10 a1 1 start 4\n20 a1 1 end 4\n30 b1 1 start 0\n40 b1 1 end 0")
	records[2].UID, records[3].UID = "other", "other"
	got, err := Check(records)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Regressions) != 0 {
		t.Errorf("regressions = %v, want none", got.Regressions)
	}
}

func TestCheckRefusesJournalsThatProveNothing(t *testing.T) {
	tests := []struct{ name, journal, want string }{
		{"an act out of nowhere", "10 a1 1 act", `process a1 has "act" of run 1 without its start`},
		{"a second start", "10 a1 1 start\n20 a1 1 start", "process a1 starts run 1 twice"},
		{"an act after the end", "10 a1 1 start\n20 a1 1 end\n30 a1 1 act", "run 1 goes on (act) after its end"},
		{"a clock that steps back", "10 a1 1 start\n20 a1 1 act\n15 a1 1 end", "goes back in time by 5 ns"},
		{"another object on the way", "10 a1 1 start 0 x\n20 a1 1 end 0 y", "run 1 is of x by a and of y by a"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Check(script(t, tc.journal))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want one with %q", err, tc.want)
			}
		})
	}
}

// TestCheckAgainstBruteForce compares the sweep with all pairs of all intervals.
func TestCheckAgainstBruteForce(t *testing.T) {
	for seed := range 200 {
		var records []Record
		rnd := uint64(seed)*2654435761 + 1
		next := func(n uint64) int64 {
			rnd = rnd*6364136223846793005 + 1442695040888963407
			return int64((rnd >> 33) % n)
		}
		type span struct{ start, end int64 }
		var spans []span
		for p := range 12 {
			s := span{start: 1 + next(60)}
			s.end = s.start + next(12)
			spans = append(spans, s)
			r := Record{Shard: "s", Process: fmt.Sprintf("p%02d", p), Run: 1, Key: "k", UID: "u"}
			for _, e := range []struct {
				at int64
				ev Event
			}{{s.start, Start}, {s.end, End}} {
				r.Time, r.Event = e.at, e.ev
				records = append(records, r)
			}
		}
		want := 0
		for i, a := range spans {
			for _, b := range spans[i+1:] {
				if a.start <= b.end && b.start <= a.end {
					want++
				}
			}
		}
		got, err := Check(records)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Overlaps) != want {
			t.Fatalf("seed %d: %d overlaps, want %d", seed, len(got.Overlaps), want)
		}
	}
}
