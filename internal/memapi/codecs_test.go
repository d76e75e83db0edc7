package memapi

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metascheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// readers are the clients of one process: with the codecs of client-go, or with ours.
type readers struct {
	typed *kubernetes.Clientset
	bare  metadata.Interface
}

// readersOf makes clients that decode with the given codecs, which are variables of client-go.
func readersOf(t *testing.T, s *Server, own bool) readers {
	t.Helper()
	if own {
		swap(t, &scheme.Codecs, Codecs(scheme.Scheme))
		swap(t, &metascheme.Codecs, Codecs(metascheme.Scheme))
	}
	typed, err := kubernetes.NewForConfig(s.Config("a"))
	if err != nil {
		t.Fatal(err)
	}
	bare, err := metadata.NewForConfig(rest.CopyConfig(s.Config("a")))
	if err != nil {
		t.Fatal(err)
	}
	return readers{typed, bare}
}

func swap(t *testing.T, codecs *serializer.CodecFactory, other serializer.CodecFactory) {
	before := *codecs
	*codecs = other
	t.Cleanup(func() { *codecs = before })
}

// TestCodecs does the same with the codecs of client-go and with ours: both have to see the same, also the second time, and whatever is done to what
// they have seen.
func TestCodecs(t *testing.T) {
	see := func(own bool) (seen []any) {
		s, err := New(Options{Resources: CoreResources(), Seed: 1, ManyReaders: own})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		r, ctx := readersOf(t, s, own), context.Background()
		note := func(object any, err error) {
			if err != nil {
				object = err.Error()
			}
			seen = append(seen, object)
		}
		secrets, leases := r.typed.CoreV1().Secrets("ns"), r.typed.CoordinationV1().Leases("ns")
		watched, err := secrets.Watch(ctx, metav1.ListOptions{AllowWatchBookmarks: true})
		note(nil, err)
		for i := range 40 {
			note(secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("s", i), Labels: map[string]string{"odd": fmt.Sprint(i % 2)}},
				Data: map[string][]byte{"text": []byte(strings.Repeat("<\n\\\"é>", 400*i))}}, metav1.CreateOptions{}))
		}
		for range 2 {
			got, err := secrets.Get(ctx, "s3", metav1.GetOptions{})
			note(got.DeepCopy(), err)
			got.Labels["odd"], got.Data["text"] = "changed", nil // what others see must not
			note(secrets.List(ctx, metav1.ListOptions{Limit: 7}))
			note(secrets.List(ctx, metav1.ListOptions{LabelSelector: "odd=2"}))
			note(r.bare.Resource(CoreResources()[0].GVR()).List(ctx, metav1.ListOptions{}))
			list, err := r.bare.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace("ns").List(ctx, metav1.ListOptions{LabelSelector: "odd=1"})
			note(list.DeepCopy(), err)
			list.Items[0].Labels["odd"] = "changed"
		}
		note(secrets.Get(ctx, "none", metav1.GetOptions{}))
		note(secrets.Patch(ctx, "s1", types.MergePatchType, []byte(`{"metadata":{"labels":{"odd":"no"}}}`), metav1.PatchOptions{}))
		note(leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "l"}}, metav1.CreateOptions{}))
		note(leases.Get(ctx, "l", metav1.GetOptions{}))
		note(nil, secrets.Delete(ctx, "s2", metav1.DeleteOptions{}))
		for range 42 {
			seen = append(seen, <-watched.ResultChan())
		}
		watched.Stop()
		gone, err := secrets.Watch(ctx, metav1.ListOptions{ResourceVersion: "1"})
		note(nil, err)
		seen = append(seen, <-gone.ResultChan())
		s.Compact()
		expired, err := secrets.Watch(ctx, metav1.ListOptions{ResourceVersion: "1"})
		note(nil, err)
		event := <-expired.ResultChan()
		if event.Type != watch.Error {
			t.Errorf("got %v, want an error", event)
		}
		seen = append(seen, event)
		gone.Stop()
		expired.Stop()
		return seen
	}
	theirs, ours := see(false), see(true)
	if len(theirs) != len(ours) || len(ours) < 90 {
		t.Fatalf("%d and %d things seen", len(theirs), len(ours))
	}
	for i := range theirs {
		if a, b := strip(theirs[i]), strip(ours[i]); !reflect.DeepEqual(a, b) {
			t.Fatalf("%d: client-go's codecs see\n%#v\nours\n%#v", i, a, b)
		}
	}
}

// strip takes the times out: the two servers were used one after the other.
func strip(seen any) any {
	if event, ok := seen.(watch.Event); ok {
		return watch.Event{Type: event.Type, Object: strip(event.Object).(runtime.Object)}
	}
	switch object := seen.(type) {
	case *corev1.Secret:
		object.CreationTimestamp = metav1.Time{}
	case *coordinationv1.Lease:
		object.CreationTimestamp = metav1.Time{}
	case *corev1.SecretList:
		for i := range object.Items {
			object.Items[i].CreationTimestamp = metav1.Time{}
		}
	case *metav1.PartialObjectMetadataList:
		for i := range object.Items {
			object.Items[i].CreationTimestamp = metav1.Time{}
		}
	}
	return seen
}

// TestLines: every Read gives a line, or says that there is more of it, however the bytes come.
func TestLines(t *testing.T) {
	text := strings.Repeat("a\nbb\n"+strings.Repeat("c", 9000)+"\n", 5)
	for name, reader := range map[string]io.Reader{"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
		frames := lines{}.NewFrameReader(io.NopCloser(reader))
		got := ""
		for buf := make([]byte, 1000); ; {
			n, err := frames.Read(buf)
			got += string(buf[:n])
			if err == io.EOF {
				break
			}
			if ends := strings.HasSuffix(got, "\n"); err != nil && err != io.ErrShortBuffer || ends != (err == nil) {
				t.Fatalf("%s: %d bytes, error %v", name, n, err)
			}
		}
		if got != text {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(text))
		}
	}
}
