package main

import (
	"fmt"
	"testing"
)

// BenchmarkLookup looks up with all contestants: go test -bench . -count 10 | benchstat -col /ring -
func BenchmarkLookup(b *testing.B) {
	o := newObjects()
	for _, n := range []int{10, 100, 1000} {
		for _, c := range contestants(o, n) {
			b.Run(fmt.Sprintf("N=%d/ring=%s", n, c.name), func(b *testing.B) {
				b.ReportAllocs()
				for left := b.N; left > 0; left -= million {
					sink += c.run(0, min(left, million))
				}
			})
		}
	}
}

// BenchmarkChange adds a member and takes it away again.
func BenchmarkChange(b *testing.B) {
	o := newObjects()
	for _, n := range []int{10, 100, 1000} {
		for _, c := range contestants(o, n) {
			if c.join != nil {
				b.Run(fmt.Sprintf("N=%d/ring=%s", n, c.name), func(b *testing.B) {
					for b.Loop() {
						c.join()
					}
				})
			}
		}
	}
}

// TestContestants checks that what is measured is what it seems: everyone knows all members, and answers twice the same.
func TestContestants(t *testing.T) {
	o := newObjects()
	for _, c := range contestants(o, 10)[1:] {
		seen := map[string]bool{}
		for i := range 10_000 {
			owner := c.lookup(i)
			if owner != c.lookup(i) {
				t.Fatalf("%s: object %d has two owners", c.name, i)
			}
			seen[owner] = true
		}
		if len(seen) != 10 {
			t.Errorf("%s: %d members of 10 own objects", c.name, len(seen))
		}
	}
}
