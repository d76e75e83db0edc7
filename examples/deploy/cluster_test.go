//go:build unix

package deploy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/shard-io/shard-controller/apis/crd"
	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/examples/internal/pki"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding"
)

const (
	module   = "github.com/shard-io/shard-controller"
	ringName = "certaudit"
	site     = "shop" // where the Secrets are
	// patience bounds every wait.
	patience = 90 * time.Second
)

// cluster is a control plane with everything in it that the manifests have, and processes with the ServiceAccounts of their Pods.
type cluster struct {
	*testing.T
	plane    *controlplane.ControlPlane
	audit    string
	since    int64 // where in the audit log it begins to count
	kube     kubernetes.Interface
	shards   versioned.Interface
	programs map[string]string
	running  map[string]*child.Process
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t, audit: filepath.Join(t.TempDir(), "audit.log"), running: map[string]*child.Process{}}
	var err error
	c.plane, err = controlplane.Start(t.Context(), controlplane.Options{AuditLog: c.audit})
	c.must(err)
	t.Cleanup(c.plane.Stop)
	c.must(crd.Install(t.Context(), c.plane.Config()))
	if c.kube, err = kubernetes.NewForConfig(c.plane.Config()); err != nil {
		t.Fatal(err)
	}
	if c.shards, err = versioned.NewForConfig(c.plane.Config()); err != nil {
		t.Fatal(err)
	}
	c.programs, err = child.Build(t.Context(), t.TempDir(), false, module+"/examples/manager", module+"/examples/worker")
	c.must(err)
	for _, variant := range []string{"worker-deployment", "worker-statefulset"} { // the Role of the second stays, which is the narrower
		c.apply(all[variant]...)
	}
	return c
}

func (c *cluster) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// apply is kubectl apply --server-side.
func (c *cluster) apply(folders ...string) {
	c.Helper()
	objects, err := Objects(folders...)
	c.must(err)
	client, err := dynamic.NewForConfig(c.plane.Config())
	c.must(err)
	api, err := discovery.NewDiscoveryClientForConfig(c.plane.Config())
	c.must(err)
	mapper := restmapper.NewDeferredDiscoveryRESTMapperWithContext(memory.NewMemCacheClientWithContext(api))
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		mapping, err := mapper.RESTMappingWithContext(c.Context(), gvk.GroupKind(), gvk.Version)
		c.must(err)
		var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			if o.GetNamespace() != "audit" {
				c.Fatalf("%s %s is in the namespace %q", gvk.Kind, o.GetName(), o.GetNamespace())
			}
			resource = client.Resource(mapping.Resource).Namespace("audit")
		}
		_, err = resource.Apply(c.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "kubectl", Force: true})
		c.must(err)
	}
}

