package memapi_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/internal/memapi"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// The answers in testdata/semantics are those of a real kube-apiserver: -update writes them.
var update = flag.Bool("update", false, "rewrite testdata/semantics from the answers of a real kube-apiserver")

// customResources are what the scripts use besides built-in kinds.
var customResources = []memapi.Resource{
	{Group: "memapi.test", Version: "v1", Plural: "widgets", Kind: "Widget", Status: true},
	{Group: "memapi.test", Version: "v1", Plural: "gadgets", Kind: "Gadget"},
	{Group: "memapi.test", Version: "v1", Plural: "wheels", Kind: "Wheel", ClusterScoped: true},
}

func scripts(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/semantics/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	return files
}

func scriptNamespace(file string) string {
	return "semantics-" + strings.TrimSuffix(filepath.Base(file), ".txt")
}

func TestSemanticsInMemory(t *testing.T) {
	for _, file := range scripts(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want := readScript(t, file)
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, func(o *memapi.Options) { o.Resources = append(o.Resources, customResources...) })
				got := newScript(t, s.Config("script"), scriptNamespace(file), s.Compact).run(want)
				if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
					t.Errorf("the answers differ from the real server's (-real +memory):\n%s", diff)
				}
			})
		})
	}
}

func TestSemanticsRealServer(t *testing.T) {
	cp := controlplane.ForTest(t)
	cfg := cp.Config()
	installCustomResources(t, cfg)
	for _, file := range scripts(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want := readScript(t, file)
			ns := scriptNamespace(file)
			do(t, cfg, "/api/v1/namespaces", fmt.Sprintf(`{"metadata":{"name":%q}}`, ns))
			got := newScript(t, cfg, ns, func() { restart(t, cp) }).run(want)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("the real server's answers are not those in the file (-file +real):\n%s", diff)
			}
		})
	}
}

// restart empties the watch caches, which is as good as a compaction to a client that watches.
func restart(t *testing.T, cp *controlplane.ControlPlane) {
	t.Helper()
	if err := cp.StopAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := cp.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func installCustomResources(t *testing.T, cfg *rest.Config) {
	t.Helper()
	for _, r := range customResources {
		scope, sub := "Namespaced", map[string]any{}
		if r.ClusterScoped {
			scope = "Cluster"
		}
		if r.Status {
			sub["status"] = map[string]any{}
		}
		crd, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"name": r.Plural + "." + r.Group},
			"spec": map[string]any{"group": r.Group, "scope": scope,
				"names": map[string]any{"plural": r.Plural, "singular": strings.ToLower(r.Kind), "kind": r.Kind},
				"versions": []any{map[string]any{"name": r.Version, "served": true, "storage": true, "subresources": sub,
					"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object",
						"x-kubernetes-preserve-unknown-fields": true}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		do(t, cfg, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", string(crd))
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range customResources {
		for served := false; !served; {
			resp, err := client.Get(strings.TrimSuffix(cfg.Host, "/") + "/apis/" + r.Group + "/v1/" + r.Plural)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			served = resp.StatusCode == http.StatusOK
			select {
			case <-time.After(50 * time.Millisecond):
			case <-t.Context().Done():
				t.Fatal("the custom resource was not served in time")
			}
		}
	}
}

// do posts body and expects it to be created.
func do(t *testing.T, cfg *rest.Config, path, body string) {
	t.Helper()
	s := newScript(t, cfg, "", nil)
	resp, err := s.client.Do(s.request(context.Background(), []string{"POST", path}, body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("POST %s: %s", path, s.render(resp.Body))
	}
}

// newServer makes a server with all built-in and shard.io kinds that is closed with the test.
func newServer(t testing.TB, change ...func(*memapi.Options)) *memapi.Server {
	t.Helper()
	o := memapi.Options{Resources: append(memapi.CoreResources(), memapi.ShardResources()...)}
	for _, f := range change {
		f(&o)
	}
	s, err := memapi.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
