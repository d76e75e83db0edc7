package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/health"
)

// shutdownTimeout bounds how long requests in flight may hold up the end.
const shutdownTimeout = 2 * time.Second

// NewRegistry returns a registry with the usual metrics of the Go runtime and
// of the process.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Endpoints are what a program serves beside its work.
type Endpoints struct {
	Checks  *health.Checks
	Metrics prometheus.Gatherer
	// API is asked who may read metrics, if they are served over TLS.
	API *rest.Config
}

// Serve serves probes, metrics and profiles on the addresses of the flags while work
// runs, and returns what work returned. An address that cannot be listened on, and a certificate
// that cannot be used, is an error before work begins.
func (f *Flags) Serve(ctx context.Context, e Endpoints, work func(context.Context) error) error {
	probes := http.NewServeMux()
	e.Checks.Install(probes)
	metrics, err := f.metricsServer(ctx, e)
	if err != nil {
		return err
	}
	for _, s := range []server{
		{name: "probes", flag: "--probe-address", address: f.Probe.Address, handler: probes},
		metrics,
		{name: "profiles", flag: "--pprof-address", address: f.Pprof.Address, handler: profiles(), write: 5 * time.Minute},
	} {
		stop, err := s.start(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	return work(ctx)
}

// metricsServer is the one with /metrics, which over TLS are for those whom the API server allows it.
func (f *Flags) metricsServer(ctx context.Context, e Endpoints) (server, error) {
	handler := promhttp.HandlerFor(e.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	s := server{name: "metrics", flag: "--metrics-address", address: f.Metrics.Address}
	if f.Metrics.TLS.Cert != "" && s.address != "" {
		certificate, err := newCertificate(f.Metrics.TLS.Cert, f.Metrics.TLS.Key)
		if err != nil {
			return s, err
		}
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificate.get(ctx), nil
		}}
		if f.Metrics.Authorize {
			kube, err := kubernetes.NewForConfig(e.API)
			if err != nil {
				return s, fmt.Errorf("--metrics-authorize: %w", err)
			}
			handler = newAuthorizer(kube, "/metrics", handler)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", handler)
	s.handler = mux
	return s, nil
}

// profiles serves what package pprof has, and not on the default mux of the process, which anybody may serve.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// server is one address with what is served there. Without an address it is none.
type server struct {
	name, flag, address string
	handler             http.Handler
	tls                 *tls.Config
	write               time.Duration // how long an answer may take; default 30 s
}

// complaints are what an HTTP server says about its clients: of interest to who looks for a mistake, and no error of ours.
type complaints struct{ klog.Logger }

func (c complaints) Write(line []byte) (int, error) {
	c.V(1).Info("A client was turned away", "cause", strings.TrimSpace(string(line)))
	return len(line), nil
}

// start returns when the address is being listened on; stop ends the server and waits for its requests.
func (s server) start(ctx context.Context) (stop func(), err error) {
	if s.address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return nil, fmt.Errorf("%s: %s can't be served, choose an address that is free: %w", s.flag, s.name, err)
	}
	scheme := "http"
	if s.tls != nil {
		scheme, listener = "https", tls.NewListener(listener, s.tls)
	}
	logger := klog.FromContext(ctx)
	logger.Info("Serving "+s.name, "address", scheme+"://"+listener.Addr().String())
	if s.write == 0 {
		s.write = 30 * time.Second
	}
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: s.write, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 16,
		BaseContext: func(net.Listener) context.Context { return klog.NewContext(context.Background(), logger) },
		ErrorLog:    log.New(complaints{logger}, "", 0),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error(err, "Serving ended", "server", s.name)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		<-done
	}, nil
}
