//go:build shardbugs

package sharding

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// plantedBugs are the mistakes that the simulation has to find, each within maxPlantedSeeds.
var plantedBugs = []string{
	"skip-epoch", "drop-resource-version", "forget-children", "hand-over-early", "forget-given", "trust-caches", "keep-first-target",
	"take-without-lease", "compare-clocks", "outage-is-silence", "missing-is-dead", "count-from-answer", "no-margin", "steal-lease", "no-doubt",
	"no-self-fence", "take-from-the-living",
}

const maxPlantedSeeds = 1000

var failedSeed = regexp.MustCompile(`--- FAIL: TestSimulatedFaults/seeds/(\d+)`)

// TestPlantedBugs shows that the simulation finds mistakes of the protocol. It prints a table with the first seed that finds each.
func TestPlantedBugs(t *testing.T) {
	bugs := plantedBugs
	if one := os.Getenv("SHARD_BUGS"); one != "" {
		bugs = strings.Split(one, ",")
	}
	for _, bug := range bugs {
		seed, what := firstSeedThatFinds(t, bug)
		if seed < 0 {
			t.Errorf("| `%s` | not found in %d seeds | |", bug, maxPlantedSeeds)
			continue
		}
		fmt.Printf("| `%s` | %d | %s |\n", bug, seed, what)
	}
}

// firstSeedThatFinds returns the lowest seed of the first batch in which one fails, and what the oracle said.
func firstSeedThatFinds(t *testing.T, bug string) (seed int, what string) {
	const batch = 50
	for first := 0; first < maxPlantedSeeds; first += batch {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSimulatedFaults$", "-test.parallel=2", "-simulation.one",
			fmt.Sprint("-simulation.first=", first), fmt.Sprint("-simulation.seeds=", batch), "-test.timeout=2h")
		cmd.Env = append(os.Environ(), "SHARD_BUG="+bug)
		out, err := cmd.CombinedOutput()
		if err == nil {
			continue
		}
		lowest, at := -1, 0
		for _, match := range failedSeed.FindAllSubmatchIndex(out, -1) {
			if n, _ := strconv.Atoi(string(out[match[2]:match[3]])); lowest < 0 || n < lowest {
				lowest, at = n, match[1]
			}
		}
		if lowest < 0 {
			t.Fatalf("%s: %v\n%s", bug, err, out[:min(len(out), 4000)])
		}
		for line := range strings.Lines(string(out[at:])) {
			if _, violation, found := strings.Cut(line, ": P"); found {
				return lowest, "P" + strings.TrimSpace(violation)
			}
		}
		return lowest, "?"
	}
	return -1, ""
}
