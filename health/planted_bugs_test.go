//go:build shardbugs

package health

import (
	"os"
	"os/exec"
	"testing"
)

// TestPlantedBugs shows that the tests of this package find mistakes of the protocol that no simulated ring gets into trouble by, as the rest of the
// protocol makes up for each of them alone.
func TestPlantedBugs(t *testing.T) {
	for bug, test := range map[string]string{
		"outage-is-silence": "^TestDetectorScripts$",
		"no-margin":         "^TestHeartbeatOutage$",
		"count-from-answer": "^TestHeartbeatOnASlowServer$",
	} {
		for _, planted := range []string{"", bug} {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+test)
			cmd.Env = append(os.Environ(), "SHARD_BUG="+planted)
			out, err := cmd.CombinedOutput()
			if found := err != nil; found != (planted != "") {
				t.Errorf("with the mistake %q, %s fails: %t\n%s", planted, test, found, out[:min(len(out), 2000)])
			}
		}
	}
}
