//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ring builds a snapshot from words "owner" or "owner>drain", one per Secret; a
// report is with the owner unless "/shard" says otherwise.
func ring(words string) snapshot {
	s := snapshot{roots: map[string]root{}, children: map[string]string{}}
	for i, word := range strings.Fields(words) {
		name := secretName(i)
		word, child, apart := strings.Cut(word, "/")
		owner, drain, _ := strings.Cut(word, ">")
		if owner == "-" {
			owner = ""
		}
		if !apart {
			child = owner
		}
		s.roots[name] = root{owner: owner, drain: drain}
		s.children[name] = child
	}
	return s
}

func TestSnapshot(t *testing.T) {
	tests := []struct {
		name                       string
		ring                       string
		live                       set
		unowned, moving, separated int
		calm                       bool
	}{
		{"calm", "a b a", setOf("a", "b"), 0, 0, 0, true},
		{"nobody's", "a - a", setOf("a", "b"), 1, 0, 0, false},
		{"of a dead shard", "a b a", setOf("b"), 2, 0, 0, false},
		{"on its way", "a a>b a", setOf("a", "b"), 0, 1, 0, false},
		{"a report left behind", "a b/a a", setOf("a", "b"), 0, 0, 1, false},
		{"a Secret is missing", "a b", setOf("a", "b"), 0, 0, 0, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s := ring(tc.ring)
			if s.unowned(tc.live) != tc.unowned || s.moving() != tc.moving || s.separated() != tc.separated || s.calm(3, tc.live) != tc.calm {
				t.Errorf("unowned %d, moving %d, separated %d, calm %t; want %d, %d, %d, %t", s.unowned(tc.live), s.moving(),
					s.separated(), s.calm(3, tc.live), tc.unowned, tc.moving, tc.separated, tc.calm)
			}
		})
	}
	if s := ring("a b a"); s.calm(3, setOf("a", "b")) {
		delete(s.children, secretName(1))
		if s.calm(3, setOf("a", "b")) {
			t.Error("calm without a report")
		}
	}
}

func TestMovesBetween(t *testing.T) {
	got := movesBetween(ring("- a b c>a"), ring("a a c c"))
	want := []move{{secretName(0), "", "a"}, {secretName(2), "b", "c"}}
	if !slices.Equal(got, want) {
		t.Errorf("moves %v, want %v", got, want)
	}
}

