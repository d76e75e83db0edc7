//go:build unix

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

// bursts are the times at which every object is to be reconciled once. The zero value has none.
type bursts struct {
	at    []time.Time
	takes time.Duration // of a reconcile
	file  string        // for what was done, a line for each burst: how many, and when the last one ended

	mu   sync.Mutex
	done []map[types.NamespacedName]bool
	last []time.Time
}

// newBursts reads times that are separated by commas, as RFC 3339.
func newBursts(text, file string, takes time.Duration) (*bursts, error) {
	b := &bursts{takes: takes, file: file}
	if text == "" {
		return b, nil
	}
	for _, word := range strings.Split(text, ",") {
		at, err := time.Parse(time.RFC3339Nano, word)
		if err != nil {
			return nil, fmt.Errorf("-bursts: %w", err)
		}
		b.at = append(b.at, at)
		b.done = append(b.done, map[types.NamespacedName]bool{})
	}
	b.last = make([]time.Time, len(b.at))
	return b, nil
}

// due returns the number of the latest burst, -1 before the first, and when the next one begins.
func (b *bursts) due(now time.Time) (burst int, next time.Duration) {
	for i, at := range b.at {
		if now.Before(at) {
			return i - 1, at.Sub(now)
		}
	}
	return len(b.at) - 1, 0
}

func (b *bursts) reconcile(ctx context.Context, key types.NamespacedName) (sharding.Result, error) {
	burst, next := b.due(time.Now())
	if burst >= 0 && b.first(burst, key) {
		select {
		case <-ctx.Done():
			return sharding.Result{}, context.Cause(ctx)
		case <-time.After(b.takes):
		}
		b.mu.Lock()
		b.last[burst] = time.Now()
		b.mu.Unlock()
		_, next = b.due(time.Now())
	}
	return sharding.Result{RequeueAfter: next}, nil
}

func (b *bursts) first(burst int, key types.NamespacedName) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done[burst][key] {
		return false
	}
	b.done[burst][key] = true
	return true
}

// report writes what was done into the file, again and again until ctx is done.
func (b *bursts) report(ctx context.Context) {
	for ctx.Err() == nil {
		var text strings.Builder
		b.mu.Lock()
		for i := range b.at {
			fmt.Fprintf(&text, "%d %s\n", len(b.done[i]), b.last[i].Format(time.RFC3339Nano))
		}
		b.mu.Unlock()
		if err := os.WriteFile(b.file+".next", []byte(text.String()), 0o644); err == nil {
			_ = os.Rename(b.file+".next", b.file)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}
