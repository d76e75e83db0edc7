//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/shard-io/shard-controller/internal/faults/trial"
)

// victim is a shard that something is done to, with an object for every verb
// and, if nothing must be at work, an idle one.
type victim struct {
	*process
	trial   string // "pause-7"
	objects []string
}

// victims starts shards with objects for the trials first to first+n-1, and
// waits until all are at work.
func (s *stage) victims(ctx context.Context, kind string, first, n int) ([]*victim, error) {
	all := make([]*victim, n)
	err := parallel(ctx, n, n, func(ctx context.Context, i int) error {
		v := &victim{trial: fmt.Sprintf("%s-%d", kind, first+i)}
		all[i] = v
		var err error
		if v.process, err = s.startOperator(ctx, v.trial, v.trial); err != nil {
			return err
		}
		if err := s.active(ctx, v.id); err != nil {
			return err
		}
		for j, verb := range verbs {
			name := fmt.Sprintf("%s-%d", v.trial, j)
			v.objects = append(v.objects, name)
			if err := s.create(ctx, name, v.id, trial.Work, verb); err != nil {
				return err
			}
		}
		return until(ctx, time.Minute, v.id+" is at work", func() error {
			for j, verb := range verbs {
				if err := s.stamped(v.objects[j], verb); err != nil {
					return fmt.Errorf("%s: %w", v.objects[j], err)
				}
			}
			return nil
		})
	})
	return all, err
}

// bereft waits until none of the objects has its former owner, and all have one.
func (s *stage) bereft(ctx context.Context, v *victim) error {
	return until(ctx, 3*time.Minute, "the objects of "+v.id+" have new owners", func() error {
		for _, name := range v.objects {
			if owner := s.now.owner(name); owner == v.id || owner == "" {
				return fmt.Errorf("%s has the owner %q", name, owner)
			}
		}
		return nil
	})
}

func (s *stage) removeObjects(ctx context.Context, v *victim) error {
	for _, name := range v.objects {
		if err := s.remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// pauses stops shards in the middle of their work until their objects belong to
// others, and lets them go on. It returns how many writes the client-side fence
// refused, by trial.
func (s *stage) pauses(ctx context.Context, kind string, n int) (inClient map[string]int, err error) {
	inClient = map[string]int{}
	var mu sync.Mutex
	return inClient, s.rounds(ctx, kind, n, func(ctx context.Context, v *victim) error {
		if _, err := v.stopInside(ctx); err != nil {
			return err
		}
		if err := s.bereft(ctx, v); err != nil {
			return err
		}
		if err := v.Signal(syscall.SIGCONT); err != nil {
			return err
		}
		if err := until(ctx, 10*time.Second, v.id+" has done its work", func() error {
			if n := v.inside(); n > 0 {
				return fmt.Errorf("%d reconciles are not at their write yet", n)
			}
			return nil
		}); err != nil {
			return err
		}
		pause(ctx, 500*time.Millisecond) // for the requests, and for what else it may try
		mu.Lock()
		inClient[v.trial] = v.fencedWrites()
		mu.Unlock()
		v.stop()
		return nil
	})
}

// kills kills shards in the middle of their work, and returns how long it took
// until the last object of each had a new owner.
func (s *stage) kills(ctx context.Context, kind string, n int) (took []time.Duration, err error) {
	var mu sync.Mutex
	err = s.rounds(ctx, kind, n, func(ctx context.Context, v *victim) error {
		killed := time.Now()
		v.Kill()
		if err := s.bereft(ctx, v); err != nil {
			return err
		}
		last := killed
		for _, name := range v.objects {
			if at := s.now.get("secrets", name).OwnedSince; at.After(last) {
				last = at
			}
		}
		mu.Lock()
		took = append(took, last.Sub(killed))
		mu.Unlock()
		return nil
	})
	return took, err
}

// rounds does something to n shards, so many at a time. Those of a round fall
// silent at nearly the same moment: nobody's objects go to somebody who is about
// to be the next.
func (s *stage) rounds(ctx context.Context, kind string, n int, do func(context.Context, *victim) error) error {
	for first := 0; first < n; first += s.settings.width {
		all, err := s.victims(ctx, kind, first, min(s.settings.width, n-first))
		if err != nil {
			return err
		}
		if err := parallel(ctx, len(all), len(all), func(ctx context.Context, i int) error {
			pause(ctx, rand.N(s.settings.lease/10))
			return do(ctx, all[i])
		}); err != nil {
			return err
		}
		for _, v := range all {
			if err := s.removeObjects(ctx, v); err != nil {
				return err
			}
		}
	}
	return nil
}
