package fence_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding/fence"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

func controllerRef(kind string) metav1.OwnerReference {
	cut := strings.LastIndex(kind, "/")
	return metav1.OwnerReference{
		APIVersion: kind[:cut], Kind: kind[cut+1:], Name: "root", UID: "00000000-0000-0000-0000-000000000001", Controller: ptr.To(true),
	}
}

// ruleServer plays the table on a real API server.
type ruleServer struct {
	t       *testing.T
	plane   *controlplane.ControlPlane
	kube    kubernetes.Interface
	callers map[string]dynamic.Interface
}

func newRuleServer(t *testing.T, table ruleTable) *ruleServer {
	t.Helper()
	s := &ruleServer{t: t, plane: controlplane.ForTest(t), callers: map[string]dynamic.Interface{}}
	s.kube = kubernetes.NewForConfigOrDie(s.plane.Config())
	for name, labels := range table.Namespaces {
		_, err := s.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
		s.must(err)
		_, err = s.kube.CoreV1().ServiceAccounts(name).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
		s.must(err)
	}
	_, err := s.kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "workers-do-anything"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "sys", Name: "worker"}},
	}, metav1.CreateOptions{})
	s.must(err)
	for name, caller := range table.Callers {
		client, err := dynamic.NewForConfig(s.credentials(caller))
		s.must(err)
		s.callers[name] = client
	}
	return s
}

func (s *ruleServer) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// credentials are a token bound to the Pod; for worker without a Pod an unbound one; for others a certificate with all rights.
func (s *ruleServer) credentials(caller ruleCaller) *rest.Config {
	s.t.Helper()
	if caller.Pod != "" {
		cfg, err := s.plane.PodConfig(s.t.Context(), "sys", "worker", caller.Pod)
		s.must(err)
		return cfg
	}
	cfg, err := s.plane.UserConfig(caller.User, append(caller.Groups, "system:masters")...)
	s.must(err)
	if caller.User != fence.ServiceAccount("sys", "worker") {
		return cfg
	}
	_, err = s.kube.CoreV1().ServiceAccounts("sys").Create(s.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "worker"}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		s.t.Fatal(err)
	}
	token, err := s.kube.CoreV1().ServiceAccounts("sys").CreateToken(s.t.Context(), "worker", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	s.must(err)
	cfg = s.plane.Config()
	cfg.CertData, cfg.KeyData, cfg.BearerToken = nil, nil, token.Status.Token
	return cfg
}

// resourceOf returns the resource and the subresource of a case.
func resourceOf(c ruleCase) (schema.GroupVersionResource, []string) {
	resource, subresource, _ := strings.Cut(c.Resource, "/")
	gvr := schema.GroupVersionResource{Version: "v1", Resource: resource}
	if resource == "storageclasses" {
		gvr.Group = "storage.k8s.io"
	}
	if subresource == "" {
		return gvr, nil
	}
	return gvr, []string{subresource}
}

func (s *ruleServer) client(who string, c ruleCase) dynamic.ResourceInterface {
	gvr, _ := resourceOf(c)
	if gvr.Resource == "storageclasses" {
		return s.callers[who].Resource(gvr)
	}
	return s.callers[who].Resource(gvr).Namespace(c.Namespace)
}

// prepare creates the object as it is before the case.
func (s *ruleServer) prepare(c ruleCase) {
	s.t.Helper()
	if c.Before == nil {
		return
	}
	gvr, _ := resourceOf(c)
	if _, err := s.client("admin", c).Create(s.t.Context(), c.Before.object(c, gvr.Resource), metav1.CreateOptions{}); err != nil {
		s.t.Fatalf("case %q: before: %v", c.Name, err)
	}
}

