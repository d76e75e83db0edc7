//go:build unix

package controlplane

import (
	"os"
	"slices"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// whoAmI asks the API server.
func whoAmI(t *testing.T, config *rest.Config) authenticationv1.UserInfo {
	t.Helper()
	review, err := clientFor(t, config).AuthenticationV1().SelfSubjectReviews().
		Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return review.Status.UserInfo
}

func TestUserIsAllowedWhatRolesAllow(t *testing.T) {
	c := ForTest(t)
	ns := newNamespace(t, c)
	config, err := c.UserConfig("jane", "auditors", "readers-of-"+ns)
	if err != nil {
		t.Fatal(err)
	}
	me := whoAmI(t, config)
	if me.Username != "jane" || !slices.Contains(me.Groups, "auditors") || !slices.Contains(me.Groups, "readers-of-"+ns) {
		t.Errorf("the server takes her for %+v", me)
	}
	if config.QPS >= 0 {
		t.Errorf("the client-side limit is %v; want none", config.QPS)
	}
	list := func() error {
		_, err := clientFor(t, config).CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
		return err
	}
	if err := list(); !apierrors.IsForbidden(err) {
		t.Fatalf("a user without a role: %v; want forbidden", err)
	}
	rbac := clientFor(t, c.Config()).RbacV1()
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list"}}},
	}
	if _, err := rbac.Roles(ns).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "readers"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "readers-of-" + ns}},
	}
	if _, err := rbac.RoleBindings(ns).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the role is in force", func() bool { return list() == nil })

	_, err = c.UserConfig("")
	wantError(t, err, "name is empty")
}

func TestPodTokenCarriesThePod(t *testing.T) {
	c := ForTest(t)
	ns := newNamespace(t, c) + "-new" // does not exist
	var last authenticationv1.UserInfo
	for _, pod := range []string{"shard-0", "shard-1", "shard-1"} { // the second time all of it exists
		config, err := c.PodConfig(t.Context(), ns, "worker", pod)
		if err != nil {
			t.Fatal(err)
		}
		last = whoAmI(t, config)
		if want := "system:serviceaccount:" + ns + ":worker"; last.Username != want {
			t.Errorf("the token is one of %s, want %s", last.Username, want)
		}
		if got := last.Extra[podNameKey]; len(got) != 1 || got[0] != pod {
			t.Errorf("the token is bound to %q, want %q", got, pod)
		}
		if config.CertData != nil || config.QPS >= 0 {
			t.Errorf("want a token alone, and no limit: %v", config)
		}
		_, err = clientFor(t, config).CoreV1().Secrets(ns).List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("a ServiceAccount without a role: %v; want forbidden", err)
		}
	}
	pod, err := clientFor(t, c.Config()).CoreV1().Pods(ns).Get(t.Context(), "shard-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := last.Extra["authentication.kubernetes.io/pod-uid"]; len(got) != 1 || got[0] != string(pod.UID) {
		t.Errorf("the token is bound to the UID %q, want %q", got, pod.UID)
	}
	_, err = c.PodConfig(t.Context(), ns, "another", "shard-1")
	wantError(t, err, `has the ServiceAccount "worker"`)
}

func TestPodConfigNamesWhatIsWrong(t *testing.T) {
	c := ForTest(t)
	ns := newNamespace(t, c)
	for _, tt := range []struct{ namespace, account, pod, want string }{
		{"Bad_Name", "a", "p", `namespace "Bad_Name"`},
		{ns, "Bad_Name", "p", `ServiceAccount "Bad_Name"`},
		{ns, "a", "Bad_Name", `pod "Bad_Name"`},
	} {
		_, err := c.PodConfig(t.Context(), tt.namespace, tt.account, tt.pod)
		wantError(t, err, "PodConfig", tt.want)
	}
}

func TestPodWithoutServiceAccount(t *testing.T) {
	c := ForTest(t)
	ns := newNamespace(t, c)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "plain"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.invalid/none"}}},
	}
	if _, err := clientFor(t, c.Config()).CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Errorf("nobody creates the ServiceAccount default here, so it cannot be demanded: %v", err)
	}
}

func TestKubeconfigFile(t *testing.T) {
	c := ForTest(t)
	user, err := c.UserConfig("jane")
	if err != nil {
		t.Fatal(err)
	}
	pod, err := c.PodConfig(t.Context(), newNamespace(t, c), "worker", "shard-0")
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*rest.Config{"admin": c.Config(), "user": user, "pod": pod} {
		path, err := c.KubeconfigFile(config)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want a file that only we can read", name, info, err)
		}
		read, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := whoAmI(t, read).Username, whoAmI(t, config).Username; got != want {
			t.Errorf("%s: the file is one of %q, want %q", name, got, want)
		}
	}
	_, err = c.KubeconfigFile(nil)
	wantError(t, err, "cfg is nil")
}
