//go:build unix

package programs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/apis/crd"
	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/generated/clientset/versioned"
	"github.com/shard-io/shard-controller/internal/child"
	"github.com/shard-io/shard-controller/internal/controlplane"
)

const (
	module   = "github.com/shard-io/shard-controller"
	ringName = "auditor"
	// patience bounds every wait.
	patience = 60 * time.Second
)

// programs are the paths of manager and worker.
var programs map[string]string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "shard-programs-")
	if err == nil {
		defer os.RemoveAll(dir)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		programs, err = child.Build(ctx, dir, false, module+"/examples/manager", module+"/examples/worker")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return controlplane.Main(m)
}

// place is a namespace of a control plane.
type place struct {
	*testing.T
	plane  *controlplane.ControlPlane
	kube   kubernetes.Interface
	shards versioned.Interface
	ns     string
}

// newPlace makes a namespace on the shared control plane, where the definitions are.
func newPlace(t *testing.T) *place {
	t.Helper()
	plane := controlplane.ForTest(t)
	if err := crd.Install(t.Context(), plane.Config()); err != nil {
		t.Fatal(err)
	}
	return on(t, plane)
}

func on(t *testing.T, plane *controlplane.ControlPlane) *place {
	t.Helper()
	p := &place{T: t, plane: plane}
	var err error
	p.kube, err = kubernetes.NewForConfig(plane.Config())
	p.must(err)
	p.shards, err = versioned.NewForConfig(plane.Config())
	p.must(err)
	ns, err := p.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "programs-"}}, metav1.CreateOptions{})
	p.must(err)
	p.ns = ns.Name
	return p
}

func (p *place) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// createRing makes the ring of the reference worker, for the Secrets of the namespace.
func (p *place) createRing() {
	p.Helper()
	_, err := p.shards.ShardV1().ShardConfigs(p.ns).Create(p.Context(), &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Name: ringName},
		Spec: shardv1.ShardConfigSpec{
			HealthCheckInterval: &metav1.Duration{Duration: 6 * time.Second},
			Targets: []shardv1.Target{{
				Resource:          "secrets",
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: p.ns}},
				Controlled:        []shardv1.ControlledResource{{Resource: "configmaps"}},
			}},
		},
	}, metav1.CreateOptions{})
	p.must(err)
}

// identity is the kubeconfig of a program in a Pod of this name. by may be another address of the API server.
func (p *place) identity(program, pod string, by *proxy) string {
	p.Helper()
	cfg, err := p.plane.PodConfig(p.Context(), p.ns, program, pod)
	p.must(err)
	return p.kubeconfig(cfg, by)
}

func (p *place) kubeconfig(cfg *rest.Config, by *proxy) string {
	p.Helper()
	if by != nil {
		cfg.Host, cfg.CAData = "https://"+by.address, by.authority
	}
	path, err := p.plane.KubeconfigFile(cfg)
	p.must(err)
	return path
}

// start starts a program. The environment has nothing of this process in it that could help.
func (p *place) start(program string, args ...string) *child.Process {
	p.Helper()
	c, err := child.Start(child.Command{
		Path: programs[program], Args: args, Log: filepath.Join(p.ArtifactDir(), program+".log"),
		Env: []string{"POD_NAME=" + program + "-0", "POD_NAMESPACE=" + p.ns, "HOME=" + p.TempDir()},
	})
	p.must(err)
	p.Cleanup(func() {
		c.Kill()
		if p.Failed() {
			p.Logf("--- %s\n%s", program, c.Output())
		}
	})
	return c
}

// startAs starts a program with the ServiceAccount of its name and what it needs at the least.
func (p *place) startAs(program string, args ...string) *child.Process {
	p.Helper()
	args = append([]string{"--kubeconfig=" + p.identity(program, program+"-0", nil)}, args...)
	return p.start(program, append(args, least(program)...)...)
}

// least are the flags that a program cannot do without.
func least(program string) []string {
	if program == "worker" {
		return []string{"--ring=" + ringName}
	}
	return nil
}

func (p *place) eventually(what string, condition func() error) {
	p.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("not within %s: %s: %v", patience, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// says waits for a line with all of these parts.
func (p *place) says(c *child.Process, parts ...string) {
	p.Helper()
	p.eventually(fmt.Sprintf("a line with %q", parts), func() error {
		if lines(c, parts...) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
}

// lines counts the lines that have all of these parts.
func lines(c *child.Process, parts ...string) int {
	n := 0
next:
	for line := range strings.Lines(c.Output()) {
		for _, part := range parts {
			if !strings.Contains(line, part) && !strings.Contains(strings.ReplaceAll(line, `\"`, `"`), part) {
				continue next
			}
		}
		n++
	}
	return n
}

// stop ends a program as a kubelet does, and wants it to end in order.
func (p *place) stop(c *child.Process) {
	p.Helper()
	p.must(c.Signal(syscall.SIGTERM))
	if status, err := c.Wait(patience); err != nil || status != 0 {
		p.Errorf("exit status %d, %v; want 0", status, err)
	}
}

// answer gets a URL on a connection of its own.
func answer(url, token string, config *tls.Config) (int, string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// address is where a program serves something, as text and JSON logs say it; empty if they do not yet.
func address(c *child.Process, what string) string {
	if m := regexp.MustCompile("Serving " + what + `".*"(https?://[^"]+)"`).FindStringSubmatch(c.Output()); m != nil {
		return m[1]
	}
	return ""
}

// ready wants the answer of /readyz to be this, with this in it; and the process alive, whatever it is.
func (p *place) ready(c *child.Process, want int, part string) {
	p.Helper()
	p.eventually(fmt.Sprintf("/readyz is %d with %q", want, part), func() error {
		probes := address(c, "probes")
		if probes == "" {
			return errors.New("probes are not served yet")
		}
		code, body, err := answer(probes+"/readyz?verbose", "", nil)
		if err == nil && (code != want || !strings.Contains(body, part)) {
			err = fmt.Errorf("it is %d: %s", code, body)
		}
		return err
	})
	if code, body, err := answer(address(c, "probes")+"/healthz", "", nil); err != nil || code != http.StatusOK {
		p.Errorf("/healthz: %d %s, %v", code, body, err)
	}
}
