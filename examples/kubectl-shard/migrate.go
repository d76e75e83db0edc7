package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// migrating is the command line of "migrate".
type migrating struct {
	from, to, selector, name string
	count, rate, inFlight    int64
	deadline, timeout        time.Duration
	dryRun, wait             bool
}

// migrationReport is what "migrate" says.
type migrationReport struct {
	Namespace string                       `json:"namespace"`
	Name      string                       `json:"name"`
	Source    string                       `json:"source"`
	Target    string                       `json:"target"`
	DryRun    bool                         `json:"dryRun,omitempty"`
	Status    shardv1.ShardMigrationStatus `json:"status"`
}

func migrateCommand() *command {
	m := &migrating{}
	return &command{
		name: "migrate", args: "--from SHARD --to SHARD [RESOURCE/NAME...]", least: 0, most: -1,
		short: "Move objects from one shard to another: all, some, or those that are named",
		long: "It creates a ShardMigration; docs/migration.md says what becomes of it. The objects stay where they were moved to. With --wait the exit\n" +
			"code is 1 unless all have been moved. kubectl delete shardmigration NAME aborts it, and takes back what can be.",
		flags: m.register,
		run:   func(ctx context.Context, s *session, args []string) error { return m.run(ctx, s, args) },
	}
}

func (m *migrating) register(set *flag.FlagSet) {
	set.StringVar(&m.from, "from", "", "shard that the objects leave; required")
	set.StringVar(&m.to, "to", "", "shard that they go to; required")
	for _, name := range []string{"selector", "l"} {
		set.StringVar(&m.selector, name, "", "move the objects with these labels only")
	}
	set.Int64Var(&m.count, "count", 0, "move so many at most; 0: all")
	set.StringVar(&m.name, "name", "", "name of the ShardMigration; default one that the server makes")
	set.DurationVar(&m.deadline, "deadline", 0, "take back what has been moved if it has not come to its end within this time; 0: never")
	set.Int64Var(&m.rate, "rate", 0, "objects per second at most; 0: as the ring allows")
	set.Int64Var(&m.inFlight, "max-in-flight", 0, "objects in hand-over at most; 0: as the ring allows")
	set.BoolVar(&m.dryRun, "dry-run", false, "move nothing; say how many objects would move, and name the first")
	set.BoolVar(&m.wait, "wait", false, "follow the migration to its end")
	set.DurationVar(&m.timeout, "timeout", 0, "with --wait: how long; 0: for ever. The migration goes on")
}

func (m *migrating) validate(objects int) error {
	switch {
	case m.from == "":
		return usagef("--from: must not be empty: the shard that the objects leave")
	case m.to == "":
		return usagef("--to: must not be empty: the shard that the objects go to")
	case m.from == m.to:
		return usagef("--to: must be another shard than --from")
	case m.count < 0 || m.count > 10_000_000:
		return usagef("--count: %d is not from 1 to 10000000", m.count)
	case m.rate < 0 || m.rate > 100_000:
		return usagef("--rate: %d is not from 1 to 100000", m.rate)
	case m.inFlight < 0 || m.inFlight > 10_000:
		return usagef("--max-in-flight: %d is not from 1 to 10000", m.inFlight)
	case m.deadline < 0 || m.timeout < 0:
		return usagef("--deadline, --timeout: must not be negative")
	case objects > 0 && (m.count > 0 || m.selector != ""):
		return usagef("objects by name can't be combined with --count or --selector")
	case objects > 1000:
		return usagef("%d objects by name: 1000 at most", objects)
	}
	return nil
}

// spec says what is to be moved. now is for the deadline.
func (m *migrating) spec(ring string, objects []objectRef, now time.Time) (shardv1.ShardMigrationSpec, error) {
	spec := shardv1.ShardMigrationSpec{Ring: ring, Source: m.from, Target: m.to, Reason: shardv1.MigrationManual, DryRun: m.dryRun}
	if m.deadline > 0 {
		at := metav1.NewTime(now.Add(m.deadline))
		spec.Deadline = &at
	}
	if m.rate > 0 {
		rate := int32(m.rate)
		spec.ObjectsPerSecond = &rate
	}
	if m.inFlight > 0 {
		most := int32(m.inFlight)
		spec.MaxInFlight = &most
	}
	if m.count == 0 && m.selector == "" && len(objects) == 0 {
		return spec, nil
	}
	spec.Selection = &shardv1.MigrationSelection{}
	if m.count > 0 {
		spec.Selection.Count = &m.count
	}
	if m.selector != "" {
		selector, err := metav1.ParseToLabelSelector(m.selector)
		if err != nil {
			return spec, usagef("--selector: %v", err)
		}
		spec.Selection.LabelSelector = selector
	}
	for _, o := range objects {
		spec.Selection.Objects = append(spec.Selection.Objects, shardv1.MigrationObject{
			Group: o.resource.Group, Resource: o.resource.Resource, Namespace: o.namespace, Name: o.name,
		})
	}
	return spec, nil
}

func (m *migrating) run(ctx context.Context, s *session, args []string) error {
	if err := m.validate(len(args)); err != nil {
		return err
	}
	config, err := s.ringConfig(ctx, false)
	if err != nil {
		return err
	}
	facts, err := s.facts(ctx, config, false)
	if err != nil {
		return err
	}
	for flag, shard := range map[string]string{"--from": m.from, "--to": m.to} {
		if facts.instance(shard) == nil {
			return usagef("%s: the ring %s/%s has no shard %q; it has %v", flag, config.Namespace, config.Name, shard, facts.names())
		}
	}
	var objects []objectRef
	for _, arg := range args {
		ref, err := s.object(ctx, arg)
		if err != nil {
			return err
		}
		objects = append(objects, ref)
	}
	spec, err := m.spec(config.Name, objects, time.Now())
	if err != nil {
		return err
	}
	object := &shardv1.ShardMigration{ObjectMeta: metav1.ObjectMeta{Namespace: config.Namespace, Name: m.name}, Spec: spec}
	if m.name == "" {
		object.GenerateName = "manual-"
	}
	object, err = s.shards.ShardMigrations(config.Namespace).Create(ctx, object, metav1.CreateOptions{FieldManager: "kubectl-shard"})
	if err != nil {
		return request{"create", shardResource("shardmigrations"), config.Namespace, m.name}.failed(err)
	}
	if m.wait || m.dryRun {
		return m.follow(ctx, s, object)
	}
	report := newMigrationReport(object)
	return s.print(report, func(out io.Writer) { fmt.Fprintf(out, "shardmigration/%s created\n", object.Name) })
}
