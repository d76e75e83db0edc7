//go:build shardbugs

package sharding

import (
	"os"
	"os/exec"
	"testing"
)

// TestPlantedStateBugs shows that the tests of states find the mistakes that lose a state, or apply it twice.
func TestPlantedStateBugs(t *testing.T) {
	for bug, finder := range map[string]string{
		"state-twice":          "TestStatesUnderFaults",
		"return-without-state": "TestStatesUnderFaults",
		"trust-checksum":       "TestBadStates",
		"collect-early":        "TestOrphanedStatesAreCollected",
	} {
		for name, want := range map[string]bool{bug: true, "none": false} {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+finder+"$", "-test.timeout=10m")
			cmd.Env = append(os.Environ(), "SHARD_BUG="+name)
			out, err := cmd.CombinedOutput()
			if found := err != nil; found != want {
				t.Errorf("with the bug %q, %s finds something: %v, want %v\n%s", name, finder, found, want, out[:min(len(out), 2000)])
			}
		}
	}
}
