package main

import (
	"fmt"
	"io"
	"time"
)

// progressInterval is the time between two lines where there is no terminal.
const progressInterval = 10 * time.Second

// progress tells on stderr how far something is: on a terminal in one line that is written again and again, else in a line now and then.
type progress struct {
	out      io.Writer
	terminal bool
	open     bool // a line on the terminal waits for its end
	last     string
	at       time.Time
}

// say replaces what was said before.
func (p *progress) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch now := time.Now(); {
	case text == p.last:
	case p.terminal:
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
		p.open, p.last = true, text
	case p.at.IsZero():
		p.at = now // what is over soon needs no lines
	case now.Sub(p.at) >= progressInterval:
		fmt.Fprintln(p.out, text)
		p.at, p.last = now, text
	}
}

// note says something that stays.
func (p *progress) note(format string, args ...any) {
	p.end()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// end takes the line off, so that something else can be printed.
func (p *progress) end() {
	if p.open {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.open = false
	}
	p.last = ""
}
