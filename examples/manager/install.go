package main

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
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/shard-io/shard-controller/apis/crd"
	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/examples/internal/process"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// installer is the command "manager install": what an administrator does once,
// with rights that the manager itself does not have. It installs the
// CustomResourceDefinitions, and the fence of each ring of a namespace.
type installer struct {
	namespace, ring, file string
	managers, workers     string
	restore               bool
	print, uninstall      bool
	timeout               time.Duration
	out                   io.Writer
}

func (i *installer) register(set *flag.FlagSet) {
	set.StringVar(&i.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the ShardConfigs; default $POD_NAMESPACE")
	set.StringVar(&i.ring, "ring", "", "fence this ring only; default all of the namespace")
	set.StringVar(&i.file, "file", "", "read the ShardConfigs from this YAML file instead of the API server")
	set.StringVar(&i.managers, "manager-accounts", "manager", "ServiceAccounts of the managers, as name or namespace/name, separated by commas")
	set.StringVar(&i.workers, "worker-accounts", "worker", "ServiceAccounts of the workers, as name or namespace/name, separated by commas")
	set.BoolVar(&i.restore, "restore-labels", false, "also install a policy that gives objects their labels back when somebody replaces them without (servers from 1.36 on)")
	set.BoolVar(&i.print, "print", false, "print definitions and fences as YAML, and install nothing")
	set.BoolVar(&i.uninstall, "uninstall", false, "delete the fences; the definitions stay")
	set.DurationVar(&i.timeout, "timeout", time.Minute, "how long to wait until the API server enforces what was installed")
}

func (i *installer) validate() error {
	var errs []error
	if i.namespace == "" {
		errs = append(errs, errors.New("--namespace: must not be empty; set it or $POD_NAMESPACE"))
	}
	if i.print && i.uninstall {
		errs = append(errs, errors.New("--print and --uninstall exclude each other"))
	}
	if i.timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout: %s is not positive", i.timeout))
	}
	for name, value := range map[string]string{"--manager-accounts": i.managers, "--worker-accounts": i.workers} {
		if _, err := accounts(i.namespace, value); err != nil {
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

func (i *installer) run(ctx context.Context, flags *process.Flags) error {
	ctx, cancel := context.WithTimeout(ctx, i.timeout)
	defer cancel()
	o := fence.Options{RestoreLabels: i.restore}
	o.Managers, _ = accounts(i.namespace, i.managers) // looked at by validate
	o.Workers, _ = accounts(i.namespace, i.workers)
	if i.print && i.file != "" {
		return i.write(ctx, nil, o)
	}
	cfg, err := flags.Config("shard-installer/" + version())
	if err != nil {
		return err
	}
	shards, err := versioned.NewForConfig(cfg)
	if err != nil {
		return err
	}
	if i.print {
		return i.write(ctx, shards, o)
	}
	if !i.uninstall {
		if err := crd.Install(ctx, cfg); err != nil {
			return err
		}
	}
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	return i.each(ctx, shards, func(config *shardv1.ShardConfig) error {
		if i.uninstall {
			return fence.Uninstall(ctx, kube, config.Namespace, config.Name)
		}
		if err := fence.Install(ctx, kube, config, o); err != nil {
			return err
		}
		klog.FromContext(ctx).Info("The API server enforces the fence", "ring", config.Name, "policy", fence.Name(config.Namespace, config.Name))
		return nil
	})
}

// write prints everything as YAML.
func (i *installer) write(ctx context.Context, shards versioned.Interface, o fence.Options) error {
	if _, err := i.out.Write(crd.YAML()); err != nil {
		return err
	}
	return i.each(ctx, shards, func(config *shardv1.ShardConfig) error {
		text, err := fence.YAML(config, o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(i.out, "---\n%s", text)
		return err
	})
}

// each calls f for every ring that there is something to fence for.
func (i *installer) each(ctx context.Context, shards versioned.Interface, f func(*shardv1.ShardConfig) error) error {
	configs, err := i.configs(ctx, shards)
	if err != nil {
		return err
	}
	found := false
	for n := range configs {
		config := &configs[n]
		if i.ring != "" && config.Name != i.ring {
			continue
		}
		found = true
		if len(config.Spec.Targets) == 0 && !i.uninstall {
			klog.FromContext(ctx).Info("The ring has no targets, so there is nothing to fence", "ring", config.Name)
			continue
		}
		if err := f(config); err != nil {
			return fmt.Errorf("ring %s: %w", config.Name, err)
		}
	}
	if i.ring != "" && !found {
		return fmt.Errorf("--ring: there is no ShardConfig %s/%s", i.namespace, i.ring)
	}
	if !found {
		klog.FromContext(ctx).Info("There is no ShardConfig, so there is nothing to fence yet: install again when there is one", "namespace", i.namespace)
	}
	return nil
}

func (i *installer) configs(ctx context.Context, shards versioned.Interface) ([]shardv1.ShardConfig, error) {
	if i.file == "" {
		list, err := shards.ShardV1().ShardConfigs(i.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		return list.Items, nil
	}
	data, err := os.ReadFile(i.file)
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	var configs []shardv1.ShardConfig
	for document := range bytes.SplitSeq(append([]byte("\n"), data...), []byte("\n---")) {
		var config shardv1.ShardConfig
		if err := yaml.Unmarshal(document, &config); err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		if config.Kind != "ShardConfig" {
			continue // others may be in the same file
		}
		if config.Namespace == "" {
			config.Namespace = i.namespace
		}
		configs = append(configs, config)
	}
	return slices.DeleteFunc(configs, func(c shardv1.ShardConfig) bool { return c.Namespace != i.namespace }), nil
}
