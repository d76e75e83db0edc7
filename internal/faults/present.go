//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/shard-io/shard-controller/internal/timeline"
)

// present is the state of every object as it was seen last.
type present struct {
	mu  sync.Mutex
	all map[string]state // by resource and name
}

// state is the newest version of an object.
type state struct {
	timeline.Version
	OwnedSince time.Time // when its owner was seen for the first time
}

func newPresent() *present { return &present{all: map[string]state{}} }

func (p *present) see(v timeline.Version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := v.Resource + "/" + v.Name.Name
	last, ok := p.all[id]
	if ok {
		if order, err := resourceversion.CompareResourceVersion(v.Number, last.Number); err == nil && order < 0 {
			return
		}
	}
	next := state{Version: v, OwnedSince: v.At}
	if v.Owner == last.Owner {
		next.OwnedSince = last.OwnedSince
	}
	p.all[id] = next
}

func (p *present) get(resource, name string) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[resource+"/"+name]
}

func (p *present) owner(name string) string           { return p.get("secrets", name).Owner }
func (p *present) stamp(resource, name string) string { return p.get(resource, name).Note }

// remaining returns the objects whose names begin with prefix and that have not been deleted.
func (p *present) remaining(prefix string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for id, v := range p.all {
		if !v.Deleted && strings.HasPrefix(v.Name.Name, prefix) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// The time between two looks at a condition grows from minPoll to maxPoll.
const minPoll, maxPoll = 5 * time.Millisecond, 100 * time.Millisecond

// until waits until the condition returns nil.
func until(ctx context.Context, limit time.Duration, what string, condition func() error) error {
	for deadline, poll := time.Now().Add(limit), minPoll; ; poll = min(poll*5/4, maxPoll) {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %s: %w", limit, what, err)
		}
		if !pause(ctx, poll) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// pause returns false if ctx is done before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// parallel calls f for 0 to n-1, so many at a time, and returns the first error.
func parallel(ctx context.Context, width, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var all sync.WaitGroup
	for range min(width, n) {
		all.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}
