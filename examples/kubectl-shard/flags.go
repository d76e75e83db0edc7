package main

import (
	"flag"
	"strings"
	"time"
)

// options are the flags of all commands, named as those of kubectl.
type options struct {
	kubeconfig, context, namespace, ring, output string
	requestTimeout                               time.Duration
}

func (o *options) register(set *flag.FlagSet) {
	set.StringVar(&o.kubeconfig, "kubeconfig", "", "path of the kubeconfig file; default $KUBECONFIG, ~/.kube/config, then the service account of the Pod")
	set.StringVar(&o.context, "context", "", "context of the kubeconfig; default its current one")
	for _, name := range []string{"namespace", "n"} {
		set.StringVar(&o.namespace, name, "", "namespace of the ring, or of the object; default that of the context")
	}
	set.StringVar(&o.ring, "ring", "", "name of the ShardConfig, or NAMESPACE/NAME; may be left out where there is only one")
	for _, name := range []string{"output", "o"} {
		set.StringVar(&o.output, name, "", "json or yaml instead of a table")
	}
	set.DurationVar(&o.requestTimeout, "request-timeout", 30*time.Second, "how long one request to the API server may take; 0: for ever")
}

func (o *options) validate() error {
	if o.output != "" && o.output != "json" && o.output != "yaml" {
		return usagef("--output: %q is neither json nor yaml", o.output)
	}
	if o.requestTimeout < 0 {
		return usagef("--request-timeout: %s is negative", o.requestTimeout)
	}
	if namespace, name, qualified := strings.Cut(o.ring, "/"); qualified && (namespace == "" || name == "" || strings.Contains(name, "/")) {
		return usagef("--ring: %q is neither NAME nor NAMESPACE/NAME", o.ring)
	}
	return nil
}

// parse reads flags and arguments in any order, as kubectl does, and returns the arguments. After "--" there are arguments only.
func parse(set *flag.FlagSet, args []string) ([]string, error) {
	args = append([]string(nil), args...)
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "-ojson" || arg == "-oyaml" {
			args[i] = "-o=" + arg[2:]
		}
	}
	var rest []string
	for {
		if err := set.Parse(args); err != nil {
			return nil, err
		}
		left := set.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if read := len(args) - len(left); read > 0 && args[read-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}
