//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/sharding"
)

const (
	raceWidth = 3                      // races side by side
	raceAfter = 150 * time.Millisecond // how long the former owner goes on
)

var verbs = []string{trial.Patch, trial.Put, trial.Apply, trial.Child}

// races relabels objects, one after the other, while their owner writes to them
// as fast as it can, and goes on when it owns them no more.
func (s *stage) races(ctx context.Context, kind string, n int) error {
	return parallel(ctx, raceWidth, n, func(ctx context.Context, i int) error {
		name := fmt.Sprintf("%s-%d-0", kind, i)
		from, to := s.pair(i)
		if err := s.hammer(ctx, name, from, verbs[i%len(verbs)]); err != nil {
			return err
		}
		pause(ctx, rand.N(30*time.Millisecond))
		if err := s.relabel(ctx, name, to, verbs[i%len(verbs)]); err != nil {
			return err
		}
		pause(ctx, raceAfter)
		return s.remove(ctx, name)
	})
}

// pair is two anchors, another one for every i.
func (s *stage) pair(i int) (from, to string) {
	return s.anchors[i%len(s.anchors)].id, s.anchors[(i+1)%len(s.anchors)].id
}

// hammer creates an object and waits until its owner has begun to write to it.
func (s *stage) hammer(ctx context.Context, name, owner, verb string) error {
	if err := s.create(ctx, name, owner, trial.Hammer, verb); err != nil {
		return err
	}
	return until(ctx, time.Minute, owner+" writes to "+name, func() error { return s.stamped(name, verb) })
}

// stamped says whether an object, or its child, has been written to.
func (s *stage) stamped(name, verb string) error {
	resource := "secrets"
	if verb == trial.Child {
		resource = "configmaps"
	}
	if s.now.stamp(resource, name) == "" {
		return errors.New("it has not been written to")
	}
	return nil
}

// relabel gives an object another owner while the former one acts, as a manager
// would that takes a live shard for dead: children first, without asking.
func (s *stage) relabel(ctx context.Context, name, to, verb string) error {
	labels := map[string]any{"labels": map[string]string{sharding.OwnerLabel(s.arm.name): to}}
	core := s.manager.CoreV1()
	if verb == trial.Child {
		if _, err := core.ConfigMaps(s.arm.name).Patch(ctx, name, types.MergePatchType, metadataPatch(labels), metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	epoch := strconv.FormatInt(s.now.get("secrets", name).Epoch+1, 10) // nobody else changes it
	labels["annotations"] = map[string]string{sharding.EpochAnnotation(s.arm.name): epoch}
	_, err := core.Secrets(s.arm.name).Patch(ctx, name, types.MergePatchType, metadataPatch(labels), metav1.PatchOptions{})
	return err
}

func metadataPatch(metadata map[string]any) []byte {
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		panic(err) // strings and maps of strings always marshal
	}
	return data
}
