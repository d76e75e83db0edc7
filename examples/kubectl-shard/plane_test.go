//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding"
)

func TestMain(m *testing.M) { os.Exit(controlplane.Main(m)) }

const module = "github.com/shard-io/shard-controller"

// site is a namespace of a real control plane with real processes.
type site struct {
	*testing.T
	plane    *controlplane.ControlPlane
	programs map[string]string
	admin    string // path of a kubeconfig
	ns       string
	kube     kubernetes.Interface
}

func newSite(t *testing.T) *site {
	t.Helper()
	plane := controlplane.ForTest(t)
	s := &site{T: t, plane: plane, ns: "plugin"}
	var err error
	s.programs, err = child.Build(t.Context(), t.TempDir(), false, module+"/examples/manager", module+"/examples/worker", module+"/examples/kubectl-shard")
	s.must(err)
	s.admin, err = plane.KubeconfigFile(plane.Config())
	s.must(err)
	s.kube, err = kubernetes.NewForConfig(plane.Config())
	s.must(err)
	_, err = s.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.ns, Labels: map[string]string{"team": s.ns}}}, metav1.CreateOptions{})
	s.must(err)
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// kubectl runs the built plugin as the administrator in the namespace of the ring.
func (s *site) kubectl(args ...string) result {
	return s.kubectlAs(s.admin, append(args, "-n", s.ns)...)
}

func (s *site) kubectlAs(kubeconfig string, args ...string) result {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, s.programs["kubectl-shard"], append(args, "--kubeconfig", kubeconfig)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	begun := time.Now()
	_ = cmd.Run() // the exit code says it
	s.Logf("$ kubectl shard %s   # %s, exit code %d\n%s%s", strings.Join(args, " "), time.Since(begun).Round(time.Millisecond),
		cmd.ProcessState.ExitCode(), out.String(), errs.String())
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func (s *site) wants(r result, code int, texts ...string) result {
	s.Helper()
	if r.code != code {
		s.Fatalf("exit code %d, want %d\n%s%s", r.code, code, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			s.Fatalf("%q is missing in\n%s%s", text, r.out, r.err)
		}
	}
	return r
}

// start starts a program with the ServiceAccount of its name, which may do everything here but what the fence refuses.
func (s *site) start(program, name string, flags ...string) *child.Process {
	s.Helper()
	cfg, err := s.plane.PodConfig(s.Context(), s.ns, program, name)
	s.must(err)
	kubeconfig, err := s.plane.KubeconfigFile(cfg)
	s.must(err)
	p, err := child.Start(child.Command{
		Path: s.programs[program], Log: filepath.Join(s.ArtifactDir(), name+".log"),
		Args: append([]string{"--kubeconfig=" + kubeconfig, "--namespace=" + s.ns}, flags...),
	})
	s.must(err)
	s.Cleanup(func() {
		p.Kill()
		if s.Failed() {
			s.Logf("--- %s\n%s", name, p.Output())
		}
	})
	return p
}

func (s *site) allow(account string) {
	s.Helper()
	_, err := s.kube.RbacV1().ClusterRoleBindings().Create(s.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.ns + "-" + account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: s.ns, Name: account}},
	}, metav1.CreateOptions{})
	s.must(err)
}

// ring creates a ShardConfig for the Secrets of the namespace.
func (s *site) ring(name string) {
	s.Helper()
	shards, err := versioned.NewForConfig(s.plane.Config())
	s.must(err)
	c := &shardv1.ShardConfig{ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: name}}
	c.Spec.HealthCheckInterval = &metav1.Duration{Duration: 6 * time.Second}
	c.Spec.Rebalance = &shardv1.Rebalance{DryRun: true} // objects are counted here
	c.Spec.Targets = []shardv1.Target{{
		Resource: "secrets", NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": s.ns}},
		Controlled: []shardv1.ControlledResource{{Resource: "configmaps"}},
	}}
	_, err = shards.ShardV1().ShardConfigs(s.ns).Create(s.Context(), c, metav1.CreateOptions{})
	s.must(err)
}

// pair creates a Secret and a ConfigMap that it controls.
func (s *site) pair(name string) {
	s.Helper()
	root, err := s.kube.CoreV1().Secrets(s.ns).Create(s.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	s.must(err)
	controller := metav1.NewControllerRef(root, corev1.SchemeGroupVersion.WithKind("Secret"))
	_, err = s.kube.CoreV1().ConfigMaps(s.ns).Create(s.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name + "-child", OwnerReferences: []metav1.OwnerReference{*controller}}}, metav1.CreateOptions{})
	s.must(err)
}