// start runs what the template of a Pod says, with the token that the Pod would have.
func (c *cluster) start(template corev1.PodTemplateSpec, pod string) *child.Process {
	c.Helper()
	container := template.Spec.Containers[0]
	cfg, err := c.plane.PodConfig(c.Context(), "audit", template.Spec.ServiceAccountName, pod)
	c.must(err)
	kubeconfig, err := c.plane.KubeconfigFile(cfg)
	c.must(err)
	args := []string{"--kubeconfig=" + kubeconfig, "--v=2"}
	for _, arg := range container.Args {
		args = append(args, strings.NewReplacer("=:8080", "=127.0.0.1:0", "=:8081", "=127.0.0.1:0").Replace(arg))
	}
	log := filepath.Join(c.ArtifactDir(), pod+".log")
	p, err := child.Start(child.Command{
		Path: c.programs[container.Name], Args: args, Log: log,
		Env: append(os.Environ(), "POD_NAME="+pod, "POD_NAMESPACE=audit"),
	})
	c.must(err)
	c.Cleanup(func() {
		p.Kill()
		if c.Failed() {
			lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
			c.Logf("--- %s\n%s", pod, strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
	c.running[pod] = p
	return p
}

func (c *cluster) eventually(what string, condition func() error) {
	c.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// owned wants each Secret to have one of these owners and each of them to have some, with its report.
func (c *cluster) owned(n int, shards ...string) func() error {
	return func() error {
		secrets, err := c.kube.CoreV1().Secrets(site).List(c.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		reports, err := c.kube.CoreV1().ConfigMaps(site).List(c.Context(), metav1.ListOptions{LabelSelector: sharding.AnyShard(ringName).String()})
		if err != nil {
			return err
		}
		counts := map[string]int{}
		for i := range secrets.Items {
			owner, _ := sharding.OwnerOf(&secrets.Items[i], ringName)
			counts[owner]++
		}
		if owners := slices.Sorted(maps.Keys(counts)); !slices.Equal(owners, shards) || len(secrets.Items) != n || len(reports.Items) != n {
			return fmt.Errorf("%v own %d Secrets, there are %d reports", counts, len(secrets.Items), len(reports.Items))
		}
		return nil
	}
}

// createSecrets creates TLS Secrets; the first is about to expire.
func (c *cluster) createSecrets(n int) {
	c.Helper()
	now := time.Now()
	_, err := c.kube.CoreV1().Namespaces().Create(c.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: site, Labels: map[string]string{"certaudit": "enabled"}},
	}, metav1.CreateOptions{})
	c.must(err)
	root, err := pki.NewRoot("test", pki.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)})
	c.must(err)
	for i := range n {
		left := 200 * 24 * time.Hour
		if i == 0 {
			left = time.Hour
		}
		cert, key, err := root.Issue(pki.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(left)}, "site.example")
		c.must(err)
		_, err = c.kube.CoreV1().Secrets(site).Create(c.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("tls-%02d", i)}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key, "ca.crt": root.PEM()},
		}, metav1.CreateOptions{})
		c.must(err)
	}
}

// renew replaces a certificate, and waits until its report says so.
func (c *cluster) renew(name string) {
	c.Helper()
	before, err := c.kube.CoreV1().ConfigMaps(site).Get(c.Context(), name+"-certaudit", metav1.GetOptions{})
	c.must(err)
	now := time.Now()
	root, err := pki.NewRoot("another", pki.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)})
	c.must(err)
	cert, key, err := root.Issue(pki.Validity{NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 6, 0)}, "site.example")
	c.must(err)
	patch, err := json.Marshal(map[string]any{"data": map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key, "ca.crt": root.PEM()}})
	c.must(err)
	_, err = c.kube.CoreV1().Secrets(site).Patch(c.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	c.must(err)
	c.eventually("the report of a renewed certificate is another", func() error {
		after, err := c.kube.CoreV1().ConfigMaps(site).Get(c.Context(), name+"-certaudit", metav1.GetOptions{})
		if err == nil && maps.Equal(after.Data, before.Data) {
			err = fmt.Errorf("%v", after.Data)
		}
		return err
	})
}

func (c *cluster) migrate(name, from, to string) {
	c.Helper()
	_, err := c.shards.ShardV1().ShardMigrations("audit").Create(c.Context(), &shardv1.ShardMigration{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "audit"},
		Spec:       shardv1.ShardMigrationSpec{Ring: ringName, Source: from, Target: to, Selection: &shardv1.MigrationSelection{Count: ptr.To[int64](3)}},
	}, metav1.CreateOptions{})
	c.must(err)
	c.eventually("the migration is over", func() error {
		m, err := c.shards.ShardV1().ShardMigrations("audit").Get(c.Context(), name, metav1.GetOptions{})
		if err == nil && m.Status.Phase != "Succeeded" {
			err = fmt.Errorf("%+v", m.Status)
		}
		return err
	})
}

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // the tests say what matters
	os.Exit(m.Run())
}

// TestManifests applies everything, and looks at it from both sides: what the API server lets run, and what that then asks for.
func TestManifests(t *testing.T) {
	c := newCluster(t)
	standard(c, podTemplates(t))
	people(c)
	strangers(c)
	rights(c, podTemplates(t))
}

