package certaudit

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func seen(fingerprint string) Report {
	return Report{Fingerprint: fingerprint, Serial: "serial-" + fingerprint, NotAfter: days(9)}
}

func TestHistories(t *testing.T) {
	var s Histories
	steps := []struct {
		name, uid, fingerprint string
		changed                bool
		want                   string
	}{
		{"the first certificate", "u1", "a", true, "a@0"},
		{"the same again", "u1", "a", false, "a@0"},
		{"unreadable", "u1", "", false, "a@0"},
		{"another", "u1", "b", true, "a@0 b@3"},
		{"back to the first", "u1", "a", true, "a@0 b@3 a@4"},
		{"a new Secret of that name", "u2", "a", true, "a@5"},
	}
	for i, step := range steps {
		h, changed := s.Observe("ns/x", step.uid, seen(step.fingerprint), now.Add(time.Duration(i)))
		got := ""
		for n, r := range h.Rotations {
			if n > 0 {
				got += " "
			}
			got += fmt.Sprintf("%s@%d", r.Fingerprint, r.SeenAt.Sub(now))
			if r.Serial != "serial-"+r.Fingerprint || !r.NotAfter.Equal(days(9)) {
				t.Errorf("%s: rotation %+v lacks what the report said", step.name, r)
			}
		}
		if got != step.want || changed != step.changed {
			t.Errorf("%s: %q, changed %t, want %q, %t", step.name, got, changed, step.want, step.changed)
		}
	}
	if _, ok := s.Get("ns/x"); !ok || s.Len() != 1 {
		t.Errorf("Get found %t, Len = %d, want true, 1", ok, s.Len())
	}
	s.Forget("ns/x")
	if _, ok := s.Get("ns/x"); ok || s.Len() != 0 {
		t.Error("the history is still there after Forget")
	}
}

func TestHistoryIsBoundedAndPlainData(t *testing.T) {
	var h History
	for i := range 40 {
		before := h
		next, changed := h.Observe(seen(fmt.Sprint(i)), now.Add(time.Duration(i)))
		if !changed {
			t.Fatalf("certificate %d is no change", i)
		}
		if n := len(before.Rotations); n > 0 && before.Rotations[n-1].Fingerprint != fmt.Sprint(i-1) {
			t.Fatal("Observe changed the history that it was given")
		}
		h = next
	}
	if len(h.Rotations) != maxRotations || h.Forgotten != 40-maxRotations {
		t.Errorf("%d kept, %d forgotten, want %d, %d", len(h.Rotations), h.Forgotten, maxRotations, 40-maxRotations)
	}
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var back History
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h, back); diff != "" {
		t.Errorf("after JSON (-want +got):\n%s", diff)
	}
}

func TestHistoriesAreSafeForConcurrentUse(t *testing.T) {
	var s Histories
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				key := fmt.Sprint(i % 10)
				s.Observe(key, "u", seen(fmt.Sprint(g)), now)
				s.Get(key)
				if i%7 == 0 {
					s.Forget(key)
				}
			}
		})
	}
	wg.Wait()
	if s.Len() > 10 {
		t.Errorf("Len = %d, want at most 10", s.Len())
	}
}
