//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// screen prints lines that stay and, on a terminal, a block below them that is
// drawn anew again and again. In a pipe or a file there is no such block, and
// not a single control sequence. Safe for concurrent use.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	live     string // the block that is drawn now
}

// newScreen looks whether the file is a terminal.
func newScreen(f *os.File) *screen {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "" && os.Getenv("TERM") != "dumb"
	return &screen{out: f, terminal: terminal}
}

// say prints a line that stays.
func (s *screen) say(format string, args ...any) {
	s.print(fmt.Sprintf(format, args...) + "\n")
}

// print prints whole lines that stay.
func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprint(s.out, s.erase()+text+s.live)
}

// show replaces the block. Without a terminal it does nothing.
func (s *screen) show(block string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal || block == s.live {
		return
	}
	erase := s.erase()
	s.live = block
	fmt.Fprint(s.out, erase+block)
}

// record keeps a state of the block: it is printed where there is no terminal to
// draw it on.
func (s *screen) record(block string) {
	s.show(block)
	if !s.terminal {
		s.print(block)
	}
}

// leave ends the drawing; what is drawn stays.
func (s *screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = ""
}

// erase is what removes the block from a terminal: up to its first line, and
// clear from there to the end.
func (s *screen) erase() string {
	if s.live == "" {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\x1b[J", strings.Count(s.live, "\n"))
}

// Write lets others (the builder of the control plane) print lines that stay.
func (s *screen) Write(p []byte) (int, error) {
	s.print(string(p))
	return len(p), nil
}
