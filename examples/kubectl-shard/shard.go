package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// followInterval is how often the commands that wait look again.
const followInterval = time.Second

// shardReport is what the commands that steer a shard say.
type shardReport struct {
	Shard   string `json:"shard"`
	Result  string `json:"result"` // such as "cordoned"
	Objects int64  `json:"objects"`
}

func (r shardReport) text(out io.Writer) { fmt.Fprintf(out, "shard/%s %s\n", r.Shard, r.Result) }

func cordonCommand() *command {
	return &command{
		name: "cordon", args: "SHARD", least: 1, most: 1, offers: offerShards,
		short: "Let a shard get no more objects; it keeps those that it has",
		run: func(ctx context.Context, s *session, args []string) error {
			return s.mark(ctx, args[0], map[string]any{"cordoned": true}, "cordoned")
		},
	}
}

func uncordonCommand() *command {
	return &command{
		name: "uncordon", args: "SHARD", least: 1, most: 1, offers: offerShards,
		short: "Let a shard get objects again, after cordon or drain",
		run: func(ctx context.Context, s *session, args []string) error {
			return s.mark(ctx, args[0], map[string]any{"cordoned": nil, "draining": nil}, "uncordoned")
		},
	}
}

func drainCommand() *command {
	wait, timeout := false, time.Duration(0)
	return &command{
		name: "drain", args: "SHARD", least: 1, most: 1, offers: offerShards,
		short: "Move all objects of a shard to others",
		long: "The shard goes on running, without objects, until it is uncordoned or stopped. With --wait the exit code is 1 if the objects can't go\n" +
			"anywhere, or the time is over; the drain goes on all the same.",
		flags: func(set *flag.FlagSet) {
			set.BoolVar(&wait, "wait", false, "wait until the shard has no objects any more")
			set.DurationVar(&timeout, "timeout", 0, "with --wait: how long; 0: for ever")
		},
		run: func(ctx context.Context, s *session, args []string) error {
			if timeout < 0 {
				return usagef("--timeout: %s is negative", timeout)
			}
			if !wait {
				return s.mark(ctx, args[0], map[string]any{"draining": true}, "draining")
			}
			return s.drain(ctx, args[0], timeout)
		},
	}
}

// offerShards completes the names of shards.
func offerShards(ctx context.Context, s *session) []string {
	config, err := s.ringConfig(ctx, false)
	if err != nil {
		return nil
	}
	facts, err := s.facts(ctx, config, false)
	if err != nil {
		return nil
	}
	return facts.names()
}

// mark changes the spec of a shard, and says so.
func (s *session) mark(ctx context.Context, shard string, spec map[string]any, result string) error {
	config, err := s.ringConfig(ctx, false)
	if err != nil {
		return err
	}
	result, instance, err := s.change(ctx, config, shard, spec, result)
	if err != nil {
		return err
	}
	report := shardReport{shard, result, instance.Status.AssignedResourceCount}
	return s.print(report, report.text)
}

// change writes to the spec of a shard. The result it returns says whether there was anything to change.
func (s *session) change(ctx context.Context, config *shardv1.ShardConfig, shard string, spec map[string]any, result string) (string, *shardv1.ShardInstance, error) {
	facts, err := s.facts(ctx, config, false)
	if err != nil {
		return "", nil, err
	}
	instance := facts.instance(shard)
	if instance == nil {
		return "", nil, usagef("the ring %s/%s has no shard %q; it has %v", config.Namespace, config.Name, shard, facts.names())
	}
	if _, leaving := instance.Annotations[leavingAnnotation]; leaving && spec["draining"] == nil && instance.Spec.Draining {
		return "", nil, found("shard/%s is leaving: its process was told to stop, and drains it itself", shard)
	}
	before := instance.Spec
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": instance.UID}, "spec": spec})
	if err != nil {
		return "", nil, err
	}
	instance, err = s.shards.ShardInstances(config.Namespace).Patch(ctx, shard, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl-shard"})
	if err != nil {
		return "", nil, request{"patch", shardResource("shardinstances"), config.Namespace, shard}.failed(err)
	}
	if before.Cordoned == instance.Spec.Cordoned && before.Draining == instance.Spec.Draining {
		result = "already " + result
	}
	return result, instance, nil
}

// drain asks for the drain of a shard and follows it to its end.
func (s *session) drain(ctx context.Context, shard string, timeout time.Duration) error {
	config, err := s.ringConfig(ctx, false)
	if err != nil {
		return err
	}
	_, instance, err := s.change(ctx, config, shard, map[string]any{"draining": true}, "")
	if err != nil {
		return err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	begun := instance.Generation
	for {
		state := drainOf(instance, begun)
		switch state {
		case drainEmpty:
			report := shardReport{shard, "drained", 0}
			return s.print(report, report.text)
		case drainStuck:
			return found("shard/%s keeps its objects: no other shard may receive them; the drain goes on when one may", shard)
		}
		s.progress.say("shard/%s: %s left", shard, plural(instance.Status.AssignedResourceCount, "object"))
		if err := pause(ctx, followInterval); err != nil {
			return found("shard/%s: the drain goes on, with %s left; nobody waits for it any more: %v", shard, plural(instance.Status.AssignedResourceCount, "object"), err)
		}
		next, err := s.shards.ShardInstances(config.Namespace).Get(ctx, shard, metav1.GetOptions{})
		switch {
		case err == nil:
			instance = next
		case apierrors.IsNotFound(err):
			report := shardReport{shard, "drained, and gone", 0}
			return s.print(report, report.text)
		case ctx.Err() == nil:
			return request{"get", shardResource("shardinstances"), config.Namespace, shard}.failed(err)
		}
	}
}

type drainState string

const (
	drainGoesOn drainState = ""
	drainEmpty  drainState = "empty"
	drainStuck  drainState = "stuck"
)

// drainOf says how far a drain is. What was said of an older generation of the spec does not count.
func drainOf(instance *shardv1.ShardInstance, generation int64) drainState {
	c := meta.FindStatusCondition(instance.Status.Conditions, conditionDrained)
	switch {
	case c == nil || c.ObservedGeneration < generation && instance.Status.ObservedGeneration < generation:
		return drainGoesOn
	case c.Status == metav1.ConditionTrue:
		return drainEmpty
	case c.Reason == reasonNoTarget:
		return drainStuck
	}
	return drainGoesOn
}

// pause waits, or returns why it did not.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errors.New("the time is over")
		}
		return errors.New("interrupted")
	}
}