// owned counts the Secrets and ConfigMaps of a shard.
func (s *site) owned(shard string) int {
	s.Helper()
	o := metav1.ListOptions{LabelSelector: sharding.ShardSelector("r", shard).String()}
	roots, err := s.kube.CoreV1().Secrets(s.ns).List(s.Context(), o)
	s.must(err)
	children, err := s.kube.CoreV1().ConfigMaps(s.ns).List(s.Context(), o)
	s.must(err)
	return len(roots.Items) + len(children.Items)
}

// awaitShards waits until status shows so many shards that run and have their share.
func (s *site) awaitShards(n int) {
	s.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		var status statusReport
		r := s.kubectl("status", "-o", "json")
		s.must(json.Unmarshal([]byte(r.out), &status))
		running := 0
		for _, m := range status.Rings[0].Members {
			if m.Phase == shardv1.PhaseRunning && m.LeaseAge != "" && m.Share > 0 {
				running++
			}
		}
		if running == n {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("%d shards run after a minute, want %d", running, n)
		}
	}
}

// The built plugin installs everything, and steers a manager and workers that are processes of their own.
func TestOnARealControlPlane(t *testing.T) {
	s := newSite(t)
	begun := time.Now()
	s.wants(s.kubectl("status"), exitFault, "kubectl shard install")
	s.wants(s.kubectl("install"), exitOK, "There is no ShardConfig")
	s.ring("r")
	s.wants(s.kubectl("install", "--ring", "r"), exitOK, "The API server enforces the fence: ring r")
	s.allow("manager")
	s.allow("worker")
	manager := s.start("manager", "m-0", "--identity=m-0")
	for _, id := range []string{"w-1", "w-2", "w-3"} {
		s.start("worker", id, "--ring=r", "--id="+id, "--require-fence")
	}
	for i := range 60 {
		s.pair(fmt.Sprintf("tls-%02d", i))
	}
	s.awaitShards(3)
	for deadline := time.Now().Add(time.Minute); s.kubectl("rebalance", "--dry-run").code != exitOK; time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("objects are to move after a minute")
		}
	}
	// Verify waits for what is on its way, so that it finds nothing.
	s.wants(s.kubectl("verify"), exitOK, "60 objects and 60 children on 3 live shards")

	var owner ownerReport
	r := s.wants(s.kubectl("owner", "secret/tls-07", "-ojson"), exitOK)
	secret, err := s.kube.CoreV1().Secrets(s.ns).Get(t.Context(), "tls-07", metav1.GetOptions{})
	s.must(err)
	if want, _ := sharding.OwnerOf(secret, "r"); json.Unmarshal([]byte(r.out), &owner) != nil || owner.Object.Owner != want || owner.Object.Epoch < 1 || len(owner.Children) != 1 {
		t.Errorf("%s: got %s", want, r.out)
	}
	s.wants(s.kubectl("explain", "cm/tls-07-child"), exitOK, "of secrets/plugin/tls-07", "It is where it belongs.")

	s.wants(s.kubectl("drain", "w-1", "--wait", "--timeout=30s"), exitOK, "shard/w-1 drained")
	if n := s.owned("w-1"); n != 0 {
		t.Errorf("w-1 has %d objects after the drain", n)
	}
	before := s.owned("w-2")
	s.wants(s.kubectl("migrate", "--from=w-2", "--to=w-3", "--count=5", "--wait", "--timeout=30s"), exitOK, "Succeeded")
	if n := s.owned("w-2"); n != before-10 {
		t.Errorf("w-2 has %d objects after the migration of 5 with their children, want %d", n, before-10)
	}
	s.wants(s.kubectl("uncordon", "w-1"), exitOK, "shard/w-1 uncordoned")
	s.wants(s.kubectl("verify"), exitOK, "all well")
	s.wants(s.kubectl("ring"), exitOK, "65536 slots")

	manager.Kill()
	s.pair("late")
	s.wants(s.kubectl("verify", "--grace=1s"), exitFound, "unassigned", "secrets/plugin/late")

	cfg, err := s.plane.UserConfig("nobody")
	s.must(err)
	nobody, err := s.plane.KubeconfigFile(cfg)
	s.must(err)
	s.wants(s.kubectlAs(nobody, "status", "-n", s.ns), exitFault, `you need the verb "list" on "shardconfigs.shard.io" in namespace "plugin"`)
	t.Logf("%s after the build", time.Since(begun).Round(time.Millisecond))
	s.wants(s.kubectl("install", "--uninstall"), exitOK)
}
