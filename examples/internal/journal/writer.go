package journal

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Writer appends records to a journal. It is safe for concurrent use. A nil
// Writer keeps no journal: all its methods, and those of its runs, do nothing.
type Writer struct {
	out     io.WriteCloser
	shard   string
	process string
	runs    atomic.Uint64
	now     func() time.Time
}

// Open opens the journal of one worker process, creating the file if it does
// not exist. Several processes may share a file.
func Open(path, shard string) (*Writer, error) {
	if shard == "" {
		return nil, errors.New("journal: shard: must not be empty")
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return newWriter(f, shard), nil
}

func newWriter(out io.WriteCloser, shard string) *Writer {
	process := fmt.Sprintf("%d-%s", os.Getpid(), rand.Text()[:8])
	return &Writer{out: out, shard: shard, process: process, now: time.Now}
}

// Close closes the file. Runs that are still open can record nothing more, and
// so can send nothing more.
func (w *Writer) Close() error {
	if w == nil {
		return nil
	}
	return w.out.Close()
}

// Begin records the start of a reconcile. The caller ends the run with End,
// whatever happens in between.
func (w *Writer) Begin(key, uid string, epoch int64) (*Run, error) {
	if w == nil {
		return nil, nil
	}
	run := &Run{w: w, record: Record{
		Shard: w.shard, Process: w.process, Run: w.runs.Add(1),
		Key: key, UID: uid, Epoch: epoch,
	}}
	if err := run.write(Start, ""); err != nil {
		return nil, err
	}
	return run, nil
}

// Run is one reconcile in the journal. A nil Run records nothing.
type Run struct {
	w      *Writer
	mu     sync.Mutex // keeps the times of one run in the order of its lines
	record Record
}

// Act records that a mutating request is about to be sent. On an error the
// request must not be sent.
func (r *Run) Act(what string) error {
	if r == nil {
		return nil
	}
	return r.write(Act, what)
}

// End records that the reconciler has returned; fenced says that the process
// had lost the right to act before that.
func (r *Run) End(fenced bool) error {
	if r == nil {
		return nil
	}
	if fenced {
		return r.write(Fenced, "")
	}
	return r.write(End, "")
}

// write appends one record with one write, so that lines of different
// goroutines and processes never mix.
func (r *Run) write(ev Event, what string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.record
	rec.Time, rec.Event, rec.What = r.w.now().UnixNano(), ev, what
	line, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err := r.w.out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
