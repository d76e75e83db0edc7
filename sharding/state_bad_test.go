package sharding

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var simEvents = schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}

// eventsOn returns the reasons of the Events about an object, sorted, each once.
func (s *sim) eventsOn(name string) string {
	var reasons []string
	for _, event := range s.server.List(simEvents, "", nil) {
		if regarding, _, _ := unstructured.NestedString(event.Object, "regarding", "name"); regarding == name {
			reasons = append(reasons, event.Object["reason"].(string))
		}
	}
	slices.Sort(reasons)
	return strings.Join(slices.Compact(reasons), " ")
}

// tamper replaces a part of the state that is on a root.
func (s *sim) tamper(name, old, replacement string) {
	s.Helper()
	root := s.server.Get(secrets, "ns", name).DeepCopy()
	annotations := root.GetAnnotations()
	before := annotations[StateAnnotation(simRing)]
	after := strings.Replace(before, old, replacement, 1)
	if before == after {
		s.Fatalf("%q is not in the state %s", old, before)
	}
	annotations[StateAnnotation(simRing)] = after
	root.SetAnnotations(annotations)
	if _, err := s.server.Update(secrets, root, ""); err != nil {
		s.Fatal(err)
	}
}

// tamperSecrets changes the Secrets with states; nil deletes them.
func (s *sim) tamperSecrets(change func(data []byte) string) {
	s.Helper()
	for _, secret := range s.states() {
		if err := s.server.Delete(secrets, simNamespace, secret.GetName()); err != nil {
			s.Fatal(err)
		}
		if change == nil {
			continue
		}
		changed := secret.DeepCopy()
		changed.SetResourceVersion("")
		changed.SetUID("")
		text, _, _ := unstructured.NestedString(changed.Object, "data", stateSecretKey)
		if err := unstructured.SetNestedField(changed.Object, change([]byte(text)), "data", stateSecretKey); err != nil {
			s.Fatal(err)
		}
		if _, err := s.server.Create(secrets, changed); err != nil {
			s.Fatal(err)
		}
	}
}

// TestBadStates spoils a state while it is on its way. Its object goes back to where it comes from, the state is kept, and Events say what
// has happened.
func TestBadStates(t *testing.T) {
	for name, test := range map[string]struct {
		large  bool
		spoil  func(s *sim)
		reason stateReason
		mended bool // the source can use it
	}{
		"not what the checksum says": {reason: reasonChecksum, spoil: func(s *sim) { s.tamper("o", `"sum":"`, `"sum":"f00d`) }},
		"truncated":                  {reason: reasonTruncated, spoil: func(s *sim) { s.tamper("o", `"data":"WyJh`, `"data":"`) }},
		"of a newer version":         {reason: reasonNewerVersion, spoil: func(s *sim) { s.tamper("o", `"version":1`, `"version":2`) }, mended: true},
		"of another object":          {reason: reasonOtherObject, spoil: func(s *sim) { s.tamper("o", `"uid":"`, `"uid":"0`) }},
		"of a later epoch":           {reason: reasonOtherObject, spoil: func(s *sim) { s.tamper("o", `"epoch":0`, `"epoch":9`) }},
		"no state at all":            {reason: reasonMalformed, spoil: func(s *sim) { s.tamper("o", `{`, `?`) }},
		"in Secrets that are gone":   {large: true, reason: reasonSecret, spoil: func(s *sim) { s.tamperSecrets(nil) }},
		"in Secrets that have changed": {large: true, reason: reasonChecksum, spoil: func(s *sim) {
			s.tamperSecrets(func(data []byte) string { data[5] ^= 1; return string(data) })
		}},
		"in Secrets that are shorter": {large: true, reason: reasonTruncated, spoil: func(s *sim) {
			s.tamperSecrets(func(data []byte) string { return string(data[4:]) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				var all ledgers
				a, b := all.of("a"), all.of("b")
				if test.large {
					a.pads(DefaultInlineState)
				}
				s.secret("o", "a")
				s.keeps(a, func(t *StateTransfer) { t.Version = 2 })
				s.settle(5 * time.Second)
				s.label(secrets, "o", DrainLabel(simRing), "b") // who is not there yet
				s.settle(5 * time.Second)
				wants(s, "owner", s.ownership(secrets, "o"), "b@1")
				s.tamper("o", `"version":2`, `"version":1`) // which b knows
				test.spoil(s)
				spoilt := s.annotation("o", StateAnnotation(simRing))
				s.keeps(b)
				s.settle(5 * time.Second)
				r := refusalOf(s.server.Get(secrets, "ns", "o"), simRing)
				if test.reason == reasonMalformed { // it does not say where it comes from
					wants(s, "what b knows", b.of("o"), "b")
					wants(s, "kept", s.annotation("o", UnusableAnnotation(simRing)), spoilt)
					wants(s, "Events", s.eventsOn("o"), "StateUnusable")
					return
				}
				if r == nil || r.Reason != test.reason || r.From != "a" {
					t.Fatalf("b refuses %+v, want %s from a", r, test.reason)
				}
				wants(s, "what b knows", b.of("o"), "")
				s.edit(instances, simNamespace, "b", set(true, "spec", "cordoned")) // or the manager would have it go there again
				s.runManager("m")
				s.settle(25 * time.Second)
				wants(s, "owner", s.ownership(secrets, "o"), "a@2")
				if test.mended {
					wants(s, "what a knows", a.of("o"), "a")
					wants(s, "kept", s.annotation("o", UnusableAnnotation(simRing)), "")
					wants(s, "Events", s.eventsOn("o"), "StateRefused")
					return
				}
				wants(s, "what a knows of after it", a.of("o"), "a")
				wants(s, "kept", s.annotation("o", UnusableAnnotation(simRing)), spoilt)
				wants(s, "Events", s.eventsOn("o"), "StateRefused StateUnusable")
				if test.large && test.reason != reasonSecret {
					s.settle(time.Hour)
					wants(s, "Secrets that are kept for inspection", s.stateSecrets(), 1)
				}
			})
		})
	}
}
