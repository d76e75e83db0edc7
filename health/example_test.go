package health_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/shard-io/shard-controller/health"
)

func ExampleTimingFor() {
	t, err := health.TimingFor(30 * time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("renew every", t.RetryPeriod())
	fmt.Println("silent after", t.SilentAfter())
	fmt.Println("stop acting after", t.RenewDeadline())
	fmt.Println("dead after", t.LeaseDuration)

	_, err = health.TimingFor(0)
	fmt.Println(err)
	// Output:
	// renew every 4s
	// silent after 12s
	// stop acting after 20s
	// dead after 30s
	// health: lease duration 0s: must be from 1s to 1h0m0s
}

func ExampleHeartbeat() {
	client := fake.NewClientset()
	working := make(chan struct{})
	h, err := health.NewHeartbeat(client.CoordinationV1(), health.HeartbeatOptions{
		Namespace: "shards", Name: "shard-001", Ring: "auditor",
		Timing: health.Timing{LeaseDuration: 15 * time.Second},
		Fresh:  true, // this process has just created the ShardInstance
		OnActive: func(ctx context.Context) {
			close(working) // start the controllers here
			<-ctx.Done()
			fmt.Println("stopped, not fenced:", errors.Is(context.Cause(ctx), health.ErrStopped))
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, terminate := context.WithCancel(context.Background())
	go func() {
		<-working
		fmt.Println("active:", h.Active())
		terminate() // as on SIGTERM, when the shard is drained
	}()
	fmt.Println("run:", h.Run(ctx))
	fmt.Println("active:", h.Active())
	fmt.Println("release:", h.Release(context.Background()))
	// Output:
	// active: true
	// stopped, not fenced: true
	// run: <nil>
	// active: false
	// release: <nil>
}

// A detector is told what was seen, and when.
func ExampleDetector() {
	d, err := health.NewDetector(health.Timing{LeaseDuration: 15 * time.Second}, "manager/me")
	if err != nil {
		fmt.Println(err)
		return
	}
	start := time.Now()
	seen := health.Observation{Record: health.Record{Holder: "shard-001_4f1d", Renewed: 1}}
	d.Read(start, start) // connected
	d.Observe("shard-001", seen, start)
	for s := 0; s <= 16; s += 2 {
		now := start.Add(time.Duration(s) * time.Second)
		d.Read(now, now)
		v := d.Evaluate(now)
		for range v.Confirm { // look once more; nothing new
			seen.Begun = now
			d.Observe("shard-001", seen, now)
			v = d.Evaluate(now)
		}
		for _, t := range v.Transitions {
			fmt.Printf("%2d s: %s\n", s, t.To)
		}
	}
	// Output:
	//  0 s: Alive
	//  6 s: Silent
	// 16 s: Dead
}

func ExampleTracker() {
	t, err := health.NewTracker(fake.NewClientset().CoordinationV1(), health.TrackerOptions{
		Namespace: "shards", Ring: "auditor", Identity: "manager-0",
		Timing: health.Timing{LeaseDuration: 15 * time.Second},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	s := t.Snapshot()
	fmt.Println(s.Frozen, s.Hold)
	err = t.TakeOver(context.Background(), "shard-001")
	fmt.Println(errors.Is(err, health.ErrAlive), t.Held("shard-001"))
	// Output:
	// true Disconnected
	// true false
}

func ExampleChecks() {
	c := health.NewChecks()
	if err := c.AddReadiness("lease", func(context.Context) error {
		return errors.New("not held")
	}); err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	c.Install(mux)
	for _, path := range []string{"/healthz", "/readyz", "/readyz?exclude=lease"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Printf("%s: %d %q\n", path, w.Code, w.Body)
	}
	// Output:
	// /healthz: 200 "ok"
	// /readyz: 503 "[-]lease failed: not held\ncheck failed\n"
	// /readyz?exclude=lease: 200 "ok"
}
