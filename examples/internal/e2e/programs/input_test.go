//go:build unix

package programs

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestInputThatIsWrong starts both programs with what can be seen to be wrong before anything is asked of the API server.
func TestInputThatIsWrong(t *testing.T) {
	p := newPlace(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	p.must(err)
	defer taken.Close()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		p.must(os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	kinds := map[string]string{"manager": "ManagerConfiguration", "worker": "WorkerConfiguration"}
	for program, kind := range kinds {
		head := "apiVersion: config.shard.io/v1alpha1\nkind: " + kind + "\n"
		config := func(name, text string) string { return "--config=" + file(program+"-"+name+".yaml", head+text) }
		garbage := file("tls.crt", "no certificate")
		nobody := "--kubeconfig=" + file("kubeconfig", `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
			"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],"users":[{"name":"u","user":{"token":"t"}}]}`)
		for _, tc := range []struct {
			name string
			args []string
			code int
			says []string
		}{
			{"a field that does not exist", []string{config("field", "concurency: 4")}, 2, []string{program + ": --config ", "concurency: there is no such field; there are"}},
			{"a section that does not exist", []string{config("section", "metrics: {tsl: {cert: x}}")}, 2, []string{"metrics.tsl: there is no such field"}},
			{"a value of another type", []string{config("type", "concurrency: many")}, 2, []string{"concurrency: is a text, must be a number"}},
			{"a value out of bounds", []string{config("bounds", "concurrency: 0")}, 2, []string{"--concurrency: 0 is not from 1 to 1000"}},
			{"a file of another program", []string{"--config=" + file(program+"-kind.yaml", strings.Replace(head, kind, "OtherConfiguration", 1))}, 2, []string{"kind: is", "must be " + kind}},
			{"a file that is not there", []string{"--config=/nowhere"}, 2, []string{"--config /nowhere: open /nowhere: no such file"}},
			{"a flag that does not exist", []string{"--nope"}, 2, []string{program + ": flag provided but not defined: -nope; --help lists the flags"}},
			{"a port in use", []string{nobody, "--probe-address=" + taken.Addr().String()}, 1, []string{"--probe-address: probes can't be served, choose an address that is free", "address already in use"}},
			{"another port in use", []string{nobody, "--metrics-address=" + taken.Addr().String()}, 1, []string{"--metrics-address: metrics can't be served", "address already in use"}},
			{"no certificate", []string{nobody, config("cert", "metrics: {address: '127.0.0.1:0', tls: {cert: /nowhere, key: /nowhere}}")}, 1,
				[]string{"--metrics-tls-cert, --metrics-tls-key: must name a PEM certificate and its key that this process can read", "/nowhere: no such file"}},
			{"a certificate that is none", []string{nobody, "--metrics-tls-cert=" + garbage, "--metrics-tls-key=" + garbage}, 1, []string{"--metrics-tls-cert", "failed to find any PEM data"}},
			{"an audit log that can't be written", []string{nobody, "--audit-log=/nowhere/audit"}, 1, []string{"--audit-log", "/nowhere/audit"}},
			{"no kubeconfig", nil, 1, []string{"no connection to an API server is configured, set --kubeconfig to a file that can be read"}},
			{"a kubeconfig that is not there", []string{"--kubeconfig=/nowhere"}, 1, []string{"--kubeconfig", "/nowhere"}},
			{"a kubeconfig that is none", []string{"--kubeconfig=" + garbage}, 1, []string{"--kubeconfig", garbage}},
		} {
			t.Run(program+" with "+tc.name, func(t *testing.T) {
				p := &place{T: t, plane: p.plane, ns: p.ns}
				c := p.start(program, append(tc.args, least(program)...)...)
				code, err := c.Wait(patience)
				if err != nil || code != tc.code || lines(c, tc.says...) != 1 || strings.Contains(c.Output(), "goroutine ") {
					t.Errorf("exit code %d (%v), want %d and one line with %q", code, err, tc.code, tc.says)
				}
				if tc.code == 2 && strings.Count(c.Output(), "\n") != 1 {
					t.Error("it says more than one line")
				}
			})
		}
	}
	// And nothing was written before.
	leases, err := p.kube.CoordinationV1().Leases(p.ns).List(t.Context(), metav1.ListOptions{})
	p.must(err)
	instances, err := p.shards.ShardV1().ShardInstances(p.ns).List(t.Context(), metav1.ListOptions{})
	p.must(err)
	if n := len(leases.Items) + len(instances.Items); n > 0 {
		t.Errorf("%d objects were made", n)
	}
}
