//go:build unix

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func notes(t *testing.T, text string) []note {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	read, err := readJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// a is reconciled all the time, b is not. Before the migration that counts, at 5 s, both had come from the target.
func TestPauses(t *testing.T) {
	source := notes(t, `1000000000 taken a 1
4990000000 begun a 1
4990000001 ended a 1
5100000000 asked a 0
5100000000 asked b 0
5110000000 begun a 1
5120000000 ended a 1
`)
	target := notes(t, `900000000 begun a 0
900000001 ended a 0
5150000000 taken a 2
5150000000 begun a 2
5250000000 taken b 2
5300000000 begun b 2
5310000000 begun a 2
`)
	begun := time.Unix(5, 0)
	restless := func(name string) bool { return name == "a" }
	got := pausesOf(source, target, begun, restless, 2)
	want := pauses{rests: []float64{50, 200}, gaps: []float64{30}, taken: 2}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(pauses{})); diff != "" {
		t.Error(diff)
	}
	if got := pausesOf(source, target, begun, restless, 3); got.wrong != 2 {
		t.Errorf("%d states had hops missing, want 2", got.wrong)
	}
	early := append(slices.Clone(target), note{at: time.Unix(5, 115e6), what: "begun", name: "b"}, note{at: time.Unix(5, 115e6), what: "begun", name: "a"})
	slices.SortStableFunc(early, func(a, b note) int { return a.at.Compare(b.at) })
	if got := pausesOf(source, early, begun, restless, 2); got.doubled != 1 {
		t.Errorf("%d objects were at both, want a", got.doubled)
	}
	twice := append(target, target[3])
	if got := pausesOf(source, twice, begun, restless, 2); got.wrong != 0 {
		t.Errorf("a reconcile counted as a state: %+v", got)
	}
	twice = append(target, target[2])
	if got := pausesOf(source, twice, begun, restless, 2); got.wrong != 1 {
		t.Errorf("a state that was imported twice was counted %d times", got.wrong)
	}
}

func TestReadJournalRefusesWhatIsNoLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if err := os.WriteFile(path, []byte("12 begun\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readJournal(path); err == nil {
		t.Error("a line that was cut off was accepted")
	}
}
