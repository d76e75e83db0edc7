// The worker is the reference data plane: one shard of a ring that audits the
// X.509 certificates in Secrets of type kubernetes.io/tls (package certaudit).
//
// The ring's target must be the resource secrets, with configmaps as controlled:
//
//	targets:
//	- resource: secrets
//	  controlled:
//	  - resource: configmaps
//
// Secrets of other types may be among the targets; they are owned and handed over
// like all, and not looked into. Run worker -h for the flags. With --journal it
// keeps a journal of what it does, as package journal describes it.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/shard-io/shard-controller/examples/internal/process"
	"github.com/shard-io/shard-controller/sharding"
)

// options are the flags of the worker, beside the common ones.
type options struct {
	ring, namespace, id string
	weight              int
	concurrency         int
	keepOnStop          bool
	stopTimeout         time.Duration
	journal             string
	requireFence        bool
}

func (o *options) register(set *flag.FlagSet) {
	set.StringVar(&o.ring, "ring", "", "name of the ShardConfig (required)")
	set.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the ShardConfig; default $POD_NAMESPACE")
	set.StringVar(&o.id, "id", os.Getenv("POD_NAME"), "identity of this shard, unique in its namespace; default $POD_NAME")
	set.IntVar(&o.weight, "weight", 1, "share of this shard relative to the others, 1 to 1000")
	set.IntVar(&o.concurrency, "concurrency", 4, "how many Secrets are audited at once, 1 to 1000")
	set.BoolVar(&o.keepOnStop, "keep-on-stop", false,
		"keep the objects for the next process of this name, as in a StatefulSet, instead of handing them over")
	set.DurationVar(&o.stopTimeout, "stop-timeout", 25*time.Second, "how long to wait for the hand-over when stopped")
	set.BoolVar(&o.requireFence, "require-fence", false,
		"act only while the API server refuses what this shard may not write: see manager install")
	set.StringVar(&o.journal, "journal", "", "file to append a journal of reconciles and writes to; empty: none")
}

func (o *options) validate() error {
	var errs []error
	if err := sharding.ValidateRing(o.ring); err != nil {
		errs = append(errs, fmt.Errorf("--ring: %w", err))
	}
	if o.namespace == "" {
		errs = append(errs, errors.New("--namespace: must not be empty; set it or $POD_NAMESPACE"))
	}
	if err := sharding.ValidateShardID(o.id); err != nil {
		errs = append(errs, fmt.Errorf("--id: %w; set it or $POD_NAME", err))
	}
	if o.weight < 1 || o.weight > 1000 {
		errs = append(errs, fmt.Errorf("--weight: %d is not from 1 to 1000", o.weight))
	}
	if o.concurrency < 1 || o.concurrency > 1000 {
		errs = append(errs, fmt.Errorf("--concurrency: %d is not from 1 to 1000", o.concurrency))
	}
	if o.stopTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--stop-timeout: %s is not positive", o.stopTimeout))
	}
	return errors.Join(errs...)
}

func main() {
	var o options
	p := process.Program{Name: "worker", Register: o.register, Validate: o.validate}
	w := worker{options: &o, flags: &p.Flags}
	p.Run = w.run
	p.Main()
}

// version is that of the build, for the status of the ShardInstance.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return cmp.Or(info.Main.Version, "unknown")
}
