//go:build unix

package programs

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/internal/controlplane"
)

// proxy is another address of an API server, which is not there before it is opened.
type proxy struct {
	*testing.T
	address   string
	authority []byte
	handler   http.Handler
}

// newProxy chooses an address. version is what the server says it is; empty: what it is.
func newProxy(t *testing.T, plane *controlplane.ControlPlane, version string) *proxy {
	t.Helper()
	cfg := plane.Config()
	target, err := url.Parse(cfg.Host)
	if err != nil {
		t.Fatal(err)
	}
	anonymous := rest.AnonymousClientConfig(cfg) // whoever asks says who he is
	transport, err := rest.TransportFor(anonymous)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	model := httptest.NewTLSServer(forward) // all of them have one certificate
	defer model.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: model.Certificate().Raw})
	return &proxy{T: t, address: free.Addr().String(), authority: authority, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if version != "" && r.URL.Path == "/version" {
			_, _ = io.WriteString(w, `{"major":"1","minor":"0","gitVersion":"`+version+`"}`)
			return
		}
		forward.ServeHTTP(w, r)
	})}
}

// open begins to serve, until the test ends.
func (p *proxy) open() {
	p.Helper()
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		p.Fatal(err)
	}
	server := httptest.NewUnstartedServer(p.handler)
	server.Listener.Close()
	server.Listener = listener
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	p.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
}
