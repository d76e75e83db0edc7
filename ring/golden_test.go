package ring

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// checkFile compares what was got with a file.
func checkFile(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal([]byte(got), want) {
		gots, wants := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(gots), len(wants)) {
			if gots[i] != wants[i] {
				t.Fatalf("%s:%d\n got %s\nwant %s", file, i+1, gots[i], wants[i])
			}
		}
		t.Fatalf("%s: %d lines, want %d", file, len(gots), len(wants))
	}
}

func quarters() []Claim {
	return []Claim{
		{Member{ID: "shard-001"}, []Range{{0, 1073741823}}},
		{Member{ID: "shard-002"}, []Range{{1073741824, 2147483647}}},
		{Member{ID: "shard-003"}, []Range{{2147483648, 3221225471}}},
		{Member{ID: "shard-004"}, []Range{{3221225472, 4294967295}}},
	}
}

// TestGoldenPlacement pins key → hash → slot → shard of given ranges. It must not change as long as there are objects with labels:
// never rewrite testdata/placement.txt because this test fails.
func TestGoldenPlacement(t *testing.T) {
	r, err := FromRanges(quarters())
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"", "a", "/", "/Secret/default/tls", "/Secret/default/tls-1", "/Secret/default/tls-11",
		"apps/Deployment/kube-system/coredns", "/Node//node-1", "cert-manager.io/Certificate/prod/wildcard",
		"/ConfigMap/ünïcode/näme", "\xff\xfe not UTF-8 \x00", strings.Repeat("x", 1<<20)}
	for i := range 40 {
		keys = append(keys, NewPrefix("", "Secret").Key(fmt.Sprintf("ns-%d", i%7), fmt.Sprintf("pod-%d", i)))
	}
	var b strings.Builder
	b.WriteString("# hash slot-of-65536 shard key\n")
	for _, key := range keys {
		hash := Hash(key)
		text := fmt.Sprintf("%q", key)
		if len(text) > 80 {
			text = text[:8] + fmt.Sprintf("…\" (%d bytes)", len(key))
		}
		fmt.Fprintf(&b, "%016x %5d %s %s\n", hash, r.Slot(hash), r.Owner(hash), text)
	}
	checkFile(t, "testdata/placement.txt", b.String())
}

// TestGoldenAssignment pins what New, Assign, Defragment and Stateless decide. It may change on purpose in a minor
// version, and must not by accident, nor from one architecture to the other.
func TestGoldenAssignment(t *testing.T) {
	weighted := ids(7)
	for i := range weighted {
		weighted[i].Weight = float64(i%3) + 0.5
	}
	loads := make([]float64, DefaultSlots)
	for i := range loads {
		loads[i] = float64(mix(uint64(i)) % 50)
	}
	grown := mustAssign(t, mustNew(t, ids(20)), ids(27))
	shrunk := mustAssign(t, grown, ids(27)[5:])
	defragmented, err := shrunk.Defragment(0.01)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range []struct {
		name string
		ring *Ring
	}{
		{"new", mustNew(t, ids(20))},
		{"weights", mustNew(t, weighted)},
		{"loads", mustNew(t, ids(9), Loads(loads))},
		{"grown", grown},
		{"shrunk", shrunk},
		{"defragmented", defragmented},
		{"reweighted", mustAssign(t, mustNew(t, ids(7)), weighted)},
		{"stateless", mustStateless(t, weighted, Slots(256))},
	} {
		for _, claim := range c.ring.Claims() {
			fmt.Fprintf(&b, "%s %s %v\n", c.name, claim.ID, claim.Ranges)
		}
	}
	checkFile(t, "testdata/assignment.txt", b.String())
}

func TestSVG(t *testing.T) {
	free, _, err := Recover(quarters()[:3])
	if err != nil {
		t.Fatal(err)
	}
	evil := mustNew(t, []Member{{ID: `"><script>alert(1)</script>`}, {ID: "b\xff"}})
	for name, r := range map[string]*Ring{"nil": nil, "one": mustNew(t, ids(1)), "free": free, "hundred": mustNew(t, ids(100)), "evil": evil} {
		var b bytes.Buffer
		if err := r.WriteSVG(&b); err != nil {
			t.Fatal(err)
		}
		if problem := wellFormed(b.Bytes()); problem != nil || strings.Contains(b.String(), "<script") {
			t.Errorf("%s: not a well-formed picture: %v", name, problem)
		}
		if got, want := strings.Count(b.String(), "<path d=\"M")-min(r.Len(), svgRows), r.rangeCount(); got != want {
			t.Errorf("%s: %d arcs for %d ranges", name, got, want)
		}
	}
	var b bytes.Buffer
	if err := mustAssign(t, mustNew(t, ids(6)), ids(5)).WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	checkFile(t, "testdata/ring.svg", b.String())
}
