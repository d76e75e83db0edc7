//go:build unix

package controlplane

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRestoreGoesBack(t *testing.T) {
	c := ForTest(t)
	maps := clientFor(t, c.Config()).CoreV1().ConfigMaps(newNamespace(t, c))
	before, err := maps.Create(t.Context(), configMap("before"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(t.Context(), configMap("after"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	changed := before.DeepCopy()
	changed.Data = map[string]string{"k": "v"}
	if _, err := maps.Update(t.Context(), changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(t.Context(), "after", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was created after the backup: %v; want that it is not found", err)
	}
	now, err := maps.Get(t.Context(), "before", metav1.GetOptions{})
	if err != nil || now.ResourceVersion != before.ResourceVersion || now.UID != before.UID {
		t.Errorf("what was changed after the backup: version %s, %v; want version %s", now.ResourceVersion, err, before.ResourceVersion)
	}
}
