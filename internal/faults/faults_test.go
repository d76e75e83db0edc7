//go:build unix

package main

import (
	"testing"
)

// TestFaults is the short form of the trials.
func TestFaults(t *testing.T) {
	s := quick
	s.logDir = t.ArtifactDir()
	r, err := run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + r.markdown())
	if got := r.verdict(); got != good {
		t.Errorf("the verdict is %s", got)
	}
}
