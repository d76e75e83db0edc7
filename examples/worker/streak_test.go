package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shard-io/shard-controller/sharding"
)

func TestStreak(t *testing.T) {
	now := time.Unix(0, 0)
	s := &streak{}
	fail := func(n int) {
		for range n {
			s.note(errors.New("forbidden"), now)
		}
	}
	fail(streakLimit - 1)
	if err := s.check(now); err != nil {
		t.Errorf("one short of the limit: %v", err)
	}
	s.note(nil, now)
	fail(streakLimit - 1)
	if err := s.check(now); err != nil {
		t.Errorf("one success in between: %v", err)
	}
	fail(1)
	if err := s.check(now); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("at the limit: %v", err)
	}
	if err := s.check(now.Add(streakMemory - 1)); err == nil {
		t.Error("it is forgotten too early")
	}
	if err := s.check(now.Add(streakMemory)); err != nil {
		t.Errorf("it is not forgotten: %v", err)
	}
	s.note(nil, now)
	if err := s.check(now); err != nil {
		t.Errorf("after a success: %v", err)
	}
}

func TestStreakCountsWhatWasNotCancelled(t *testing.T) {
	s := &streak{}
	failed := errors.New("forbidden")
	reconcile := s.counted(func(context.Context, types.NamespacedName) (sharding.Result, error) {
		return sharding.Result{RequeueAfter: 3}, failed
	})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range streakLimit {
		if result, err := reconcile(over, types.NamespacedName{}); err != failed || result.RequeueAfter != 3 {
			t.Fatal(result, err)
		}
	}
	if err := s.Healthy(t.Context()); err != nil {
		t.Errorf("what was cancelled counts: %v", err)
	}
	for range streakLimit {
		_, _ = reconcile(t.Context(), types.NamespacedName{})
	}
	if err := s.Healthy(t.Context()); !errors.Is(err, failed) {
		t.Errorf("error %v, want %v", err, failed)
	}
}
