//go:build unix

package programs

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/controlplane"
	"github.com/shard-io/shard-controller/sharding"
)

// waiting begins what is logged as long as the work can't begin.
const waiting = "Waiting before the work can begin"

// both starts manager and worker at an address of the API server.
func (p *place) both(by *proxy) map[string]*child.Process {
	p.Helper()
	started := map[string]*child.Process{}
	for _, program := range []string{"manager", "worker"} {
		p.grant(program, "")
		started[program] = p.start(program, append(least(program), "--kubeconfig="+p.identity(program, program+"-0", by))...)
	}
	return started
}

// works wants a Secret that is created now to get its owner, and both programs to be ready.
func (p *place) works(started map[string]*child.Process) {
	p.Helper()
	secret, err := p.kube.CoreV1().Secrets(p.ns).Create(p.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "works-"}}, metav1.CreateOptions{})
	p.must(err)
	p.eventually("the Secret has an owner", func() error {
		got, err := p.kube.CoreV1().Secrets(p.ns).Get(p.Context(), secret.Name, metav1.GetOptions{})
		if owner, ok := sharding.OwnerOf(got, ringName); err == nil && (!ok || owner != "worker-0") {
			err = fmt.Errorf("the owner is %q", owner)
		}
		return err
	})
	for _, program := range []string{"manager", "worker"} {
		p.ready(started[program], 200, "")
	}
}

// waits wants a program to go on, to be not ready, and to have said why in one line, in spite of several attempts.
func (p *place) waits(c *child.Process, parts ...string) {
	p.Helper()
	p.says(c, append(parts, waiting)...)
	p.ready(c, 503, parts[0])
	select {
	case <-c.Exited():
		p.Errorf("it ended with status %d", c.Status())
	case <-time.After(4 * time.Second): // two more attempts
	}
	if n := lines(c, waiting); n != 1 {
		p.Errorf("%d lines say that it waits, want one", n)
	}
}

func TestServerThatIsDown(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.createRing()
	server := newProxy(t, p.plane, "")
	started := p.both(server)
	for _, c := range started {
		p.waits(c, "the API server does not answer: check that it runs, and --kubeconfig", "connection refused")
	}
	server.open()
	p.works(started)
	for _, c := range started {
		p.stop(c)
	}
}

// TestServerThatIsDownAndStaysDown wants a program that can do nothing to end when it is told to.
func TestServerThatIsDownAndStaysDown(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	server := newProxy(t, p.plane, "")
	for _, c := range p.both(server) {
		p.says(c, waiting)
		p.stop(c)
	}
}

func TestCredentialThatIsNotAccepted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, program := range []string{"manager", "worker"} {
		cfg := p.plane.Config()
		cfg.CertData, cfg.KeyData, cfg.BearerToken = nil, nil, "nobody's"
		c := p.start(program, append(least(program), "--kubeconfig="+p.kubeconfig(cfg, nil))...)
		p.waits(c, "the API server does not accept the credential: check --kubeconfig, or the ServiceAccount")
	}
}

// TestDefinitionsThatAreMissing starts both on an API server that has nothing of ours, and does what they say is to be done.
func TestDefinitionsThatAreMissing(t *testing.T) {
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	p := on(t, plane)
	started := p.both(nil)
	for _, c := range started {
		p.waits(c, "the API server has no shard.io/v1: install the CustomResourceDefinitions with: manager install")
	}
	admin, err := plane.KubeconfigFile(plane.Config())
	p.must(err)
	out, err := exec.CommandContext(t.Context(), programs["manager"], "install", "--kubeconfig="+admin, "--namespace="+p.ns).CombinedOutput()
	if err != nil {
		t.Fatalf("manager install: %v\n%s", err, out)
	}
	p.createRing()
	p.works(started)
}

func TestServerThatIsOld(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.createRing()
	server := newProxy(t, p.plane, "v1.25.3")
	server.open()
	started := p.both(server)
	for _, c := range started {
		p.says(c, "The API server is older than this program supports: upgrade it", `version="v1.25.3" oldest="v1.29.0"`)
	}
	p.works(started) // what it needs is there
	for _, c := range started {
		if n := lines(c, "is older than this program supports"); n != 1 {
			t.Errorf("%d lines say that the server is old, want one", n)
		}
	}
}

func TestFenceThatIsNotInstalled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.createRing()
	p.grant("worker", "")
	required := p.startAs("worker", "--require-fence")
	if status, err := required.Wait(patience); err != nil || status != 1 {
		t.Errorf("exit status %d, %v; want 1", status, err)
	}
	policy := ringName + "." + p.ns + ".fence.shard.io"
	if n := lines(required, "Stopped by an error", "RequireFence", policy, "install the fence of the ring"); n != 1 {
		t.Errorf("%d lines say what to do, want one", n)
	}
	if list, err := p.shards.ShardV1().ShardInstances(p.ns).List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Errorf("%d ShardInstances were made, error %v", len(list.Items), err)
	}
	p.grant("manager", "")
	started := map[string]*child.Process{"manager": p.startAs("manager"), "worker": p.startAs("worker")}
	p.works(started)
	p.says(started["worker"], "Checked the fence", `enforced="False"`, policy, "install the fence of the ring")
}

// TestRightsThatAreMissing takes one right after the other away from what is shipped, and gives it back. The line that says so has the verb and
// the resource.
func TestRightsThatAreMissing(t *testing.T) {
	for program, rights := range map[string][]string{
		"manager": {
			"list shardconfigs", "watch shardconfigs", "watch shardinstances", "watch shardmigrations", "patch shardconfigs", "patch shardconfigs/status", "patch shardinstances/status",
			"create leases", "get leases", "update leases", "list leases", "watch leases", "list secrets", "watch secrets", "patch secrets", "list configmaps", "watch namespaces",
		},
		"worker": {
			"list shardconfigs", "watch shardconfigs", "get shardinstances", "create shardinstances", "watch shardinstances", "patch shardinstances/status",
			"get leases", "create leases", "update leases", "watch secrets", "watch configmaps", "create configmaps",
		},
	} {
		for _, right := range rights {
			t.Run(program+" without "+right, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t)
				p.createRing()
				for _, each := range []string{"manager", "worker"} {
					if each == program {
						p.grant(each, right)
					} else {
						p.grant(each, "")
					}
				}
				started := map[string]*child.Process{"manager": p.startAs("manager"), "worker": p.startAs("worker")}
				p.createTLSSecret()
				verb, resource, _ := strings.Cut(right, " ")
				resource, subresource, _ := strings.Cut(resource, "/")
				said := "cannot " + verb + " resource " + `"` + strings.TrimSuffix(resource+"/"+subresource, "/") + `"`
				p.says(started[program], said)
				for _, each := range []string{"manager", "worker"} {
					if !started[each].Running() {
						t.Errorf("the %s has ended with status %d", each, started[each].Status())
					}
				}
				time.Sleep(time.Second)
				if n := lines(started[program], said); n > 20 {
					t.Errorf("%d lines say so", n)
				}
				p.grant(program, "")
				p.works(started)
			})
		}
	}
}
