//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/retry"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/balancer"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/internal/faults/trial"
	"github.com/shard-io/shard-controller/internal/timeline"
	"github.com/shard-io/shard-controller/sharding"
	"github.com/shard-io/shard-controller/sharding/fence"
)

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)

// arm is one of the conditions under which the same is tried.
type arm struct {
	name   string // of the namespace and of the ring, too
	server bool   // the API server's fence is installed
	client bool   // the operator writes through the client-side fence
}

var (
	control    = arm{name: "no-fence"}
	serverOnly = arm{name: "server-fence", server: true}
	both       = arm{name: "both-fences", server: true, client: true}
	arms       = []arm{control, serverOnly, both}
)

func armNames() []string {
	var names []string
	for _, a := range arms {
		names = append(names, a.name)
	}
	return names
}

// stage is one arm: a ring in a namespace of its own, its processes, and the
// two witnesses of what happens to its objects.
type stage struct {
	arm      arm
	settings settings
	plane    *controlplane.ControlPlane
	programs map[string]string
	dir      string
	audit    string // the path of the audit log

	admin   kubernetes.Interface // a cluster admin, who is no part of the ring
	manager kubernetes.Interface // with the identity of the manager
	shards  versioned.Interface

	line     *timeline.Recorder
	now      *present
	watching sync.WaitGroup
	cancel   context.CancelFunc

	mu        sync.Mutex
	processes []*process
	anchors   []*process // shards that live as long as the stage
	leader    *process   // the manager
	managers  int        // how many processes of it have been started
}

// newStage makes the ring and starts a manager and the anchors, each with an
// object at work and an idle one.
func newStage(ctx context.Context, w *world, a arm) (*stage, error) {
	s := &stage{arm: a, settings: w.settings, plane: w.plane, programs: w.programs, dir: filepath.Join(w.dir, a.name), audit: w.audit, now: newPresent()}
	if err := s.set(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	return s, nil
}

func (s *stage) set(ctx context.Context) (err error) {
	if err = os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	if s.admin, err = kubernetes.NewForConfig(s.plane.Config()); err != nil {
		return err
	}
	if s.shards, err = versioned.NewForConfig(s.plane.Config()); err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.arm.name, Labels: map[string]string{"faults": s.arm.name}}}
	if _, err = s.admin.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err = s.bindRoles(ctx); err != nil {
		return err
	}
	cfg, err := s.plane.PodConfig(ctx, s.arm.name, "manager", "assigner")
	if err != nil {
		return err
	}
	if s.manager, err = kubernetes.NewForConfig(cfg); err != nil {
		return err
	}
	if err = s.createRing(ctx); err != nil {
		return err
	}
	if err = s.record(); err != nil {
		return err
	}
	if s.leader, err = s.startManager(ctx); err != nil {
		return err
	}
	if s.anchors, err = s.startOperators(ctx, "anchor", s.settings.anchors); err != nil {
		return err
	}
	for _, a := range s.anchors {
		if err := errors.Join(s.create(ctx, "steady-"+a.id, a.id, trial.Work, trial.Patch), s.create(ctx, "idle-"+a.id, a.id, trial.Idle, trial.Patch)); err != nil {
			return err
		}
	}
	return s.settle(ctx)
}

// fenced says whether the API server refuses one shard the object of another. It
// does not ask the fence, but what the fence is for.
func (s *stage) fenced(ctx context.Context) (bool, error) {
	client, err := kubernetes.NewForConfig(s.anchors[0].config)
	if err != nil {
		return false, err
	}
	_, err = client.CoreV1().Secrets(s.arm.name).Patch(ctx, "idle-"+s.anchors[1].id, types.MergePatchType,
		trial.StampPatch("nobody"), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
	if apierrors.IsForbidden(err) {
		return true, nil
	}
	return false, err
}

// createRing makes the ShardConfig. Its strategy keeps what has an owner where
// it is, so that nothing moves but what the trials want to.
func (s *stage) createRing(ctx context.Context) error {
	ring := &v1.ShardConfig{ObjectMeta: metav1.ObjectMeta{Name: s.arm.name, Namespace: s.arm.name}}
	ring.Spec.HealthCheckInterval = &metav1.Duration{Duration: s.settings.lease}
	ring.Spec.LoadBalanceStrategy = balancer.RoundRobin
	ring.Spec.Rebalance = &v1.Rebalance{DryRun: true}
	ring.Spec.Targets = []v1.Target{{
		Resource:          "secrets",
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"faults": s.arm.name}},
		Controlled:        []v1.ControlledResource{{Resource: "configmaps"}},
	}}
	ring, err := s.shards.ShardV1().ShardConfigs(s.arm.name).Create(ctx, ring, metav1.CreateOptions{})
	if err != nil || !s.arm.server {
		return err
	}
	return fence.Install(ctx, s.admin, ring, fence.Options{
		Managers: []string{fence.ServiceAccount(s.arm.name, "manager")},
		Workers:  []string{fence.ServiceAccount(s.arm.name, "worker")},
	})
}

