package process

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/health"
)

// ask returns how long each answer took, sorted. The paths take turns, so that all meet the same machine.
func ask(tb testing.TB, rounds int, urls ...string) [][]time.Duration {
	tb.Helper()
	took := make([][]time.Duration, len(urls))
	for range rounds {
		for i, url := range urls {
			begun := time.Now()
			resp, err := http.Get(url)
			if err != nil {
				tb.Fatal(err)
			}
			resp.Body.Close()
			took[i] = append(took[i], time.Since(begun))
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	return took
}

// busy makes the process busy with as many goroutines as it has processors, until the returned function is called.
func busy() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_ = make([]byte, 1<<10+n%1024)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// probes serves the probes of a program with ten checks, and one more that hangs, beside a handler that does nothing.
func probes(tb testing.TB, hangs bool) *httptest.Server {
	tb.Helper()
	checks := health.NewChecks()
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		if err := checks.AddReadiness(name, func(context.Context) error { return nil }); err != nil {
			tb.Fatal(err)
		}
	}
	if hangs {
		if err := checks.AddReadiness("hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }); err != nil {
			tb.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	checks.Install(mux)
	mux.HandleFunc("/nothing", func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewServer(mux)
	tb.Cleanup(server.Close)
	return server
}

// TestProbesAnswerUnderLoad compares the probes with a handler that does nothing in the same busy process: what the machine does to
// both is not the probes' fault. A check that hangs costs its budget and no more.
func TestProbesAnswerUnderLoad(t *testing.T) {
	server, hanging := probes(t, false), probes(t, true)
	defer busy()()
	const rounds = 40
	urls := []string{server.URL + "/nothing", server.URL + "/healthz", server.URL + "/readyz", hanging.URL + "/readyz"}
	extra := []time.Duration{0, 0, 0, health.DefaultProbeBudget}
	took := ask(t, rounds, urls...)
	at := rounds * 9 / 10
	nothing := took[0][at]
	for i, url := range urls {
		limit := 5*nothing + 20*time.Millisecond + extra[i]
		t.Logf("%s: of 10 answers 9 took at most %s; the limit is %s", url, took[i][at], limit)
		if took[i][at] > limit {
			t.Errorf("%s: %s, want at most %s, as nothing takes %s", url, took[i][at], limit, nothing)
		}
	}
}

// BenchmarkReadiness reports the 99th percentile of an answer in a busy process.
func BenchmarkReadiness(b *testing.B) {
	server := probes(b, false)
	defer busy()()
	b.ResetTimer()
	took := ask(b, b.N, server.URL+"/readyz")[0]
	b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
}