func TestRowsShowShardsThatAreNoMore(t *testing.T) {
	s := ring("b b>a a dead/a -")
	s.shards = []shard{{"b", "Running", 0.5}, {"a", "Running", -1}, {"idle", "Pending", -1}}
	want := []row{
		{shard: shard{"a", "Running", -1}, objects: 1, reports: 2, coming: 1},
		{shard: shard{"b", "Running", 0.5}, objects: 2, reports: 2},
		{shard: shard{"dead", "gone", -1}, objects: 1},
		{shard: shard{"idle", "Pending", -1}},
	}
	if diff := cmp.Diff(want, s.rows(), cmp.AllowUnexported(row{}, shard{})); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// moves makes n moves.
func moves(n int, from, to string) []move {
	var list []move
	for i := range n {
		list = append(list, move{fmt.Sprint(from, i), from, to})
	}
	return list
}

func TestJudgements(t *testing.T) {
	tests := []struct {
		name  string
		o     outcome
		judge func(o *outcome)
		want  []string // parts of the failures
	}{
		{"a fair share", outcome{moves: moves(75, "a", "new"), total: 300}, func(o *outcome) { o.joined("new", 4) }, nil},
		{"a lucky share", outcome{moves: moves(60, "a", "new"), total: 300}, func(o *outcome) { o.joined("new", 4) }, nil},
		{"nothing", outcome{total: 300}, func(o *outcome) { o.joined("new", 4) }, []string{"new got nothing"}},
		{"too much", outcome{moves: moves(150, "a", "new"), total: 300}, func(o *outcome) { o.joined("new", 4) }, []string{"150 objects moved, of which at most"}},
		{"reshuffled", outcome{moves: append(moves(70, "a", "new"), moves(3, "a", "b")...), total: 300},
			func(o *outcome) { o.joined("new", 4) }, []string{"3 objects moved, but not to new"}},
		{"left", outcome{moves: moves(9, "a", "b"), total: 30}, func(o *outcome) { o.left("a", 9) }, nil},
		{"left one behind", outcome{moves: moves(8, "a", "b"), total: 30}, func(o *outcome) { o.left("a", 9) }, []string{"8 of the 9 objects of a moved"}},
		{"others moved as well", outcome{moves: append(moves(9, "a", "b"), moves(2, "c", "b")...), total: 30},
			func(o *outcome) { o.left("a", 9) }, []string{"2 objects moved that a did not have"}},
		{"more", outcome{}, func(o *outcome) { o.grew(2, 3) }, nil},
		{"not more", outcome{}, func(o *outcome) { o.grew(2, 2) }, []string{"on 2 shards and are on 2"}},
		{"too many", outcome{}, func(o *outcome) { o.grew(2, 5) }, []string{"at most 4"}},
		{"fewer", outcome{}, func(o *outcome) { o.shrank(4, 2) }, nil},
		{"not as few", outcome{}, func(o *outcome) { o.shrank(4, 3) }, []string{"on 4 shards and are on 3, that should be fewer: 2"}},
		{"in time", outcome{took: 7 * time.Second}, func(o *outcome) { o.within(6*time.Second, time.Second) }, nil},
		{"too late", outcome{took: 7001 * time.Millisecond}, func(o *outcome) { o.within(6*time.Second, time.Second) }, []string{"it took 7.0s, promised are 6.0s, and 1.0s for the writes"}},
		{"all well", outcome{}, func(o *outcome) { o.always() }, nil},
		{"unowned", outcome{unowned: 2}, func(o *outcome) { o.always() }, []string{"2 objects have no live owner"}},
		{"two at once", outcome{overlaps: 1}, func(o *outcome) { o.always() }, []string{"1 objects were touched by two shards"}},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tc.judge(&tc.o)
			ok := slices.EqualFunc(tc.want, tc.o.failures, func(want, got string) bool { return strings.Contains(got, want) })
			if !ok {
				t.Errorf("failures %q, want %q", tc.o.failures, tc.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	if got, want := takeoverLimit(15*time.Second), 20*time.Second; got != want {
		t.Errorf("takeoverLimit(15s) = %v, want lease, two retries of 2 s and a second: %v", got, want)
	}
	for _, tc := range []struct{ total, n, low, high int }{
		{300, 4, 95, 110}, {10000, 4, 2625, 2850}, {50, 1, 50, 53},
	} {
		if got := atMost(tc.total, tc.n); got < tc.low || got > tc.high {
			t.Errorf("atMost(%d, %d) = %d, want %d to %d", tc.total, tc.n, got, tc.low, tc.high)
		}
	}
}

func TestSummary(t *testing.T) {
	good := outcome{name: "worker-4 joins", moves: moves(71, "a", "b"), total: 300, took: 1234 * time.Millisecond}
	bad := outcome{name: "worker-1 is killed with -9", moves: moves(9, "a", "b"), total: 300, took: 6 * time.Second, unowned: 2}
	bad.always()
	text, ok := summary([]outcome{good, bad}, 61*time.Second)
	const want = `Summary of 61s:
  ok   worker-4 joins: moved 71 of 300 in 1.2s; unowned now: 0; touched by two shards at once: 0
  FAIL worker-1 is killed with -9: moved 9 of 300 in 6.0s; unowned now: 2; touched by two shards at once: 0
         2 objects have no live owner
Not every check held.
`
	if diff := cmp.Diff(want, text); diff != "" || ok {
		t.Errorf("good %t, summary (-want +got):\n%s", ok, diff)
	}
	if text, ok := summary([]outcome{good}, time.Minute); !ok || !strings.HasSuffix(text, "Every check held.\n") {
		t.Errorf("good %t:\n%s", ok, text)
	}
	if _, ok := summary(nil, time.Minute); ok {
		t.Error("a tour without steps is good")
	}
}
