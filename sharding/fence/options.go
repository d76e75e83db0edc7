package fence

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding"
)

// Options say whose requests the fence lets through to do what. Usernames are as the API server knows them: those of
// ServiceAccounts are made by [ServiceAccount].
type Options struct {
	// Managers are the usernames of the managers of the ring. At least one.
	Managers []string

	// Workers are the usernames of workers whose shard is the Pod that their token is bound to, as is every token that a kubelet mounts. At
	// least one of Workers and Shards is not empty; nobody is both manager and worker.
	Workers []string

	// Shards are the usernames of workers that do not run in Pods, with the ID of their shard: for example users with a
	// client certificate.
	Shards map[string]string

	// RestoreLabels adds a MutatingAdmissionPolicy, for servers from 1.36 on: a write that leaves the owner label out, as tools do that
	// replace objects, gets back what the ring had written on the object. Without it such a write is refused.
	RestoreLabels bool

	// Unchecked are subresources, as "resource/subresource" ("pods/eviction"), of which workers may make use without being checked: the
	// API server does not show to policies whose object a request to scale, eviction and their like is for, so they are closed
	// to workers by default.
	Unchecked []string
}

// ServiceAccount is the username of a ServiceAccount.
func ServiceAccount(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

// check returns an error that names the field that is wrong.
func (o Options) check() error {
	if len(o.Managers) == 0 {
		return errors.New("fence options: Managers is empty: name at least one, or nobody could assign objects")
	}
	if len(o.Workers)+len(o.Shards) == 0 {
		return errors.New("fence options: Workers and Shards are empty: name at least one worker, or the fence would guard against nobody")
	}
	seen := map[string]string{}
	for field, names := range map[string][]string{"Managers": o.Managers, "Workers": o.Workers, "Shards": slices.Sorted(maps.Keys(o.Shards))} {
		for _, name := range names {
			if err := checkUsername(name); err != nil {
				return fmt.Errorf("fence options: %s: %w", field, err)
			}
			if other, twice := seen[name]; twice {
				return fmt.Errorf("fence options: %q is in %s and %s: give managers and workers ServiceAccounts of their own, and name each once",
					name, min(field, other), max(field, other))
			}
			seen[name] = field
		}
	}
	for name, shard := range o.Shards {
		if err := sharding.ValidateShardID(shard); err != nil {
			return fmt.Errorf("fence options: Shards[%q]: %w", name, err)
		}
	}
	for _, sub := range o.Unchecked {
		if resource, subresource, ok := strings.Cut(sub, "/"); !ok || resource == "" || subresource == "" || strings.ContainsAny(sub, "* ") {
			return fmt.Errorf("fence options: Unchecked: %q is not of the form resource/subresource, such as pods/eviction", sub)
		}
	}
	return nil
}

func checkUsername(name string) error {
	switch {
	case name == "":
		return errors.New("a username is empty")
	case !utf8.ValidString(name):
		return fmt.Errorf("username %q is not UTF-8", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("username %q has control characters", name)
	}
	return nil
}

// checkConfig returns an error if the config can't be that of a ring with something to fence.
func checkConfig(config *shardv1.ShardConfig) error {
	if config == nil {
		return errors.New("fence: ShardConfig is required")
	}
	if err := sharding.ValidateRing(config.Name); err != nil {
		return fmt.Errorf("fence: metadata.name: %w", err)
	}
	if problems := validation.IsDNS1123Label(config.Namespace); len(problems) > 0 {
		return fmt.Errorf("fence: metadata.namespace %q: %s", config.Namespace, strings.Join(problems, "; "))
	}
	if len(config.Spec.Targets) == 0 {
		return fmt.Errorf("fence: spec.targets of ring %q is empty: there is nothing to fence", config.Name)
	}
	for i, target := range config.Spec.Targets {
		if err := checkTarget(target); err != nil {
			return fmt.Errorf("fence: spec.targets[%d].%w", i, err)
		}
	}
	return nil
}

func checkTarget(target shardv1.Target) error {
	if err := checkResource(target.Group, target.Resource); err != nil {
		return err
	}
	for i, child := range target.Controlled {
		if err := checkResource(child.Group, child.Resource); err != nil {
			return fmt.Errorf("controlled[%d].%w", i, err)
		}
	}
	if _, err := metav1.LabelSelectorAsSelector(target.LabelSelector); err != nil {
		return fmt.Errorf("labelSelector: %w", err)
	}
	if _, err := metav1.LabelSelectorAsSelector(target.NamespaceSelector); err != nil {
		return fmt.Errorf("namespaceSelector: %w", err)
	}
	return nil
}

// checkResource keeps wildcards and subresources out, which mean something else in a policy.
func checkResource(group, resource string) error {
	if problems := validation.IsDNS1123Label(resource); len(problems) > 0 {
		return fmt.Errorf("resource %q: %s", resource, strings.Join(problems, "; "))
	}
	if group == "" {
		return nil
	}
	if problems := validation.IsDNS1123Subdomain(group); len(problems) > 0 {
		return fmt.Errorf("group %q: %s", group, strings.Join(problems, "; "))
	}
	return nil
}
