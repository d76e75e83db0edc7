//go:build unix

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someMetrics = `# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="secrets",scope="resource",subresource="",verb="PATCH",version="v1"} 40
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="secrets",scope="resource",subresource="",verb="PATCH",version="v1"} 2
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="secrets",scope="resource",subresource="",verb="GET",version="v1"} 7
apiserver_request_total{code="200",component="apiserver",dry_run="",group="shard.io",resource="shardmigrations",scope="resource",subresource="status",verb="PATCH",version="v1"} 1.2e+01
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",resource="secrets",scope="resource",subresource="",verb="POST",version="v1"} 3
apiserver_request_total_of_something_else{verb="PATCH"} 9
`

func TestParseRequests(t *testing.T) {
	got, err := parseRequests([]byte(someMetrics))
	if err != nil {
		t.Fatal(err)
	}
	want := requests{"PATCH secrets": 40, "PATCH secrets (409)": 2, "PATCH shardmigrations/status": 12, "POST secrets": 3}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(requests{"PATCH secrets": 30, "POST secrets": 3}, requests{"PATCH secrets": 40, "POST secrets": 3, "PUT leases": 5}.since(
		requests{"PATCH secrets": 10, "PUT leases": 5})); diff != "" {
		t.Error(diff)
	}
	if _, err := parseRequests([]byte("nothing")); err == nil {
		t.Error("metrics without requests were accepted")
	}
}
