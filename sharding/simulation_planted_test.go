//go:build shardbugs

package sharding

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// plantedBugs are the mistakes that the simulation has to find, with a seed that was seen to find each.
var plantedBugs = []struct {
	name string
	seed int
}{
	{"skip-epoch", 0}, {"forget-children", 0}, {"take-without-lease", 0}, {"steal-lease", 1}, {"no-self-fence", 0},
	{"compare-clocks", 5}, {"hand-over-early", 0}, {"missing-is-dead", 41}, {"take-without-children", 0},
	{"move-without-asking", 0}, {"leave-children", 0}, {"drop-resource-version", 201}, {"acknowledge-unread", 4}, {"state-twice", 10},
	{"no-doubt", 42}, {"keep-first-target", 9}, {"trust-caches", 148},
}

const (
	// maxPlantedSeeds is within how many seeds a mistake has to be found.
	maxPlantedSeeds = 1000
	// nearSeeds is how many seeds from the recorded one on are tried, and nearRounds how often: what happens in a seed also depends on how
	// goroutines interleave.
	nearSeeds  = 5
	nearRounds = 8
)

var violation = regexp.MustCompile(`at [0-9hms.]+: (P\d+: .*)`)

// TestPlantedBugs shows that the simulation finds mistakes of the protocol. It prints a table with the seed that finds each.
// SHARD_BUGS chooses some of them; with SHARD_BUGS_ALL the search goes through all seeds, and begins at 0.
func TestPlantedBugs(t *testing.T) {
	chosen := os.Getenv("SHARD_BUGS")
	all := os.Getenv("SHARD_BUGS_ALL") != ""
	for _, bug := range plantedBugs {
		if chosen != "" && !strings.Contains(","+chosen+",", ","+bug.name+",") {
			continue
		}
		first, last, rounds := bug.seed, bug.seed+nearSeeds, nearRounds
		if all {
			first, last, rounds = 0, maxPlantedSeeds, 1
		}
		seed, what := -1, ""
		for round := 0; round < rounds && seed < 0; round++ {
			seed, what = firstSeedThatFinds(t, bug.name, first, last)
		}
		if seed < 0 {
			t.Errorf("| `%s` | not found in seeds %d to %d | |", bug.name, first, last-1)
			continue
		}
		fmt.Printf("| `%s` | %d | %s |\n", bug.name, seed, what)
	}
}

// firstSeedThatFinds returns the lowest seed in [first, last) in which the oracle objects, and what it says; or -1.
func firstSeedThatFinds(t *testing.T, bug string, first, last int) (seed int, what string) {
	for seed := first; seed < last; seed++ {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSimulatedFaults$",
			fmt.Sprint("-simulation.first=", seed), "-simulation.seeds=1", "-test.timeout=10m")
		cmd.Env = append(os.Environ(), "SHARD_BUG="+bug)
		out, err := cmd.CombinedOutput()
		if err == nil {
			continue
		}
		if match := violation.FindSubmatch(out); match != nil {
			return seed, string(match[1])
		}
		t.Fatalf("%s, seed %d: %v\n%s", bug, seed, err, out[:min(len(out), 4000)])
	}
	return -1, ""
}
