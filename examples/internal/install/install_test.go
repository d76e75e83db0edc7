package install

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

func parse(t *testing.T, namespace string, args ...string) *Command {
	t.Helper()
	c := &Command{Namespace: namespace, Say: func(string, ...any) {}}
	set := flag.NewFlagSet("install", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	c.Register(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return c
}

func unconnected() (*rest.Config, error) { return nil, errors.New("connected") }

func TestInstallFlags(t *testing.T) {
	tests := []struct{ name, namespace, args, err string }{
		{"the least", "shop", "", ""},
		{"no namespace", "", "", "--namespace: must not be empty"},
		{"both", "shop", "--print --uninstall", "exclude each other"},
		{"no time", "shop", "--timeout=0", "--timeout"},
		{"no manager", "shop", "--manager-accounts=", `--manager-accounts: "" is not of the form`},
		{"an account of another namespace", "shop", "--worker-accounts=a,other/b", ""},
		{"no account", "shop", "--worker-accounts=other/", `--worker-accounts: "other/" is not of the form`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := parse(t, tc.namespace, strings.Fields(tc.args)...).Validate()
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
	c := parse(t, "shop", "--print", "--file="+file, "--worker-accounts=a,other/b")
	c.Out = &out
	if err := c.Run(t.Context(), unconnected); err != nil {
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
	c.Ring = "fourth"
	if err := c.Run(t.Context(), unconnected); err == nil || !strings.Contains(err.Error(), "there is no ShardConfig shop/fourth") {
		t.Errorf("a ring that does not exist: %v", err)
	}
}
