package controlplane

import (
	"sync"
	"testing"
)

// shared is the control plane of a test binary.
var shared struct {
	mu      sync.Mutex
	enabled bool // between the beginning and the end of Main
	plane   *ControlPlane
	err     error
}

// Main runs the tests of a package so that [ForTest] gives the same control
// plane to all of them, and stops it after the last one. It returns the exit
// code:
//
//	func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }
func Main(m *testing.M) int {
	shared.mu.Lock()
	shared.enabled = true
	shared.mu.Unlock()
	defer stopShared()
	return m.Run()
}

func stopShared() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.enabled = false
	if shared.plane != nil {
		shared.plane.Stop()
	}
	shared.plane, shared.err = nil, nil
}

// ForTest returns a running control plane: under [Main] the one that the test
// binary shares, otherwise one of its own that is stopped when the test ends.
// It fails the test if there is none; it never skips.
func ForTest(t testing.TB) *ControlPlane {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.enabled {
		c, err := Start(t.Context(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Stop)
		return c
	}
	if shared.plane == nil && shared.err == nil {
		shared.plane, shared.err = Start(t.Context(), Options{})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.plane
}
