//go:build unix

package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func clientFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// newNamespace gives a test a namespace of its own.
func newNamespace(t *testing.T, c *ControlPlane) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	ns, err := clientFor(t, c.Config()).CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

func configMap(name string, finalizers ...string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: finalizers}}
}

func TestServerIsWhatTheModulesSay(t *testing.T) {
	if os.Getenv(AssetsEnv) != "" {
		t.Logf("%s is set: any version is right", AssetsEnv)
	}
	c := ForTest(t)
	if c != ForTest(t) {
		t.Error("two tests have two control planes")
	}
	info, err := clientFor(t, c.Config()).Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	src, err := findSource()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%s %s.%s", info.GitVersion, info.Major, info.Minor); os.Getenv(AssetsEnv) == "" &&
		!strings.HasPrefix(got, src.version+" 1.") {
		t.Errorf("the server says it is %q; it is built from %s", got, src.version)
	}
	if q := c.Config().QPS; q >= 0 {
		t.Errorf("the client-side limit is %v; want none", q)
	}
	if first, second := c.Config(), c.Config(); first == second {
		t.Error("two callers have one configuration, which each may change")
	}
}

func TestBadOptions(t *testing.T) {
	file := writeFile(t, 0o644, "", t.TempDir(), "file")
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"flag", Options{APIServerFlags: []string{"--a=b", "v=4"}}, `Options.APIServerFlags[1] is "v=4": it must be of the form --name=value`},
		{"policy without log", Options{AuditPolicy: "rules: []"}, "Options.AuditLog is not"},
		{"log directory is a file", Options{LogDir: file}, "Options.LogDir"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Start(t.Context(), tt.o)
			wantError(t, err, tt.want)
		})
	}
}

// TestTwoAtOnce starts a second control plane, with all options, beside the
// shared one, and looks that neither knows anything of the other.
func TestTwoAtOnce(t *testing.T) {
	first := ForTest(t)
	logs, said := t.TempDir(), &safeBuffer{}
	audit := filepath.Join(logs, "audit.log")
	second, err := Start(t.Context(), Options{
		Log: said, LogDir: filepath.Join(logs, "servers"), AuditLog: audit, APIServerFlags: []string{"--goaway-chance=0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Stop)
	ns := newNamespace(t, first)
	_, err = clientFor(t, second.Config()).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("a namespace of the first in the second: %v", err)
	}
	stranger := second.Config()
	stranger.CertData, stranger.KeyData = first.admin.cert, first.admin.key
	_, err = clientFor(t, stranger).CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
	if err == nil {
		t.Error("the second takes the first's admin for its own")
	}
	etcdIsClosedToUsers(t, second)
	crashedServerIsReportedAndComesBack(t, second, said)
	last := second.apiServer
	killedServerSaysNoGoodbye(t, second)

	dir := second.dir.path
	second.Stop()
	second.Stop()
	if alive(second.etcd.pid) || alive(last.pid) {
		t.Error("a server runs after Stop")
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data is still there after Stop: %v", err)
	}
	wantError(t, second.StartAPIServer(t.Context()), "stopped")
	if got := said.String(); strings.Count(got, "exited") != 1 {
		t.Errorf("stopping was reported as a fault:\n%s", got)
	}
	for _, log := range []string{audit, filepath.Join(logs, "servers", "etcd.log"), filepath.Join(logs, "servers", "kube-apiserver.log")} {
		if info, err := os.Stat(log); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v; want it kept", log, info, err)
		}
	}
	auditNames(t, audit, "admin", "/api/v1/namespaces/"+ns)
}

// etcdIsClosedToUsers looks that a user of the API cannot go round it.
func etcdIsClosedToUsers(t *testing.T, c *ControlPlane) {
	t.Helper()
	cert, err := tls.X509KeyPair(c.admin.cert, c.admin.key)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(c.etcdURL, "https://"),
		&tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}})
	if err == nil { // in TLS 1.3 the refusal comes with the first read
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	wantError(t, err, "certificate")
}