// standard creates the Pods of all templates in the shipped namespace, where the API server enforces the standard "restricted".
func standard(c *cluster, templates map[string]corev1.PodTemplateSpec) {
	for name, template := range templates {
		for bad, spoil := range map[string]func(*corev1.PodSpec){
			"":                 func(*corev1.PodSpec) {},
			"runAsNonRoot":     func(s *corev1.PodSpec) { s.SecurityContext.RunAsNonRoot = nil },
			"seccompProfile":   func(s *corev1.PodSpec) { s.SecurityContext.SeccompProfile = nil },
			"capabilities":     func(s *corev1.PodSpec) { s.Containers[0].SecurityContext.Capabilities = nil },
			"allowPrivilegeEs": func(s *corev1.PodSpec) { s.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil },
		} {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "audit", Labels: template.Labels}, Spec: *template.Spec.DeepCopy()}
			spoil(&pod.Spec)
			_, err := c.kube.CoreV1().Pods("audit").Create(c.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if bad == "" && err != nil || bad != "" && (err == nil || !strings.Contains(err.Error(), bad)) {
				c.Errorf("%s without %q: %v", name, bad, err)
			}
		}
		if root := template.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem; root == nil || !*root {
			c.Errorf("%s: the root file system can be written to", name)
		}
	}
}

// rights lets the system live through what it is made for, and compares what its processes have asked of the API server with what their
// roles allow: nothing was refused, and nothing is allowed without being needed.
func rights(c *cluster, templates map[string]corev1.PodTemplateSpec) {
	manager, worker := templates["Deployment/manager"], templates["Deployment/worker"]
	_, err := c.shards.ShardV1().ShardConfigs("audit").Patch(c.Context(), ringName, types.MergePatchType, []byte(`{"spec":{"healthCheckInterval":"6s"}}`), metav1.PatchOptions{})
	c.must(err)
	const secrets = 30
	c.createSecrets(secrets)
	c.start(manager, "manager-a")
	c.start(manager, "manager-b")
	c.start(worker, "worker-0")
	c.start(worker, "worker-1")
	c.eventually("two workers share the Secrets", c.owned(secrets, "worker-0", "worker-1"))
	c.renew("tls-01")
	c.start(worker, "worker-2")
	c.eventually("three workers share the Secrets", c.owned(secrets, "worker-0", "worker-1", "worker-2"))
	c.migrate("by-hand", "worker-0", "worker-1")
	c.must(c.shards.ShardV1().ShardMigrations("audit").Delete(c.Context(), "by-hand", metav1.DeleteOptions{}))
	c.running["worker-2"].Kill()
	c.eventually("the objects of a dead worker are taken over", c.owned(secrets, "worker-0", "worker-1"))
	c.must(c.running["worker-1"].Signal(syscall.SIGTERM))
	if status, err := c.running["worker-1"].Wait(patience); err != nil || status != 0 {
		c.Fatalf("worker-1 ends with status %d: %v", status, err)
	}
	c.eventually("a worker that leaves hands its objects over", c.owned(secrets, "worker-0"))
	leader := c.running["manager-a"]
	if lease, err := c.kube.CoordinationV1().Leases("audit").Get(c.Context(), "shard-manager", metav1.GetOptions{}); err != nil {
		c.Fatal(err)
	} else if strings.HasPrefix(*lease.Spec.HolderIdentity, "manager-b") {
		leader = c.running["manager-b"]
	}
	c.must(leader.Signal(syscall.SIGTERM))
	c.start(worker, "worker-9")
	c.eventually("the other manager goes on", c.owned(secrets, "worker-0", "worker-9"))
	c.must(c.shards.ShardV1().ShardConfigs("audit").Delete(c.Context(), ringName, metav1.DeleteOptions{}))
	c.eventually("the ring leaves nothing behind", func() error {
		list, err := c.kube.CoreV1().Secrets(site).List(c.Context(), metav1.ListOptions{LabelSelector: sharding.AnyShard(ringName).String()})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d Secrets have an owner", len(list.Items))
		}
		if _, gone := c.shards.ShardV1().ShardConfigs("audit").Get(c.Context(), ringName, metav1.GetOptions{}); err == nil && gone == nil {
			err = fmt.Errorf("the ShardConfig is there")
		}
		return err
	})
	const (
		again    = "an Event that comes again is counted on the first one"
		conflict = "after a conflict the object is read again"
		lists    = "a server that does not stream lists is asked for a list"
		prune    = "records of its own plans are deleted when there are more than ten"
	)
	for account, spare := range map[string]map[string]string{
		"manager": {
			"patch events.events.k8s.io": again, "get configmaps": conflict, "get shardmigrations.shard.io": conflict,
			"list namespaces": lists, "list shardconfigs.shard.io": lists, "list shardinstances.shard.io": lists, "list shardmigrations.shard.io": lists,
			"delete shardmigrations.shard.io": prune,
		},
		"worker": {
			"patch events.events.k8s.io": again, "get configmaps": conflict, "list shardconfigs.shard.io": lists, "list shardinstances.shard.io": lists,
		},
	} {
		granted := c.granted("base/"+account, map[string]string{"manager": "base/namespace", "worker": "worker-statefulset"}[account])
		used, refused := c.used("system:serviceaccount:audit:" + account)
		for r := range refused {
			c.Errorf("%s was refused %v", account, r)
		}
		for _, r := range granted {
			if !used[r] && spare[r.String()] == "" {
				c.Errorf("%s may %v, and never did", account, r)
			}
		}
		c.Logf("%s: %d rights, %d kinds of requests", account, len(granted), len(used))
	}
}

