package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/health"
)

// output collects what a program writes, from any goroutine.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// program is one whose work is run, and which has a flag of its own.
func program(run func(context.Context) error) *Program {
	p := &Program{Name: "example", Run: run}
	name := ""
	p.Register = func(set *flag.FlagSet) { set.StringVar(&name, "name", "", "a name") }
	p.Validate = func() error {
		if name == "bad" {
			return errors.New("--name: must not be bad")
		}
		return nil
	}
	return p
}

func TestExitCodes(t *testing.T) {
	fine := func(context.Context) error { return nil }
	tests := []struct {
		name   string
		args   []string
		run    func(context.Context) error
		code   int
		stderr string
	}{
		{name: "an orderly end", run: fine, code: ExitOK, stderr: "Stopped in order"},
		{name: "an error", run: func(context.Context) error { return errors.New("broken pipe") }, code: ExitFailure, stderr: "broken pipe"},
		{name: "help", args: []string{"-h"}, code: ExitOK, stderr: "-probe-address"},
		{name: "no such flag", args: []string{"--nope"}, code: ExitUsage, stderr: "nope"},
		{name: "an argument", args: []string{"now"}, code: ExitUsage, stderr: `"now": there are flags only`},
		{name: "a wrong flag of the program", args: []string{"--name=bad"}, code: ExitUsage, stderr: "--name: must not be bad"},
		{name: "a wrong format", args: []string{"--log-format=xml"}, code: ExitUsage, stderr: `--log-format: "xml" is neither`},
		{name: "a wrong verbosity", args: []string{"--v=11"}, code: ExitUsage, stderr: "--v: 11 is not"},
		{name: "a wrong address", args: []string{"--probe-address=here"}, code: ExitUsage, stderr: `--probe-address: "here"`},
		{name: "a wrong port", args: []string{"--metrics-address=127.0.0.1:99999"}, code: ExitUsage, stderr: "--metrics-address"},
		{name: "all in order", args: []string{"--v=2", "--probe-address=", "--metrics-address=:8080", "--log-format=json"}, run: fine, code: ExitOK, stderr: `"msg":"Stopped in order"`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			out := &output{}
			ran := false
			p := program(func(ctx context.Context) error { ran = true; return tc.run(ctx) })
			code := p.main(tc.args, out, func(int) { t.Error("exit was called") })
			if code != tc.code || !strings.Contains(out.String(), tc.stderr) {
				t.Errorf("code %d, output %q; want %d, %q", code, out, tc.code, tc.stderr)
			}
			if ran != (tc.run != nil) {
				t.Errorf("ran: %t", ran)
			}
		})
	}
}

func TestFirstSignalStopsSecondExits(t *testing.T) {
	exited := make(chan int, 1)
	out := &output{}
	p := program(func(ctx context.Context) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); cause == nil || !strings.Contains(cause.Error(), "terminated") {
			t.Errorf("cause = %v, want the signal", cause)
		}
		select {
		case code := <-exited:
			t.Errorf("one signal, and exit %d was called", code)
		default:
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			return err
		}
		if code := <-exited; code != ExitFailure {
			t.Errorf("exit code %d after the second signal, want %d", code, ExitFailure)
		}
		return nil
	})
	if code := p.main(nil, out, func(code int) { exited <- code }); code != ExitOK {
		t.Errorf("code %d, want %d: %s", code, ExitOK, out)
	}
}

func TestLogging(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		for _, verbosity := range []int{0, 3} {
			out := &output{}
			f := Flags{LogFormat: format, Verbosity: verbosity}
			if err := f.SetupLogging(out); err != nil {
				t.Fatal(err)
			}
			logger := klog.FromContext(t.Context())
			logger.V(3).Info("detail")
			logger.Info("news", "n", 7)
			logger.Error(errors.New("reason"), "failure")
			klog.Flush()
			text := out.String()
			if got := strings.Contains(text, "detail"); got != (verbosity == 3) {
				t.Errorf("%s, -v=%d: detail is logged: %t", format, verbosity, got)
			}
			for _, part := range []string{"news", "failure", "reason"} {
				if strings.Count(text, part) != 1 {
					t.Errorf("%s, -v=%d: %q is not logged exactly once:\n%s", format, verbosity, part, text)
				}
			}
			if klog.V(3).Enabled() != (verbosity == 3) {
				t.Errorf("%s, -v=%d: klog.V(3) is %t", format, verbosity, klog.V(3).Enabled())
			}
			for line := range strings.Lines(text) {
				if format == "json" && !json.Valid([]byte(line)) {
					t.Errorf("not JSON: %s", line)
				}
			}
		}
	}
}

func TestConfig(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("HOME", t.TempDir())
	if _, err := (&Flags{}).Config("example"); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("without any: %v, want an error that names --kubeconfig", err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	const text = `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
		"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],"users":[{"name":"u","user":{"token":"t"}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := (&Flags{Kubeconfig: path}).Config("example")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://127.0.0.1:1" || cfg.BearerToken != "t" || cfg.UserAgent != "example" || cfg.QPS >= 0 {
		t.Errorf("host %s, token %s, user agent %s, QPS %v", cfg.Host, cfg.BearerToken, cfg.UserAgent, cfg.QPS)
	}
}

func TestServe(t *testing.T) {
	out := &output{}
	f := Flags{LogFormat: "text", ProbeAddress: "127.0.0.1:0", MetricsAddress: "127.0.0.1:0"}
	if err := f.SetupLogging(out); err != nil {
		t.Fatal(err)
	}
	checks := health.NewChecks()
	broken := errors.New("not yet")
	var mu sync.Mutex
	if err := checks.AddReadiness("shard", func(context.Context) error { mu.Lock(); defer mu.Unlock(); return broken }); err != nil {
		t.Fatal(err)
	}
	ended := errors.New("the work's own error")
	var probes string
	err := f.Serve(t.Context(), checks, NewRegistry(), func(context.Context) error {
		addresses := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindAllString(out.String(), -1)
		if len(addresses) != 2 {
			t.Fatalf("addresses %v in the log, want two:\n%s", addresses, out)
		}
		probes = addresses[0]
		expect(t, probes+"/healthz", http.StatusOK, "")
		expect(t, probes+"/readyz", http.StatusServiceUnavailable, "shard")
		mu.Lock()
		broken = nil
		mu.Unlock()
		expect(t, probes+"/readyz", http.StatusOK, "")
		expect(t, addresses[1]+"/metrics", http.StatusOK, "go_goroutines")
		return ended
	})
	if err != ended {
		t.Errorf("error %v, want that of the work", err)
	}
	client := &http.Client{Timeout: time.Second}
	if resp, err := client.Get(probes + "/healthz"); err == nil {
		resp.Body.Close()
		t.Error("the probes are served after the end")
	}
}

func expect(t *testing.T, url string, code int, part string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != code || !strings.Contains(string(body), part) {
		t.Errorf("GET %s: %d %q, want %d with %q", url, resp.StatusCode, body, code, part)
	}
}

func TestServeNeedsItsAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, f := range []Flags{{ProbeAddress: taken.Addr().String()}, {MetricsAddress: taken.Addr().String()}} {
		err := f.Serve(t.Context(), health.NewChecks(), NewRegistry(), func(context.Context) error {
			t.Error("the work began")
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "serving") {
			t.Errorf("error %v, want one that says what could not be served", err)
		}
	}
	f := Flags{}
	if err := f.Serve(t.Context(), health.NewChecks(), NewRegistry(), func(context.Context) error { return nil }); err != nil {
		t.Errorf("without addresses: %v", err)
	}
}
