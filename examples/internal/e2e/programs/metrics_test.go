//go:build unix

package programs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shard-io/shard-controller/examples/internal/pki"
	"github.com/shard-io/shard-controller/internal/child"
)

// metricsName is what the certificates are for.
const metricsName = "metrics.test"

// issue writes a certificate and its key as a mounted Secret is written, at once, and returns who trusts it.
func (p *place) issue(dir string) *tls.Config {
	p.Helper()
	valid := pki.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	root, err := pki.NewRoot("test", valid)
	p.must(err)
	cert, key, err := root.Issue(valid, metricsName)
	p.must(err)
	for name, data := range map[string][]byte{"tls.crt": cert, "tls.key": key} {
		p.must(os.WriteFile(filepath.Join(dir, name+".new"), data, 0o600))
		p.must(os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)))
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root.PEM())
	return &tls.Config{RootCAs: pool, ServerName: metricsName}
}

// token is one of a ServiceAccount.
func (p *place) token(account string) string {
	p.Helper()
	cfg, err := p.plane.PodConfig(p.Context(), p.ns, account, account)
	p.must(err)
	return cfg.BearerToken
}

// scrape wants an answer with this status.
func (p *place) scrape(url, token string, config *tls.Config, want int, part string) {
	p.Helper()
	code, body, err := answer(url, token, config)
	if err != nil || code != want || !strings.Contains(body, part) {
		p.Errorf("GET %s: %d %.300s, %v; want %d with %q", url, code, body, err, want, part)
	}
}

// TestProgramsWithAFileAndTLS runs both programs by configuration files, with metrics over TLS for those whom the API server allows it, and
// changes the certificates under them.
func TestProgramsWithAFileAndTLS(t *testing.T) {
	p := newPlace(t)
	p.createRing()
	p.bind("scraper", []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}})
	allowed, other := p.token("scraper"), p.token("other")
	started, files := map[string]*child.Process{}, map[string]string{}
	trust := map[string]*tls.Config{}
	for program, kind := range map[string]string{"manager": "ManagerConfiguration", "worker": "WorkerConfiguration"} {
		dir := t.TempDir()
		files[program], trust[program] = dir, p.issue(dir)
		p.grant(program, "")
		text := fmt.Sprintf("apiVersion: config.shard.io/v1alpha1\nkind: %s\nnamespace: %s\nkubeconfig: %s\nconcurrency: 3\nlog: {format: json, verbosity: 1}\nauditLog: %s\n"+
			"metrics:\n  address: 127.0.0.1:0\n  tls: {cert: %[5]s/tls.crt, key: %[5]s/tls.key}\n", kind, p.ns, p.identity(program, program+"-0", nil), filepath.Join(dir, "audit.log"), dir)
		if program == "worker" {
			text += "ring: " + ringName + "\nid: worker-0\n"
		}
		path := filepath.Join(dir, "config.yaml")
		p.must(os.WriteFile(path, []byte(text), 0o600))
		started[program] = p.start(program, "--config="+path)
	}
	p.works(started)
	for program, c := range started {
		url := address(c, "metrics") + "/metrics"
		if !strings.HasPrefix(url, "https://") {
			t.Fatalf("the %s serves metrics on %s", program, url)
		}
		p.scrape(url, allowed, trust[program], http.StatusServiceUnavailable, "the API server could not be asked") // not yet allowed to ask
		p.says(c, "Can't ask the API server who may read metrics; it takes the ClusterRole system:auth-delegator", `cannot create resource "tokenreviews"`)
		_, err := p.kube.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: p.ns + "-delegator-" + program},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "system:auth-delegator"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: p.ns, Name: program}},
		}, metav1.CreateOptions{})
		p.must(err)
		p.eventually("the API server lets the "+program+" ask", func() error {
			code, body, err := answer(url, allowed, trust[program])
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("%d: %s", code, body)
			}
			return err
		})
		p.scrape(url, allowed, trust[program], http.StatusOK, "shard_controller_")
		p.scrape(url, "", trust[program], http.StatusUnauthorized, "a bearer token of the API server is required")
		p.scrape(url, "nobody's", trust[program], http.StatusUnauthorized, "the API server does not know this token")
		p.scrape(url, other, trust[program], http.StatusForbidden, "")
		if code, _, err := answer(strings.Replace(url, "https:", "http:", 1), allowed, nil); err == nil && code == http.StatusOK {
			t.Errorf("%s: metrics are served in plain text too", program)
		}

		former := trust[program]
		trust[program] = p.issue(files[program])
		p.eventually("the "+program+" takes the new certificate", func() error {
			_, _, err := answer(url, allowed, trust[program])
			return err
		})
		if _, _, err := answer(url, allowed, former); err == nil {
			t.Errorf("%s: the former certificate is in use still", program)
		}
		p.must(os.WriteFile(filepath.Join(files[program], "tls.key"), []byte("half"), 0o600))
		p.eventually("the "+program+" says that the key is broken", func() error {
			p.scrape(url, allowed, trust[program], http.StatusOK, "shard_controller_")
			if lines(c, "The changed certificate can't be used; the former one stays in use until the files are right") == 0 {
				return fmt.Errorf("it does not")
			}
			return nil
		})
		p.stop(c)
		for line := range strings.Lines(c.Output()) {
			if !strings.HasPrefix(line, "{") {
				t.Errorf("%s: not JSON: %s", program, line)
			}
		}
	}
	audit, err := os.ReadFile(filepath.Join(files["manager"], "audit.log"))
	if err != nil || !strings.Contains(string(audit), `"action":"Assigned"`) {
		t.Errorf("the audit log of the manager: %v\n%s", err, audit)
	}
}
