package process

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net"
	"slices"
	"strconv"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Flags are the settings that all example programs have, on the command line and in the configuration file. The flag of a field
// is its path in the file with dashes: metrics.tls.cert is --metrics-tls-cert.
type Flags struct {
	Kubeconfig string  `json:"kubeconfig"`
	Log        Log     `json:"log"`
	Probe      Address `json:"probe"`
	Metrics    Metrics `json:"metrics"`
	Pprof      Address `json:"pprof"`
	// AuditLog is a file, "-" for standard output, "" for none.
	AuditLog string `json:"auditLog"`
}

// Log says what is logged, and how.
type Log struct {
	Format    string `json:"format"`
	Verbosity int    `json:"verbosity"`
}

// Address is where something is served, as host:port; nowhere if it is empty.
type Address struct {
	Address string `json:"address"`
}

// Metrics says how metrics are served: as plain text, or with a certificate over TLS.
type Metrics struct {
	Address string `json:"address"`
	// TLS has the paths of PEM files, both or none.
	TLS struct {
		Cert string `json:"cert"`
		Key  string `json:"key"`
	} `json:"tls"`
	// Authorize asks the API server, over TLS, who may read them.
	Authorize bool `json:"authorize"`
}

// register declares the flags on a set, with their defaults. A program without endpoints has fewer.
func (f *Flags) register(set *flag.FlagSet, endpoints bool) {
	set.StringVar(&f.Kubeconfig, "kubeconfig", "",
		"path of a kubeconfig file; without it, $KUBECONFIG, then the service account of the Pod")
	set.StringVar(&f.Log.Format, "log-format", "text", "text or json")
	set.IntVar(&f.Log.Verbosity, "log-verbosity", 0, "how much to log, 0 to 10")
	set.IntVar(&f.Log.Verbosity, "v", 0, "short for --log-verbosity")
	if !endpoints {
		return
	}
	set.StringVar(&f.Probe.Address, "probe-address", "127.0.0.1:0",
		"host:port that serves /healthz and /readyz; port 0 takes a free one and logs it; empty: none")
	set.StringVar(&f.Metrics.Address, "metrics-address", "127.0.0.1:0",
		"host:port that serves /metrics; port 0 takes a free one and logs it; empty: none")
	set.StringVar(&f.Metrics.TLS.Cert, "metrics-tls-cert", "", "PEM file with the certificate for /metrics, read again when it changes; empty: plain text")
	set.StringVar(&f.Metrics.TLS.Key, "metrics-tls-key", "", "PEM file with the key of --metrics-tls-cert")
	set.BoolVar(&f.Metrics.Authorize, "metrics-authorize", true,
		"over TLS, serve /metrics only to who has a token of the API server and the right to get the non-resource URL /metrics")
	set.StringVar(&f.Pprof.Address, "pprof-address", "", "host:port on loopback that serves /debug/pprof; empty: none")
	set.StringVar(&f.AuditLog, "audit-log", "", "file to append a JSON line to for every change of owner and every refused write; - is standard output; empty: none")
}

// validate names the first flag with a wrong value and says what would be right.
func (f *Flags) validate() error {
	if !slices.Contains([]string{"text", "json"}, f.Log.Format) {
		return fmt.Errorf("--log-format: %q is neither text nor json", f.Log.Format)
	}
	if f.Log.Verbosity < 0 || f.Log.Verbosity > 10 {
		return fmt.Errorf("--log-verbosity, --v: %d is not from 0 to 10", f.Log.Verbosity)
	}
	return errors.Join(checkAddress("--probe-address", f.Probe.Address), checkAddress("--metrics-address", f.Metrics.Address),
		checkAddress("--pprof-address", f.Pprof.Address), f.checkMetrics(), f.checkPprof())
}

func (f *Flags) checkMetrics() error {
	if pair := f.Metrics.TLS; (pair.Cert == "") != (pair.Key == "") {
		return fmt.Errorf("--metrics-tls-cert %q, --metrics-tls-key %q: set both or none", pair.Cert, pair.Key)
	}
	return nil
}

// checkPprof keeps profiles, which have secrets of the process in them, on the machine.
func (f *Flags) checkPprof() error {
	host, _, err := net.SplitHostPort(f.Pprof.Address)
	if f.Pprof.Address == "" || err != nil || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("--pprof-address: %q is not on loopback: 127.0.0.1:port would be; reach it by kubectl port-forward", f.Pprof.Address)
	}
	return nil
}

func checkAddress(name, address string) error {
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s: %q is not of the form host:port", name, address)
	}
	return nil
}

// Config reads the connection to the API server. Requests are not limited on
// the client's side: the API server has fairness of its own, and a limit here
// would delay hand-overs behind reports.
func (f *Flags) Config(userAgent string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.Kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no connection to an API server is configured, set --kubeconfig to a file that can be read, now %q: %w",
			cmp.Or(f.Kubeconfig, "not set"), err)
	}
	cfg.QPS = -1
	cfg.UserAgent = userAgent
	return cfg, nil
}
