//go:build unix

package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// outcome is what one step of the tour came to.
type outcome struct {
	name     string
	moves    []move
	total    int           // of objects
	took     time.Duration // until the last of them was where it stays
	unowned  int           // now
	overlaps int           // objects that two shards touched at once, so far
	failures []string      // what did not hold
}

// line is the one line that is printed after a step.
func (o outcome) line() string {
	return fmt.Sprintf("%s %s: moved %d of %d in %.1fs; unowned now: %d; touched by two shards at once: %d",
		mark(len(o.failures) == 0), o.name, len(o.moves), o.total, o.took.Seconds(), o.unowned, o.overlaps)
}

func mark(good bool) string {
	if good {
		return "ok  "
	}
	return "FAIL"
}

// fail notes what did not hold.
func (o *outcome) fail(format string, args ...any) {
	o.failures = append(o.failures, fmt.Sprintf(format, args...))
}

// always checks what has to hold after every step.
func (o *outcome) always() {
	if o.unowned > 0 {
		o.fail("%d objects have no live owner", o.unowned)
	}
	if o.overlaps > 0 {
		o.fail("%d objects were touched by two shards at once", o.overlaps)
	}
}

// sampleSigmas is how many standard deviations a count of hashed objects may be
// off. Consistent hashing promises shares of the hash space; how many of a few
// hundred names fall into a share is chance.
const sampleSigmas = 4

// atMost is the largest plausible number of objects, out of total, in a share of
// the hash space that may be 5 % larger than 1/n.
func atMost(total, n int) int {
	p := 1.05 / float64(n)
	mean := float64(total) * p
	return int(math.Ceil(mean + sampleSigmas*math.Sqrt(mean*(1-min(p, 1)))))
}

// joined checks that the newcomer got its share and nobody else got anything.
// shards is how many there are now.
func (o *outcome) joined(newcomer string, shards int) {
	if len(o.moves) == 0 {
		o.fail("%s got nothing", newcomer)
	}
	astray := 0
	for _, m := range o.moves {
		if m.to != newcomer {
			astray++
		}
	}
	if astray > 0 {
		o.fail("%d objects moved, but not to %s", astray, newcomer)
	}
	if most := atMost(o.total, shards); len(o.moves) > most {
		o.fail("%d objects moved, of which at most %d are the share of one of %d shards", len(o.moves), most, shards)
	}
}

// left checks that the leaver's objects moved and no others.
func (o *outcome) left(leaver string, had int) {
	others := 0
	for _, m := range o.moves {
		if m.from != leaver {
			others++
		}
	}
	if others > 0 {
		o.fail("%d objects moved that %s did not have", others, leaver)
	}
	if gone := len(o.moves) - others; gone != had {
		o.fail("%d of the %d objects of %s moved", gone, had, leaver)
	}
}

// grew and shrank check that the objects were divided among more shards, or among as few as there may be.
func (o *outcome) grew(before, after int) {
	if after <= before || after > maxShards {
		o.fail("the objects were on %d shards and are on %d, that should be more, and at most %d", before, after, maxShards)
	}
}

func (o *outcome) shrank(before, after int) {
	if after >= before || after != minShards {
		o.fail("the objects were on %d shards and are on %d, that should be fewer: %d", before, after, minShards)
	}
}

// within checks a promise about time. It is made for an API server that is not
// what everybody waits for; so what the writes take here is granted on top.
func (o *outcome) within(limit, writes time.Duration) {
	if o.took > limit+writes {
		o.fail("it took %.1fs, promised are %.1fs, and %.1fs for the writes", o.took.Seconds(), limit.Seconds(), writes.Seconds())
	}
}

// takeoverLimit is what is promised for objects of a dead shard: a lease
// duration, two retries (2/15 of it each), and a second.
func takeoverLimit(lease time.Duration) time.Duration { return lease + 2*(lease*2/15) + time.Second }

// summary is the end of the tour: one line per step and the verdict.
func summary(outcomes []outcome, took time.Duration) (text string, good bool) {
	var b strings.Builder
	good = len(outcomes) > 0
	fmt.Fprintf(&b, "Summary of %.0fs:\n", took.Seconds())
	for _, o := range outcomes {
		fmt.Fprintf(&b, "  %s\n", o.line())
		for _, f := range o.failures {
			fmt.Fprintf(&b, "         %s\n", f)
			good = false
		}
	}
	if good {
		b.WriteString("Every check held.\n")
	} else {
		b.WriteString("Not every check held.\n")
	}
	return b.String(), good
}
