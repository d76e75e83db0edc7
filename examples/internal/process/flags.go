package process

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
)

// Flags are those that all example programs understand.
type Flags struct {
	Kubeconfig     string
	ProbeAddress   string
	MetricsAddress string
	LogFormat      string
	Verbosity      int
}

// Register declares the flags on a set, with their defaults.
func (f *Flags) Register(set *flag.FlagSet) {
	set.StringVar(&f.Kubeconfig, "kubeconfig", "",
		"path of a kubeconfig file; without it, $KUBECONFIG, then the service account of the Pod")
	set.StringVar(&f.ProbeAddress, "probe-address", "127.0.0.1:0",
		"host:port that serves /healthz and /readyz; port 0 takes a free one and logs it; empty: none")
	set.StringVar(&f.MetricsAddress, "metrics-address", "127.0.0.1:0",
		"host:port that serves /metrics; port 0 takes a free one and logs it; empty: none")
	set.StringVar(&f.LogFormat, "log-format", "text", "text or json")
	set.IntVar(&f.Verbosity, "v", 0, "how much to log, 0 to 10")
}

// Validate names the first flag with a wrong value and says what would be right.
func (f *Flags) Validate() error {
	if !slices.Contains([]string{"text", "json"}, f.LogFormat) {
		return fmt.Errorf("--log-format: %q is neither text nor json", f.LogFormat)
	}
	if f.Verbosity < 0 || f.Verbosity > 10 {
		return fmt.Errorf("--v: %d is not from 0 to 10", f.Verbosity)
	}
	return errors.Join(checkAddress("--probe-address", f.ProbeAddress), checkAddress("--metrics-address", f.MetricsAddress))
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
		return nil, fmt.Errorf("no connection to an API server, set --kubeconfig: %w", err)
	}
	cfg.QPS = -1
	cfg.UserAgent = userAgent
	return cfg, nil
}

// SetupLogging makes klog, and with it all libraries, log to out as the flags
// say. It is called once, before anything logs.
func (f *Flags) SetupLogging(out io.Writer) error {
	if f.LogFormat == "json" {
		// In slog, what klog calls verbosity n is the level -n.
		handler := slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.Level(-f.Verbosity)})
		klog.SetSlogLogger(slog.New(handler))
	} else {
		config := textlogger.NewConfig(textlogger.Verbosity(f.Verbosity), textlogger.Output(out))
		klog.SetLoggerWithOptions(textlogger.NewLogger(config), klog.ContextualLogger(true))
	}
	set := flag.NewFlagSet("klog", flag.ContinueOnError) // for libraries that ask klog.V
	klog.InitFlags(set)
	return set.Set("v", strconv.Itoa(f.Verbosity))
}
