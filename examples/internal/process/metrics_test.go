package process

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/shard-io/shard-controller/sharding"
)

var update = flag.Bool("update", false, "write the tables of docs/metrics.md anew")

// catalogue is a Registerer that keeps what was registered. Metrics with labels are in no answer to a scrape before they are first used, so a
// scrape can't tell what there is.
type catalogue struct {
	prometheus.Registerer
	rows []string
}

var described = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)", .*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// labelValue is that of a label that is the same in all series.
var labelValue = regexp.MustCompile(`="[^"]*"`)

func (c *catalogue) Register(m prometheus.Collector) error {
	kind := ""
	switch m.(type) {
	case *prometheus.GaugeVec, prometheus.Gauge:
		kind = "gauge"
	case *prometheus.CounterVec, prometheus.Counter:
		kind = "counter"
	case *prometheus.HistogramVec, prometheus.Histogram:
		kind = "histogram"
	case prometheus.GaugeFunc: // which all single metrics are, as far as their methods go
		kind = "gauge"
	default:
		return fmt.Errorf("a metric of type %T", m)
	}
	descs := make(chan *prometheus.Desc, 10)
	m.Describe(descs)
	close(descs)
	for desc := range descs {
		parts := described.FindStringSubmatch(desc.String())
		if parts == nil {
			return fmt.Errorf("%s is not understood", desc)
		}
		labels := strings.ReplaceAll(labelValue.ReplaceAllString(parts[3], "")+parts[4], ",", ", ")
		c.rows = append(c.rows, fmt.Sprintf("| `%s` | %s | %s | %s |", parts[1], kind, labels, parts[2]))
	}
	return nil
}

func (c *catalogue) table() string {
	slices.Sort(c.rows)
	return "| metric | type | labels | meaning |\n|---|---|---|---|\n" + strings.Join(c.rows, "\n") + "\n"
}

// TestEveryMetricIsDocumented holds the tables of docs/metrics.md against what a Manager and a Worker register. What the programs add to
// it is named there as a whole.
func TestEveryMetricIsDocumented(t *testing.T) {
	cfg := &rest.Config{Host: "http://127.0.0.1:1"}
	manager, worker := &catalogue{}, &catalogue{}
	if _, err := sharding.NewManager(cfg, sharding.ManagerOptions{Namespace: "n", Identity: "m", Registerer: manager}); err != nil {
		t.Fatal(err)
	}
	if _, err := sharding.NewWorker(cfg, sharding.WorkerOptions{Namespace: "n", Ring: "r", ID: "a", Registerer: worker}); err != nil {
		t.Fatal(err)
	}
	if len(manager.rows) < 10 || len(worker.rows) < 10 {
		t.Fatalf("only %d and %d metrics", len(manager.rows), len(worker.rows))
	}
	const page = "../../../docs/metrics.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for name, c := range map[string]*catalogue{"manager": manager, "worker": worker} {
		begin, end := "<!-- "+name+" begins -->\n", "<!-- "+name+" ends -->\n"
		before, rest, found := strings.Cut(want, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			t.Fatalf("%s has no place for the table of the %s", page, name)
		}
		want = before + begin + c.table() + end + after
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	exported := strings.Join(append(manager.rows, worker.rows...), "")
	for _, name := range regexp.MustCompile(`shard_controller_[a-z_]+`).FindAllString(want, -1) {
		if !strings.Contains(exported, "`"+strings.TrimSuffix(name, "_bucket")+"`") {
			t.Errorf("%s names %s, which nobody exports", page, name)
		}
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s does not say what is exported: go test ./examples/internal/process -run TestEveryMetricIsDocumented -update (-exported +documented)\n%s", page, diff)
	}
}

// TestProgramsAddTheUsualMetrics holds the families that docs/metrics.md names as a whole.
func TestProgramsAddTheUsualMetrics(t *testing.T) {
	families, err := NewRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, family := range families {
		prefix, _, _ := strings.Cut(family.GetName(), "_")
		seen[prefix] = true
	}
	if diff := cmp.Diff(map[string]bool{"go": true, "process": true}, seen); diff != "" {
		t.Errorf("(-documented +exported)\n%s", diff)
	}
}
