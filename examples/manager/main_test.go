package main

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func parse(t *testing.T, args ...string) *options {
	t.Helper()
	var o options
	set := flag.NewFlagSet("manager", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	o.register(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestFlags(t *testing.T) {
	tests := []struct {
		name string
		args string
		err  string // part of it; empty: valid
	}{
		{"the least", "--namespace=shop", ""},
		{"no namespace", "", "--namespace"},
		{"no identity", "--namespace=shop --identity=", "--identity"},
		{"nothing at once", "--namespace=shop --concurrency=0", "--concurrency"},
		{"too much at once", "--namespace=shop --concurrency=1001", "--concurrency"},
		{"an election in a second", "--namespace=shop --election-lease-duration=1s --election-renew-deadline=600ms --election-retry-period=100ms", ""},
		{"a leader that outlives its Lease", "--namespace=shop --election-lease-duration=5s", "--election-lease-duration 5s"},
		{"no time to retry", "--namespace=shop --election-retry-period=0", "--election-retry-period"},
		{"a metric", `--namespace=shop --prometheus-address=http://p --prometheus-queries=[{"ring":"r","name":"backlog","query":"q","target":5,"total":true}]`, ""},
		{"a metric of nowhere", `--namespace=shop --prometheus-queries=[{"ring":"r","name":"backlog","query":"q","target":5}]`, "--prometheus-address"},
		{"a server that is asked nothing", "--namespace=shop --prometheus-address=http://p", "--prometheus-queries: must not be empty"},
		{"a metric without a target", `--namespace=shop --prometheus-address=http://p --prometheus-queries=[{"ring":"r","name":"backlog","query":"q"}]`, "--prometheus-queries: [0].target"},
		{"two mistakes, both named", "--concurrency=0", "--namespace: must not be empty; set it or $POD_NAMESPACE\n--concurrency"},
	}
	t.Setenv("POD_NAMESPACE", "")
	t.Setenv("POD_NAME", "manager-0")
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := parse(t, strings.Fields(tc.args)...).validate()
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}

func TestFlagsFromThePod(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "shop")
	t.Setenv("POD_NAME", "manager-0")
	o := parse(t)
	if o.Namespace != "shop" || o.Identity != "manager-0" || o.validate() != nil {
		t.Errorf("namespace %q, identity %q, error %v", o.Namespace, o.Identity, o.validate())
	}
}

// TestQueriesInAFile: they get from the file to the flag and back, and nothing in them is ignored.
func TestQueriesInAFile(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "manager.yaml")
		text = "apiVersion: config.shard.io/v1alpha1\nkind: ManagerConfiguration\nnamespace: shop\nidentity: m\nprometheus:\n  address: http://p\n  queries:\n  - " + text
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct{ name, text, want string }{
		{"all", "{ring: r, name: backlog, query: sum(q), target: 2.5, total: true}", "    query: sum(q)\n    ring: r\n    target: 2.5\n    total: true\n"},
		{"a word that is misspelt", "{ring: r, name: backlog, query: sum(q), tagret: 2.5}", `prometheus.queries: json: unknown field "tagret"`},
		{"a text for a number", "{ring: r, name: backlog, query: sum(q), target: two}", "prometheus.queries: json: cannot unmarshal string"},
	} {
		var out, errs strings.Builder
		program().Execute([]string{"--print-config", "--config=" + file(tc.text)}, &out, &errs, nil)
		if !strings.Contains(out.String()+errs.String(), tc.want) {
			t.Errorf("%s: %s%s, want %q", tc.name, &out, &errs, tc.want)
		}
	}
	const given = `[{"ring":"other","name":"age","query":"q","target":1,"total":false}]`
	var out, errs strings.Builder
	program().Execute([]string{"--print-config", "--prometheus-queries=" + given, "--config=" + file("{ring: r, name: age, query: q, target: 1}")}, &out, &errs, nil)
	if !strings.Contains(out.String(), "ring: other") || strings.Contains(out.String(), "ring: r\n") {
		t.Errorf("the flag does not win: %s%s", &out, &errs)
	}
}
