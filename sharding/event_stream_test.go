package sharding_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/sharding"
)

// eventStream serves one watch of Secrets over HTTP: first the objects as they are, then changes of them in turn, whose bytes are there before. It
// sends as many as there are objects ahead of what has been reconciled, so that none waits, and each is reconciled on its own.
type eventStream struct {
	*httptest.Server
	mediaType  string
	initial    []byte
	events     [][]byte // of each object the next one; its version is written into it when it is sent
	versionsAt []int
	changes    int64 // how many there will be

	fresh      atomic.Int64   // objects that have been reconciled
	ready      chan struct{}  // closed when all have been
	begin      chan struct{}  // closed when the changes shall come
	seen       []atomic.Int64 // of each object, how many of its changes have been reconciled, plus one; 0 if it has not been
	done       atomic.Int64   // changes that have been reconciled
	reconciles atomic.Int64
	sent       atomic.Int64
	room       chan struct{} // receives when there is much room for more
	ended      chan struct{} // closed when all changes have been reconciled
}

// firstVersion has as many digits as all versions of the stream.
const firstVersion = 1_000_000_000

func newEventStream(mediaType string, objects int, changes int64) (*eventStream, error) {
	s := &eventStream{
		mediaType: mediaType, changes: changes, seen: make([]atomic.Int64, objects),
		ready: make(chan struct{}), begin: make(chan struct{}), room: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	var initial bytes.Buffer
	for i := range objects {
		secret := streamedSecret(i)
		event, err := s.encode(watch.Added, secret)
		if err != nil {
			return nil, err
		}
		initial.Write(event)
		if event, err = s.encode(watch.Modified, secret); err != nil {
			return nil, err
		}
		s.events = append(s.events, event)
		s.versionsAt = append(s.versionsAt, bytes.Index(event, []byte(secret.ResourceVersion)))
	}
	end, err := s.encode(watch.Bookmark, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		ResourceVersion: strconv.Itoa(firstVersion + objects), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}})
	if err != nil {
		return nil, err
	}
	s.initial = append(initial.Bytes(), end...)
	s.Server = httptest.NewServer(s)
	return s, nil
}

// streamedSecret is of the size of many objects: about 1 KiB.
func streamedSecret(i int) *corev1.Secret {
	fields := strings.Join([]string{`{"f:data":{".":{},"f:payload":{}},"f:metadata":{"f:annotations":{".":{},"f:example.com/revision":{}},`,
		`"f:labels":{".":{},"f:app.kubernetes.io/managed-by":{},"f:app.kubernetes.io/name":{}}},"f:type":{}}`}, "")
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: streamedName(i), UID: types.UID(fmt.Sprintf("4fd26a90-43f5-4d1c-8d42-%012d", i)),
			ResourceVersion: strconv.Itoa(firstVersion + i),
			Labels:          map[string]string{sharding.OwnerLabel("r"): "a", "app.kubernetes.io/name": "bench", "app.kubernetes.io/managed-by": "bench"},
			Annotations:     map[string]string{sharding.EpochAnnotation("r"): "1", "example.com/revision": "17"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "bench", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1",
				FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}},
		},
		Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"payload": bytes.Repeat([]byte("x"), 64)},
	}
}

func streamedName(i int) string { return fmt.Sprintf("o%04d", i) }

func (s *eventStream) encode(kind watch.EventType, secret *corev1.Secret) ([]byte, error) {
	info, _ := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), s.mediaType)
	version := corev1.SchemeGroupVersion
	object, err := runtime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, version), secret)
	if err != nil {
		return nil, err
	}
	var event bytes.Buffer
	encoder := scheme.Codecs.EncoderForVersion(info.StreamSerializer.Serializer, version)
	err = encoder.Encode(&metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: object}}, info.StreamSerializer.NewFrameWriter(&event))
	return event.Bytes(), err
}

// config is for the client of the informer.
func (s *eventStream) config() *rest.Config {
	return &rest.Config{Host: s.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: s.mediaType}}
}

// ServeHTTP implements http.Handler.
func (s *eventStream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/v1/secrets" || r.URL.Query().Get("sendInitialEvents") != "true" {
		http.Error(w, "not a watch with initial events", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", s.mediaType+";stream=watch")
	if _, err := w.Write(s.initial); err != nil {
		return
	}
	w.(http.Flusher).Flush()
	select {
	case <-s.begin:
	case <-r.Context().Done():
		return
	}
	var part []byte
	for sent := int64(0); sent < s.changes; {
		part = part[:0]
		for ; sent < min(s.changes, s.done.Load()+int64(len(s.events))); sent++ {
			i := int(sent) % len(s.events)
			strconv.AppendInt(s.events[i][:s.versionsAt[i]], firstVersion+int64(len(s.events))+sent, 10)
			part = append(part, s.events[i]...)
		}
		if len(part) == 0 {
			select {
			case <-s.room:
			case <-r.Context().Done():
				return
			}
			continue
		}
		s.sent.Store(sent)
		if _, err := w.Write(part); err != nil {
			return
		}
		w.(http.Flusher).Flush()
	}
	<-r.Context().Done()
}

// reconciled notes that an object was reconciled as the cache has it.
func (s *eventStream) reconciled(object *corev1.Secret) {
	version, err := strconv.ParseInt(object.ResourceVersion, 10, 64)
	i, alsoErr := strconv.Atoi(object.Name[1:])
	if err = cmp.Or(err, alsoErr); err != nil {
		panic(err)
	}
	now := (version-firstVersion)/int64(len(s.events)) + 1
	news := now - s.seen[i].Swap(now)
	if news == now { // for the first time
		if s.fresh.Add(1) == int64(len(s.events)) {
			close(s.ready)
		}
		news--
	}
	if news == 0 {
		return
	}
	s.reconciles.Add(1)
	done := s.done.Add(news)
	if done == s.changes {
		close(s.ended)
	}
	if s.sent.Load()-done <= int64(len(s.events))/2 {
		select {
		case s.room <- struct{}{}:
		default:
		}
	}
}
