package sharding

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// TestPagesAreFetchedAhead: while one page is worked on, the next is on its way, and what was found is complete and in order.
func TestPagesAreFetchedAhead(t *testing.T) {
	simulate(t, func(s *sim) {
		const pages = 4
		for i := range pages * pageSize {
			s.secret(fmt.Sprintf("s%05d", i), "a")
		}
		client := metadata.NewForConfigOrDie(s.server.Config("m"))
		s.server.Client("m").SetFaults(memapi.Faults{MinLatency: 100 * time.Millisecond, MaxLatency: 100 * time.Millisecond})
		selector := ShardSelector(simRing, "a").String()
		begun, found, last := time.Now(), 0, ""
		version, err := eachPage(s.ctx, client.Resource(secrets), selector, func(page []metav1.PartialObjectMetadata) error {
			time.Sleep(300 * time.Millisecond)
			for i := range page {
				if page[i].Name <= last {
					t.Errorf("%s comes after %s", page[i].Name, last)
				}
				last = page[i].Name
			}
			found += len(page)
			return nil
		})
		wants(s, "error", err, nil)
		wants(s, "objects", found, pages*pageSize)
		wants(s, "that there is a version to watch from", version != "", true)
		wants(s, "time: one request of 200 ms, and the work on the pages", time.Since(begun), 200*time.Millisecond+pages*300*time.Millisecond)

		enough := errors.New("enough")
		visits := 0
		_, err = eachPage(s.ctx, client.Resource(secrets), selector, func([]metav1.PartialObjectMetadata) error {
			visits++
			return enough
		})
		wants(s, "error of the visitor", err, enough)
		wants(s, "pages visited", visits, 1)
	})
}

// TestFindersRelyOnTheirWatchForALease: what is found by watches is listed anew as often as an object may be without a live owner, and
// no more often than every 45 s.
func TestFindersRelyOnTheirWatchForALease(t *testing.T) {
	for _, c := range []struct {
		lease       time.Duration
		least, most int // lists in 40 minutes, with a jitter of a fifth
	}{{15 * time.Second, 44, 54}, {4 * time.Minute, 8, 11}} {
		t.Run(c.lease.String(), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				s.edit(configs, simNamespace, simRing, set(c.lease.String(), "spec", "healthCheckInterval"))
				var lists atomic.Int64
				s.wrap = func(_ string, next http.RoundTripper) http.RoundTripper {
					return roundTripper(func(r *http.Request) (*http.Response, error) {
						if r.URL.Query().Get("labelSelector") == DrainLabel(simRing) && r.URL.Query().Get("watch") == "" {
							lists.Add(1)
						}
						return next.RoundTrip(r)
					})
				}
				s.runManager("m")
				s.worker("a", nil)
				s.settle(10 * time.Minute)
				lists.Store(0)
				s.settle(40 * time.Minute)
				if n := int(lists.Load()); n < c.least || n > c.most {
					t.Errorf("%d lists of what is on its way in 40 minutes, want %d to %d", n, c.least, c.most)
				}
			})
		})
	}
}
