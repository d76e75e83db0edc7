package process

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: config.shard.io/v1alpha1\nkind: ExampleConfiguration\n"

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigurationThatIsWrong(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"an unknown field", head + "tims: 4", "tims: there is no such field; there are apiVersion, auditLog, kind, kubeconfig, log, metrics, name, pprof, probe, times, twice, wait"},
		{"an unknown field of a section", head + "metrics: {adress: x}", "metrics.adress: there is no such field; there are address, authorize, tls"},
		{"a field in other letters", head + "Times: 4", "Times: there is no such field"},
		{"a text for a number", head + "times: four", "times: is a text, must be a number"},
		{"a number for a text", head + "name: 7", "name: is a number, must be a text"},
		{"a fraction", head + "times: 1.5", "times: 1.5 does not fit, must be a whole number"},
		{"a number for a switch", head + "twice: {over: 1}", "twice.over: is a number, must be true or false"},
		{"a value for a section", head + "log: json", "log: is a text, must be a section with fields"},
		{"a list for a section", head + "log: [json]", "log: is a list, must be a section with fields"},
		{"nothing for a value", head + "name:", "name: is empty, must be a text"},
		{"no duration", head + "wait: soon", `wait: time: invalid duration "soon"`},
		{"a duration without a unit", head + "wait: '10'", `wait: time: missing unit in duration "10"`},
		{"the same field twice", head + "times: 4\ntimes: 5", `key "times" already set`},
		{"no version", "kind: ExampleConfiguration", "apiVersion: is missing, must be config.shard.io/v1alpha1"},
		{"another version", strings.Replace(head, "v1alpha1", "v1", 1), `apiVersion: is "config.shard.io/v1", must be config.shard.io/v1alpha1`},
		{"another program's", strings.Replace(head, "Example", "Worker", 1), `kind: is "WorkerConfiguration", must be ExampleConfiguration`},
		{"an empty file", "", "the file is empty, must be a section with fields"},
		{"two documents", head + "---\n" + head, "the file has several documents, must have one"},
		{"a file of something else", strings.Repeat("x", maxConfiguration+1), "must have at most 1048576"},
		{"no YAML", "\t", "yaml"},
		{"a value that is out of bounds", head + "log: {verbosity: 11}", "--log-verbosity, --v: 11 is not from 0 to 10"},
		{"a value that the program refuses", head + "name: bad", "--name: must not be bad"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			out := &output{}
			code := program(nil).Execute([]string{"--config", write(t, tc.text)}, io.Discard, out, nil)
			if code != ExitUsage || !strings.Contains(out.String(), tc.want) {
				t.Errorf("code %d, output %q, want %d, %q", code, out, ExitUsage, tc.want)
			}
			if strings.Count(out.String(), "\n") != 1 || !strings.HasPrefix(out.String(), "example: ") {
				t.Errorf("not one line of the program: %q", out)
			}
		})
	}
	out := &output{}
	if code := program(nil).Execute([]string{"--config=/nowhere"}, io.Discard, out, nil); code != ExitUsage || !strings.Contains(out.String(), "--config /nowhere: open /nowhere: no such file") {
		t.Errorf("a file that is not there: code %d, output %q", code, out)
	}
}

// TestFlagsWin mixes defaults, a file and flags.
func TestFlagsWin(t *testing.T) {
	file := write(t, "---\n"+head+"name: file\ntimes: 4\nwait: 2m\nlog: {verbosity: 2}\n")
	var got settings
	var flags Flags
	p := program(func(context.Context) error { return nil })
	p.Run = func(context.Context) error {
		got, flags = *p.Settings.(*settings), p.Flags
		return nil
	}
	out := &output{}
	if code := p.Execute([]string{"--times=3", "--config", file, "--v=1", "--twice-over"}, io.Discard, out, nil); code != ExitOK {
		t.Fatal(out)
	}
	want := settings{Name: "file", Times: 3} // 3 is the default too, and was given
	want.Wait.Duration, want.Twice.Over = 2*time.Minute, true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if flags.Log.Verbosity != 1 || flags.Log.Format != "text" || flags.Probe.Address != "127.0.0.1:0" || !flags.Metrics.Authorize {
		t.Errorf("flags %+v", flags)
	}
}

// TestPrintedConfigurationMeansTheSame reads what was printed.
func TestPrintedConfigurationMeansTheSame(t *testing.T) {
	print := func(args ...string) string {
		t.Helper()
		stdout, stderr := &output{}, &output{}
		if code := program(nil).Execute(append(args, "--print-config"), stdout, stderr, nil); code != ExitOK || stderr.String() != "" {
			t.Fatalf("code %d: %s", code, stderr)
		}
		return stdout.String()
	}
	first := print("--name=web", "--wait=90s", "--metrics-authorize=false", "--log-format=json")
	for _, part := range []string{head[:strings.Index(head, "\n")], "name: web\n", "wait: 1m30s\n", "authorize: false\n", "format: json\n", "times: 3\n"} {
		if !strings.Contains(first, part) {
			t.Errorf("%q is missing:\n%s", part, first)
		}
	}
	if second := print("--config", write(t, first)); second != first {
		t.Errorf("not the same (-first +second):\n%s", cmp.Diff(first, second))
	}
	if strings.Contains(print(), "name: web\n") {
		t.Error("the default is not what it was")
	}
}

func TestEveryFieldHasItsFlag(t *testing.T) {
	for path, want := range map[string]string{"ring": "ring", "metrics.tls.cert": "metrics-tls-cert", "election.leaseDuration": "election-lease-duration"} {
		if got := flagOf(path); got != want {
			t.Errorf("flag of %s is %s, want %s", path, got, want)
		}
	}
	p := program(nil)
	p.Register = func(set *flag.FlagSet) { set.Int("tines", 3, "how often") }
	out := &output{}
	p.Execute(nil, io.Discard, out, nil)
	const want = `fields without flags ["name" "times" "twice-over" "wait"], flags without fields ["tines"]`
	if !strings.Contains(out.String(), want) {
		t.Errorf("output %q, want %s", out, want)
	}
}
