package e2enode

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/examples/internal/pki"
)

// cpuTarget of a worker is more than it needs at rest, and less than when it is full.
var cpuTarget = resource.MustParse("20m")

const metricsPath = "/apis/metrics.k8s.io/v1beta1"

// metricsServer serves the CPU time of Pods as the API metrics.k8s.io, which autoscalers ask: it is what a metrics-server would say, from the
// statistics of the kubelet.
type metricsServer struct {
	*cluster

	mu   sync.Mutex
	last map[types.UID][2]sample // the last two of each Pod that differ
}

// serveMetrics makes the API server ask this process for metrics.k8s.io. The function that it returns ends that.
func (s *story) serveMetrics() (stop func()) {
	s.Helper()
	m := &metricsServer{cluster: s.cluster, last: map[types.UID][2]sample{}}
	certificate, err := s.certificate()
	s.must(err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}})
	s.must(err)
	server := &http.Server{Handler: m, ReadHeaderTimeout: time.Minute}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) })
	ctx, cancel := context.WithCancel(s.Context())
	running.Go(func() { m.look(ctx) })
	objects := s.registration(int64(listener.Addr().(*net.TCPAddr).Port))
	for _, o := range objects {
		s.applyOne(o)
	}
	s.eventually("the API server serves metrics of the workers", func(ctx context.Context) error {
		data, err := s.kube.CoreV1().RESTClient().Get().AbsPath(metricsPath, "namespaces", namespace, "pods").Param("labelSelector", "shard.io/ring="+ringName).DoRaw(ctx)
		if err == nil && strings.Count(string(data), `"usage"`) < fewest {
			err = fmt.Errorf("too few Pods: %s", data)
		}
		return err
	})
	return func() {
		for _, o := range objects {
			resource, err := s.resource(o)
			s.must(err)
			s.must(resource.Delete(context.Background(), o.GetName(), metav1.DeleteOptions{}))
		}
		cancel()
		_ = server.Close()
		running.Wait()
	}
}

func (s *story) certificate() (tls.Certificate, error) {
	cert, key, err := s.issuer.authority.Issue(pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, "metrics.default.svc")
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// registration are a Service that is an address of the node, as nothing here translates addresses of Services, and the APIService.
func (s *story) registration(port int64) []*unstructured.Unstructured {
	return []*unstructured.Unstructured{
		{Object: map[string]any{
			"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "metrics", "namespace": "default"},
			"spec": map[string]any{"type": "ExternalName", "externalName": "localhost"},
		}},
		{Object: map[string]any{
			"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": "v1beta1.metrics.k8s.io"},
			"spec": map[string]any{
				"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": int64(100), "versionPriority": int64(100), "insecureSkipTLSVerify": true,
				"service": map[string]any{"name": "metrics", "namespace": "default", "port": port},
			},
		}},
	}
}

// look reads the statistics of the workers until ctx is done.
func (m *metricsServer) look(ctx context.Context) {
	for ctx.Err() == nil {
		if pods, err := m.pods(ctx, "worker"); err == nil {
			if samples, err := m.statistics(ctx, pods); err == nil {
				m.mu.Lock()
				for uid, s := range samples {
					if pair := m.last[types.UID(uid)]; s.CPU.Time.After(pair[1].CPU.Time) {
						m.last[types.UID(uid)] = [2]sample{pair[1], s}
					}
				}
				m.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

func (m *metricsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var answer any
	switch r.URL.Path {
	case metricsPath:
		answer = metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: "metrics.k8s.io/v1beta1",
			APIResources: []metav1.APIResource{{Name: "pods", Namespaced: true, Kind: "PodMetrics", Verbs: []string{"get", "list"}}},
		}
	case metricsPath + "/namespaces/" + namespace + "/pods":
		pods, err := m.kube.CoreV1().Pods(namespace).List(r.Context(), metav1.ListOptions{LabelSelector: r.URL.Query().Get("labelSelector")})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer = m.list(pods.Items)
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// list is a PodMetricsList.
func (m *metricsServer) list(pods []corev1.Pod) map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := []any{}
	for _, pod := range pods {
		pair := m.last[pod.UID]
		window := pair[1].CPU.Time.Sub(pair[0].CPU.Time)
		if pair[0].CPU.Time.IsZero() {
			continue // one sample says nothing
		}
		cores := float64(pair[1].CPU.UsageCoreNanoSeconds-pair[0].CPU.UsageCoreNanoSeconds) / float64(window)
		items = append(items, map[string]any{
			"metadata": map[string]any{"name": pod.Name, "namespace": pod.Namespace}, "timestamp": metav1.NewTime(pair[1].CPU.Time), "window": window.String(),
			"containers": []any{map[string]any{"name": "worker", "usage": map[string]any{
				"cpu": resource.NewMilliQuantity(int64(1000*cores), resource.DecimalSI).String(), "memory": fmt.Sprint(pair[1].Memory.WorkingSetBytes),
			}}},
		})
	}
	return map[string]any{"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": map[string]any{}, "items": items}
}
