//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/shard-io/shard-controller/sharding"
)

// journal is a file with one line for everything that the measurements want to
// know the time of: "<nanoseconds> <what> <object> <hops>". The nil journal
// takes nothing down.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

// What is taken down.
const (
	noteAsked = "asked" // the cache shows that the object is to be handed over
	noteBegun = "begun" // a reconcile
	noteEnded = "ended"
	noteTaken = "taken" // a state was imported
)

func openJournal(path string) (*journal, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	return &journal{file: file}, err
}

func (j *journal) note(what, object string, hops uint64) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	// One write for each, so that nothing is lost if the process is killed.
	if _, err := fmt.Fprintf(j.file, "%d %s %s %d\n", time.Now().UnixNano(), what, object, hops); err != nil {
		fmt.Fprintln(os.Stderr, "journal:", err)
		os.Exit(1) // a journal with holes proves nothing
	}
}

// hops is the state of every object: how many times it has been imported. In
// transit it is padded to a size, with bytes that follow from the object and the
// number, and that are held against that when they arrive. So the process itself needs no
// memory for states, whatever their size; what it takes is the library's.
type hops struct {
	size    int
	journal *journal

	mu   sync.Mutex
	have map[types.NamespacedName]uint64
}

func newHops(size int, j *journal) *hops {
	return &hops{size: size, journal: j, have: map[types.NamespacedName]uint64{}}
}

// begin makes the state of an object that has none.
func (h *hops) begin(object types.NamespacedName) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.have[object]
	h.have[object] = n
	return n
}

func (h *hops) Export(_ context.Context, object types.NamespacedName) ([]byte, error) {
	h.mu.Lock()
	n, ok := h.have[object]
	h.mu.Unlock()
	if !ok {
		return nil, nil
	}
	return padded(object.Name, n, h.size), nil
}

func (h *hops) Import(_ context.Context, object types.NamespacedName, state sharding.State) error {
	if len(state.Data) != h.size {
		return sharding.TerminalError(fmt.Errorf("the state has %d bytes, want %d", len(state.Data), h.size))
	}
	n := binary.BigEndian.Uint64(state.Data)
	if !bytes.Equal(state.Data, padded(object.Name, n, h.size)) {
		return sharding.TerminalError(errors.New("the state is not that of the object"))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.have[object] = n + 1
	h.journal.note(noteTaken, object.Name, n+1)
	return nil
}

func (h *hops) Forget(object types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.have, object)
}

// picky refuses the states of every n-th object.
type picky struct {
	*hops
	n int
}

func (p picky) Import(ctx context.Context, object types.NamespacedName, state sharding.State) error {
	if each(object, p.n) {
		return sharding.TerminalError(errors.New("it can't be imported here"))
	}
	return p.hops.Import(ctx, object, state)
}

// padded is the state of size bytes of an object: the number, and a pattern.
func padded(object string, n uint64, size int) []byte {
	data := make([]byte, size)
	binary.BigEndian.PutUint64(data, n)
	seed := crc32.ChecksumIEEE(fmt.Append(nil, object, n))
	for i := 8; i < size; i++ {
		data[i] = byte(seed>>(8*(i%4))) ^ byte(i>>8)
	}
	return data
}

// watchRequests takes down when the cache shows that an object is to be handed
// over: from then on the worker may let it rest.
func watchRequests(informer cache.SharedIndexInformer, ring string, j *journal) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(old, updated any) {
		before, ok := old.(*corev1.Secret)
		after, alsoOK := updated.(*corev1.Secret)
		if !ok || !alsoOK {
			return
		}
		_, was := sharding.DrainTargetOf(before, ring)
		if _, is := sharding.DrainTargetOf(after, ring); is && !was {
			j.note(noteAsked, after.Name, 0)
		}
	}})
	return err
}
