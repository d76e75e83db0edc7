package memapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// delivery is one event of one watch, decided when it was committed.
type delivery struct {
	kind   string
	object *object // nil for a bookmark
	rv     int64
	at     time.Time
	synced bool // the bookmark that ends the initial events
}

// watch starts a watch. Everything that can be wrong with the revision is told inside the stream, as
// the real server's watch cache does.
func (s *Server) watch(ctx context.Context, c *Client, t *table, r *Request) (reply, error) {
	sel, err := r.selection(t)
	if err != nil {
		return reply{}, err
	}
	o, err := watchOptionsOf(r)
	if err != nil {
		return reply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	w := &watcher{ctx: ctx, server: s, client: c, table: t, selection: sel, form: r.form, bookmarks: o.bookmarks,
		request: *r, kick: make(chan struct{}, 1), nextBookmark: now.Add(s.options.BookmarkInterval),
		plan: watchPlan{}}
	w.request.body = nil
	w.deadline = now.Add(o.timeout)
	if o.timeout == 0 { // The real server draws one between 30 and 60 minutes.
		w.deadline = now.Add(30*time.Minute + time.Duration(c.draw(r, "watch-timeout")*float64(30*time.Minute)))
	}
	switch {
	case o.initial:
		from := s.rv
		if o.rv == 0 && o.cached {
			from = t.rvAt(now, c.cacheAge, 0, s.rv)
		}
		w.start(from, now, o)
	case o.rv == 0: // From now on.
	case o.rv < t.floor:
		w.fail(apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", o.rv, t.floor)))
	default:
		w.replay(o.rv)
	}
	if w.err == nil {
		t.watchers = append(t.watchers, w)
	}
	return reply{code: http.StatusOK, watch: w}, nil
}

// start queues the objects as of revision from, and what happened since.
func (w *watcher) start(from int64, now time.Time, o watchOptions) {
	for _, obj := range w.table.at(from, w.request.Namespace, "") {
		if w.selection.matches(obj) {
			w.push(delivery{kind: "ADDED", object: obj, rv: obj.rv, at: now})
		}
	}
	if o.bookmarks {
		w.push(delivery{kind: "BOOKMARK", rv: from, at: now, synced: true})
	}
	w.replay(from)
}

func (w *watcher) replay(after int64) {
	for _, e := range w.table.history[w.table.after(after):] {
		w.offer(e)
	}
}

// watchOptions are the query parameters of a watch.
type watchOptions struct {
	rv        int64
	initial   bool // the current objects come first
	cached    bool // and may be those of a stale cache
	bookmarks bool
	timeout   time.Duration
}

func watchOptionsOf(r *Request) (watchOptions, error) {
	o := watchOptions{}
	text := r.query.Get("resourceVersion")
	rv, err := parseRV(text)
	if err != nil {
		return o, err
	}
	match := metav1.ResourceVersionMatch(r.query.Get("resourceVersionMatch"))
	send, sent := r.query["sendInitialEvents"]
	switch {
	case sent && match != metav1.ResourceVersionMatchNotOlderThan:
		return o, invalidOption("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
	case !sent && match != "":
		return o, invalidOption("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
	}
	o.rv, o.cached = rv, text == "0"
	o.bookmarks, _ = strconv.ParseBool(r.query.Get("allowWatchBookmarks"))
	if o.initial = rv == 0; sent {
		o.initial, _ = strconv.ParseBool(send[0])
	}
	seconds, _ := strconv.Atoi(r.query.Get("timeoutSeconds"))
	o.timeout = time.Duration(seconds) * time.Second
	return o, nil
}

// offer queues e if it concerns the watch: an object that enters the selection is added to it, one
// that leaves it is deleted from it, with its last selected content and the revision of the write.
func (w *watcher) offer(e *entry) {
	if w.table.ClusterScoped || w.selection.namespace == "" || e.namespace() == w.selection.namespace {
		was, is := w.selection.matches(e.old), w.selection.matches(e.new)
		switch {
		case is && !was:
			w.push(delivery{kind: "ADDED", object: e.new, rv: e.rv, at: e.at})
		case is:
			w.push(delivery{kind: "MODIFIED", object: e.new, rv: e.rv, at: e.at})
		case was:
			w.push(delivery{kind: "DELETED", object: e.departed(), rv: e.rv, at: e.at})
		}
	}
}

func (e *entry) namespace() string {
	if e.new != nil {
		return e.new.namespace
	}
	return e.old.namespace
}

// push queues d and wakes the reader. A reader that is too slow loses its watch.
func (w *watcher) push(d delivery) {
	if w.err != nil {
		return
	}
	if len(w.pending) >= w.server.options.WatchBuffer {
		w.end(errSlow)
		return
	}
	w.pending = append(w.pending, d)
	w.wake()
}

func (w *watcher) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

var (
	errClosed = errors.New("memapi: the server is closed")
	errSlow   = errors.New("memapi: the watch fell behind")
)

// endWatches ends all watches of the server. The caller holds the lock.
func (s *Server) endWatches(err error) {
	for _, t := range s.tables {
		for _, w := range slices.Clone(t.watchers) {
			w.end(err)
		}
	}
}
