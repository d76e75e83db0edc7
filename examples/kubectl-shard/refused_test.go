package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shard-io/shard-controller/internal/memapi"
)

func TestWrongUsage(t *testing.T) {
	inMemory(t, func(w *world) {
		w.ring("r", nil)
		w.populate(1)
		for args, text := range map[string]string{
			"nonsense":                                    `there is no command "nonsense"`,
			"status --nope":                               "flag provided but not defined: -nope",
			"status now":                                  "usage: kubectl shard status",
			"status -o xml":                               `--output: "xml" is neither json nor yaml`,
			"status --request-timeout=-1s":                "--request-timeout: -1s is negative",
			"status --ring a/b/c":                         `--ring: "a/b/c" is neither NAME nor NAMESPACE/NAME`,
			"status --ring other":                         `there is no ShardConfig "other" in namespace "sys"`,
			"status --ring elsewhere/other":               `there is no shardconfigs.shard.io "other" in namespace "elsewhere"`,
			"status -n elsewhere":                         `there is no ShardConfig in namespace "elsewhere"`,
			"drain w-1 -n elsewhere":                      `there is no ShardConfig in namespace "elsewhere"`,
			"owner":                                       "usage: kubectl shard owner RESOURCE/NAME",
			"owner secrets":                               "is neither RESOURCE/NAME nor",
			"owner secrets/":                              "is neither RESOURCE/NAME nor",
			"owner a/b/c/d":                               "is neither RESOURCE/NAME nor",
			"owner unicorns/x":                            `the API server does not serve "unicorns"`,
			"owner secrets/ns/none":                       `there is no secrets "none" in namespace "ns"`,
			"explain secrets/ns/none":                     `there is no secrets "none" in namespace "ns"`,
			"verify --max-gaps 0":                         "--max-gaps: 0 is not positive",
			"drain":                                       "usage: kubectl shard drain SHARD",
			"migrate":                                     "--from: must not be empty",
			"migrate --from a":                            "--to: must not be empty",
			"migrate --from a --to a":                     "--to: must be another shard",
			"migrate --from a --to b":                     `the ring sys/r has no shard`,
			"migrate --from a --to b --count -1":          "--count: -1 is not",
			"migrate --from a --to b --rate 1000000":      "--rate: 1000000 is not",
			"migrate --from a --to b --max-in-flight=x":   "invalid value",
			"migrate --from a --to b --deadline -1s":      "--deadline",
			"migrate --from a --to b --count 1 secrets/x": "can't be combined",
			"install --print --uninstall":                 "exclude each other",
			"install --timeout 0s":                        "--timeout: 0s is not positive",
			"completion tcsh":                             `"tcsh" is none of bash, fish, zsh`,
			"install --print --ring none":                 "--ring: there is no ShardConfig sys/none",
			"install --print --file /nonexistent":         "--file: open /nonexistent",
		} {
			w.expect(exitUsage, args, text)
		}
	})
}

// Who is not allowed something is told which verb on what.
func TestForbidden(t *testing.T) {
	shard := func(name string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: "shard.io", Version: "v1", Resource: name}
	}
	namespaced := func(w *world) {
		w.edit(rings, "sys", "r", func(o *unstructured.Unstructured) {
			_ = unstructured.SetNestedSlice(o.Object, []any{map[string]any{"resource": "secrets", "namespaceSelector": map[string]any{"matchLabels": map[string]any{"a": "b"}}}}, "spec", "targets")
		})
	}
	tests := []struct {
		args, verb string
		resource   schema.GroupVersionResource
		text       string
		before     func(*world)
	}{
		{"status", "list", shard("shardconfigs"), `you need the verb "list" on "shardconfigs.shard.io" in namespace "sys"`, nil},
		{"status -A", "list", shard("shardconfigs"), `you need the verb "list" on "shardconfigs.shard.io" in the whole cluster`, nil},
		{"status --ring sys/r", "get", shard("shardconfigs"), `you need the verb "get" on "shardconfigs.shard.io" in namespace "sys"`, nil},
		{"status", "list", shard("shardinstances"), `you need the verb "list" on "shardinstances.shard.io" in namespace "sys"`, nil},
		{"status", "list", shard("shardmigrations"), `you need the verb "list" on "shardmigrations.shard.io" in namespace "sys"`, nil},
		{"status", "list", leasesOf, `you need the verb "list" on "leases.coordination.k8s.io" in namespace "sys"`, nil},
		{"owner secrets/ns/tls-000", "get", secrets, `you need the verb "get" on "secrets" in namespace "ns"`, nil},
		{"owner secrets/ns/tls-000", "list", configMaps, `you need the verb "list" on "configmaps" in namespace "ns"`, nil},
		{"verify", "list", secrets, `you need the verb "list" on "secrets" in the whole cluster`, nil},
		{"verify", "list", namespaces, `you need the verb "list" on "namespaces" in the whole cluster`, namespaced},
		{"rebalance --dry-run", "list", secrets, `you need the verb "list" on "secrets" in the whole cluster`, nil},
		{"cordon w-1", "patch", shard("shardinstances"), `you need the verb "patch" on "shardinstances.shard.io" in namespace "sys"`, nil},
		{"drain w-1 --wait", "get", shard("shardinstances"), `you need the verb "get" on "shardinstances.shard.io" in namespace "sys"`, nil},
		{"migrate --from w-1 --to w-2", "create", shard("shardmigrations"), `you need the verb "create" on "shardmigrations.shard.io" in namespace "sys"`, nil},
		{"migrate --from w-1 --to w-2 --wait", "get", shard("shardmigrations"), `you need the verb "get" on "shardmigrations.shard.io" in namespace "sys"`, nil},
	}
	for _, tc := range tests {
		t.Run(tc.args+" "+tc.verb+" "+tc.resource.Resource, func(t *testing.T) {
			inMemory(t, func(w *world) {
				w.ring("r", nil)
				w.populate(1)
				w.pretend("w-1", false)
				w.pretend("w-2", false)
				if tc.before != nil {
					tc.before(w)
				}
				w.server.Client("user").Inject(memapi.Forbidden, math.MaxInt, func(r *memapi.Request) bool {
					return r.Verb == tc.verb && r.Resource == tc.resource
				})
				w.expect(exitFault, tc.args, tc.text)
			})
		})
	}
}

