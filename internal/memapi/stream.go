package memapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// watcher is the body of a watch response. Whoever reads it does all the work: there is no goroutine
// behind it. The server's lock guards the fields up to buf.
type watcher struct {
	ctx       context.Context
	server    *Server
	client    *Client
	table     *table
	selection selection
	form      form
	bookmarks bool
	request   Request

	pending      []delivery
	nextBookmark time.Time
	deadline     time.Time
	plan         watchPlan
	status       []byte // an ERROR event to send before the end
	err          error  // the watch has ended; what the reader gets next

	kick chan struct{}
	buf  []byte
}

// Read blocks until there is an event, the watch ends or the client gives up.
func (w *watcher) Read(p []byte) (int, error) {
	for len(w.buf) == 0 {
		frame, wait, err := w.next(time.Now())
		w.client.thaw()
		switch {
		case err != nil:
			return 0, err
		case frame != nil:
			if in := w.client.lens.In; in != nil {
				frame = in(&w.request, frame)
			}
			w.buf = frame
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-w.kick:
		case <-timer.C:
		case <-w.ctx.Done():
			timer.Stop()
			_ = w.Close()
			return 0, w.ctx.Err()
		}
		timer.Stop()
	}
	n := copy(p, w.buf)
	w.buf = w.buf[n:]
	return n, nil
}

// Close stops the watch. A Read that is blocked returns.
func (w *watcher) Close() error {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.end(io.ErrClosedPipe)
	return nil
}

// end makes the reader get err; the first end counts. The caller holds the lock.
func (w *watcher) end(err error) {
	if w.err == nil {
		w.err = err
		w.pending = nil
		w.wake()
	}
	if i := slices.Index(w.table.watchers, w); i >= 0 {
		w.table.watchers = slices.Delete(w.table.watchers, i, i+1)
	}
}

// fail ends the watch with an ERROR event.
func (w *watcher) fail(err *apierrors.StatusError) {
	st := err.ErrStatus
	st.Kind, st.APIVersion = "Status", "v1"
	body, _ := json.Marshal(st)
	w.end(io.EOF)
	w.status = append(append([]byte(`{"type":"ERROR","object":`), body...), "}\n"...)
}

// next gives what the reader gets now: bytes, the end, or how long to wait.
func (w *watcher) next(now time.Time) ([]byte, time.Duration, error) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	if w.err == nil {
		w.lapse(now)
	}
	if w.status != nil {
		frame := w.status
		w.status = nil
		return frame, 0, nil
	}
	if w.err != nil {
		return nil, 0, readError(w.err)
	}
	ready := w.readyAt(now)
	if wait := ready.Sub(now); wait > 0 {
		return nil, min(wait, w.until(now)), nil // Bookmarks are held back like events.
	}
	if frame := w.batch(now); frame != nil {
		return frame, 0, nil
	}
	if w.bookmarks && len(w.pending) == 0 && !now.Before(w.nextBookmark) {
		w.nextBookmark = now.Add(w.server.options.BookmarkInterval)
		return w.frame(nil, delivery{kind: "BOOKMARK", rv: w.server.rv}), 0, nil
	}
	wait := w.until(now)
	if w.bookmarks && len(w.pending) == 0 {
		wait = min(wait, w.nextBookmark.Sub(now))
	}
	return nil, wait, nil
}

// lapse ends the watch when its time is over, or when a fault does.
func (w *watcher) lapse(now time.Time) {
	switch {
	case w.client.broken(now):
		w.end(errLost)
	case !w.plan.dropAt.IsZero() && !now.Before(w.plan.dropAt):
		if w.plan.gone {
			w.fail(apierrors.NewResourceExpired("too old resource version"))
		} else {
			w.end(io.ErrUnexpectedEOF)
		}
	case !now.Before(w.deadline):
		w.end(io.EOF)
	}
}

// readyAt is when the oldest pending event may be delivered; far away while the way to the client is
// interrupted or stalled.
func (w *watcher) readyAt(now time.Time) time.Time {
	blocked := w.client.blockedUntil(now)
	if w.plan.stallUntil.After(blocked) && !now.Before(w.plan.stallFrom) {
		blocked = w.plan.stallUntil
	}
	if len(w.pending) == 0 {
		return blocked
	}
	if at := w.pending[0].at.Add(w.client.watchDelay); at.After(blocked) {
		return at
	}
	return blocked
}

// batch takes all events that are due.
func (w *watcher) batch(now time.Time) []byte {
	var frame []byte
	n := 0
	for ; n < len(w.pending) && !w.pending[n].at.Add(w.client.watchDelay).After(now); n++ {
		frame = w.frame(frame, w.pending[n])
	}
	clear(w.pending[:n])
	if w.pending = w.pending[n:]; len(w.pending) == 0 {
		w.pending = nil
	}
	return frame
}

// until is how long the watch neither ends nor stalls, if nobody kicks it.
func (w *watcher) until(now time.Time) time.Duration {
	next := w.deadline
	for _, at := range []time.Time{w.plan.dropAt, w.plan.stallFrom, w.plan.stallUntil, w.client.breakAt()} {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	return next.Sub(now)
}

func (w *watcher) frame(dst []byte, d delivery) []byte {
	dst = fmt.Appendf(dst, `{"type":%q,"object":`, d.kind)
	if d.object != nil {
		return append(d.object.encode(dst, w.form), "}\n"...)
	}
	annotations := ""
	if d.synced {
		annotations = `,"annotations":{"k8s.io/initial-events-end":"true"}`
	}
	prefix := w.table.prefix
	if w.form == formPartial {
		prefix = []byte(`{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1",`)
	}
	dst = append(dst, bytes.TrimSpace(prefix)...)
	return fmt.Appendf(dst, `"metadata":{"resourceVersion":%q%s}}}`+"\n", formatRV(d.rv), annotations)
}

// readError is what the reader sees: the server ends watches quietly, only faults are errors.
func readError(err error) error {
	if err == errClosed || err == errSlow {
		return io.EOF
	}
	return err
}