// right is what a rule of a role allows: one verb on one resource.
type right struct{ group, resource, verb string }

func (r right) String() string { return r.verb + " " + strings.TrimSuffix(r.resource+"."+r.group, ".") }

// granted are the rights of the roles in these folders.
func (c *cluster) granted(folders ...string) []right {
	objects, err := Objects(folders...)
	c.must(err)
	var rights []right
	for _, o := range objects {
		if o.GetKind() != "Role" && o.GetKind() != "ClusterRole" {
			continue
		}
		var role rbacv1.ClusterRole
		c.must(runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role))
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						rights = append(rights, right{group, resource, verb})
					}
				}
			}
		}
	}
	return rights
}

// forget lets what was asked for so far not count.
func (c *cluster) forget() {
	info, err := os.Stat(c.audit)
	c.must(err)
	c.since = info.Size()
}

// used reads from the audit log what a user has asked for: what RBAC has allowed, and what it has not.
func (c *cluster) used(user string) (used, refused map[right]bool) {
	used, refused = map[right]bool{}, map[right]bool{}
	f, err := os.Open(c.audit)
	c.must(err)
	defer f.Close()
	_, err = f.Seek(c.since, io.SeekStart)
	c.must(err)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var e struct {
			Verb      string `json:"verb"`
			ObjectRef *struct {
				APIGroup    string `json:"apiGroup"`
				Resource    string `json:"resource"`
				Subresource string `json:"subresource"`
			} `json:"objectRef"`
			User struct {
				Username string `json:"username"`
			} `json:"user"`
			Annotations map[string]string `json:"annotations"`
		}
		c.must(json.Unmarshal(lines.Bytes(), &e))
		if e.User.Username != user || e.ObjectRef == nil {
			continue
		}
		r := right{e.ObjectRef.APIGroup, e.ObjectRef.Resource, e.Verb}
		if e.ObjectRef.Subresource != "" {
			r.resource += "/" + e.ObjectRef.Subresource
		}
		if e.Annotations["authorization.k8s.io/decision"] == "allow" {
			used[r] = true
		} else {
			refused[r] = true
		}
	}
	c.must(lines.Err())
	return used, refused
}

func (c *cluster) Context() context.Context { return c.T.Context() }
