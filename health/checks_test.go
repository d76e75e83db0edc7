package health

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func fine(context.Context) error   { return nil }
func broken(context.Context) error { return errors.New("it is broken") }

// get asks a probe, and returns the status and the body.
func get(h http.Handler, target string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	body, _ := io.ReadAll(w.Body)
	return w.Code, string(body)
}

func mustAdd(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestProbes(t *testing.T) {
	c := NewChecks()
	mustAdd(t, c.AddLiveness("ping", fine))
	mustAdd(t, c.AddReadiness("ping", fine))
	mustAdd(t, c.AddReadiness("lease", broken))
	mustAdd(t, c.AddReadiness("panics", func(context.Context) error { panic("oh") }))
	mux := http.NewServeMux()
	c.Install(mux)
	for _, want := range []struct {
		target string
		status int
		body   string
	}{
		{"/healthz", 200, "ok"},
		{"/healthz/", 200, "ok"},
		{"/livez", 200, "ok"},
		{"/livez?verbose", 200, "[+]ping ok\ncheck passed\n"},
		{"/livez/ping", 200, "ok"},
		{"/livez/lease", 404, "there is no check \"lease\"\n"},
		{"/livez/ping/more", 404, "there is no check \"ping/more\"\n"},
		{"/readyz", 503, "[+]ping ok\n[-]lease failed: it is broken\n[-]panics failed: the check panicked: oh\ncheck failed\n"},
		{"/readyz/lease", 503, "[-]lease failed: it is broken\ncheck failed\n"},
		{"/readyz/ping?verbose=1", 200, "[+]ping ok\ncheck passed\n"},
		{"/readyz?exclude=lease&exclude=panics", 200, "ok"},
		{"/readyz?exclude=lease&exclude=panics&verbose", 200, "[+]ping ok\n[ ]\"lease\" excluded\n[ ]\"panics\" excluded\ncheck passed\n"},
	} {
		if status, body := get(mux, want.target); status != want.status || body != want.body {
			t.Errorf("%s: %d %q, want %d %q", want.target, status, body, want.status, want.body)
		}
	}
	if status, body := get(c.ReadyzHandler(), "/somewhere/else"); status != 503 || !strings.Contains(body, "lease") {
		t.Errorf("mounted elsewhere: %d %q, want all checks", status, body)
	}
	if status, body := get(NewChecks().HealthzHandler(), "/healthz"); status != 200 || body != "ok" {
		t.Errorf("no checks: %d %q", status, body)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/healthz", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
}

func TestChecksRefuseBadInput(t *testing.T) {
	c := NewChecks()
	mustAdd(t, c.AddReadiness("a", fine))
	for _, name := range []string{"", "a", "a/b", "ü", ".", "..", "a b", "a?"} {
		if err := c.AddReadiness(name, fine); err == nil || !strings.Contains(err.Error(), "readiness check") {
			t.Errorf("name %q: error %v", name, err)
		}
	}
	if err := c.AddLiveness("nil", nil); err == nil {
		t.Error("a nil check was accepted")
	}
	if err := c.AddLiveness("a", fine); err != nil {
		t.Error("liveness and readiness share their names:", err)
	}
}

// Whatever the checks do, the answer comes within the budget.
func TestProbeAnswersInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Checks // the zero value has the default limits
		var runs, atOnce atomic.Int32
		release := make(chan struct{})
		mustAdd(t, c.AddReadiness("hangs", func(context.Context) error {
			runs.Add(1)
			if atOnce.Add(1) > 1 {
				t.Error("runs twice at once")
			}
			defer atOnce.Add(-1)
			<-release // does not even look at its context
			return nil
		}))
		mustAdd(t, c.AddReadiness("fine", fine))
		h := c.ReadyzHandler()
		for range 50 {
			begun := time.Now()
			status, body := get(h, "/readyz")
			if took := time.Since(begun); took > DefaultProbeBudget {
				t.Fatalf("took %v", took)
			}
			if status != 503 || body != "[-]hangs failed: timed out\n[+]fine ok\ncheck failed\n" {
				t.Fatalf("%d %q", status, body)
			}
			time.Sleep(time.Second)
		}
		if runs.Load() != 1 {
			t.Errorf("%d runs, want the one that hangs", runs.Load())
		}
		close(release)
		synctest.Wait()
		if status, _ := get(h, "/readyz"); status != 200 {
			t.Errorf("%d after the check has recovered", status)
		}
	})
}

// A check that is slower than the budget is reported one probe late, and its
// context ends it in the end.
func TestSlowCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChecks()
		var slowness atomic.Int64
		slowness.Store(int64(300 * time.Millisecond))
		mustAdd(t, c.AddReadiness("slow", func(ctx context.Context) error {
			select {
			case <-time.After(time.Duration(slowness.Load())):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}))
		h := c.ReadyzHandler()
		steps := []struct {
			wait   time.Duration
			status int
			body   string
		}{
			{0, 503, "[-]slow failed: timed out\ncheck failed\n"},
			{time.Second, 200, "[+]slow ok (as of 860ms ago; running)\ncheck passed\n"},
			{time.Second, 200, "[+]slow ok (as of 860ms ago; running)\ncheck passed\n"},
			{time.Second, 200, "hang"},
			{5 * time.Second, 503, "[-]slow failed: context deadline exceeded (as of 160ms ago; running)\ncheck failed\n"},
		}
		for i, s := range steps {
			time.Sleep(s.wait)
			if s.body == "hang" {
				slowness.Store(int64(time.Hour))
				get(h, "/readyz?verbose")
				continue
			}
			if status, body := get(h, "/readyz?verbose"); status != s.status || body != s.body {
				t.Errorf("step %d: %d %q, want %d %q", i, status, body, s.status, s.body)
			}
		}
		time.Sleep(time.Minute) // the last run ends
	})
}

// A result that is too old is none.
func TestOldResultIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChecks()
		hang := make(chan struct{})
		first := true
		mustAdd(t, c.AddLiveness("x", func(context.Context) error {
			if first {
				first = false
				return nil
			}
			<-hang
			return nil
		}))
		h := c.HealthzHandler()
		for _, s := range []struct {
			wait time.Duration
			want int
		}{{0, 200}, {time.Second, 200}, {8 * time.Second, 200}, {2 * time.Second, 503}} {
			time.Sleep(s.wait)
			if status, body := get(h, "/healthz"); status != s.want {
				t.Errorf("%d %q, want %d", status, body, s.want)
			}
		}
		close(hang)
	})
}
