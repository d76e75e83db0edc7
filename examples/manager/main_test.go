package main

import (
	"flag"
	"io"
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
