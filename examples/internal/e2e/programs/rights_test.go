//go:build unix

package programs

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/shard-io/shard-controller/examples/deploy"
	"github.com/shard-io/shard-controller/examples/internal/pki"
)

// grant gives the ServiceAccount of a program the shipped roles, in the namespace of the test, but for one right: "list secrets".
func (p *place) grant(program, except string) {
	p.Helper()
	folders := []string{"base/" + program}
	if program == "worker" {
		folders = append(folders, "worker-deployment")
	}
	objects, err := deploy.Objects(folders...)
	p.must(err)
	verb, resource, _ := strings.Cut(except, " ")
	removed := except == ""
	var rules []rbacv1.PolicyRule
	for _, o := range objects {
		if !strings.HasSuffix(o.GetKind(), "Role") {
			continue
		}
		var role rbacv1.ClusterRole
		p.must(runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role))
		for _, rule := range role.Rules {
			for _, name := range rule.Resources {
				one := rbacv1.PolicyRule{APIGroups: rule.APIGroups, Resources: []string{name}, Verbs: slices.Clone(rule.Verbs)}
				if name == resource && slices.Contains(one.Verbs, verb) {
					removed = true
					one.Verbs = slices.DeleteFunc(one.Verbs, func(v string) bool { return v == verb })
				}
				if len(one.Verbs) > 0 {
					rules = append(rules, one)
				}
			}
		}
	}
	if !removed {
		p.Fatalf("%s has no right to %s", program, except)
	}
	p.bind(program, rules)
}

// bind lets a ServiceAccount do what these rules say, everywhere, and no longer what was bound to it before.
func (p *place) bind(account string, rules []rbacv1.PolicyRule) {
	p.Helper()
	name := p.ns + "-" + account
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	_, err := p.kube.RbacV1().ClusterRoles().Create(p.Context(), role, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = p.kube.RbacV1().ClusterRoles().Update(p.Context(), role, metav1.UpdateOptions{})
		p.must(err)
		return
	}
	p.must(err)
	_, err = p.kube.RbacV1().ClusterRoleBindings().Create(p.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: p.ns, Name: account}},
	}, metav1.CreateOptions{})
	p.must(err)
}

// createTLSSecret creates a Secret for the worker to audit.
func (p *place) createTLSSecret() {
	p.Helper()
	valid := pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	root, err := pki.NewRoot("test", valid)
	p.must(err)
	cert, key, err := root.Issue(valid, "site.example")
	p.must(err)
	_, err = p.kube.CoreV1().Secrets(p.ns).Create(p.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "tls"}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	}, metav1.CreateOptions{})
	p.must(err)
}