// do sends the request of a case; dry may be metav1.DryRunAll.
func (s *ruleServer) do(ctx context.Context, c ruleCase, dry ...string) error {
	client := s.client(c.Who, c)
	gvr, sub := resourceOf(c)
	switch c.Verb {
	case "delete":
		return client.Delete(ctx, c.Object, metav1.DeleteOptions{DryRun: dry})
	case "deletecollection":
		return client.DeleteCollection(ctx, metav1.DeleteOptions{DryRun: dry}, metav1.ListOptions{LabelSelector: caseLabel + "=" + c.Object})
	}
	if c.After.Instead != nil {
		return s.doInstead(ctx, c, dry)
	}
	after := c.After.object(c, gvr.Resource)
	switch c.Verb {
	case "create":
		_, err := client.Create(ctx, after, metav1.CreateOptions{DryRun: dry}, sub...)
		return err
	case "apply":
		_, err := client.Apply(ctx, c.Object, after, metav1.ApplyOptions{FieldManager: "test", Force: true, DryRun: dry}, sub...)
		return err
	case "update":
		current, err := s.client("admin", c).Get(ctx, c.Object, metav1.GetOptions{})
		if err != nil {
			return err
		}
		after.SetResourceVersion(current.GetResourceVersion())
		if len(sub) > 0 { // the rest of the object is not looked at, but has to be valid
			current.SetLabels(after.GetLabels())
			current.SetAnnotations(after.GetAnnotations())
			merge(current.Object, c.After.Set)
			after = current
		}
		_, err = client.Update(ctx, after, metav1.UpdateOptions{DryRun: dry}, sub...)
		return err
	case "patch":
		patch, err := json.Marshal(difference(c.Before.object(c, gvr.Resource).Object, after.Object))
		if err != nil {
			return err
		}
		_, err = client.Patch(ctx, c.Object, types.MergePatchType, patch, metav1.PatchOptions{DryRun: dry}, sub...)
		return err
	}
	return fmt.Errorf("verb %q", c.Verb)
}

// doInstead sends what is no object of the resource.
func (s *ruleServer) doInstead(ctx context.Context, c ruleCase, dry []string) error {
	_, sub := resourceOf(c)
	if c.Verb == "patch" {
		patch, err := json.Marshal(c.After.Instead)
		if err != nil {
			return err
		}
		_, err = s.client(c.Who, c).Patch(ctx, c.Object, types.MergePatchType, patch, metav1.PatchOptions{DryRun: dry}, sub...)
		return err
	}
	body := &unstructured.Unstructured{Object: c.After.Instead}
	body.SetName(c.Object)
	_, err := s.client(c.Who, c).Create(ctx, body, metav1.CreateOptions{DryRun: dry}, sub...)
	return err
}

// difference is a merge patch from a to b.
func difference(a, b map[string]any) map[string]any {
	patch := map[string]any{}
	for key, value := range b {
		before, isMap := a[key].(map[string]any)
		after, both := value.(map[string]any)
		switch {
		case isMap && both:
			if inner := difference(before, after); len(inner) > 0 {
				patch[key] = inner
			}
		case !reflect.DeepEqual(a[key], value):
			patch[key] = value
		}
	}
	for key := range a {
		if _, ok := b[key]; !ok {
			patch[key] = nil
		}
	}
	return patch
}

// TestRules plays every case of the table on the real server, with tokens that are bound to Pods: first without a fence, where nothing is
// refused, then with it.
func TestRules(t *testing.T) {
	table := readRules(t)
	s := newRuleServer(t, table)
	for _, c := range table.Cases {
		s.prepare(c)
	}
	for _, c := range table.Cases {
		if err := s.do(t.Context(), c, metav1.DryRunAll); err != nil {
			t.Errorf("case %q: refused without a fence: %v", c.Name, err)
		}
	}
	s.install(table)
	for _, c := range table.Cases {
		t.Run(c.Name, func(t *testing.T) {
			judge(t, c, s.do(t.Context(), c))
		})
	}
	s.bound(table) // and so were they all the time
}

// install installs the fences of all rings.
func (s *ruleServer) install(table ruleTable) {
	s.t.Helper()
	for i := range table.Rings {
		config := &table.Rings[i]
		ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
		s.must(fence.Install(ctx, s.kube, config, table.Options))
		cancel()
		s.t.Cleanup(func() { // not for this control plane, which others share
			if err := fence.Uninstall(context.Background(), s.kube, config.Namespace, config.Name); err != nil {
				s.t.Error(err)
			}
		})
	}
	s.bound(table)
}

// bound asserts that policies and bindings are there, and that the server finds nothing wrong with them.
func (s *ruleServer) bound(table ruleTable) {
	s.t.Helper()
	for _, config := range table.Rings {
		name := fence.Name(config.Namespace, config.Name)
		_, err := s.kube.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Get(s.t.Context(), name, metav1.GetOptions{})
		s.must(err)
		policy, err := s.kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(s.t.Context(), name, metav1.GetOptions{})
		s.must(err)
		if checking := policy.Status.TypeChecking; checking != nil && len(checking.ExpressionWarnings) > 0 {
			s.t.Errorf("policy %s: %v", name, checking.ExpressionWarnings)
		}
	}
}

func judge(t *testing.T, c ruleCase, err error) {
	t.Helper()
	if c.Want == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if err == nil {
		t.Fatalf("done, want refused by %s", c.Want)
	}
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "["+c.Want+"]") || !strings.Contains(err.Error(), c.Says) {
		t.Errorf("error: %v\nwant Forbidden by [%s], saying %q", err, c.Want, c.Says)
	}
}
