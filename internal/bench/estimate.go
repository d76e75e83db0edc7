//go:build unix

package main

import "time"

// What the estimates reckon with, for two cores.
const (
	setUp            = 15 * time.Second // a control plane, and processes
	creatingOne      = 2 * time.Millisecond
	writingOne       = 2500 * time.Microsecond // patches, with those of a manager
	oneRise          = 13 * time.Second        // a load rises, and falls again
	movingLargeState = 50 * time.Millisecond
)

// estimate is about how long a measurement takes.
func (s settings) estimate(name string) time.Duration {
	creates, writes, rest := 0, 0, time.Duration(0)
	switch name {
	case "assign":
		creates, writes = 2*s.loops*s.objects, 2*s.loops*s.objects
	case "latency":
		rest = s.rateFor
	case "membership": // each root has a child, and a half of them moves
		creates, writes, rest = 2*s.objects, 6*s.objects, 2*s.lease
	case "memory":
		creates, writes = s.many, s.many+2*s.objects
	case "migrate":
		creates, writes = 3*s.moving, 8*(s.runs+s.loops)*s.moving
	case "migrate-large": // there and back, both numbers
		creates, rest = 2*s.large, time.Duration((s.runs+1)/2*6*s.large)*movingLargeState
	case "scale":
		rest = time.Duration((s.steps+scaleRings-1)/scaleRings) * oneRise
	case "speedup":
		creates, rest = s.objects, s.untilFirst()+s.untilSecond()+s.alone()/fleet
	case "operations":
		writes = 12 * crowd
	}
	return (setUp + time.Duration(creates)*creatingOne + time.Duration(writes)*writingOne + rest).Round(5 * time.Second)
}
