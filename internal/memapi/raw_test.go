package memapi_test

import (
	"net/http"
	"strings"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// raw asks without client-go, to measure the server alone.
type raw struct{ transport http.RoundTripper }

func newRaw(s *memapi.Server) raw { return raw{s.Client("raw")} }

func (r raw) patch(name, body string) int {
	req, err := http.NewRequest(http.MethodPatch, "http://memapi/api/v1/namespaces/ns/configmaps/"+name, strings.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/merge-patch+json")
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
