package sharding

import (
	"net/http"
	"time"
)

// reconnecter keeps watches waiting while the API server can't be reached, instead of letting them fail. An informer whose watch fails
// again and again waits for up to a minute before it tries the next time; a shard that has its right to act back, as its Lease
// needs no informer, would see nothing new for so long. A watch that waits here is there within a second of the server.
type reconnecter struct {
	next http.RoundTripper
}

const (
	reconnectMin = 100 * time.Millisecond
	reconnectMax = time.Second
)

// RoundTrip passes everything on. Only a request for a watch that fails without an answer of the API server itself is repeated, until
// its context is done: it has no body and changes nothing.
func (r *reconnecter) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet || !isWatch(request) {
		return r.next.RoundTrip(request)
	}
	for wait := reconnectMin; ; wait = min(2*wait, reconnectMax) {
		response, err := r.next.RoundTrip(request)
		if err == nil && !unreachable(response.StatusCode) || request.Context().Err() != nil {
			return response, err
		}
		if err == nil {
			_ = response.Body.Close()
		}
		pause(request.Context(), jitter(wait))
		if request.Context().Err() != nil {
			return nil, request.Context().Err()
		}
	}
}

func isWatch(request *http.Request) bool {
	watch := request.URL.Query().Get("watch")
	return watch == "true" || watch == "1"
}

// unreachable are the answers of proxies in front of an API server that is away, and of one that is coming up.
func unreachable(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}
