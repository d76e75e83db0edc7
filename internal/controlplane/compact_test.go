//go:build unix

package controlplane

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestCompactionEndsOldWatches(t *testing.T) {
	c := ForTest(t)
	maps := clientFor(t, c.Config()).CoreV1().ConfigMaps(newNamespace(t, c))
	before, err := maps.Create(t.Context(), configMap("before"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	after, err := maps.Create(t.Context(), configMap("after"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := watchFrom(t, c, before); got != nil {
		t.Fatalf("before the compaction: %v", got)
	}
	compacted, err := c.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.ResourceVersion > compacted { // of the same length
		t.Errorf("compacted at %s, and version %s had been written", compacted, after.ResourceVersion)
	}
	if err := c.StopAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := watchFrom(t, c, before); !apierrors.IsResourceExpired(got) {
		t.Errorf("watch after the compaction: %v, want 410", got)
	}
	// A watch would end after the restart alone; the past itself is gone by the compaction.
	_, err = maps.List(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("list of the past after the compaction: %v, want 410", err)
	}
}

// watchFrom goes on from the version of an object, and returns what the server says if it can't.
func watchFrom(t *testing.T, c *ControlPlane, o metav1.Object) error {
	t.Helper()
	w, err := clientFor(t, c.Config()).CoreV1().ConfigMaps(o.GetNamespace()).Watch(t.Context(), metav1.ListOptions{ResourceVersion: o.GetResourceVersion()})
	if err != nil {
		return err
	}
	defer w.Stop()
	event := <-w.ResultChan()
	if event.Type == watch.Error {
		return apierrors.FromObject(event.Object)
	}
	return nil
}
