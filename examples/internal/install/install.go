// Package install installs what a ring needs of the API server, once and with the rights of an administrator: the
// CustomResourceDefinitions, and the fence of each ring of a namespace (package fence). Both the manager and the kubectl plugin have it
// as a command.
//
// It changes nothing that is not named shard.io, and can be repeated. It creates no namespace, no role and no ShardConfig.
package install

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/apis/crd"
	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// Command is the command "install". Register its flags, parse them, then call Validate and Run.
type Command struct {
	// Namespace is where the ShardConfigs are, and Ring the only one of them that is to be fenced; empty: all.
	Namespace, Ring string
	// Out takes what is printed with --print.
	Out io.Writer
	// Say takes what was done, as a sentence and pairs of keys and values, like the Info of a logger.
	Say func(message string, keysAndValues ...any)

	file              string
	managers, workers string
	restore           bool
	print, uninstall  bool
	timeout           time.Duration
}

// Register declares all flags but those for the namespace and the ring, which are the caller's.
func (c *Command) Register(set *flag.FlagSet) {
	set.StringVar(&c.file, "file", "", "read the ShardConfigs from this YAML file instead of the API server")
	set.StringVar(&c.managers, "manager-accounts", "manager", "ServiceAccounts of the managers, as name or namespace/name, separated by commas")
	set.StringVar(&c.workers, "worker-accounts", "worker", "ServiceAccounts of the workers, as name or namespace/name, separated by commas")
	set.BoolVar(&c.restore, "restore-labels", false, "also install a policy that gives objects their labels back when somebody replaces them without (servers from 1.36 on)")
	set.BoolVar(&c.print, "print", false, "print definitions and fences as YAML, and install nothing")
	set.BoolVar(&c.uninstall, "uninstall", false, "delete the fences; the definitions stay")
	set.DurationVar(&c.timeout, "timeout", time.Minute, "how long to wait until the API server enforces what was installed")
}

// FlagError is an error of Run that another value of a flag would mend.
type FlagError struct {
	Flag string // without dashes
	Err  error
}

// Error names the flag.
func (e *FlagError) Error() string { return "--" + e.Flag + ": " + e.Err.Error() }

// Unwrap returns what is wrong with its value.
func (e *FlagError) Unwrap() error { return e.Err }

// Validate names the flags with wrong values and says what would be right.
func (c *Command) Validate() error {
	var errs []error
	if c.Namespace == "" {
		errs = append(errs, errors.New("--namespace: must not be empty; set it or $POD_NAMESPACE"))
	}
	if c.print && c.uninstall {
		errs = append(errs, errors.New("--print and --uninstall exclude each other"))
	}
	if c.timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout: %s is not positive", c.timeout))
	}
	for name, value := range map[string]string{"--manager-accounts": c.managers, "--worker-accounts": c.workers} {
		if _, err := accounts(c.Namespace, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// accounts are the usernames of ServiceAccounts.
func accounts(namespace, names string) ([]string, error) {
	var users []string
	for _, name := range strings.Split(names, ",") {
		in, account, qualified := strings.Cut(strings.TrimSpace(name), "/")
		if !qualified {
			in, account = namespace, in
		}
		if in == "" || account == "" || strings.Contains(account, "/") {
			return nil, fmt.Errorf("%q is not of the form name or namespace/name", name)
		}
		users = append(users, fence.ServiceAccount(in, account))
	}
	return users, nil
}

// Run installs, prints or uninstalls, and returns when the API server enforces what was installed. connect is called at most once, and not
// at all where everything is in a file and only printed.
func (c *Command) Run(ctx context.Context, connect func() (*rest.Config, error)) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	o := fence.Options{RestoreLabels: c.restore}
	o.Managers, _ = accounts(c.Namespace, c.managers) // looked at by Validate
	o.Workers, _ = accounts(c.Namespace, c.workers)
	if c.print && c.file != "" {
		return c.write(ctx, nil, o)
	}
	cfg, err := connect()
	if err != nil {
		return err
	}
	shards, err := versioned.NewForConfig(cfg)
	if err != nil {
		return err
	}
	if c.print {
		return c.write(ctx, shards, o)
	}
	if !c.uninstall {
		if err := crd.Install(ctx, cfg); err != nil {
			return err
		}
		c.Say("The API server serves the definitions", "group", shardv1.GroupName)
	}
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	return c.each(ctx, shards, func(config *shardv1.ShardConfig) error {
		if c.uninstall {
			err := fence.Uninstall(ctx, kube, config.Namespace, config.Name)
			if err == nil {
				c.Say("The fence is deleted", "ring", config.Name)
			}
			return err
		}
		if err := fence.Install(ctx, kube, config, o); err != nil {
			return err
		}
		c.Say("The API server enforces the fence", "ring", config.Name, "policy", fence.Name(config.Namespace, config.Name))
		return nil
	})
}

// write prints everything as YAML.
func (c *Command) write(ctx context.Context, shards versioned.Interface, o fence.Options) error {
	if _, err := c.Out.Write(crd.YAML()); err != nil {
		return err
	}
	return c.each(ctx, shards, func(config *shardv1.ShardConfig) error {
		text, err := fence.YAML(config, o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "---\n%s", text)
		return err
	})
}

// each calls f for every ring that there is something to fence for.
func (c *Command) each(ctx context.Context, shards versioned.Interface, f func(*shardv1.ShardConfig) error) error {
	configs, err := c.configs(ctx, shards)
	if err != nil {
		return err
	}
	found := false
	for n := range configs {
		config := &configs[n]
		if c.Ring != "" && config.Name != c.Ring {
			continue
		}
		found = true
		if len(config.Spec.Targets) == 0 && !c.uninstall {
			c.Say("The ring has no targets, so there is nothing to fence", "ring", config.Name)
			continue
		}
		if err := f(config); err != nil {
			return fmt.Errorf("ring %s: %w", config.Name, err)
		}
	}
	if c.Ring != "" && !found {
		return &FlagError{"ring", fmt.Errorf("there is no ShardConfig %s/%s", c.Namespace, c.Ring)}
	}
	if !found {
		c.Say("There is no ShardConfig, so there is nothing to fence yet: install again when there is one", "namespace", c.Namespace)
	}
	return nil
}

func (c *Command) configs(ctx context.Context, shards versioned.Interface) ([]shardv1.ShardConfig, error) {
	if c.file == "" {
		list, err := shards.ShardV1().ShardConfigs(c.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		return list.Items, nil
	}
	data, err := os.ReadFile(c.file)
	if err != nil {
		return nil, &FlagError{"file", err}
	}
	var configs []shardv1.ShardConfig
	for document := range bytes.SplitSeq(append([]byte("\n"), data...), []byte("\n---")) {
		var config shardv1.ShardConfig
		if err := yaml.Unmarshal(document, &config); err != nil {
			return nil, &FlagError{"file", err}
		}
		if config.Kind != "ShardConfig" {
			continue // others may be in the same file
		}
		if config.Namespace == "" {
			config.Namespace = c.Namespace
		}
		configs = append(configs, config)
	}
	return slices.DeleteFunc(configs, func(config shardv1.ShardConfig) bool { return config.Namespace != c.Namespace }), nil
}
