package process

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// api is an API server that knows tokens and what their bearers may do.
type api struct {
	*fake.Clientset
	mu      sync.Mutex
	users   map[string]string // by token
	allowed map[string]bool   // by user
	err     error
	asked   int
}

func newAPI() *api {
	a := &api{Clientset: fake.NewClientset(), users: map[string]string{"good": "prometheus", "poor": "tenant"}, allowed: map[string]bool{"prometheus": true}}
	a.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asked++
		review := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		user, known := a.users[review.Spec.Token]
		review.Status.Authenticated, review.Status.User = known, authenticationv1.UserInfo{Username: user, Groups: []string{"g"}, Extra: map[string]authenticationv1.ExtraValue{"pod": {"p"}}}
		return true, review, a.err
	})
	a.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		s := review.Spec
		asked := s.NonResourceAttributes.Path == "/metrics" && s.NonResourceAttributes.Verb == "get" && s.Groups[0] == "g" && s.Extra["pod"][0] == "p"
		review.Status.Allowed = asked && a.allowed[s.User]
		return true, review, nil
	})
	return a
}

func (a *api) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func get(h http.Handler, authorization string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Authorization", authorization)
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, request)
	return recorder
}

func metricsBehind(a *api) *authorizer {
	return newAuthorizer(a, "/metrics", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metrics")) }))
}

func TestWhoMayReadMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := metricsBehind(a)
		steps := []struct {
			name, header string
			before       func()
			status       int
			body         string
			asked        int // so far
		}{
			{name: "nobody", status: 401, body: "a bearer token"},
			{name: "a password", header: "Basic Zm9v", status: 401, body: "a bearer token"},
			{name: "an empty token", header: "Bearer ", status: 401, body: "a bearer token"},
			{name: "an unknown token", header: "Bearer bad", status: 401, body: "does not know", asked: 1},
			{name: "again", header: "Bearer bad", status: 401, body: "does not know", asked: 1},
			{name: "somebody without the right", header: "Bearer poor", status: 403, body: "tenant may not get /metrics: that takes a ClusterRole with nonResourceURLs [/metrics], verbs [get]", asked: 2},
			{name: "somebody with it", header: "Bearer good", status: 200, body: "metrics", asked: 3},
			{name: "again, in other letters", header: "bearer good", status: 200, body: "metrics", asked: 3},
			{name: "the server is away", header: "Bearer good", before: func() { a.err = errors.New("away") }, status: 200, body: "metrics", asked: 3},
			{name: "somebody new meanwhile", header: "Bearer new", status: 503, body: "could not be asked", asked: 4},
			{name: "who is asked about again", header: "Bearer new", before: func() { a.err, a.users["new"] = nil, "prometheus" }, status: 200, body: "metrics", asked: 5},
			{name: "the right is given", header: "Bearer poor", before: func() { a.allowed["tenant"] = true }, status: 403, body: "tenant", asked: 5},
			{name: "some seconds later", header: "Bearer poor", before: func() { time.Sleep(deniedFor) }, status: 200, body: "metrics", asked: 6},
			{name: "the token is revoked", header: "Bearer good", before: func() { delete(a.users, "good") }, status: 200, body: "metrics", asked: 6},
			{name: "a minute later", header: "Bearer good", before: func() { time.Sleep(allowedFor) }, status: 401, body: "does not know", asked: 7},
		}
		for _, s := range steps {
			if s.before != nil {
				a.change(s.before)
			}
			got := get(h, s.header)
			if got.Code != s.status || !strings.Contains(got.Body.String(), s.body) || a.asked != s.asked {
				t.Errorf("%s: %d %q after %d reviews, want %d %q after %d", s.name, got.Code, got.Body, a.asked, s.status, s.body, s.asked)
			}
			if challenge := got.Header().Get("WWW-Authenticate"); (challenge == "Bearer") != (s.status == 401) {
				t.Errorf("%s: challenge %q with status %d", s.name, challenge, got.Code)
			}
		}
	})
}

// TestGuessersDoNotShutOut tries many tokens; who is known is let in meanwhile, and the API server is asked about few at once.
func TestGuessersDoNotShutOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		h := metricsBehind(a)
		if got := get(h, "Bearer good"); got.Code != 200 {
			t.Fatal(got)
		}
		var key [8]byte
		for i := range uint64(4 * maxAnswers) {
			binary.BigEndian.PutUint64(key[:], i)
			if v := h.judge(t.Context(), "guess "+string(key[:])); v.status != 401 {
				t.Fatal(v)
			}
		}
		before := a.asked
		if got := get(h, "Bearer good"); got.Code != 200 || a.asked != before {
			t.Errorf("%d after %d reviews, want 200 from memory", got.Code, a.asked-before)
		}
		if n := len(h.denied.known); n > maxAnswers {
			t.Errorf("%d answers are remembered, want at most %d", n, maxAnswers)
		}
		for range maxReviews { // as many as may be asked about at once
			h.reviews <- struct{}{}
		}
		if got := get(h, "Bearer poor"); got.Code != 503 {
			t.Errorf("one more is answered with %d, want 503", got.Code)
		}
		if got := get(h, "Bearer good"); got.Code != 200 {
			t.Errorf("who is known is answered with %d meanwhile, want 200", got.Code)
		}
	})
}

func TestAnswersKeepWhatIsFresh(t *testing.T) {
	a := answers{ttl: time.Minute}
	at := func(i int) [sha256.Size]byte { return sha256.Sum256([]byte{byte(i), byte(i >> 8)}) }
	now := time.Unix(0, 0)
	for i := range maxAnswers {
		when := now
		if i%2 == 0 {
			when = now.Add(-2 * time.Minute)
		}
		a.add(at(i), verdict{status: 200}, when)
	}
	a.add(at(maxAnswers), verdict{status: 200}, now)
	for i := range maxAnswers + 1 {
		if _, known := a.get(at(i), now); known != (i%2 == 1 || i == maxAnswers) {
			t.Fatalf("answer %d is known: %t", i, known)
		}
	}
}
