//go:build unix

package conversion

import (
	"strings"
	"testing"
)

func TestRename(t *testing.T) {
	const text = `package main

func main() { run(c.sync(1)) }

// run and sync are declared once.
func run(x int) {}

func (c *controller) sync(n int) int { return n }

func (c *controller) run() int { return c.sync(2) }
`
	got, err := rename(text, []string{"func run(", "func (c *controller) sync("})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("func run(", "func unwitnessedRun(", ") sync(n", ") unwitnessedSync(n").Replace(text)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, declaration := range []string{"func Run(", "func sync(", "func (c *controller) sync(m", "run("} {
		if _, err := rename(text, []string{declaration}); err == nil || !strings.Contains(err.Error(), "0 lines that begin with") {
			t.Errorf("%s: %v", declaration, err)
		}
	}
}
