package memapi_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// TestEventsNeverWait holds back everything that an actor does, in every way, and writes an Event: that is refused or done at the same instant.
func TestEventsNeverWait(t *testing.T) {
	cases := []struct {
		name    string
		trouble func(*memapi.Server, *memapi.Client)
		done    bool
	}{
		{"nothing", func(*memapi.Server, *memapi.Client) {}, true},
		{"slow network", func(_ *memapi.Server, c *memapi.Client) {
			c.SetFaults(memapi.Faults{MinLatency: time.Second, MaxLatency: time.Minute})
		}, true},
		{"too many requests", func(_ *memapi.Server, c *memapi.Client) { c.Inject(memapi.TooManyRequests, 9, nil) }, false},
		{"hang", func(_ *memapi.Server, c *memapi.Client) { c.Inject(memapi.Hang, 9, nil) }, false},
		{"late answer", func(_ *memapi.Server, c *memapi.Client) { c.Inject(memapi.LateResponse, 9, nil) }, false},
		{"lost answer", func(_ *memapi.Server, c *memapi.Client) { c.Inject(memapi.LostResponse, 9, nil) }, false},
		{"requests lost", func(_ *memapi.Server, c *memapi.Client) { c.SetLink(memapi.RequestsLost) }, false},
		{"answers lost", func(_ *memapi.Server, c *memapi.Client) { c.SetLink(memapi.ResponsesLost) }, false},
		{"frozen", func(_ *memapi.Server, c *memapi.Client) { c.Freeze() }, false},
		{"gone", func(_ *memapi.Server, c *memapi.Client) { c.Crash() }, false},
		{"down", func(s *memapi.Server, _ *memapi.Client) { s.SetDown(true) }, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				events := kubernetes.NewForConfigOrDie(s.Config("a")).EventsV1().Events("ns")
				c.trouble(s, s.Client("a"))
				ctx, cancel := context.WithTimeout(quiet(), time.Hour)
				defer cancel()
				begun := time.Now()
				_, err := events.Create(ctx, &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
				if (err == nil) != c.done {
					t.Errorf("error %v, want success: %t", err, c.done)
				}
				if took := time.Since(begun); took != 0 {
					t.Errorf("took %s, want no time", took)
				}
			})
		})
	}
}
