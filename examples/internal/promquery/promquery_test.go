package promquery

import (
	"context"
	"encoding/pem"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shard-io/shard-controller/sharding/scaling"
)

var backlog = Query{Ring: "auditor", Name: "backlog", Query: "sum(queue_depth)", Target: 100, Total: true}

// answering is a server that answers every query with this body; more says what is wrong with a request.
func answering(t *testing.T, status int, body string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/prometheus/api/v1/query" || r.FormValue("query") != backlog.Query {
			t.Errorf("request of %s for %q", r.URL.Path, r.FormValue("query"))
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return server
}

func sourceOf(t *testing.T, server Server) scaling.MetricSource {
	t.Helper()
	sources, err := New(server, []Query{backlog})
	if err != nil {
		t.Fatal(err)
	}
	return sources["auditor"]
}

func success(kind, result string) string {
	return fmt.Sprintf(`{"status":"success","data":{"resultType":%q,"result":%s}}`, kind, result)
}

func TestResults(t *testing.T) {
	at := time.Unix(1700000000, 500e6)
	for _, c := range []struct {
		name, body string
		value      float64
	}{
		{"a series", success("vector", `[{"metric":{"job":"a"},"value":[1700000000.5,"350.25"]}]`), 350.25},
		{"a number", success("scalar", `[1700000000.5,"7"]`), 7},
		{"not a number", success("scalar", `[1700000000.5,"NaN"]`), math.NaN()}, // the scaler doubts it
		{"infinite", success("scalar", `[1700000000.5,"+Inf"]`), math.Inf(1)},
	} {
		metrics, err := sourceOf(t, Server{Address: answering(t, 200, c.body).URL + "/prometheus/"}).Metrics(t.Context())
		if err != nil || len(metrics) != 1 {
			t.Errorf("%s: %v, %v", c.name, metrics, err)
			continue
		}
		m := metrics[0]
		same := m.Value == c.value || math.IsNaN(m.Value) && math.IsNaN(c.value)
		if m.Name != "backlog" || !same || m.Target != 100 || !m.Total || !m.At.Equal(at) {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
}

func TestResultsThatAreNone(t *testing.T) {
	series := `{"metric":{"job":"a"},"value":[1700000000,"1"]}`
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"nothing", 200, success("vector", `[]`), "the result has 0 series"},
		{"several", 200, success("vector", "["+series+","+series+"]"), "the result has 2 series"},
		{"a range", 200, success("matrix", `[{"metric":{},"values":[[1700000000,"1"]]}]`), "the result is a matrix"},
		{"a text", 200, success("string", `[1700000000,"x"]`), "unexpected value type"},
		{"incomplete", 200, `{"status":"success","warnings":["a store is away"],"data":{"resultType":"vector","result":[` + series + `]}}`, "a store is away"},
		{"a wrong query", 400, `{"status":"error","errorType":"bad_data","error":"parse error"}`, "parse error"},
		{"an ill server", 503, "<html>", "503"},
		{"somebody else", 200, "<html>", "invalid character"},
		{"no end", 200, success("string", `[1700000000,"`+strings.Repeat("x", maxAnswer)+`"]`), "too large"},
	} {
		metrics, err := sourceOf(t, Server{Address: answering(t, c.status, c.body).URL + "/prometheus"}).Metrics(t.Context())
		if err == nil || metrics != nil || !strings.Contains(err.Error(), "the query of the metric backlog: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %.200v; want %q", c.name, metrics, err, c.want)
		}
	}
}

func TestAServerThatHangsOrIsAway(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	source := sourceOf(t, Server{Address: server.URL})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := source.Metrics(ctx); err == nil || ctx.Err() == nil {
		t.Errorf("%v, want an error when the time is over", err)
	}
	away := httptest.NewServer(nil)
	away.Close()
	if _, err := sourceOf(t, Server{Address: away.URL}).Metrics(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("away: %v", err)
	}
}

// TestTLSAndToken: the server is checked, and gets the token.
func TestTLSAndToken(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer sesame" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprint(w, success("scalar", `[1700000000,"7"]`))
	}))
	defer server.Close()
	write := func(name string, data []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := write("ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	token := write("token", []byte("sesame\n"))
	for _, c := range []struct {
		name   string
		server Server
		err    string
	}{
		{"both", Server{Address: server.URL, CA: ca, Token: token}, ""},
		{"no token", Server{Address: server.URL, CA: ca}, "401"},
		{"an unknown certificate", Server{Address: server.URL, Token: token}, "certificate"},
	} {
		_, err := sourceOf(t, c.server).Metrics(t.Context())
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

func TestSettings(t *testing.T) {
	change := func(f func(*Query)) []Query {
		q := backlog
		f(&q)
		return []Query{q}
	}
	for _, c := range []struct {
		name    string
		server  Server
		queries []Query
		err     string
	}{
		{"no queries", Server{}, nil, ""},
		{"no address", Server{}, []Query{backlog}, "address"},
		{"a path", Server{Address: "/prometheus"}, []Query{backlog}, "address"},
		{"no such CA", Server{Address: "https://p", CA: "/none/ca.crt"}, []Query{backlog}, "ca.crt"},
		{"no such token", Server{Address: "https://p", Token: "/none/token"}, []Query{backlog}, "token"},
		{"no ring", Server{Address: "http://p"}, change(func(q *Query) { q.Ring = "" }), "queries[0].ring"},
		{"no name", Server{Address: "http://p"}, change(func(q *Query) { q.Name = "" }), "queries[0].name"},
		{"no query", Server{Address: "http://p"}, change(func(q *Query) { q.Query = "" }), "queries[0].query"},
		{"no target", Server{Address: "http://p"}, change(func(q *Query) { q.Target = 0 }), "queries[0].target"},
		{"a target of NaN", Server{Address: "http://p"}, change(func(q *Query) { q.Target = math.NaN() }), "queries[0].target"},
		{"twice", Server{Address: "http://p"}, []Query{backlog, backlog}, "queries[1].name"},
	} {
		_, err := New(c.server, c.queries)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
	other := backlog
	other.Ring = "renewer"
	sources, err := New(Server{Address: "http://p"}, []Query{backlog, other})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for ring, s := range sources {
		got[ring] = len(s.(*source).queries)
	}
	if diff := cmp.Diff(map[string]int{"auditor": 1, "renewer": 1}, got); diff != "" {
		t.Errorf("queries by ring (-want +got):\n%s", diff)
	}
}
