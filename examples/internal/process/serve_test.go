package process

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/examples/internal/pki"
	"github.com/shard-io/shard-controller/health"
)

// served are the addresses that have been logged, in order.
func served(out *output) []string {
	return regexp.MustCompile(`https?://127\.0\.0\.1:\d+`).FindAllString(out.String(), -1)
}

// logged makes flags whose logs are collected.
func logged(t *testing.T) (*Flags, *output) {
	t.Helper()
	out := &output{}
	f := &Flags{Log: Log{Format: "text"}}
	if err := f.SetupLogging(out); err != nil {
		t.Fatal(err)
	}
	return f, out
}

func endpoints() Endpoints { return Endpoints{Checks: health.NewChecks(), Metrics: NewRegistry()} }

func TestServe(t *testing.T) {
	f, out := logged(t)
	f.Probe.Address, f.Metrics.Address, f.Pprof.Address = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	e := endpoints()
	broken := errors.New("not yet")
	var mu sync.Mutex
	if err := e.Checks.AddReadiness("shard", func(context.Context) error { mu.Lock(); defer mu.Unlock(); return broken }); err != nil {
		t.Fatal(err)
	}
	ended := errors.New("the work's own error")
	var probes string
	err := f.Serve(t.Context(), e, func(context.Context) error {
		addresses := served(out)
		if len(addresses) != 3 {
			t.Fatalf("addresses %v in the log, want three:\n%s", addresses, out)
		}
		probes = addresses[0]
		expect(t, probes+"/healthz", http.StatusOK, "")
		expect(t, probes+"/readyz", http.StatusServiceUnavailable, "shard")
		mu.Lock()
		broken = nil
		mu.Unlock()
		expect(t, probes+"/readyz", http.StatusOK, "")
		expect(t, probes+"/debug/pprof/", http.StatusNotFound, "")
		expect(t, probes+"/metrics", http.StatusNotFound, "")
		expect(t, addresses[1]+"/metrics", http.StatusOK, "go_goroutines")
		expect(t, addresses[1]+"/debug/pprof/", http.StatusNotFound, "")
		expect(t, addresses[2]+"/debug/pprof/cmdline", http.StatusOK, "process.test")
		return ended
	})
	if err != ended {
		t.Errorf("error %v, want that of the work", err)
	}
	client := &http.Client{Timeout: time.Second}
	if resp, err := client.Get(probes + "/healthz"); err == nil {
		resp.Body.Close()
		t.Error("the probes are served after the end")
	}
}

func expect(t *testing.T, url string, code int, part string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != code || !strings.Contains(string(body), part) {
		t.Errorf("GET %s: %d %q, want %d with %q", url, resp.StatusCode, body, code, part)
	}
}

func TestServeNeedsItsAddressesAndFiles(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	garbage := filepath.Join(t.TempDir(), "tls.crt")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		change     func(*Flags)
	}{
		{"probes", "--probe-address: probes can't be served, choose an address that is free", func(f *Flags) { f.Probe.Address = taken.Addr().String() }},
		{"metrics", "--metrics-address: metrics can't be served", func(f *Flags) { f.Metrics.Address = taken.Addr().String() }},
		{"profiles", "--pprof-address: profiles can't be served", func(f *Flags) { f.Pprof.Address = taken.Addr().String() }},
		{"a certificate that is not there", "--metrics-tls-cert, --metrics-tls-key: must name a PEM certificate", func(f *Flags) {
			f.Metrics.Address, f.Metrics.TLS.Cert, f.Metrics.TLS.Key = "127.0.0.1:0", "/nowhere", "/nowhere"
		}},
		{"a certificate that is none", "failed to find any PEM data", func(f *Flags) {
			f.Metrics.Address, f.Metrics.TLS.Cert, f.Metrics.TLS.Key = "127.0.0.1:0", garbage, garbage
		}},
	}
	for _, tc := range tests {
		f := &Flags{}
		tc.change(f)
		err := f.Serve(t.Context(), endpoints(), func(context.Context) error {
			t.Errorf("%s: the work began", tc.name)
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line with %q", tc.name, err, tc.want)
		}
	}
	if err := (&Flags{}).Serve(t.Context(), endpoints(), func(context.Context) error { return nil }); err != nil {
		t.Errorf("without addresses: %v", err)
	}
}

// issue writes a new certificate for the loopback address, and returns who trusts it.
func issue(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	valid := pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	root, err := pki.NewRoot("test", valid)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := root.Issue(valid, "metrics.test")
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root.PEM())
	return pool
}

// dial opens a connection of its own, as only a new one gets a new certificate.
func dial(address string, pool *x509.CertPool, version uint16) error {
	config := &tls.Config{RootCAs: pool, ServerName: "metrics.test", MaxVersion: version, MinVersion: tls.VersionTLS10}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(address, "https://"), config)
	if err == nil {
		err = conn.Close()
	}
	return err
}

func TestMetricsOverTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	pool := issue(t, cert, key)
	f, out := logged(t)
	f.Metrics.Address, f.Metrics.TLS.Cert, f.Metrics.TLS.Key, f.Metrics.Authorize = "127.0.0.1:0", cert, key, true
	e := endpoints()
	e.API = &rest.Config{Host: "http://127.0.0.1:1"} // nobody is there: what needs no answer is answered
	err := f.Serve(t.Context(), e, func(context.Context) error {
		address := served(out)[0]
		if err := dial(address, pool, tls.VersionTLS13); err != nil {
			t.Error(err)
		}
		if err := dial(address, pool, tls.VersionTLS11); err == nil {
			t.Error("TLS 1.1 is accepted")
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "metrics.test"}}}
		for token, want := range map[string]int{"": http.StatusUnauthorized, "Bearer t": http.StatusServiceUnavailable} {
			request, err := http.NewRequest(http.MethodGet, address+"/metrics", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", token)
			resp, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != want || strings.Contains(string(body), "go_goroutines") {
				t.Errorf("with %q: %d %s (%v), want %d and no metrics", token, resp.StatusCode, body, err, want)
			}
		}
		client.CloseIdleConnections()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "system:auth-delegator") {
		t.Errorf("nobody is told what it takes:\n%s", out)
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	first := issue(t, cert, key)
	_, out := logged(t)
	c, err := newCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c.interval = 0
	serves := func(what string, pool *x509.CertPool) {
		t.Helper()
		leaf := c.get(t.Context()).Leaf
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "metrics.test"}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	serves("at first", first)
	second := issue(t, cert, key)
	serves("after it changed", second)
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	serves("while it is half written", second)
	serves("while it is half written, later", second)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	serves("while it is gone", second)
	third := issue(t, cert, key)
	serves("when it is back", third)
	if n := strings.Count(out.String(), "can't be used"); n != 2 {
		t.Errorf("%d lines about unusable files, want one for each time they changed:\n%s", n, out)
	}
	c.interval = time.Hour
	issue(t, cert, key)
	serves("before it is time to look", third)
}
