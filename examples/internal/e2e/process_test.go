package e2e

import (
	"context"
	"fmt"
	"os"
	"syscall"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/internal/child"
)

// process is a manager or a worker.
type process struct {
	*child.Process
	s       *system
	name    string
	journal string // of a worker
}

// startManager starts a replica of the manager; flags are added to the usual ones.
func (s *system) startManager(name string, flags ...string) *process {
	s.t.Helper()
	return s.startProcess("manager", name, append([]string{"--namespace=" + s.ns, "--identity=" + name}, flags...))
}

// startWorker starts a worker with a journal of its own. The same id may be
// started more than once.
func (s *system) startWorker(id string, flags ...string) *process {
	s.t.Helper()
	path := s.path(fmt.Sprintf("%s-%d.journal", id, len(s.processes)))
	p := s.startProcess("worker", id, append([]string{
		"--namespace=" + s.ns, "--ring=" + s.ring, "--id=" + id, "--journal=" + path, fmt.Sprintf("--require-fence=%t", !s.unfenced),
	}, flags...))
	p.journal = path
	// It exists from now on, so that a worker that never came to write is no missing witness.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND, 0o644)
	s.must(err)
	s.must(f.Close())
	s.journals = append(s.journals, path)
	return p
}

// start starts a manager and these workers.
func (s *system) start(workers ...string) (manager *process, started map[string]*process) {
	s.t.Helper()
	started = map[string]*process{}
	manager = s.startManager("manager-0")
	for _, id := range workers {
		started[id] = s.startWorker(id)
	}
	return manager, started
}

// startProcess starts a program with an identity of its own: a ServiceAccount
// token that is bound to the Pod of that name.
func (s *system) startProcess(program, name string, flags []string) *process {
	s.t.Helper()
	cfg, err := s.plane.PodConfig(s.t.Context(), s.ns, program, name)
	s.must(err)
	s.must(bindRole(s.t.Context(), s.kube, s.ns, program))
	kubeconfig, err := s.plane.KubeconfigFile(cfg)
	s.must(err)
	c, err := child.Start(child.Command{
		Path: programs[program], Args: append([]string{"--kubeconfig=" + kubeconfig, "--v=2"}, flags...), Log: s.path(name + ".log"),
	})
	s.must(err)
	p := &process{Process: c, s: s, name: name}
	s.processes = append(s.processes, p)
	return p
}

// signal sends a signal to the process.
func (p *process) signal(sig syscall.Signal) {
	p.s.t.Helper()
	p.s.must(p.Signal(sig))
}

// terminate stops the process as a kubelet does, and fails the test unless it ends in order.
func (p *process) terminate() {
	p.s.t.Helper()
	p.signal(syscall.SIGTERM)
	if status, err := p.Wait(patience); err != nil || status != 0 {
		p.s.t.Fatalf("%s: exit status %d, %v", p.name, status, err)
	}
}

// metric returns a metric of the process, the sum over its labels.
func (p *process) metric(name string) float64 {
	p.s.t.Helper()
	value := 0.0
	p.s.eventually("metric "+name+" of "+p.name, func() (err error) {
		value, err = p.Metric(p.s.t.Context(), name)
		return err
	})
	return value
}

// createRoles makes the ClusterRoles of managers and workers: what they need and nothing more.
func createRoles(ctx context.Context, cfg *rest.Config) error {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	rule := func(group, resources, verbs []string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: group, Resources: resources, Verbs: verbs}
	}
	core, shard, leases := []string{""}, []string{"shard.io"}, []string{"coordination.k8s.io"}
	read := []string{"get", "list", "watch"}
	write := append([]string{"create", "update", "patch", "delete"}, read...)
	own := append([]string{"patch"}, read...)
	roles := map[string][]rbacv1.PolicyRule{
		"manager": {
			rule(core, []string{"secrets", "configmaps", "serviceaccounts"}, own),
			rule([]string{"storage.k8s.io"}, []string{"storageclasses"}, own),
			rule(core, []string{"namespaces"}, read),
			rule(shard, []string{"shardconfigs", "shardconfigs/status", "shardinstances", "shardinstances/status", "shardmigrations", "shardmigrations/status"}, write),
			rule(leases, []string{"leases"}, write),
			rule([]string{"events.k8s.io"}, []string{"events"}, []string{"create", "patch", "update"}),
		},
		"worker": {
			rule(core, []string{"secrets"}, own),
			rule(core, []string{"configmaps"}, write),
			rule(shard, []string{"shardconfigs"}, read),
			rule(shard, []string{"shardinstances", "shardinstances/status"}, write),
			rule(leases, []string{"leases"}, write),
			rule([]string{"events.k8s.io"}, []string{"events"}, []string{"create", "patch", "update"}),
		},
	}
	for name, rules := range roles {
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "e2e-" + name}, Rules: rules}
		if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// bindRole lets the ServiceAccount of a program do its work.
func bindRole(ctx context.Context, client kubernetes.Interface, namespace, program string) error {
	_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "e2e-" + program + "-" + namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "e2e-" + program},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: program}},
	}, metav1.CreateOptions{})
	return ignoreExists(err)
}
