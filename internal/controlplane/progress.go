package controlplane

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
)

// goOutput reads what `go build -v` prints: a line per downloaded module, a
// line per compiled package, and anything else, which is kept because it says
// why the build fails.
type goOutput struct {
	mu       sync.Mutex
	partial  []byte
	modules  int
	packages int
	other    []string
}

// maxMessage is how many lines of the go command's messages an error carries.
const maxMessage = 40

func (g *goOutput) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.partial = append(g.partial, p...)
	for {
		line, rest, ok := bytes.Cut(g.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		g.line(string(line))
		g.partial = rest
	}
}

func (g *goOutput) line(line string) {
	switch {
	case strings.TrimSpace(line) == "":
	case strings.HasPrefix(line, "go: downloading "):
		g.modules++
	case !strings.ContainsAny(line, " \t:#"):
		g.packages++
	default:
		g.other = append(g.other, line)
	}
}

// progress says how far the build has come.
func (g *goOutput) progress() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := fmt.Sprintf("%d packages compiled", g.packages)
	if g.packages == 0 {
		s = "no package to compile so far, they are in the Go build cache"
	}
	if g.modules > 0 {
		s = fmt.Sprintf("%d modules downloaded, %s", g.modules, s)
	}
	return s
}

// message is what the go command had to say besides.
func (g *goOutput) message() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	lines := g.other
	if len(g.partial) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(g.partial))
	}
	if n := len(lines) - maxMessage; n > 0 {
		lines = append([]string{fmt.Sprintf("(%d lines before these)", n)}, lines[n:]...)
	}
	return strings.Join(lines, "\n")
}
