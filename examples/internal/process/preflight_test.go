package process

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// answering is an API server that has one answer to everything but /version.
func answering(t *testing.T, status *atomic.Int32, version string) *rest.Config {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/version" {
			_, _ = w.Write([]byte(`{"gitVersion":"` + version + `"}`))
			return
		}
		code := int(status.Load())
		w.WriteHeader(code)
		answer := any(map[string]any{"kind": "ShardConfigList", "apiVersion": "shard.io/v1", "items": []any{}})
		if code != http.StatusOK {
			reasons := map[int]metav1.StatusReason{401: metav1.StatusReasonUnauthorized, 403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound}
			answer = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reasons[code],
				Message: `User "worker" cannot list resource "shardconfigs" in API group "shard.io"`}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL, QPS: -1}
}

func TestPreflightSaysWhatToDo(t *testing.T) {
	away := &rest.Config{Host: "http://127.0.0.1:1"}
	tests := []struct {
		name   string
		status int32 // 0: no server
		want   string
	}{
		{"a server that is away", 0, "the API server does not answer: check that it runs, and --kubeconfig"},
		{"a server that fails", 500, "the API server does not answer"},
		{"no definitions", 404, "install the CustomResourceDefinitions with: manager install"},
		{"no role", 403, `a role is missing, bind it to this account: User "worker" cannot list resource "shardconfigs" in API group "shard.io"`},
		{"no credential", 401, "does not accept the credential: check --kubeconfig"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, out := logged(t)
			cfg := away
			status := &atomic.Int32{}
			if tc.status != 0 {
				status.Store(tc.status)
				cfg = answering(t, status, "v1.37.2")
			}
			p, err := NewPreflight(cfg, "shop")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err = p.Then(func(context.Context) error {
				t.Error("the work began")
				return nil
			})(ctx)
			if err != nil {
				t.Errorf("the process ends: %v", err)
			}
			ready := p.Check(t.Context())
			if ready == nil || !strings.Contains(ready.Error(), tc.want) {
				t.Errorf("readiness: %v, want %q", ready, tc.want)
			}
			if n := strings.Count(out.String(), "Waiting before the work can begin"); n != 1 {
				t.Errorf("%d lines, want one:\n%s", n, out)
			}
		})
	}
}

func TestPreflightGoesOn(t *testing.T) {
	_, out := logged(t)
	status := &atomic.Int32{}
	status.Store(404)
	p, err := NewPreflight(answering(t, status, "v1.25.3"), "shop")
	if err != nil {
		t.Fatal(err)
	}
	began := false
	time.AfterFunc(100*time.Millisecond, func() { status.Store(200) })
	err = p.Then(func(ctx context.Context) error {
		began = true
		return p.Check(ctx)
	})(t.Context())
	if err != nil || !began {
		t.Errorf("began: %t, error %v", began, err)
	}
	if !strings.Contains(out.String(), `version="v1.25.3" oldest="v1.29.0"`) {
		t.Errorf("nobody is told that the server is old:\n%s", out)
	}
}
