package sharding

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestShardIsCurrentSoonAfterAnOutage: what was created while the API server was away, or right after it came back, is seen at once, and
// not when client-go tries to connect again.
func TestShardIsCurrentSoonAfterAnOutage(t *testing.T) {
	for _, outage := range []time.Duration{5 * time.Second, time.Minute, 10 * time.Minute, 3 * time.Hour} {
		t.Run(outage.String(), func(t *testing.T) {
			simulate(t, func(s *sim) {
				s.config()
				w := s.worker("a", nil)
				s.settle(time.Minute)
				s.server.SetDown(true)
				s.settle(outage)
				s.secret("during", "a")
				s.server.SetDown(false)
				s.settle(500 * time.Millisecond)
				s.secret("after", "a")
				begun := time.Now()
				for w.cache.GetStore().LastStoreSyncResourceVersion() == "" || len(w.cache.GetStore().List()) < 2 {
					s.settle(100 * time.Millisecond)
					if time.Since(begun) > time.Minute {
						s.Fatal("nothing was seen for a minute")
					}
				}
				if took := time.Since(begun); took > 2*time.Second {
					s.Errorf("the cache was behind for %s after the outage", took)
				}
				s.settle(3 * time.Second)
				wants(s, "active", w.Active(), true)
				wants(s, "reconciled", s.took(), "a after, a during")
			})
		})
	}
}

type roundTrips func(*http.Request) (*http.Response, error)

func (f roundTrips) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestReconnecter(t *testing.T) {
	for _, c := range []struct {
		name, method, query string
		answers             []any // an error or a status
		want                any
		tries               int
	}{
		{"watch that succeeds", "GET", "?watch=true", []any{200}, 200, 1},
		{"watch that can't connect at first", "GET", "?watch=1", []any{errBroken, 503, 502, 504, 200}, 200, 5},
		{"watch that is refused", "GET", "?watch=true", []any{410}, 410, 1},
		{"watch when there are too many requests", "GET", "?watch=true", []any{429}, 429, 1},
		{"list that can't connect", "GET", "", []any{errBroken}, errBroken, 1},
		{"write that can't connect", "PATCH", "?watch=true", []any{errBroken}, errBroken, 1},
		{"write that is not answered by the server", "POST", "", []any{503}, 503, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries, closed := 0, 0
				r := &reconnecter{roundTrips(func(*http.Request) (*http.Response, error) {
					answer := c.answers[tries]
					tries++
					if err, failed := answer.(error); failed {
						return nil, err
					}
					return &http.Response{StatusCode: answer.(int), Body: countCloses{strings.NewReader(""), &closed}}, nil
				})}
				request, err := http.NewRequestWithContext(t.Context(), c.method, "http://server/api/v1/secrets"+c.query, nil)
				if err != nil {
					t.Fatal(err)
				}
				var got any
				response, err := r.RoundTrip(request)
				if got = err; err == nil {
					got = response.StatusCode
				}
				if got != c.want || tries != c.tries {
					t.Errorf("got %v after %d tries, want %v after %d", got, tries, c.want, c.tries)
				}
				if failed := len(c.answers) - 2; c.tries == 5 && closed != failed {
					t.Errorf("%d bodies of answers were closed, want %d", closed, failed)
				}
			})
		})
	}
}

type countCloses struct {
	io.Reader
	n *int
}

func (c countCloses) Close() error { *c.n++; return nil }

func TestReconnecterEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r := &reconnecter{roundTrips(func(*http.Request) (*http.Response, error) { return nil, errBroken })}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://server/api/v1/secrets?watch=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := r.RoundTrip(request); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("got %v after %s, want the end of its context after a minute", err, time.Since(begun))
		}
	})
}
