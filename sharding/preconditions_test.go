package sharding

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// unconditional are the writes of the library that may carry no resourceVersion, by actor, verb and resource, and why. None of
// them is to a root or a child.
var unconditional = map[string]string{
	"worker PATCH shardinstances/status": "an apply of the fields that this worker alone writes",
	"worker PATCH events":                "client-go counts in an Event of its own how often it has happened",
	"manager PATCH events":               "client-go counts in an Event of its own how often it has happened",
}

// conditions notes of every request that changes something whether it carries a resourceVersion.
type conditions struct {
	mu   sync.Mutex
	with map[string]int // kinds of writes
	bare map[string]int
}

func (c *conditions) wrap(actor string, next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if !changes(request) || request.Method == http.MethodPost {
			return next.RoundTrip(request) // creations are conditional by themselves
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		c.note(actor, request, body)
		return next.RoundTrip(request)
	})
}

func (c *conditions) note(actor string, request *http.Request, body []byte) {
	role := "worker"
	if strings.HasPrefix(actor, "m") {
		role = "manager"
	}
	what, ok := parseWrite(request, "")
	kind := fmt.Sprintf("%s %s %s", role, request.Method, what.resource.Resource)
	if what.subresource != "" {
		kind += "/" + what.subresource
	}
	var content struct {
		Metadata struct {
			ResourceVersion string             `json:"resourceVersion"`
			Labels          map[string]*string `json:"labels"`
		} `json:"metadata"`
		Preconditions struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"preconditions"`
	}
	conditional := ok && json.Unmarshal(body, &content) == nil &&
		(content.Metadata.ResourceVersion != "" || request.Method == http.MethodDelete && content.Preconditions.ResourceVersion != "")
	c.mu.Lock()
	defer c.mu.Unlock()
	if !conditional {
		c.bare[kind]++
		return
	}
	c.with[kind]++
	for label, value := range content.Metadata.Labels {
		change := "set"
		if value == nil {
			change = "removed"
		}
		switch label {
		case OwnerLabel(simRing):
			c.with[kind+" owner "+change]++
		case DrainLabel(simRing):
			c.with[kind+" drain "+change]++
		}
	}
}

// TestEveryWriteCarriesItsCondition records what managers and workers write through assignment, join, hand-over, take-over, repair and the
// end of the ring, and fails on a write that would undo whatever was written in between.
func TestEveryWriteCarriesItsCondition(t *testing.T) {
	simulate(t, func(s *sim) {
		c := &conditions{with: map[string]int{}, bare: map[string]int{}}
		s.wrap = c.wrap
		s.config()
		for i, root := range s.secrets(60) {
			s.child(fmt.Sprintf("c%03d", i), "", root)
		}
		first := s.runManager("m1")
		s.worker("a", nil)
		b := s.worker("b", nil)
		s.settle(20 * time.Second)
		leaving := s.worker("c", nil)
		s.settle(20 * time.Second)
		leaving.stop()
		<-leaving.ended
		first.stop()
		<-first.ended
		s.runManager("m2")
		s.settle(30 * time.Second)
		b.kill()
		s.settle(90 * time.Second)
		s.edit(secrets, "ns", "s001", func(object *unstructured.Unstructured) { object.SetAnnotations(nil) }) // the epoch is restored
		s.label(configMaps, "c002", OwnerLabel(simRing), "")
		s.child("orphan", "a", s.secret("short", "a"))
		if err := s.server.Delete(secrets, "ns", "short"); err != nil {
			t.Fatal(err)
		}
		s.settle(7 * time.Minute)
		if err := s.server.Delete(configs, simNamespace, simRing); err != nil {
			t.Fatal(err)
		}
		s.settle(time.Minute)
		for kind, n := range c.bare {
			if unconditional[kind] == "" {
				t.Errorf("%d times without a resourceVersion: %s", n, kind)
			}
		}
		var missing []string
		for _, kind := range []string{
			"manager PATCH secrets owner set", "manager PATCH secrets owner removed", "manager PATCH secrets drain set",
			"manager PATCH configmaps owner set", "manager PATCH configmaps owner removed",
			"worker PATCH secrets owner set", "worker PATCH secrets drain removed", "worker PATCH configmaps owner set",
			"worker PATCH shardinstances", "worker DELETE shardinstances", "manager PATCH shardinstances", "manager PATCH shardinstances/status",
			"manager PATCH shardconfigs", "manager PATCH shardconfigs/status", "worker PUT leases", "manager PUT leases", "manager DELETE leases",
		} {
			if c.with[kind] == 0 {
				missing = append(missing, kind)
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			t.Errorf("the run had none of these, so it says nothing about them: %s\nit had: %v", strings.Join(missing, ", "), c.with)
		}
	})
}

// TestConditionsAreSeen: the recorder of the test above finds what it is to find.
func TestConditionsAreSeen(t *testing.T) {
	for _, test := range []struct {
		method, body string
		want         bool
	}{
		{http.MethodPatch, string(ownPatch(&unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"resourceVersion": "5"}}}, "r", "a", nil)), true},
		{http.MethodPatch, `{"metadata":{"labels":{"a":"b"}}}`, false},
		{http.MethodPatch, `not JSON`, false},
		{http.MethodPut, `{"metadata":{"resourceVersion":"5"}}`, true},
		{http.MethodPut, `{"preconditions":{"resourceVersion":"5"}}`, false},
		{http.MethodDelete, `{"preconditions":{"resourceVersion":"5"}}`, true},
		{http.MethodDelete, `{"preconditions":{"uid":"5"}}`, false},
		{http.MethodDelete, `{}`, false},
	} {
		c := &conditions{with: map[string]int{}, bare: map[string]int{}}
		transport := c.wrap("a", roundTripper(func(*http.Request) (*http.Response, error) { return nil, nil }))
		request, err := http.NewRequestWithContext(t.Context(), test.method, "http://server/api/v1/namespaces/ns/secrets/o", strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := transport.RoundTrip(request); err != nil {
			t.Fatal(err)
		}
		if got := len(c.bare) == 0; got != test.want {
			t.Errorf("%s %s: conditional %v, want %v", test.method, test.body, got, test.want)
		}
	}
}
