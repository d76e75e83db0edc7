//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/shard-io/shard-controller/examples/worker/certaudit"
)

// TestSecretsAreReal audits them with the auditor itself.
func TestSecretsAreReal(t *testing.T) {
	var mu sync.Mutex
	seen := map[certaudit.Severity]int{}
	names := map[string]bool{}
	err := createSecrets(t.Context(), 60, func(_ context.Context, s *corev1.Secret) error {
		r := certaudit.Audit(certaudit.Bundle{Certificate: s.Data["tls.crt"], Key: s.Data["tls.key"], CA: s.Data["ca.crt"]}, time.Now())
		_, pairErr := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
		mu.Lock()
		defer mu.Unlock()
		seen[r.Severity]++
		names[s.Name] = true
		if !r.Verified || r.Key != certaudit.KeyMatches || pairErr != nil || s.Type != corev1.SecretTypeTLS || s.Labels[wantedLabel] == "" {
			t.Errorf("%s: verified %t, key %s, %v, type %s, labels %v", s.Name, r.Verified, r.Key, pairErr, s.Type, s.Labels)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 60 || !names["site-000"] || !names["site-059"] {
		t.Errorf("%d different names, want 60", len(names))
	}
	for _, severity := range []certaudit.Severity{certaudit.OK, certaudit.Notice, certaudit.Warning, certaudit.Critical, certaudit.Expired} {
		if seen[severity] == 0 {
			t.Errorf("no certificate is %s: %v", severity, seen)
		}
	}
}

func TestCreateSecretsStops(t *testing.T) {
	broken := errors.New("broken")
	var mu sync.Mutex
	calls := 0
	err := createSecrets(t.Context(), 10000, func(context.Context, *corev1.Secret) error {
		mu.Lock()
		defer mu.Unlock()
		calls++
		return broken
	})
	if !errors.Is(err, broken) || calls > 100 {
		t.Errorf("error %v after %d calls, want it at once", err, calls)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if err := createSecrets(ctx, 100, func(ctx context.Context, _ *corev1.Secret) error { return context.Cause(ctx) }); !errors.Is(err, broken) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRBAC(t *testing.T) {
	objects, err := rbacObjects("shop")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
		if text, err := o.MarshalJSON(); err != nil || strings.Contains(string(text), "audit") {
			t.Errorf("%s names another namespace: %s, error %v", got[len(got)-1], text, err)
		}
		for _, rule := range rulesOf(t, o.Object, o.GetKind()) {
			if slices.Contains(slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups), "*") {
				t.Errorf("%s allows everything of something: %+v", got[len(got)-1], rule)
			}
			if slices.Contains(rule.Resources, "secrets") && (slices.Contains(rule.Verbs, "create") || slices.Contains(rule.Verbs, "delete") || slices.Contains(rule.Verbs, "update")) {
				t.Errorf("%s may do more to Secrets than read and label them: %v", got[len(got)-1], rule.Verbs)
			}
		}
	}
	want := []string{
		"ClusterRole /shop-manager", "ClusterRoleBinding /shop-manager", "Role shop/manager", "RoleBinding shop/manager",
		"Role shop/manager-scaling", "RoleBinding shop/manager-scaling",
		"ClusterRole /shop-worker", "ClusterRoleBinding /shop-worker", "RoleBinding shop/worker", "Role shop/worker",
	}
	if !slices.Equal(got, want) {
		t.Errorf("objects %q, want %q", got, want)
	}
}

// rulesOf decodes strictly, so that a misspelt field is found here.
func rulesOf(t *testing.T, object map[string]any, kind string) []rbacv1.PolicyRule {
	t.Helper()
	into := map[string]runtime.Object{
		"Role": &rbacv1.Role{}, "ClusterRole": &rbacv1.ClusterRole{},
		"RoleBinding": &rbacv1.RoleBinding{}, "ClusterRoleBinding": &rbacv1.ClusterRoleBinding{},
	}[kind]
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object, into, true); err != nil {
		t.Fatal(err)
	}
	switch role := into.(type) {
	case *rbacv1.Role:
		return role.Rules
	case *rbacv1.ClusterRole:
		return role.Rules
	case *rbacv1.RoleBinding:
		if role.Subjects[0].Namespace != "shop" {
			t.Errorf("subject %+v", role.Subjects[0])
		}
	case *rbacv1.ClusterRoleBinding:
		if role.Subjects[0].Namespace != "shop" {
			t.Errorf("subject %+v", role.Subjects[0])
		}
	}
	return nil
}

func TestWriteKubeconfig(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, []byte("the CA"), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := &rest.Config{Host: "https://example.invalid:6443", TLSClientConfig: rest.TLSClientConfig{CAFile: ca, KeyData: []byte("the admin's key")}, BearerToken: "the admin's token"}
	path, err := writeKubeconfig(filepath.Join(t.TempDir(), "kubeconfig"), admin, "shop", "the worker's token")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != admin.Host || string(cfg.CAData) != "the CA" || cfg.BearerToken != "the worker's token" || len(cfg.KeyData) > 0 {
		t.Errorf("host %s, CA %q, token %q, key %q", cfg.Host, cfg.CAData, cfg.BearerToken, cfg.KeyData)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
}

func TestFlags(t *testing.T) {
	parse := func(args ...string) *options {
		var o options
		set := flag.NewFlagSet("quickstart", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		o.register(set)
		if err := set.Parse(args); err != nil {
			t.Fatal(err)
		}
		return &o
	}
	for _, tc := range []struct {
		args []string
		err  string
	}{
		{nil, ""}, {[]string{"--secrets=49"}, "--secrets"}, {[]string{"--lease=500ms"}, "--lease"},
	} {
		err := parse(tc.args...).validate()
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%v: %v, want %q", tc.args, err, tc.err)
		}
	}
	for value, want := range map[string]bool{"": false, "0": false, "1": true} {
		t.Setenv("KEEP", value)
		if got := parse().keep; got != want {
			t.Errorf("KEEP=%s: keep %t, want %t", value, got, want)
		}
	}
}

func TestHintsAreCommands(t *testing.T) {
	text := hints("/tmp/k", "shop", "auditor", "worker-3", "site-006")
	golden(t, "hints.txt", text)
	if o := ringConfig(options{ring: "auditor", namespace: "shop", lease: 5 * time.Second}); o.Name != "auditor" ||
		o.Spec.Targets[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"] != "shop" ||
		o.Spec.HealthCheckInterval.Duration != 5*time.Second || o.Spec.Targets[0].Controlled[0].Resource != "configmaps" {
		t.Errorf("ring %+v", o)
	}
}
