package main

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 15, "rounds through a million objects")
	flag.Parse()
	o := newObjects()
	for _, n := range []int{10, 100, 1000} {
		measure(o, n, *rounds)
	}
	runtime.KeepAlive(sink)
}

// turn is the number of lookups that a contestant makes before it is the next one's turn: a few milliseconds. So short,
// because what else the machine does then hits all of them alike; and not shorter, because each finds the caches full of
// what the others need.
const turn = 200_000

// measure prints a table of all contestants with n members. In a round each of them looks up a million objects, in turns; a
// ratio is that of a contestant's time in a round to the time of the hash alone in the same round, both medians of turns.
func measure(o *objects, n, rounds int) {
	list := contestants(o, n)
	times := make([][]float64, len(list))
	ratios := make([][]float64, len(list))
	for range rounds {
		turns := make([][]float64, len(list))
		for t := range million / turn {
			for k, c := range list {
				from := (t + 7*k) * turn % million // elsewhere than the others, or their keys would be in the cache
				count := turn
				if c.name == slow {
					count = max(1000, turn/n) // its time grows with the members
				}
				start := time.Now()
				sink += c.run(from, from+count)
				turns[k] = append(turns[k], float64(time.Since(start).Nanoseconds())/float64(count))
			}
		}
		for k := range list {
			times[k] = append(times[k], median(turns[k]))
			ratios[k] = append(ratios[k], median(turns[k])/median(turns[0]))
		}
	}
	fmt.Printf("\nN = %d, medians of %d rounds\n\n", n, rounds)
	fmt.Println("| ring | ns per lookup | × the hash alone | join + leave, ms | max/mean | moved by a join, × ideal |")
	fmt.Println("|---|---|---|---|---|---|")
	for k, c := range list {
		change, balance, moved := "–", "–", "–"
		if c.join != nil {
			change = fmt.Sprintf("%.3f", median(timed(c.join, min(rounds, 11)))/1e6)
		}
		if c.joined != nil {
			b, m := quality(c, n)
			balance, moved = fmt.Sprintf("%.3f", b), fmt.Sprintf("%.2f", m)
		}
		fmt.Printf("| %s | %.1f | %.2f | %s | %s | %s |\n", c.name, median(times[k]), median(ratios[k]), change, balance, moved)
	}
}

// sink takes what the contestants return, so that no lookup can be left out.
var sink int

func timed(f func(), rounds int) []float64 {
	var times []float64
	for range rounds {
		start := time.Now()
		f()
		times = append(times, float64(time.Since(start).Nanoseconds()))
	}
	return times
}

// quality returns the fullest member's part of a million objects over the mean, and what a join moves over what it must.
func quality(c contestant, n int) (balance, moved float64) {
	count, changes, most, total := map[string]int{}, 0, 0, million
	if c.name == slow && n > 100 {
		total = million / 10
	}
	for i := range total {
		owner := c.lookup(i)
		count[owner]++
		most = max(most, count[owner])
		if c.joined(i) != owner {
			changes++
		}
	}
	return float64(most) * float64(n) / float64(total), float64(changes) / float64(total) * float64(n+1)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
