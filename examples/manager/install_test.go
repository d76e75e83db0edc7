package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shard-io/shard-controller/examples/internal/process"
)

func parseInstall(t *testing.T, args ...string) *installer {
	t.Helper()
	var i installer
	set := flag.NewFlagSet("install", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	i.register(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &i
}

func TestInstallFlags(t *testing.T) {
	tests := []struct{ name, args, err string }{
		{"the least", "--namespace=shop", ""},
		{"no namespace", "", "--namespace: must not be empty"},
		{"both", "--namespace=shop --print --uninstall", "exclude each other"},
		{"no time", "--namespace=shop --timeout=0", "--timeout"},
		{"no manager", "--namespace=shop --manager-accounts=", `--manager-accounts: "" is not of the form`},
		{"an account of another namespace", "--namespace=shop --worker-accounts=a,other/b", ""},
		{"no account", "--namespace=shop --worker-accounts=other/", `--worker-accounts: "other/" is not of the form`},
	}
	t.Setenv("POD_NAMESPACE", "")
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := parseInstall(t, strings.Fields(tc.args)...).validate()
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}

const twoRings = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: shard.io/v1
kind: ShardConfig
metadata: {name: first}
spec: {targets: [{resource: secrets}]}
---
apiVersion: shard.io/v1
kind: ShardConfig
metadata: {name: second, namespace: shop}
spec: {targets: [{resource: secrets}]}
---
apiVersion: shard.io/v1
kind: ShardConfig
metadata: {name: third, namespace: elsewhere}
spec: {targets: [{resource: secrets}]}
`

func TestInstallPrints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rings.yaml")
	if err := os.WriteFile(file, []byte(twoRings), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	i := parseInstall(t, "--namespace=shop", "--print", "--file="+file, "--worker-accounts=a,other/b")
	i.out = &out
	if err := i.run(t.Context(), &process.Flags{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kind: CustomResourceDefinition", "name: first.shop.fence.shard.io", "name: second.shop.fence.shard.io",
		"system:serviceaccount:shop:manager", "system:serviceaccount:shop:a", "system:serviceaccount:other:b"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(out.String(), "elsewhere") {
		t.Error("the ring of another namespace is there")
	}
	i.ring = "fourth"
	if err := i.run(t.Context(), &process.Flags{}); err == nil || !strings.Contains(err.Error(), "there is no ShardConfig shop/fourth") {
		t.Errorf("a ring that does not exist: %v", err)
	}
}
