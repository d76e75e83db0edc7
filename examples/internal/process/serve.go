package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
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

// Serve serves probes and metrics on the addresses of the flags while work
// runs, and returns what work returned. An address that cannot be listened on
// is an error before work begins.
func (f *Flags) Serve(ctx context.Context, checks *health.Checks, metrics prometheus.Gatherer, work func(context.Context) error) error {
	probes := http.NewServeMux()
	checks.Install(probes)
	scrape := http.NewServeMux()
	scrape.Handle("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	stopProbes, err := serve(ctx, "probes", f.ProbeAddress, probes)
	if err != nil {
		return err
	}
	defer stopProbes()
	stopMetrics, err := serve(ctx, "metrics", f.MetricsAddress, scrape)
	if err != nil {
		return err
	}
	defer stopMetrics()
	return work(ctx)
}

// serve starts a server; stop ends it and waits for its requests.
func serve(ctx context.Context, name, address string, handler http.Handler) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serving %s: %w", name, err)
	}
	logger := klog.FromContext(ctx)
	logger.Info("Serving "+name, "address", "http://"+listener.Addr().String())
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 16,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error(err, "Serving ended", "server", name)
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
