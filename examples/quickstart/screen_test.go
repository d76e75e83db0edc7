//go:build unix

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestTable(t *testing.T) {
	rows := []row{
		{shard: shard{"worker-1", "Running", 0.126}, objects: 100, reports: 100},
		{shard: shard{"worker-2", "Draining", 1.5}, objects: 50, reports: 49},
		{shard: shard{"worker-3", "Pending", -1}, coming: 25},
		{shard: shard{"worker-4", "Running", 0}, objects: 1, reports: 1, coming: 3},
		{shard: shard{"worker-5", "Terminated", 0}},
	}
	text := table(rows)
	golden(t, "table.txt", text)
	golden(t, "table-empty.txt", table(nil))
	for line := range strings.Lines(text) {
		if len(line) > 80 {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
}

// play shows what a tour does with a screen.
func play(s *screen) {
	s.say("begin")
	s.show("one\ntwo\n")
	s.show("one\ntwo\n") // unchanged: not drawn again
	s.show("one\nTWO\n")
	s.say("in between")
	_, _ = s.Write([]byte("from the builder\n"))
	s.record("done\n")
	s.say("above")
	s.leave()
	s.say("after")
	s.show("again\n")
	s.show("")
	s.say("end")
}

func TestScreen(t *testing.T) {
	for name, terminal := range map[string]bool{"screen-terminal.txt": true, "screen-pipe.txt": false} {
		var out strings.Builder
		play(&screen{out: &out, terminal: terminal})
		golden(t, name, strings.ReplaceAll(out.String(), "\x1b", "ESC"))
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv("TERM", "xterm")
	if newScreen(f).terminal {
		t.Error("a file is taken for a terminal")
	}
}
