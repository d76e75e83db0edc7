//go:build unix

package main

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/internal/controlplane"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

// transcript is what a tour prints into a pipe.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *transcript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestTourOfAForeignCluster takes the whole tour, with real processes, on a
// cluster that it is told about by KUBECONFIG, and then looks for what it left
// behind there. The other way to run differs in nothing but the control plane,
// which is then the tour's own.
func TestTourOfAForeignCluster(t *testing.T) {
	plane := controlplane.ForTest(t)
	kubeconfig, err := plane.KubeconfigFile(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", kubeconfig)
	t.Setenv("TMPDIR", t.TempDir()) // logs of a tour that fails stay there
	kube, err := kubernetes.NewForConfig(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := options{namespace: "tour", ring: "auditor", secrets: 60, lease: 10 * time.Second}
	var finalizer sync.WaitGroup
	finalizer.Go(func() { finalize(ctx, t, plane, kube, o.namespace) })
	out := &transcript{}
	good, err := run(ctx, o, &screen{out: out})
	cancel()
	finalizer.Wait()
	if err != nil || !good {
		t.Fatalf("good %t, error %v:\n%s", good, err, out)
	}
	for _, part := range []string{"ok   a manager and three workers start: moved 60 of 60", "ok   worker-4 joins", "ok   worker-2 is stopped", "ok   worker-1 is killed", "Every check held."} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the transcript lacks %q:\n%s", part, out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("there are control sequences in a pipe")
	}
	if _, err := kube.CoreV1().Namespaces().Get(t.Context(), o.namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace is still there: %v", err)
	}
	for _, name := range []string{"tour-manager", "tour-worker"} {
		if _, err := kube.RbacV1().ClusterRoles().Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("ClusterRole %s is still there: %v", name, err)
		}
		if _, err := kube.RbacV1().ClusterRoleBindings().Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("ClusterRoleBinding %s is still there: %v", name, err)
		}
	}
}

// finalize is the part of kube-controller-manager that ends a namespace whose
// deletion somebody has asked for.
func finalize(ctx context.Context, t *testing.T, plane *controlplane.ControlPlane, kube kubernetes.Interface, name string) {
	for ctx.Err() == nil {
		namespace, err := kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err == nil && namespace.DeletionTimestamp != nil {
			if err := plane.FinalizeNamespace(context.WithoutCancel(ctx), name); err != nil {
				t.Error(err)
			}
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestATakenNamespace: what is in it is not ours to delete.
func TestATakenNamespace(t *testing.T) {
	plane := controlplane.ForTest(t)
	kubeconfig, err := plane.KubeconfigFile(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", kubeconfig)
	t.Setenv("TMPDIR", t.TempDir()) // logs of a tour that fails stay there
	out := &transcript{}
	good, err := run(t.Context(), options{namespace: "default", ring: "auditor", secrets: 60, lease: 10 * time.Second}, &screen{out: out})
	if good || err == nil || !strings.Contains(err.Error(), "the namespace default exists") {
		t.Errorf("good %t, error %v", good, err)
	}
	kube, err := kubernetes.NewForConfig(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	namespace, err := kube.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil || namespace.DeletionTimestamp != nil {
		t.Errorf("the namespace after that: %v, deleted %v", err, namespace.DeletionTimestamp)
	}
}