func TestInstallPrints(t *testing.T) {
	inMemory(t, func(w *world) {
		w.ring("r", nil)
		w.ring("r2", nil)
		r := w.expect(0, "install --print", "kind: CustomResourceDefinition", "r.sys.fence.shard.io", "r2.sys.fence.shard.io", "system:serviceaccount:sys:manager")
		if len(r.err) > 0 {
			t.Errorf("said %s", r.err)
		}
		if r := w.expect(0, "install --print --ring sys/r2", "r2.sys.fence.shard.io"); strings.Contains(r.out, "r.sys.fence") {
			t.Error("the other ring is there")
		}
		w.server.Client("user").Inject(memapi.Forbidden, math.MaxInt, nil)
		w.expect(exitFault, "install", "not allowed, this needs an administrator", "customresourcedefinitions")
	})
}

// A user who may not look into other namespaces is told about the one that was asked for.
func TestRingThatIsNotHereNorElsewhere(t *testing.T) {
	inMemory(t, func(w *world) {
		w.server.Client("user").Inject(memapi.Forbidden, math.MaxInt, func(r *memapi.Request) bool { return r.Namespace == "" && r.Resource == rings })
		w.expect(exitUsage, "ring", `there is no ShardConfig in namespace "sys"`)
	})
}

func TestRingIsChosen(t *testing.T) {
	inMemory(t, func(w *world) {
		w.ring("r", nil)
		w.populate(1)
		w.expect(0, "ring -n elsewhere", "The ring r has no shards")
		w.expect(0, "ring -n elsewhere --ring r", "The ring r has no shards")
		w.ring("r2", nil)
		w.expect(0, "ring --ring r2", "The ring r2")
		w.expect(0, "ring -n elsewhere --ring sys/r2", "The ring r2")
		w.expect(2, "ring", "choose one of sys/r, sys/r2")
		w.expect(2, "ring -n elsewhere", "choose one of sys/r, sys/r2")
		w.expect(1, "status", "r      sys", "r2     sys", "NoManager")
	})
}

func TestDefinitionsAreNotInstalled(t *testing.T) {
	var out, errs bytes.Buffer
	server := must(memapi.New(memapi.Options{Resources: memapi.CoreResources()}))
	defer server.Close()
	a := &app{stdout: &out, stderr: &errs, dial: func(*options) (*cluster, error) { return newCluster(server.Config("user"), "sys") }}
	if code := a.run(t.Context(), []string{"status"}); code != exitFault || !strings.Contains(errs.String(), "kubectl shard install installs the definitions") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

func TestServerThatIsDown(t *testing.T) {
	inMemory(t, func(w *world) {
		w.ring("r", nil)
		w.server.SetDown(true)
		w.expect(exitFault, "status", "the API server can't be reached")
	})
}

func TestKubeconfig(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("HOME", t.TempDir())
	if _, err := dial(&options{}); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("without any: %v", err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	const text = `{"apiVersion":"v1","kind":"Config","current-context":"one","contexts":[{"name":"one","context":{"cluster":"c","user":"u","namespace":"shop"}},
		{"name":"two","context":{"cluster":"c","user":"u"}}],"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],"users":[{"name":"u","user":{"token":"t"}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		o    options
		want string
	}{
		{options{}, "shop"},
		{options{context: "two"}, "default"},
		{options{namespace: "other"}, "other"},
	} {
		tc.o.kubeconfig, tc.o.requestTimeout = path, time.Second
		c, err := dial(&tc.o)
		if err != nil || c.namespace != tc.want || c.cfg.Timeout != time.Second || c.cfg.BearerToken != "t" {
			t.Errorf("%+v: %+v, %v", tc.o, c, err)
		}
	}
	if _, err := dial(&options{kubeconfig: path, context: "three"}); exitCode(err) != exitUsage {
		t.Errorf("a context that is not there: %v", err)
	}
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs, dial: dial}
	if code := a.run(t.Context(), []string{"status", "--kubeconfig", path}); code != exitFault || !strings.Contains(errs.String(), "the API server can't be reached") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}
