package sharding

import (
	"errors"
	"fmt"
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
