package alerts

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	observability = "../../examples/deploy/observability/"
	metricsPage   = "../../docs/metrics.md"
)

// metric is what docs/metrics.md says of one.
type metric struct {
	kind   string
	labels []string
}

// targetLabels are on every series: prometheus.yaml adds them.
var targetLabels = []string{"namespace", "pod", "component", "instance", "job"}

var metricRow = regexp.MustCompile("(?m)^\\| `(shard_controller_[a-z_]+)` \\| (gauge|counter|histogram) \\| ([a-z, ]*) \\|")

// exported returns the metrics by the names that they have in a query: of a histogram there are three.
func exported(t *testing.T) map[string]metric {
	t.Helper()
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{"up": {kind: "gauge"}}
	for _, name := range []string{"process_cpu_seconds_total", "process_start_time_seconds"} {
		all[name] = metric{kind: "counter"}
	}
	for _, name := range []string{"process_resident_memory_bytes", "go_goroutines"} {
		all[name] = metric{kind: "gauge"}
	}
	for _, row := range metricRow.FindAllStringSubmatch(string(page), -1) {
		m := metric{kind: row[2]}
		for label := range strings.SplitSeq(row[3], ", ") {
			m.labels = append(m.labels, label)
		}
		if m.kind == "histogram" {
			m.kind = "counter"
			all[row[1]+"_count"], all[row[1]+"_sum"] = m, m
			m.labels = append(slices.Clone(m.labels), "le")
			all[row[1]+"_bucket"] = m
			continue
		}
		all[row[1]] = m
	}
	if len(all) < 50 {
		t.Fatalf("%s has only %d metrics: the expression must be wrong", metricsPage, len(all))
	}
	return all
}

// overTime are functions that want counters, and that want none.
var overTime = map[string]string{"rate": "counter", "increase": "counter", "irate": "counter", "delta": "gauge", "deriv": "gauge", "changes": "gauge",
	"min_over_time": "gauge", "max_over_time": "gauge", "avg_over_time": "gauge"}

// lint says what is wrong with a query.
func lint(all map[string]metric, query string) (problems []string) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			m, exists := all[n.Name]
			if !exists {
				complain("nobody exports %s", n.Name)
				return nil
			}
			for _, matcher := range n.LabelMatchers {
				if matcher.Name != model.MetricNameLabel && !slices.Contains(m.labels, matcher.Name) && !slices.Contains(targetLabels, matcher.Name) {
					complain("%s has no label %s", n.Name, matcher.Name)
				}
			}
			for _, above := range path {
				if call, ok := above.(*parser.Call); ok && overTime[call.Func.Name] != "" && overTime[call.Func.Name] != m.kind {
					complain("%s of %s, which is a %s", call.Func.Name, n.Name, m.kind)
				}
			}
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				if has := labelsBelow(all, n.Expr); !slices.Contains(has, label) {
					complain("%s by %s of what has only %s", n.Op, label, has)
				}
			}
		}
		return nil
	})
	return problems
}

// labelsBelow are the labels of all metrics in an expression.
func labelsBelow(all map[string]metric, expr parser.Expr) []string {
	has := slices.Clone(targetLabels)
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if n, ok := node.(*parser.VectorSelector); ok {
			has = append(has, all[n.Name].labels...)
		}
		return nil
	})
	return has
}

func TestLint(t *testing.T) {
	all := exported(t)
	for query, want := range map[string]string{
		`max by (namespace, ring) (shard_controller_unowned_objects) > 0`:                                  "",
		`histogram_quantile(0.99, sum by (le, ring) (rate(shard_controller_handover_seconds_bucket[5m])))`: "",
		`shard_controller_unowned`:                             "nobody exports shard_controller_unowned",
		`shard_controller_handover_seconds`:                    "nobody exports shard_controller_handover_seconds",
		`shard_controller_unowned_objects{shard="a"}`:          "shard_controller_unowned_objects has no label shard",
		`rate(shard_controller_unowned_objects[5m])`:           "rate of shard_controller_unowned_objects, which is a gauge",
		`max by (resource) (shard_controller_unowned_objects)`: "max by resource of what has only",
		`max by (ring (x)`:                                     "parse error",
		`sum by (ring) (increase(shard_controller_coverage_gaps[5m]) + shard_controller_double_owner_detected)`:      "nobody exports",
		`histogram_quantile(0.99, sum by (le, state) (rate(shard_controller_handover_seconds_bucket[5m]))) > bool 1`: "sum by state",
	} {
		problems := strings.Join(lint(all, query), "; ")
		if want == "" && problems != "" || !strings.Contains(problems, want) {
			t.Errorf("%s: %q, want %q", query, problems, want)
		}
	}
}
