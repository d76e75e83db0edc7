package e2enode

import (
	"encoding/json"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/sharding"
)

// refused does, as a worker, what a worker must not do.
func (s *story) refused() {
	cfg := rest.CopyConfig(s.config)
	cfg.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":worker", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
		Extra: map[string][]string{"authentication.kubernetes.io/pod-name": {"worker-0"}},
	}
	kube, err := kubernetes.NewForConfig(cfg)
	s.must(err)
	shards, err := versioned.NewForConfig(cfg)
	s.must(err)
	list, err := s.kube.CoreV1().Secrets(site).List(s.Context(), metav1.ListOptions{LabelSelector: sharding.ShardSelector(ringName, "worker-1").String(), Limit: 1})
	s.must(err)
	if len(list.Items) == 0 {
		s.Fatal("worker-1 has no Secret")
	}
	another := list.Items[0].Name
	steal, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{sharding.OwnerLabel(ringName): "worker-0"}}})
	s.must(err)
	for what, attempt := range map[string]func() error{
		"take the Secret of another worker": func() error {
			_, err := kube.CoreV1().Secrets(site).Patch(s.Context(), another, types.MergePatchType, steal, metav1.PatchOptions{})
			return err
		},
		"write to the Secret of another worker": func() error {
			_, err := kube.CoreV1().Secrets(site).Patch(s.Context(), another, types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`), metav1.PatchOptions{})
			return err
		},
		"delete a Secret": func() error { return kube.CoreV1().Secrets(site).Delete(s.Context(), another, metav1.DeleteOptions{}) },
		"read the nodes":  func() error { _, err := kube.CoreV1().Nodes().List(s.Context(), metav1.ListOptions{}); return err },
		"list the Leases": func() error {
			_, err := kube.CoordinationV1().Leases(namespace).List(s.Context(), metav1.ListOptions{})
			return err
		},
		"create a Lease elsewhere": func() error {
			_, err := kube.CoordinationV1().Leases(site).Create(s.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
			return err
		},
		"create a Pod": func() error {
			_, err := kube.CoreV1().Pods(namespace).Create(s.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
			return err
		},
		"delete the ring": func() error {
			return shards.ShardV1().ShardConfigs(namespace).Delete(s.Context(), ringName, metav1.DeleteOptions{})
		},
		"change the ring": func() error {
			_, err := shards.ShardV1().ShardConfigs(namespace).Patch(s.Context(), ringName, types.MergePatchType, []byte(`{"spec":{"minShards":1}}`), metav1.PatchOptions{})
			return err
		},
		"delete the fence": func() error {
			return kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(s.Context(), "certaudit.audit.fence.shard.io", metav1.DeleteOptions{})
		},
		"list the Pods": func() error {
			_, err := kube.CoreV1().Pods(namespace).List(s.Context(), metav1.ListOptions{})
			return err
		},
	} {
		switch err := attempt(); {
		case apierrors.IsForbidden(err):
			s.Logf("%s: %s", what, strings.SplitN(err.Error(), "\n", 2)[0])
		case err == nil:
			s.Errorf("a worker may %s", what)
		default:
			s.Errorf("%s: %v, want that it is forbidden", what, err)
		}
	}
	s.mayRead(kube)
}

// mayRead wants the account of the worker to be the right one: it can do what it needs.
func (s *story) mayRead(kube kubernetes.Interface) {
	review, err := kube.AuthorizationV1().SelfSubjectAccessReviews().Create(s.Context(), &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: site, Verb: "list", Resource: "secrets"}},
	}, metav1.CreateOptions{})
	s.must(err)
	if !review.Status.Allowed {
		s.Errorf("a worker may not read Secrets: %s", review.Status.Reason)
	}
}
