package journal

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestWriterAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	w, err := Open(path, "shard-001")
	if err != nil {
		t.Fatal(err)
	}
	run, err := w.Begin("/Secret/ns/a", "uid-a", 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(run.Act("PUT /x"), run.End(false)); err != nil {
		t.Fatal(err)
	}
	fenced, err := w.Begin("/Secret/ns/b", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fenced.End(true), w.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	a := Record{Shard: "shard-001", Run: 1, Key: "/Secret/ns/a", UID: "uid-a", Epoch: 3}
	b := Record{Shard: "shard-001", Run: 2, Key: "/Secret/ns/b"}
	with := func(r Record, ev Event, what string) Record { r.Event, r.What = ev, what; return r }
	want := []Record{
		with(a, Start, ""), with(a, Act, "PUT /x"), with(a, End, ""), with(b, Start, ""), with(b, Fenced, ""),
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Record{}, "Time", "Process")); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestWritersShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	var wg sync.WaitGroup
	for range 4 {
		w, err := Open(path, "s")
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			wg.Go(func() {
				for range 50 {
					run, err := w.Begin("k", "", 0)
					if err := errors.Join(err, run.Act("POST /"), run.End(false)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	records, err := ReadFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Check(records)
	if err != nil {
		t.Fatal(err)
	}
	if res.Runs != 800 || res.Acts != 800 || res.Interrupted != 0 {
		t.Errorf("runs, acts, interrupted = %d, %d, %d, want 800, 800, 0", res.Runs, res.Acts, res.Interrupted)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "j"), ""); err == nil || !strings.Contains(err.Error(), "shard") {
		t.Errorf("Open without a shard: %v, want an error that names the shard", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "no", "such", "dir"), "s"); err == nil {
		t.Error("Open in a missing directory succeeded")
	}
	if _, err := ReadFiles(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadFiles of a missing file: %v, want ErrNotExist", err)
	}
}

func TestReadTolerates(t *testing.T) {
	const good = `{"t":1,"shard":"s","proc":"p","run":1,"key":"k","ev":"start"}` + "\n"
	tests := []struct {
		name, text string
		records    int
		err        string
	}{
		{"nothing", "", 0, ""},
		{"a torn last line", good + `{"t":2,"sha`, 1, ""},
		{"a last line without its end", good + strings.TrimSpace(good), 1, ""},
		{"garbage in the middle", good + "garbage\n" + good, 0, "line 2"},
		{"no time", `{"shard":"s","proc":"p","run":1,"key":"k","ev":"start"}` + "\n", 0, "t: must be"},
		{"no shard", `{"t":1,"proc":"p","run":1,"key":"k","ev":"start"}` + "\n", 0, "shard: must"},
		{"no process", `{"t":1,"shard":"s","run":1,"key":"k","ev":"start"}` + "\n", 0, "proc: must"},
		{"no run", `{"t":1,"shard":"s","proc":"p","key":"k","ev":"start"}` + "\n", 0, "run: must"},
		{"no key", `{"t":1,"shard":"s","proc":"p","run":1,"ev":"start"}` + "\n", 0, "key: must"},
		{"no such event", `{"t":1,"shard":"s","proc":"p","run":1,"key":"k","ev":"begin"}` + "\n", 0, `ev: "begin"`},
		{"no such field", `{"t":1,"shard":"s","proc":"p","run":1,"key":"k","ev":"end","x":1}` + "\n", 0, "unknown field"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Read(strings.NewReader(tc.text))
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error = %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil || len(got) != tc.records {
				t.Fatalf("%d records, error %v; want %d", len(got), err, tc.records)
			}
		})
	}
}

type buffer struct {
	strings.Builder
	fail error
}

func (b *buffer) Write(p []byte) (int, error) {
	if b.fail != nil {
		return 0, b.fail
	}
	return b.Builder.Write(p)
}
func (b *buffer) Close() error { return nil }

func TestTransport(t *testing.T) {
	served := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served++ }))
	defer server.Close()
	client := &http.Client{Transport: Transport(http.DefaultTransport)}
	full := errors.New("disk full")
	stopped := errors.New("fenced")
	tests := []struct {
		name, method string
		run, cancel  bool
		fail         error
		sent, acts   int
		err          error
	}{
		{name: "a write of a run", method: "PATCH", run: true, sent: 1, acts: 1},
		{name: "a read of a run", method: "GET", run: true, sent: 1},
		{name: "a write without a run", method: "PUT", sent: 1},
		{name: "a journal that fails", method: "POST", run: true, fail: full, err: full},
		{name: "a context that is over", method: "DELETE", run: true, cancel: true, err: context.Canceled},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			served = 0
			out := &buffer{}
			w := newWriter(out, "s")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if tc.run {
				run, err := w.Begin("k", "", 0)
				if err != nil {
					t.Fatal(err)
				}
				ctx = NewContext(ctx, run)
			}
			out.fail = tc.fail
			if tc.cancel {
				cancel(stopped)
			}
			req, err := http.NewRequestWithContext(ctx, tc.method, server.URL+"/things", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err == nil {
				resp.Body.Close()
			}
			if !errors.Is(err, tc.err) && !errors.Is(err, stopped) {
				t.Errorf("error = %v, want %v", err, tc.err)
			}
			if served != tc.sent {
				t.Errorf("%d requests reached the server, want %d", served, tc.sent)
			}
			if acts := strings.Count(out.String(), `"ev":"act","what":"`+tc.method+` /things"`); acts != tc.acts {
				t.Errorf("%d acts recorded, want %d:\n%s", acts, tc.acts, out.String())
			}
		})
	}
}

func TestNoJournal(t *testing.T) {
	var w *Writer
	run, err := w.Begin("k", "u", 1)
	if err := errors.Join(err, run.Act("x"), run.End(true), w.Close()); err != nil || run != nil {
		t.Errorf("a nil Writer: run %v, error %v, want neither", run, err)
	}
	if ctx := NewContext(t.Context(), nil); FromContext(ctx) != nil {
		t.Error("a context of no run carries one")
	}
}

func TestTimesOfARunDoNotGoBack(t *testing.T) {
	out := &buffer{}
	w := newWriter(out, "s")
	at := time.Unix(100, 0)
	w.now = func() time.Time { at = at.Add(1); return at }
	run, err := w.Begin("k", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { _ = run.Act("POST /") })
	}
	wg.Wait()
	records, err := Read(strings.NewReader(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(records); err != nil {
		t.Error(err)
	}
	if len(records) != 9 {
		t.Errorf("%d records, want 9", len(records))
	}
}
