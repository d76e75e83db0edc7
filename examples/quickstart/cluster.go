//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"github.com/shard-io/shard-controller/internal/controlplane"
)

// fieldManager is the field manager of what the quickstart applies.
const fieldManager = "shard-quickstart"

// cluster is where the tour takes place.
type cluster struct {
	admin      *rest.Config
	kubeconfig string // for kubectl, as admin
	// embedded says that the control plane is ours and ends with us.
	embedded bool
	// identity makes a kubeconfig file for a process that runs as this
	// ServiceAccount and, where there can be one, in this Pod.
	identity func(ctx context.Context, account, pod string) (path string, err error)
	stop     func()
}

// fenced says whether the API server is made to refuse writes of former owners.
// It knows the shards by their Pods, which there are none of on a cluster of the
// user's.
func (c *cluster) fenced() bool { return c.embedded }

// openCluster connects to the cluster of KUBECONFIG, or starts a control plane.
func openCluster(ctx context.Context, namespace, dir string, log io.Writer) (*cluster, error) {
	if path := os.Getenv("KUBECONFIG"); path != "" {
		return remoteCluster(path, namespace, dir)
	}
	plane, err := controlplane.Start(ctx, controlplane.Options{Log: log, LogDir: dir})
	if err != nil {
		return nil, err
	}
	c := &cluster{admin: plane.Config(), embedded: true, stop: plane.Stop}
	c.identity = func(ctx context.Context, account, pod string) (string, error) {
		cfg, err := plane.PodConfig(ctx, namespace, account, pod)
		if err != nil {
			return "", err
		}
		return plane.KubeconfigFile(cfg)
	}
	if c.kubeconfig, err = plane.KubeconfigFile(c.admin); err != nil {
		plane.Stop()
		return nil, err
	}
	return c, nil
}

func remoteCluster(path, namespace, dir string) (*cluster, error) {
	admin, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("KUBECONFIG=%s: %w", path, err)
	}
	admin.QPS = -1
	admin.UserAgent = fieldManager
	c := &cluster{admin: admin, kubeconfig: path, stop: func() {}}
	c.identity = func(ctx context.Context, account, pod string) (string, error) {
		token, err := accountToken(ctx, admin, namespace, account)
		if err != nil {
			return "", err
		}
		return writeKubeconfig(filepath.Join(dir, pod+".kubeconfig"), admin, namespace, token)
	}
	return c, nil
}

// tokenLifetime is that of the processes' tokens, in seconds.
const tokenLifetime = 24 * 60 * 60

// accountToken creates the ServiceAccount if it is missing. On a cluster of the
// user's there is no Pod to bind the token to: a Pod would be run.
func accountToken(ctx context.Context, admin *rest.Config, namespace, name string) (string, error) {
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return "", err
	}
	accounts := client.CoreV1().ServiceAccounts(namespace)
	_, err = accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("ServiceAccount %s: %w", name, err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](tokenLifetime)}}
	token, err := accounts.CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("token of ServiceAccount %s: %w", name, err)
	}
	return token.Status.Token, nil
}

// writeKubeconfig writes how to reach the server of cfg with another token.
func writeKubeconfig(path string, cfg *rest.Config, namespace, token string) (string, error) {
	tls := rest.CopyConfig(cfg)
	if err := rest.LoadTLSFiles(tls); err != nil {
		return "", err
	}
	const name = "quickstart"
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.CurrentContext = name
	kubeconfig.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: namespace}
	kubeconfig.Clusters[name] = &clientcmdapi.Cluster{
		Server: cfg.Host + cfg.APIPath, CertificateAuthorityData: tls.CAData,
		InsecureSkipTLSVerify: cfg.Insecure, TLSServerName: cfg.ServerName,
	}
	kubeconfig.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	data, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, data, 0o600)
}

// createNamespace makes the namespace of the tour. On a cluster of the user's
// it must be new: what is in it will be deleted.
func (c *cluster) createNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("the namespace %s exists; choose another with --namespace, or delete it: kubectl delete namespace %s", name, name)
	}
	return err
}

// deleteNamespace starts the deletion of the namespace and waits until it is
// gone, or ctx is done.
func deleteNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	namespaces := client.CoreV1().Namespaces()
	err := namespaces.Delete(ctx, name, metav1.DeleteOptions{})
	for err == nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("namespace %s is still being deleted: %w", name, context.Cause(ctx))
		case <-time.After(250 * time.Millisecond):
			_, err = namespaces.Get(ctx, name, metav1.GetOptions{})
		}
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
