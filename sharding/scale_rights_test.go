package sharding

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// workloadRights is what a manager did to workloads, Pods and autoscalers: "patch deployments.apps".
type workloadRights struct {
	mu   sync.Mutex
	used map[string]bool
}

// record returns next, of which is noted what it does there.
func (u *workloadRights) record(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if right := workloadRight(r); right != "" {
			u.mu.Lock()
			u.used[right] = true
			u.mu.Unlock()
		}
		return next.RoundTrip(r)
	})
}

// workloadRight is what a request takes: "" if it is about something else.
func workloadRight(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	group := ""
	if parts[0] == "apis" && len(parts) > 1 {
		group, parts = "."+parts[1], parts[1:]
	}
	if len(parts) < 5 || !slices.Contains([]string{"pods", "deployments", "statefulsets", "horizontalpodautoscalers"}, parts[4]) {
		return ""
	}
	resource := parts[4] + group
	if len(parts) > 6 {
		resource += "/" + parts[6]
	}
	verb := map[string]string{http.MethodGet: "get", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodPost: "create", http.MethodDelete: "delete"}[r.Method]
	if verb == "get" && len(parts) == 5 {
		verb = "list"
	}
	return verb + " " + resource
}

// TestRightsForAWorkload: the role that is shipped for rings with a workload allows what the manager does to a Deployment, to a StatefulSet just the same, and no
// more. That it is enough on a real API server is seen by the tests with real Pods.
func TestRightsForAWorkload(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "examples", "deploy", "base", "scaling", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var role rbacv1.Role
	first, _, _ := bytes.Cut(data, []byte("\n---\n"))
	if err := yaml.UnmarshalStrict(first, &role); err != nil {
		t.Fatal(err)
	}
	granted := map[string]bool{}
	for _, rule := range role.Rules {
		for _, resource := range rule.Resources {
			name, sub, _ := strings.Cut(resource, "/")
			if group := rule.APIGroups[0]; group != "" {
				name += "." + group
			}
			if sub != "" {
				name += "/" + sub
			}
			for _, verb := range rule.Verbs {
				granted[verb+" "+name] = true
			}
		}
	}
	used := &workloadRights{used: map[string]bool{}}
	simulate(t, func(s *sim) {
		s.scalingSpec(soon)
		s.secrets(60)
		var load dial
		load.set(1)
		d := s.deploy(2, load.shard)
		inner := s.wrap
		s.wrap = func(who string, next http.RoundTripper) http.RoundTripper {
			if who == "m" {
				return used.record(inner(who, next))
			}
			return inner(who, next)
		}
		s.edit(deployments, simNamespace, "w", set([]any{map[string]any{"name": "worker"}}, "spec", "template", "spec", "containers"))
		s.edit(configs, simNamespace, simRing, set(map[string]any{"requests": map[string]any{"cpu": "200m"}}, "spec", "resources"))
		s.runManager("m")
		s.settle(2 * time.Minute)
		load.set(0.05)
		s.settle(10 * time.Minute)
		wants(s, "has been scaled down", len(d.removed) > 0, true)
	})
	for right := range maps.Clone(used.used) {
		if strings.Contains(right, " deployments.") {
			used.used[strings.Replace(right, " deployments.", " statefulsets.", 1)] = true
		}
	}
	if !maps.Equal(granted, used.used) {
		t.Errorf("the role %s allows to %v,\nand the manager does %v", role.Name, slices.Sorted(maps.Keys(granted)), slices.Sorted(maps.Keys(used.used)))
	}
}
