package main

import (
	"cmp"
	"context"
	"flag"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// statusReport is what "status" says.
type statusReport struct {
	Rings []ringStatus `json:"rings"`
}

// ringStatus is a ring in the report. Problems are the conditions that are not as they should be.
type ringStatus struct {
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Strategy    string            `json:"strategy"`
	Ready       string            `json:"ready"`
	Shards      int32             `json:"shards"`
	ReadyShards int32             `json:"readyShards"`
	Unowned     int64             `json:"unownedObjects"`
	Load        string            `json:"load,omitempty"`
	Generation  int64             `json:"ringGeneration"`
	Term        string            `json:"managerTerm,omitempty"`
	Members     []shardStatus     `json:"members"`
	Problems    []problem         `json:"problems,omitempty"`
	Migrations  []migrationStatus `json:"migrations,omitempty"`
}

type shardStatus struct {
	Name     string  `json:"name"`
	Phase    string  `json:"phase"`
	Load     string  `json:"load,omitempty"`
	Objects  int64   `json:"objects"`
	Share    float64 `json:"share"` // of the slots
	Weight   int32   `json:"weight"`
	LeaseAge string  `json:"leaseAge,omitempty"`
	Version  string  `json:"version,omitempty"`
	Note     string  `json:"note,omitempty"`
}

// problem is a condition that is not as it should be. Serious is what makes the exit code 1; the rest passes by itself.
type problem struct {
	Object    string `json:"object"` // as in "shard/w-1"
	Condition string `json:"condition"`
	Status    string `json:"status"`
	Reason    string `json:"reason,omitempty"`
	Since     string `json:"since,omitempty"`
	Message   string `json:"message,omitempty"`
	Serious   bool   `json:"serious"`
}

type migrationStatus struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Source string `json:"source,omitempty"`
	Target string `json:"target,omitempty"`
	Phase  string `json:"phase"`
	Moved  int64  `json:"moved"`
	Total  int64  `json:"total"`
	Age    string `json:"age"`
}

func statusCommand() *command {
	all := false
	return &command{
		name: "status", short: "Show rings and their shards, and what is not as it should be",
		long: "All rings of the namespace, or the one of --ring. The exit code is 1 if a condition is not as it should be. The age of a Lease is by the clocks\n" +
			"of its shard and of this machine: only its growth means something. It needs the right to list shardconfigs, shardinstances,\nshardmigrations and leases.",
		flags: func(set *flag.FlagSet) {
			set.BoolVar(&all, "all-namespaces", false, "show the rings of all namespaces")
			set.BoolVar(&all, "A", false, "show the rings of all namespaces")
		},
		run: func(ctx context.Context, s *session, _ []string) error { return s.status(ctx, all) },
	}
}

func (s *session) status(ctx context.Context, all bool) error {
	configs, err := s.statusConfigs(ctx, all)
	if err != nil {
		return err
	}
	report := statusReport{Rings: []ringStatus{}}
	serious := false
	for i := range configs {
		facts, err := s.facts(ctx, &configs[i], true)
		if err != nil {
			return err
		}
		migrations, err := s.shards.ShardMigrations(configs[i].Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return request{"list", shardResource("shardmigrations"), configs[i].Namespace, ""}.failed(err)
		}
		ring := newRingStatus(facts, migrations.Items, time.Now())
		serious = serious || slices.ContainsFunc(ring.Problems, func(p problem) bool { return p.Serious })
		report.Rings = append(report.Rings, ring)
	}
	if err := s.print(report, report.text); err != nil || !serious {
		return err
	}
	return errSaid
}

func (s *session) statusConfigs(ctx context.Context, all bool) ([]shardv1.ShardConfig, error) {
	if s.ring != "" {
		config, err := s.ringConfig(ctx, false)
		if err != nil {
			return nil, err
		}
		return []shardv1.ShardConfig{*config}, nil
	}
	if all {
		return s.configs(ctx, "")
	}
	configs, err := s.configs(ctx, s.cluster.namespace)
	if err == nil && len(configs) == 0 {
		err = s.ambiguous(nil)
	}
	return configs, err
}

// newRingStatus is a pure function.
func newRingStatus(f *ringFacts, migrations []shardv1.ShardMigration, now time.Time) ringStatus {
	status := f.config.Status
	r := ringStatus{
		Namespace: f.config.Namespace, Name: f.config.Name,
		Strategy: cmp.Or(f.config.Spec.LoadBalanceStrategy, shardv1.DefaultLoadBalanceStrategy),
		Ready:    "Unknown", Shards: status.Shards, ReadyShards: status.ReadyShards, Unowned: status.UnownedObjects,
		Load: ratio(status.Load), Generation: status.RingGeneration, Term: f.config.Annotations[termAnnotation], Members: []shardStatus{},
	}
	r.Problems = configProblems(f.config, now)
	for _, c := range status.Conditions {
		if c.Type == shardv1.ConditionReady {
			r.Ready = string(c.Status)
		}
	}
	table, _ := tableOf(f)
	for i := range f.instances {
		instance := &f.instances[i]
		r.Members = append(r.Members, newShardStatus(f, instance, table.Share(instance.Name), now))
		r.Problems = append(r.Problems, shardProblems(instance, now)...)
	}
	for i := range migrations {
		if m := &migrations[i]; m.Spec.Ring == f.config.Name && !ended(m) {
			r.Migrations = append(r.Migrations, migrationStatus{
				Name: m.Name, Reason: string(m.Spec.Reason), Source: m.Spec.Source, Target: m.Spec.Target, Phase: cmp.Or(m.Status.Phase, "Pending"),
				Moved: m.Status.Objects.Moved, Total: m.Status.Objects.Total, Age: age(now.Sub(m.CreationTimestamp.Time)),
			})
		}
	}
	return r
}
