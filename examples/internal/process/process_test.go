package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
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

// settings are those of a program for tests, one of each type.
type settings struct {
	Name  string          `json:"name"`
	Times int             `json:"times"`
	Wait  metav1.Duration `json:"wait"`
	Twice struct {
		Over bool `json:"over"`
	} `json:"twice"`
}

func (s *settings) register(set *flag.FlagSet) {
	set.StringVar(&s.Name, "name", "", "a name")
	set.IntVar(&s.Times, "times", 3, "how often")
	set.DurationVar(&s.Wait.Duration, "wait", time.Second, "how long")
	set.BoolVar(&s.Twice.Over, "twice-over", false, "again")
}

// program is one whose work is run, and which has a flag of its own.
func program(run func(context.Context) error) *Program {
	settings := &settings{}
	p := &Program{Name: "example", Kind: "ExampleConfiguration", Settings: settings, Run: run}
	p.Register = settings.register
	p.Validate = func() error {
		if settings.Name == "bad" {
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
		{name: "no such flag", args: []string{"--nope"}, code: ExitUsage, stderr: "example: flag provided but not defined: -nope; --help lists the flags\n"},
		{name: "a flag of another type", args: []string{"--times=many"}, code: ExitUsage, stderr: `invalid value "many" for flag -times`},
		{name: "an argument", args: []string{"now"}, code: ExitUsage, stderr: `"now": there are flags only`},
		{name: "a wrong flag of the program", args: []string{"--name=bad"}, code: ExitUsage, stderr: "--name: must not be bad"},
		{name: "a wrong format", args: []string{"--log-format=xml"}, code: ExitUsage, stderr: `--log-format: "xml" is neither`},
		{name: "a wrong verbosity", args: []string{"--v=11"}, code: ExitUsage, stderr: "--v: 11 is not"},
		{name: "half a certificate", args: []string{"--metrics-tls-cert=c"}, code: ExitUsage, stderr: `--metrics-tls-key "": set both or none`},
		{name: "profiles for everybody", args: []string{"--pprof-address=:6060"}, code: ExitUsage, stderr: `--pprof-address: ":6060" is not on loopback`},
		{name: "profiles on a network", args: []string{"--pprof-address=10.0.0.1:6060"}, code: ExitUsage, stderr: `"10.0.0.1:6060" is not on loopback`},
		{name: "profiles here", args: []string{"--pprof-address=[::1]:0"}, run: fine, code: ExitOK},
		{name: "a wrong address", args: []string{"--probe-address=here"}, code: ExitUsage, stderr: `--probe-address: "here"`},
		{name: "a wrong port", args: []string{"--metrics-address=127.0.0.1:99999"}, code: ExitUsage, stderr: "--metrics-address"},
		{name: "all in order", args: []string{"--v=2", "--probe-address=", "--metrics-address=:8080", "--log-format=json"}, run: fine, code: ExitOK, stderr: `"msg":"Stopped in order"`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			out := &output{}
			ran := false
			p := program(func(ctx context.Context) error { ran = true; return tc.run(ctx) })
			code := p.Execute(tc.args, out, out, func(int) { t.Error("exit was called") })
			if code != tc.code || !strings.Contains(out.String(), tc.stderr) {
				t.Errorf("code %d, output %q; want %d, %q", code, out, tc.code, tc.stderr)
			}
			if code == ExitUsage && strings.Count(out.String(), "\n") != 1 {
				t.Errorf("not one line: %q", out)
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
	if code := p.Execute(nil, out, out, func(code int) { exited <- code }); code != ExitOK {
		t.Errorf("code %d, want %d: %s", code, ExitOK, out)
	}
}

func TestLogging(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		for _, verbosity := range []int{0, 3} {
			out := &output{}
			f := Flags{Log: Log{Format: format, Verbosity: verbosity}}
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

// TestNamesOfObjectsAreLoggedAlike holds that logs have one form for them in both formats, whatever type a caller uses.
func TestNamesOfObjectsAreLoggedAlike(t *testing.T) {
	web := types.NamespacedName{Namespace: "shop", Name: "web"}
	for format, want := range map[string]string{"text": `object="shop/web"`, "json": `"object":"shop/web"`} {
		out := &output{}
		f := Flags{Log: Log{Format: format}}
		if err := f.SetupLogging(out); err != nil {
			t.Fatal(err)
		}
		for _, value := range []any{web, klog.KRef("shop", "web"), klog.KObj(&metav1.ObjectMeta{Namespace: "shop", Name: "web"})} {
			klog.FromContext(t.Context()).Info("news", "object", value)
			klog.FromContext(t.Context()).WithValues("object", value).Info("news")
		}
		klog.Flush()
		if got := strings.Count(out.String(), want); got != 6 {
			t.Errorf("%s: %d lines of 6 have %s:\n%s", format, got, want, out)
		}
	}
}
