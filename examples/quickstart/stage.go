//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/shard-io/shard-controller/apis/crd"
	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/sharding/fence"
)

// stage is the cluster with everything in it that the tour needs.
type stage struct {
	*cluster
	options
	kube    kubernetes.Interface
	shards  versioned.Interface
	dynamic dynamic.Interface
	made    bool // the namespace is ours
	// writeCost is the time per write when several are made at once, as it was
	// when the Secrets were created.
	writeCost time.Duration
}

func newStage(c *cluster, o options) (*stage, error) {
	s := &stage{cluster: c, options: o}
	var err error
	if s.kube, err = kubernetes.NewForConfig(c.admin); err != nil {
		return nil, err
	}
	if s.shards, err = versioned.NewForConfig(c.admin); err != nil {
		return nil, err
	}
	s.dynamic, err = dynamic.NewForConfig(c.admin)
	return s, err
}

// set installs the CRDs and creates the namespace, the roles, the Secrets and
// the ring.
func (s *stage) set(ctx context.Context) error {
	if err := crd.Install(ctx, s.admin); err != nil {
		return err
	}
	if err := s.createNamespace(ctx, s.kube, s.namespace); err != nil {
		return err
	}
	s.made = true
	if err := applyRBAC(ctx, s.dynamic, s.namespace); err != nil {
		return err
	}
	begin := time.Now()
	err := createSecrets(ctx, s.secrets, func(ctx context.Context, secret *corev1.Secret) error {
		_, err := s.kube.CoreV1().Secrets(s.namespace).Create(ctx, secret, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	s.writeCost = time.Since(begin) / time.Duration(s.secrets)
	config, err := s.shards.ShardV1().ShardConfigs(s.namespace).Create(ctx, ringConfig(s.options), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("ShardConfig %s: %w", s.ring, err)
	}
	if !s.fenced() {
		return nil
	}
	return fence.Install(ctx, s.kube, config, fence.Options{
		Managers: []string{fence.ServiceAccount(s.namespace, "manager")},
		Workers:  []string{fence.ServiceAccount(s.namespace, "worker")},
	})
}

// minShards and maxShards are how few and how many workers the manager wants.
const minShards, maxShards = 2, 4

// upThreshold and downThreshold are the mean loads from which it wants more of them, or fewer.
var (
	upThreshold, _   = shardv1.RatioFromMilli(600)
	downThreshold, _ = shardv1.RatioFromMilli(350)
)

func seconds(n int) metav1.Duration { return metav1.Duration{Duration: time.Duration(n) * time.Second} }

// ringConfig is the ring of the tour: the labelled Secrets of its namespace, and
// the ConfigMaps that they control.
func ringConfig(o options) *shardv1.ShardConfig {
	return &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: o.ring},
		Spec: shardv1.ShardConfigSpec{
			MinShards: minShards, MaxShards: maxShards,
			ScaleUpThreshold: upThreshold, ScaleDownThreshold: downThreshold,
			Scaling: &shardv1.Scaling{ // by seconds where a ring that lasts goes by minutes
				SustainedPeriod: seconds(5), CooldownPeriod: seconds(5), DownPeriod: seconds(2), QueueLimit: 50, Forecast: shardv1.ForecastNone,
			},
			HealthCheckInterval: &metav1.Duration{Duration: o.lease},
			Targets: []shardv1.Target{{
				Resource:          "secrets",
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: o.namespace}},
				LabelSelector:     &metav1.LabelSelector{MatchLabels: map[string]string{wantedLabel: "true"}},
				Controlled:        []shardv1.ControlledResource{{Resource: "configmaps"}},
			}},
		},
	}
}

// strikeLimit bounds each part of cleaning up.
const strikeLimit = 40 * time.Second

// strike takes away what set has made in a cluster that is not ours. The ring
// goes first, while the manager still runs, so that nothing of it stays on any
// object. The definitions stay: others may have begun to use them. What fails
// does not keep the rest from being done.
func (s *stage) strike(ctx context.Context, retire func(time.Duration) error) error {
	if s.embedded || !s.made {
		return nil
	}
	var errs []error
	for _, part := range []func(context.Context) error{
		s.deleteRing,
		func(context.Context) error { return retire(strikeLimit) },
		func(ctx context.Context) error {
			if !s.fenced() {
				return nil
			}
			return fence.Uninstall(ctx, s.kube, s.namespace, s.ring)
		},
		func(ctx context.Context) error { return deleteRBAC(ctx, s.dynamic, s.namespace) },
		func(ctx context.Context) error { return deleteNamespace(ctx, s.kube, s.namespace) },
	} {
		limited, cancel := context.WithTimeout(ctx, strikeLimit)
		errs = append(errs, part(limited))
		cancel()
	}
	return errors.Join(errs...)
}

// deleteRing returns when the manager has cleaned up and the ring is gone.
func (s *stage) deleteRing(ctx context.Context) error {
	configs := s.shards.ShardV1().ShardConfigs(s.namespace)
	err := configs.Delete(ctx, s.ring, metav1.DeleteOptions{})
	for err == nil {
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
			_, err = configs.Get(ctx, s.ring, metav1.GetOptions{})
		}
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting ShardConfig %s: %w", s.ring, err)
	}
	return nil
}

// hints say how to look around with kubectl.
func hints(kubeconfig, namespace, ring, shard, secret string) string {
	lines := []string{
		"export KUBECONFIG=" + kubeconfig,
		"kubectl -n " + namespace + " get shardconfigs,shardinstances",
		"kubectl -n " + namespace + " get secrets -L shard.io/" + ring,
		"kubectl -n " + namespace + " get secrets -l shard.io/" + ring + "=" + shard,
		"kubectl -n " + namespace + " get configmaps -L shard.io/" + ring + ",certaudit.shard.io/severity",
		"kubectl -n " + namespace + " get configmap " + secret + "-certaudit -o jsonpath='{.data.report\\.json}'",
		"kubectl -n " + namespace + " get events.events.k8s.io",
		"kubectl -n " + namespace + " get leases",
		"kubectl -n " + namespace + " scale shardconfig " + ring + " --replicas=4",
	}
	return "Everything keeps running; Ctrl-C ends it. Look around:\n\n  " + strings.Join(lines, "\n  ") + "\n\n"
}
