// The manager is the reference control plane: it serves all rings (ShardConfigs)
// of a namespace. It knows nothing of what the workers do with the objects.
//
// Any number of managers may run; one is elected and works. Run manager -h for
// the flags.
//
// The command "manager install" is for administrators: it installs the
// CustomResourceDefinitions and the fences of the rings (package fence), or
// prints them. Run manager install -h for its flags.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/examples/internal/install"
	"github.com/shard-io/shard-controller/examples/internal/process"
	"github.com/shard-io/shard-controller/examples/internal/promquery"
	"github.com/shard-io/shard-controller/health"
	"github.com/shard-io/shard-controller/sharding"
)

// options are the settings of the manager, beside the common ones.
type options struct {
	Namespace   string   `json:"namespace"`
	Identity    string   `json:"identity"`
	Election    election `json:"election"`
	Concurrency int      `json:"concurrency"`
	// Prometheus is what rings are scaled by besides their load.
	Prometheus prometheus `json:"prometheus"`
}

// election says how the replicas elect their leader.
type election struct {
	Lease         string          `json:"lease"`
	LeaseDuration metav1.Duration `json:"leaseDuration"`
	RenewDeadline metav1.Duration `json:"renewDeadline"`
	RetryPeriod   metav1.Duration `json:"retryPeriod"`
}

func (o *options) register(set *flag.FlagSet) {
	hostname, _ := os.Hostname() // empty is refused by validate
	e := &o.Election
	set.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the ShardConfigs; default $POD_NAMESPACE")
	set.StringVar(&o.Identity, "identity", cmp.Or(os.Getenv("POD_NAME"), hostname), "name of this replica; default $POD_NAME or the host's name")
	set.StringVar(&e.Lease, "election-lease", "shard-manager", "name of the Lease by which the leader is elected")
	set.DurationVar(&e.LeaseDuration.Duration, "election-lease-duration", 15*time.Second, "how long other replicas wait for a silent leader")
	set.DurationVar(&e.RenewDeadline.Duration, "election-renew-deadline", 10*time.Second, "how long a leader goes on that cannot renew its Lease")
	set.DurationVar(&e.RetryPeriod.Duration, "election-retry-period", 2*time.Second, "time between two attempts to get or renew the Lease")
	o.Prometheus.register(set)
	set.IntVar(&o.Concurrency, "concurrency", 16, "how many writes to the objects of a ring are made at once, 1 to 1000")
}

func (o *options) validate() error {
	var errs []error
	if o.Namespace == "" {
		errs = append(errs, errors.New("--namespace: must not be empty; set it or $POD_NAMESPACE"))
	}
	if o.Identity == "" {
		errs = append(errs, errors.New("--identity: must not be empty; set it or $POD_NAME"))
	}
	if o.Concurrency < 1 || o.Concurrency > 1000 {
		errs = append(errs, fmt.Errorf("--concurrency: %d is not from 1 to 1000", o.Concurrency))
	}
	if err := o.Prometheus.validate(); err != nil {
		errs = append(errs, err)
	}
	lease, renew, retry := o.Election.LeaseDuration.Duration, o.Election.RenewDeadline.Duration, o.Election.RetryPeriod.Duration
	if retry <= 0 || renew <= retry || lease <= renew {
		errs = append(errs, fmt.Errorf("--election-lease-duration %s, --election-renew-deadline %s, --election-retry-period %s: each must be longer than the next, and all positive",
			lease, renew, retry))
	}
	return errors.Join(errs...)
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "install" {
		os.Args = slices.Delete(os.Args, 1, 2)
		installMain()
	}
	program().Main()
}

// program is the manager itself.
func program() *process.Program {
	var o options
	p := &process.Program{Name: "manager", Kind: "ManagerConfiguration", Settings: &o, Register: o.register, Validate: o.validate}
	p.Run = func(ctx context.Context) error { return run(ctx, &o, &p.Flags) }
	return p
}

// installMain is the command "manager install": what an administrator does once, with rights that the manager itself does not have.
func installMain() {
	c := install.Command{Out: os.Stdout}
	p := process.Program{Name: "manager install", Validate: c.Validate}
	p.Register = func(set *flag.FlagSet) {
		set.StringVar(&c.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the ShardConfigs; default $POD_NAMESPACE")
		set.StringVar(&c.Ring, "ring", "", "fence this ring only; default all of the namespace")
		c.Register(set)
	}
	p.Run = func(ctx context.Context) error {
		c.Say = klog.FromContext(ctx).Info
		return c.Run(ctx, func() (*rest.Config, error) { return p.Flags.Config("shard-installer/" + process.Version()) })
	}
	p.Main()
}

func run(ctx context.Context, o *options, flags *process.Flags) error {
	cfg, err := flags.Config("shard-manager/" + process.Version())
	if err != nil {
		return err
	}
	audit, err := flags.OpenAuditLog()
	if err != nil {
		return err
	}
	defer audit.Close()
	sources, err := promquery.New(o.Prometheus.server(), o.Prometheus.Queries)
	if err != nil {
		return fmt.Errorf("--prometheus-%w", err)
	}
	registry := process.NewRegistry()
	manager, err := sharding.NewManager(cfg, sharding.ManagerOptions{
		Namespace: o.Namespace, Identity: o.Identity, ElectionLease: o.Election.Lease,
		ElectionTiming: sharding.ElectionTiming{
			LeaseDuration: o.Election.LeaseDuration.Duration, RenewDeadline: o.Election.RenewDeadline.Duration, RetryPeriod: o.Election.RetryPeriod.Duration,
		},
		Registerer: registry, AuditLog: audit.Record(), Concurrency: o.Concurrency, MetricSources: sources,
	})
	if err != nil {
		return err
	}
	preflight, err := process.NewPreflight(cfg, o.Namespace)
	if err != nil {
		return err
	}
	checks := health.NewChecks()
	if err := errors.Join(checks.AddReadiness("api-server", preflight.Check), checks.AddReadiness("manager", manager.Ready)); err != nil {
		return err
	}
	return flags.Serve(ctx, process.Endpoints{Checks: checks, Metrics: registry, API: cfg}, preflight.Then(manager.Run))
}
