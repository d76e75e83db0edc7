//go:build unix

package controlplane

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOutageKeepsEverything(t *testing.T) {
	c := ForTest(t)
	ns := newNamespace(t, c)
	host := c.Config().Host
	token, err := c.PodConfig(t.Context(), ns, "worker", "shard-0")
	if err != nil {
		t.Fatal(err)
	}
	maps := clientFor(t, c.Config()).CoreV1().ConfigMaps(ns)
	before, err := maps.Create(t.Context(), configMap("kept"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()

	for range 2 { // stopping what is stopped is no fault
		if err := c.StopAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range watch.ResultChan() { // ends, because the server ended it
	}
	if _, err := maps.Get(t.Context(), "kept", metav1.GetOptions{}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("during the outage: %v; want that the connection is refused", err)
	}
	wantError(t, c.PauseAPIServer(), "not running")
	wantError(t, c.ResumeAPIServer(), "not running")
	_, err = c.PodConfig(t.Context(), ns, "worker", "shard-0")
	wantError(t, err, "refused")

	// It waits for its own port when somebody else has taken that meanwhile.
	thief, err := net.Listen("tcp", strings.TrimPrefix(host, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	found := make(chan struct{})
	go func() {
		defer close(found)
		defer thief.Close()
		waitFor(t, "the server finds its port taken", func() bool {
			log, err := os.ReadFile(c.logFile("kube-apiserver.log"))
			return err == nil && portTaken(string(log))
		})
	}()
	for range 2 { // nor is starting what runs a fault
		if err := c.StartAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	<-found
	after, err := maps.Get(t.Context(), "kept", metav1.GetOptions{})
	if err != nil || after.ResourceVersion != before.ResourceVersion {
		t.Errorf("after the outage: version %s, %v; want version %s", after.ResourceVersion, err, before.ResourceVersion)
	}
	if c.Config().Host != host {
		t.Errorf("came back at %s, was at %s", c.Config().Host, host)
	}
	if got := whoAmI(t, token).Extra[podNameKey]; len(got) != 1 {
		t.Errorf("the old token is now one of Pod %q", got)
	}
}

func TestPauseAnswersNothing(t *testing.T) {
	c := ForTest(t)
	maps := clientFor(t, c.Config()).CoreV1().ConfigMaps(newNamespace(t, c))
	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := maps.Get(ctx, "any", metav1.GetOptions{})
	if resumed := c.ResumeAPIServer(); resumed != nil {
		t.Fatal(resumed)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is paused: %v; want no answer", err)
	}
	if _, err := maps.Get(t.Context(), "any", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the pause: %v; want an answer", err)
	}
}

func TestNamespaceIsFinalizedWhenItIsEmpty(t *testing.T) {
	c := ForTest(t)
	ns := newNamespace(t, c)
	if _, err := c.PodConfig(t.Context(), ns, "worker", "shard-0"); err != nil {
		t.Fatal(err)
	}
	core := clientFor(t, c.Config()).CoreV1()
	for _, m := range []string{"a", "b"} {
		if _, err := core.ConfigMaps(ns).Create(t.Context(), configMap(m), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := core.ConfigMaps(ns).Create(t.Context(), configMap("held", "example.com/hold"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.FinalizeNamespace(t.Context(), ns) }()
	waitFor(t, "only what has a finalizer is left", func() bool {
		list, err := core.ConfigMaps(ns).List(t.Context(), metav1.ListOptions{})
		return err == nil && len(list.Items) == 1 && list.Items[0].Name == "held"
	})
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	wantError(t, c.FinalizeNamespace(short, ns), ns)
	_, err := core.ConfigMaps(ns).Patch(t.Context(), "held", "application/merge-patch+json",
		[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := core.Namespaces().Get(t.Context(), ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the namespace is still there: %v", err)
	}
	if err := c.FinalizeNamespace(t.Context(), ns); err != nil {
		t.Errorf("what is gone needs nothing: %v", err)
	}
}