// crashedServerIsReportedAndComesBack looks at a crash that nobody asked for.
func crashedServerIsReportedAndComesBack(t *testing.T, c *ControlPlane, said *safeBuffer) {
	t.Helper()
	maps := clientFor(t, c.Config()).CoreV1().ConfigMaps("default")
	if _, err := maps.Create(t.Context(), configMap("kept"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := kill(c.apiServer.pid); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the crash is reported", func() bool { return strings.Contains(said.String(), "kube-apiserver exited") })
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// killedServerSaysNoGoodbye looks at a crash that was asked for.
func killedServerSaysNoGoodbye(t *testing.T, c *ControlPlane) {
	t.Helper()
	watch, err := clientFor(t, c.Config()).CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	killed := c.apiServer
	for range 2 {
		if err := c.KillAPIServer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range watch.ResultChan() { // ends, because the connection does
	}
	if alive(killed.pid) || strings.Contains(killed.output(100), "Stopped listening") {
		t.Error("it was stopped gracefully, or not at all")
	}
}

func auditNames(t *testing.T, path, user, uri string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var event struct {
			RequestURI string
			User       struct{ Username string }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatal(err)
		}
		if event.RequestURI == uri && event.User.Username == user {
			return
		}
	}
	t.Errorf("no event of %s for %s in the audit log (%d bytes)", user, uri, len(data))
}

// fakes makes a directory of binaries: the real ones, but for those given as
// shell scripts.
func fakes(t *testing.T, scripts map[string]string) Binaries {
	t.Helper()
	b, err := FindBinaries(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, path := range map[string]*string{"etcd": &b.Etcd, "kube-apiserver": &b.APIServer} {
		if script, ok := scripts[name]; ok {
			*path = writeFile(t, 0o755, "#!/bin/sh\n"+script+"\n", dir, name)
		}
	}
	return b
}

func TestStartExplainsWhyItFails(t *testing.T) {
	attempts := filepath.Join(t.TempDir(), "attempts")
	for _, tt := range []struct {
		name    string
		scripts map[string]string
		want    []string
	}{
		{"etcd exits", map[string]string{"etcd": "echo disk is full >&2; exit 1"}, []string{"etcd exited", "disk is full"}},
		{"API server exits", map[string]string{"kube-apiserver": "echo unknown flag; exit 1"}, []string{"kube-apiserver exited", "unknown flag"}},
		{"port always taken", map[string]string{"etcd": "echo >>" + attempts + "; echo bind: address already in use"}, []string{errPortTaken.Error()}},
		{"never ready", map[string]string{"etcd": "echo thinking; exec sleep 100"}, []string{"etcd is not ready", "deadline", "connection refused", "thinking"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			binaries, tmp := fakes(t, tt.scripts), t.TempDir()
			t.Setenv("TMPDIR", tmp)
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if tt.name == "never ready" {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
			}
			defer cancel()
			_, err := startWith(ctx, binaries, Options{Log: io.Discard})
			wantError(t, err, tt.want...)
			if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if data, err := os.ReadFile(attempts); err != nil || len(data) != 5 {
		t.Errorf("%d attempts with a port that is always taken, %v; want 5", len(data), err)
	}
}

func TestForTestWithoutMain(t *testing.T) {
	shared.mu.Lock()
	enabled := shared.enabled
	shared.enabled = false
	shared.mu.Unlock()
	t.Cleanup(func() { shared.mu.Lock(); shared.enabled = enabled; shared.mu.Unlock() })
	var own *ControlPlane
	t.Run("test", func(t *testing.T) { own = ForTest(t) })
	if own == shared.plane || alive(own.etcd.pid) || alive(own.apiServer.pid) {
		t.Error("want a control plane of its own, that ends with the test")
	}
}