// record begins to follow the objects of the ring.
func (s *stage) record() error {
	client, err := metadata.NewForConfig(s.plane.Config())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.line = &timeline.Recorder{
		Client: client, Ring: s.arm.name, Resources: []schema.GroupVersionResource{secrets, configMaps},
		Concerns: func(o *metav1.PartialObjectMetadata) bool { return o.Namespace == s.arm.name },
		Note:     func(o *metav1.PartialObjectMetadata) string { return o.Annotations[trial.StampAnnotation] },
		Seen:     s.now.see,
	}
	s.watching.Go(func() { s.line.Run(ctx) })
	return nil
}

// close ends all processes and watches.
func (s *stage) close() {
	for _, p := range s.processes {
		p.Kill()
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.watching.Wait()
}

// settle waits until every anchor has written.
func (s *stage) settle(ctx context.Context) error {
	before := map[string]string{}
	for _, a := range s.anchors {
		before[a.id] = s.now.stamp("secrets", "steady-"+a.id)
	}
	return until(ctx, 3*time.Minute, "every anchor writes", func() error {
		for _, a := range s.anchors {
			if now := s.now.stamp("secrets", "steady-"+a.id); now == before[a.id] {
				return fmt.Errorf("%s does not; the last stamp is %q", a.id, now)
			}
		}
		return nil
	})
}

// create makes an object, gives it to a shard, and then lets that begin. Whoever
// the manager may have given it to meanwhile has done nothing with it.
func (s *stage) create(ctx context.Context, name, owner, mode, verb string) error {
	o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Name: name, Annotations: map[string]string{trial.ModeAnnotation: trial.Idle, trial.VerbAnnotation: verb},
	}}
	if _, err := s.admin.CoreV1().Secrets(s.arm.name).Create(ctx, o, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := s.give(ctx, name, owner); err != nil || mode == trial.Idle {
		return err
	}
	_, err := s.admin.CoreV1().Secrets(s.arm.name).Patch(ctx, name, types.MergePatchType,
		metadataPatch(map[string]any{"annotations": map[string]string{trial.ModeAnnotation: mode}}), metav1.PatchOptions{})
	return err
}

// give makes a shard the owner of an object, whoever it was before.
func (s *stage) give(ctx context.Context, name, to string) error {
	ring, objects := s.arm.name, s.manager.CoreV1().Secrets(s.arm.name)
	return retry.OnError(wait.Backoff{Steps: 20, Duration: 5 * time.Millisecond, Factor: 1.3}, apierrors.IsConflict, func() error {
		o, err := objects.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if owner, _ := sharding.OwnerOf(o, ring); owner == to {
			return nil
		}
		patch := metadataPatch(map[string]any{
			"resourceVersion": o.ResourceVersion,
			"labels":          map[string]string{sharding.OwnerLabel(ring): to},
			"annotations":     map[string]string{sharding.EpochAnnotation(ring): strconv.FormatInt(sharding.EpochOf(o, ring)+1, 10)},
		})
		_, err = objects.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}

// remove deletes an object and its child. Hammers end when it is gone.
func (s *stage) remove(ctx context.Context, name string) error {
	core := s.admin.CoreV1()
	return errors.Join(
		ignoreNotFound(core.Secrets(s.arm.name).Delete(ctx, name, metav1.DeleteOptions{})),
		ignoreNotFound(core.ConfigMaps(s.arm.name).Delete(ctx, name, metav1.DeleteOptions{})),
	)
}

// bindRoles gives managers and workers what they need, and more: it is not RBAC
// that is to refuse anything here.
func (s *stage) bindRoles(ctx context.Context) error {
	all := []string{"get", "list", "watch", "create", "update", "patch", "delete"}
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: all},
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get", "list", "watch"}},
		{APIGroups: []string{"shard.io"}, Resources: []string{"*"}, Verbs: all},
		{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: all},
		{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "update", "patch"}},
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: s.arm.name}, Rules: rules}
	if _, err := s.admin.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := s.admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.arm.name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: s.arm.name},
		Subjects: []rbacv1.Subject{
			{Kind: rbacv1.ServiceAccountKind, Namespace: s.arm.name, Name: "manager"},
			{Kind: rbacv1.ServiceAccountKind, Namespace: s.arm.name, Name: "worker"},
		},
	}, metav1.CreateOptions{})
	return err
}
