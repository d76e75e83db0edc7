package memapi

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// ownMediaType is JSON, written so that it can be read with less work. See Codecs.
const ownMediaType = "application/vnd.memapi+json"

// mediaType is that of an answer.
func (s *Server) mediaType(r *Request) string {
	if s.options.ManyReaders && r.Resource.Resource != "" { // discovery has a codec of its own
		return ownMediaType
	}
	return runtime.ContentTypeJSON
}

// Codecs returns what a set of clients decodes with, for a simulation in which everything that is written is read by many: the same bytes
// are decoded once, and copied after that; and watches are read line by line. Assign it to the variable Codecs of the clients' scheme package before
// the first client is made, and set Options.ManyReaders. Objects and errors are the same as with the codecs of client-go; TestCodecs
// holds them against each other.
func Codecs(s *runtime.Scheme) serializer.CodecFactory {
	return serializer.NewCodecFactory(s, serializer.WithSerializer(func(creater runtime.ObjectCreater, typer runtime.ObjectTyper) runtime.SerializerInfo {
		decoder := &readBefore{
			Serializer: json.NewSerializerWithOptions(json.DefaultMetaFactory, creater, typer, json.SerializerOptions{}), creater: creater,
		}
		return runtime.SerializerInfo{
			MediaType: ownMediaType, MediaTypeType: "application", MediaTypeSubType: "vnd.memapi+json", EncodesAsText: true, Serializer: decoder, StrictSerializer: decoder,
			StreamSerializer: &runtime.StreamSerializerInfo{EncodesAsText: true, Serializer: watchEvents{decoder}, Framer: lines{}},
		}
	}))
}

// readBefore is a JSON serializer that remembers what it has decoded. Use from any goroutine.
type readBefore struct {
	runtime.Serializer
	creater runtime.ObjectCreater

	mu          sync.Mutex
	young, aged map[string]runtime.Object
}

// generation is how many objects are remembered until those that have not been asked for since are forgotten.
const generation = 2000

// Decode implements runtime.Decoder.
func (c *readBefore) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	gvk, ok := kindOf(data)
	if !ok {
		return c.Serializer.Decode(data, defaults, into)
	}
	object, err := c.read(data, gvk)
	if err != nil {
		return c.Serializer.Decode(data, defaults, into)
	}
	if into == nil {
		return object, &gvk, nil
	}
	to, from := reflect.ValueOf(into), reflect.ValueOf(object)
	if to.Type() != from.Type() {
		return c.Serializer.Decode(data, defaults, into)
	}
	to.Elem().Set(from.Elem())
	return into, &gvk, nil
}

// kindOf reads the kind of what this server has written: it comes first.
func kindOf(data []byte) (gvk schema.GroupVersionKind, ok bool) {
	kind, rest, ok := between(data, `{"kind":"`, `"`)
	apiVersion, _, also := between(rest, `,"apiVersion":"`, `"`)
	return schema.FromAPIVersionAndKind(string(apiVersion), string(kind)), ok && also
}

// read decodes an object, or a list item by item.
func (c *readBefore) read(data []byte, gvk schema.GroupVersionKind) (runtime.Object, error) {
	kind, isList := strings.CutSuffix(gvk.Kind, "List")
	head, lines, _ := bytes.Cut(data, []byte("\n"))
	if !isList || len(lines) == 0 {
		return c.remember(bytes.TrimSuffix(data, []byte("\n")), gvk)
	}
	list, err := c.creater.New(gvk)
	if err != nil {
		return nil, err
	}
	if err := utiljson.Unmarshal(slices.Concat(head, []byte("]}")), list); err != nil {
		return nil, err
	}
	items := reflect.ValueOf(list).Elem().FieldByName("Items")
	if !items.IsValid() {
		return nil, errors.New("a list without items")
	}
	for line := range bytes.Lines(lines) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte(","))
		if string(line) == "]}" {
			break
		}
		item, err := c.remember(line, gvk.GroupVersion().WithKind(kind))
		if err != nil {
			return nil, err
		}
		items.Set(reflect.Append(items, reflect.ValueOf(item).Elem()))
	}
	return list, nil
}

// remember returns what these bytes say, an object of the caller's own.
func (c *readBefore) remember(data []byte, gvk schema.GroupVersionKind) (runtime.Object, error) {
	if known := c.recall(data); known != nil {
		return known.DeepCopyObject(), nil
	}
	object, err := c.creater.New(gvk)
	if err != nil {
		return nil, err
	}
	if err := utiljson.Unmarshal(data, object); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(string(data), object.DeepCopyObject())
	return object, nil
}

func (c *readBefore) recall(data []byte) runtime.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	if object, known := c.young[string(data)]; known {
		return object
	}
	object := c.aged[string(data)]
	if object != nil {
		c.add(string(data), object)
	}
	return object
}

func (c *readBefore) add(data string, object runtime.Object) {
	if c.young == nil || len(c.young) >= generation {
		c.young, c.aged = make(map[string]runtime.Object, generation), c.young
	}
	c.young[data] = object
}

// watchEvents decodes the events of a watch: what is around the objects.
type watchEvents struct{ *readBefore }

// Decode implements runtime.Decoder.
func (w watchEvents) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	event, ok := into.(*metav1.WatchEvent)
	of, rest, found := between(data, `{"type":"`, `"`)
	object, is := bytes.CutPrefix(rest, []byte(`,"object":`))
	object, ends := bytes.CutSuffix(object, []byte("}\n"))
	if !ok || !found || !is || !ends {
		return w.Serializer.Decode(data, defaults, into)
	}
	event.Type, event.Object.Raw = string(of), slices.Clone(object)
	return event, &schema.GroupVersionKind{Version: "v1", Kind: "WatchEvent"}, nil
}

// between returns what is between before, with which data begins, and the next after; and what follows.
func between(data []byte, before, after string) (found, rest []byte, ok bool) {
	data, ok = bytes.CutPrefix(data, []byte(before))
	if !ok {
		return nil, nil, false
	}
	return bytes.Cut(data, []byte(after))
}

// lines frames a stream by its ends of lines: in JSON, there are none within an object.
type lines struct{}

// NewFrameReader implements runtime.Framer.
func (lines) NewFrameReader(r io.ReadCloser) io.ReadCloser { return &lineReader{ReadCloser: r} }

// NewFrameWriter implements runtime.Framer.
func (lines) NewFrameWriter(w io.Writer) io.Writer { return json.Framer.NewFrameWriter(w) }

// lineReader gives one line per Read, or io.ErrShortBuffer and a part of it.
type lineReader struct {
	io.ReadCloser
	buf  []byte // read, and not given yet
	line int    // the length of the line that is being given, 0 for none
}

func (r *lineReader) Read(p []byte) (int, error) {
	for searched := 0; r.line == 0; {
		if i := bytes.IndexByte(r.buf[searched:], '\n'); i >= 0 {
			r.line = searched + i + 1
			break
		}
		searched = len(r.buf)
		r.buf = slices.Grow(r.buf, 4096)
		n, err := r.ReadCloser.Read(r.buf[searched:cap(r.buf)])
		r.buf = r.buf[:searched+n]
		if n == 0 && err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[:r.line])
	if r.line -= n; r.line > 0 {
		r.buf = r.buf[n:]
		return n, io.ErrShortBuffer
	}
	r.buf = append(r.buf[:0], r.buf[n:]...)
	return n, nil
}
