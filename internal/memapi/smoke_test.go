package memapi_test

import (
	"context"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/internal/memapi"
)

// newServer makes a server with all built-in and shard.io kinds that is closed with the test.
func newServer(t testing.TB, change ...func(*memapi.Options)) *memapi.Server {
	t.Helper()
	o := memapi.Options{Resources: append(memapi.CoreResources(), memapi.ShardResources()...)}
	for _, f := range change {
		f(&o)
	}
	s, err := memapi.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestStaleWriteIsAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		ctx := context.Background()
		client, err := kubernetes.NewForConfig(s.Config("a"))
		if err != nil {
			t.Fatal(err)
		}
		maps := client.CoreV1().ConfigMaps("ns")
		first, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		second := first.DeepCopy()
		second.Data = map[string]string{"k": "v"}
		if second, err = maps.Update(ctx, second, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if second.ResourceVersion == first.ResourceVersion || second.UID != first.UID {
			t.Fatalf("update: %v after %v", second.ObjectMeta, first.ObjectMeta)
		}
		first.Data = map[string]string{"k": "lost"}
		if _, err = maps.Update(ctx, first, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("stale update: %v, want a conflict", err)
		}
		stale := `{"metadata":{"resourceVersion":"` + first.ResourceVersion + `","labels":{"a":"b"}}}`
		if _, err = maps.Patch(ctx, "x", types.MergePatchType, []byte(stale), metav1.PatchOptions{}); !apierrors.IsConflict(err) {
			t.Errorf("stale patch: %v, want a conflict", err)
		}
	})
}
