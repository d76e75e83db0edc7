package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/ring"
	"github.com/shard-io/shard-controller/sharding"
)

// ringReport is what "ring" says.
type ringReport struct {
	Namespace  string     `json:"namespace"`
	Name       string     `json:"name"`
	Slots      int        `json:"slots"`
	Generation int64      `json:"ringGeneration"`
	Shards     []ringPart `json:"shards"`
	Faults     []string   `json:"faults,omitempty"`
}

// ringPart is what a shard has of the slots. Fair is its share by weight, Deviation what it has above that, as a part of it.
type ringPart struct {
	Shard     string  `json:"shard"`
	Slots     int     `json:"slots"`
	Share     float64 `json:"share"`
	Fair      float64 `json:"fair"`
	Deviation float64 `json:"deviation"`
	Ranges    int     `json:"ranges"`
	Objects   int64   `json:"objects"`
}

func ringCommand() *command {
	svg := ""
	return &command{
		name: "ring", short: "Show which shard has how many slots, and how far that is from fair",
		long: "The table is read from the hashRanges of the ShardInstances. The exit code is 1 if they do not fit together: the manager mends that.",
		flags: func(set *flag.FlagSet) {
			set.StringVar(&svg, "svg", "", "also write a picture of the ring to this file; -: instead of the table, to stdout")
		},
		run: func(ctx context.Context, s *session, _ []string) error { return s.showRing(ctx, svg) },
	}
}

func (s *session) showRing(ctx context.Context, svg string) error {
	config, err := s.ringConfig(ctx, true)
	if err != nil {
		return err
	}
	facts, err := s.facts(ctx, config, false)
	if err != nil {
		return err
	}
	table, faults := tableOf(facts)
	if svg == "-" {
		return table.WriteSVG(s.stdout)
	}
	if svg != "" {
		if err := writeSVG(svg, table); err != nil {
			return usagef("--svg: %v", err)
		}
	}
	report := newRingReport(facts, table, faults)
	if err := s.print(report, report.text); err != nil || len(report.Faults) == 0 {
		return err
	}
	return errSaid
}

func writeSVG(path string, table *ring.Ring) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := table.WriteSVG(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// tableOf reads the slot table as a manager does, and says what does not fit together.
func tableOf(f *ringFacts) (*ring.Ring, []string) {
	instances := make([]*shardv1.ShardInstance, len(f.instances))
	for i := range f.instances {
		instances[i] = &f.instances[i]
	}
	table, err := sharding.RingOf(instances)
	if err != nil {
		return table, strings.Split(err.Error(), "\n")
	}
	return table, nil
}

// newRingReport is a pure function.
func newRingReport(f *ringFacts, table *ring.Ring, faults []string) ringReport {
	r := ringReport{
		Namespace: f.config.Namespace, Name: f.config.Name, Slots: table.Slots(), Generation: f.config.Status.RingGeneration,
		Shards: []ringPart{}, Faults: faults,
	}
	weights, sum := map[string]float64{}, 0.0
	for _, member := range table.Members() {
		weights[member.ID] = member.Weight
		sum += member.Weight
	}
	for i := range f.instances {
		instance := &f.instances[i]
		share := table.Share(instance.Name)
		part := ringPart{
			Shard: instance.Name, Slots: int(math.Round(share * float64(table.Slots()))), Share: share,
			Ranges: len(table.Ranges(instance.Name)), Objects: instance.Status.AssignedResourceCount,
		}
		if weight, member := weights[instance.Name]; member {
			part.Fair = weight / sum
			part.Deviation = share/part.Fair - 1
		}
		r.Shards = append(r.Shards, part)
	}
	return r
}

func (r ringReport) text(out io.Writer) {
	t := newTable("SHARD", "SLOTS", "SHARE", "FAIR", "DEVIATION", "RANGES", "OBJECTS")
	for _, p := range r.Shards {
		fair, deviation := "", ""
		if p.Fair > 0 {
			fair, deviation = percent(p.Fair), fmt.Sprintf("%+.2f%%", 100*p.Deviation)
		}
		t.row(p.Shard, p.Slots, percent(p.Share), fair, deviation, p.Ranges, p.Objects)
	}
	t.write(out)
	if len(r.Shards) == 0 {
		fmt.Fprintf(out, "The ring %s has no shards.\n", r.Name)
		return
	}
	fmt.Fprintf(out, "\n%d slots, generation %d\n", r.Slots, r.Generation)
	for _, fault := range r.Faults {
		fmt.Fprintf(out, "fault: %s\n", fault)
	}
}
