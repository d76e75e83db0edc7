package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

// tokenLifetime of the tokens of PodConfig, in seconds: a day.
const tokenLifetime = 24 * 60 * 60

// podNameKey is what the API server calls the Pod of a bound token.
const podNameKey = "authentication.kubernetes.io/pod-name"

// UserConfig returns the configuration of a user with these groups, by a client
// certificate. RBAC allows the user nothing until somebody binds a role.
func (c *ControlPlane) UserConfig(name string, groups ...string) (*rest.Config, error) {
	if name == "" {
		return nil, errors.New("controlplane: UserConfig: name is empty: give the user's name")
	}
	p, err := c.ca.client(name, groups...)
	if err != nil {
		return nil, wrap(err)
	}
	config := c.config()
	config.CertData, config.KeyData = p.cert, p.key
	return config, nil
}

// PodConfig returns the configuration of a process in a Pod: a ServiceAccount
// token bound to that Pod, as the kubelet would mount it. It creates the
// namespace, the ServiceAccount and the Pod where they are missing, and returns
// when the API server accepts the token. The token is good for a day and is not
// refreshed; it ends earlier if the Pod or the ServiceAccount is deleted.
func (c *ControlPlane) PodConfig(ctx context.Context, namespace, serviceAccount, pod string) (*rest.Config, error) {
	client, err := c.client()
	if err != nil {
		return nil, err
	}
	p, err := ensurePod(ctx, client, namespace, serviceAccount, pod)
	if err != nil {
		return nil, fmt.Errorf("controlplane: PodConfig: %w", err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: ptr.To[int64](tokenLifetime),
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID},
	}}
	token, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, serviceAccount, request, createOptions)
	if err != nil {
		return nil, fmt.Errorf("controlplane: PodConfig: token of ServiceAccount %s/%s: %w", namespace, serviceAccount, err)
	}
	config := c.config()
	config.BearerToken = token.Status.Token
	if err := accepted(ctx, config, pod); err != nil {
		return nil, fmt.Errorf("controlplane: PodConfig: %w", err)
	}
	return config, nil
}

// ensurePod creates what is missing of namespace, ServiceAccount and Pod.
func ensurePod(ctx context.Context, client kubernetes.Interface, namespace, serviceAccount, name string) (*corev1.Pod, error) {
	core := client.CoreV1()
	_, err := core.Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, createOptions)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("namespace %q: %w", namespace, err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: serviceAccount}}
	_, err = core.ServiceAccounts(namespace).Create(ctx, account, createOptions)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("ServiceAccount %q in namespace %q: %w", serviceAccount, namespace, err)
	}
	pod, err := core.Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{ // as the Pod security standard "restricted" wants it, which a namespace may enforce
			ServiceAccountName: serviceAccount,
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "process", Image: "example.invalid/runs-outside",
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}, createOptions)
	if apierrors.IsAlreadyExists(err) {
		pod, err = core.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("pod %q in namespace %q: %w", name, namespace, err)
	}
	if got := pod.Spec.ServiceAccountName; got != serviceAccount {
		return nil, fmt.Errorf("pod %s/%s has the ServiceAccount %q and cannot be bound to a token of %q", namespace, name, got, serviceAccount)
	}
	return pod, nil
}

// accepted waits until the API server knows the account and the Pod of a token:
// it looks them up in caches which may lag behind their creation.
func accepted(ctx context.Context, config *rest.Config, pod string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for {
		review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, createOptions)
		switch {
		case err == nil:
			if got := review.Status.UserInfo.Extra[podNameKey]; len(got) != 1 || got[0] != pod {
				return fmt.Errorf("the API server takes the token for one of Pod %q instead of %q", got, pod)
			}
			return nil
		case !apierrors.IsUnauthorized(err):
			return err
		}
		if !pause(ctx) {
			return fmt.Errorf("the API server does not accept the token: %w", err)
		}
	}
}

// KubeconfigFile writes a configuration as a file for kubectl and for processes
// that take one. The file is readable for the current user alone and is removed
// with the control plane.
func (c *ControlPlane) KubeconfigFile(cfg *rest.Config) (path string, err error) {
	if cfg == nil {
		return "", errors.New("controlplane: KubeconfigFile: cfg is nil: give a configuration, such as that of Config")
	}
	const name = "controlplane"
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.CurrentContext = name
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData}
	kubeconfig.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData, Token: cfg.BearerToken,
	}
	data, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return "", wrap(err)
	}
	f, err := os.CreateTemp(c.dir.path, "kubeconfig-")
	if err != nil {
		return "", wrap(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", wrap(err)
	}
	return f.Name(), nil
}
