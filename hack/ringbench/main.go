package main

import (
	"flag"
	"fmt"
	"slices"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 15, "rounds of all contestants in turn; the table shows medians")
	lookups := flag.Int("lookups", 1_000_000, "lookups of a contestant in a round, up to a million")
	flag.Parse()
	o := newObjects()
	for _, n := range []int{10, 100, 1000} {
		measure(o, n, *rounds, min(*lookups, million))
	}
}

// measure prints a table of all contestants with n members. They take turns in one process, so what else the machine
// does hits all of them.
func measure(o *objects, n, rounds, lookups int) {
	list := contestants(o, n)
	times := make([][]float64, len(list))
	ratios := make([][]float64, len(list))
	for range rounds {
		for k, c := range list {
			count := lookups
			if c.name == "dgryski/go-rendezvous" {
				count = max(1, lookups*10/n/10) // its time grows with the members
			}
			start := time.Now()
			sink += c.run(count)
			times[k] = append(times[k], float64(time.Since(start).Nanoseconds())/float64(count))
			ratios[k] = append(ratios[k], times[k][len(times[k])-1]/times[0][len(times[0])-1])
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
	if c.name == "dgryski/go-rendezvous" && n > 100 {
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
