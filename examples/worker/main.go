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
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/examples/internal/process"
	"github.com/shard-io/shard-controller/sharding"
)

// options are the settings of the worker, beside the common ones.
type options struct {
	Ring         string          `json:"ring"`
	Namespace    string          `json:"namespace"`
	ID           string          `json:"id"`
	Weight       int             `json:"weight"`
	Concurrency  int             `json:"concurrency"`
	KeepOnStop   bool            `json:"keepOnStop"`
	StopTimeout  metav1.Duration `json:"stopTimeout"`
	Journal      string          `json:"journal"`
	RequireFence bool            `json:"requireFence"`
	AuditTime    metav1.Duration `json:"auditTime"`
}

func (o *options) register(set *flag.FlagSet) {
	set.StringVar(&o.Ring, "ring", "", "name of the ShardConfig (required)")
	set.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the ShardConfig; default $POD_NAMESPACE")
	set.StringVar(&o.ID, "id", os.Getenv("POD_NAME"), "identity of this shard, unique in its namespace; default $POD_NAME")
	set.IntVar(&o.Weight, "weight", 1, "share of this shard relative to the others, 1 to 1000")
	set.IntVar(&o.Concurrency, "concurrency", 4, "how many Secrets are audited at once, 1 to 1000")
	set.BoolVar(&o.KeepOnStop, "keep-on-stop", false,
		"keep the objects for the next process of this name, as in a StatefulSet, instead of handing them over")
	set.DurationVar(&o.StopTimeout.Duration, "stop-timeout", 25*time.Second, "how long to wait for the hand-over when stopped")
	set.BoolVar(&o.RequireFence, "require-fence", false,
		"act only while the API server refuses what this shard may not write: see manager install")
	set.DurationVar(&o.AuditTime.Duration, "audit-time", 0,
		"wait so long in each audit, up to 1m: stands for work that is done elsewhere, such as asking whether a certificate was revoked")
	set.StringVar(&o.Journal, "journal", "", "file to append a journal of reconciles and writes to; empty: none")
}

func (o *options) validate() error {
	var errs []error
	if err := sharding.ValidateRing(o.Ring); err != nil {
		errs = append(errs, fmt.Errorf("--ring: %w", err))
	}
	if o.Namespace == "" {
		errs = append(errs, errors.New("--namespace: must not be empty; set it or $POD_NAMESPACE"))
	}
	if err := sharding.ValidateShardID(o.ID); err != nil {
		errs = append(errs, fmt.Errorf("--id: %w; set it or $POD_NAME", err))
	}
	if o.Weight < 1 || o.Weight > 1000 {
		errs = append(errs, fmt.Errorf("--weight: %d is not from 1 to 1000", o.Weight))
	}
	if o.Concurrency < 1 || o.Concurrency > 1000 {
		errs = append(errs, fmt.Errorf("--concurrency: %d is not from 1 to 1000", o.Concurrency))
	}
	if o.StopTimeout.Duration <= 0 {
		errs = append(errs, fmt.Errorf("--stop-timeout: %s is not positive", o.StopTimeout.Duration))
	}
	if o.AuditTime.Duration < 0 || o.AuditTime.Duration > time.Minute {
		errs = append(errs, fmt.Errorf("--audit-time: %s is not from 0s to 1m", o.AuditTime.Duration))
	}
	return errors.Join(errs...)
}

func main() { program().Main() }

func program() *process.Program {
	var o options
	p := &process.Program{Name: "worker", Kind: "WorkerConfiguration", Settings: &o, Register: o.register, Validate: o.validate}
	w := worker{options: &o, flags: &p.Flags}
	p.Run = w.run
	return p
}
