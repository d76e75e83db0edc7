package alerts

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

const (
	alertsFile  = observability + "alerts.yaml"
	runbook     = "https://github.com/shard-io/shard-controller/blob/main/docs/operations.md#"
	runbookPage = "../../docs/operations.md"
)

// decode reads a YAML file, in which nothing may be that into does not have.
func decode(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// load reads the alerts as Prometheus does.
func load(t *testing.T, options rules.ManagerOptions) []*rules.AlertingRule {
	t.Helper()
	options.Context, options.Logger, options.Parser = context.Background(), promslog.NewNopLogger(), parser.NewParser(parser.Options{})
	options.NotifyFunc = func(context.Context, string, ...*rules.Alert) {}
	groups, errs := rules.NewManager(&options).LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, alertsFile)
	for _, err := range errs {
		t.Error(err)
	}
	var all []*rules.AlertingRule
	for _, group := range groups {
		for _, rule := range group.Rules() {
			alert, ok := rule.(*rules.AlertingRule)
			if !ok {
				t.Fatalf("%s is no alert", rule.Name())
			}
			all = append(all, alert)
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no alerts")
	}
	return all
}

// TestAlerts holds what is to be the same of all alerts, and that each has its section in the manual.
func TestAlerts(t *testing.T) {
	all, metrics := load(t, rules.ManagerOptions{}), exported(t)
	page, err := os.ReadFile(runbookPage)
	if err != nil {
		t.Fatal(err)
	}
	sections := regexp.MustCompile(`(?m)^### (Shard\w+)\n`).FindAllStringSubmatch(string(page), -1)
	documented := map[string]bool{}
	for _, section := range sections {
		documented[section[1]] = true
	}
	seen := map[string]bool{}
	for _, alert := range all {
		name := alert.Name()
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		for _, problem := range lint(metrics, alert.Query().String()) {
			t.Errorf("%s: %s", name, problem)
		}
		if severity := alert.Labels().Get("severity"); severity != "critical" && severity != "warning" {
			t.Errorf("%s has the severity %q", name, severity)
		}
		if got, want := alert.Annotations().Get("runbook_url"), runbook+strings.ToLower(name); got != want {
			t.Errorf("%s: runbook_url %q, want %q", name, got, want)
		}
		if alert.Annotations().Get("summary") == "" {
			t.Errorf("%s has no summary", name)
		}
		if !documented[name] {
			t.Errorf("%s has no section %q in %s", name, "### "+name, runbookPage)
		}
	}
	for name := range documented {
		if !seen[name] {
			t.Errorf("%s has a section on %s, which is no alert", runbookPage, name)
		}
	}
}

// A script is alerts_test.yaml, as far as it goes here: promtool has the format.
type script struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []scene        `yaml:"tests"`
}

type scene struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	AlertRuleTest []struct {
		EvalTime  model.Duration `yaml:"eval_time"`
		Alertname string         `yaml:"alertname"`
		ExpAlerts []struct {
			ExpLabels      map[string]string `yaml:"exp_labels"`
			ExpAnnotations map[string]string `yaml:"exp_annotations"`
		} `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
}

func render(name string, labels, annotations map[string]string) string {
	labels = maps.Clone(labels)
	labels["alertname"] = name
	return fmt.Sprint(labels, annotations) // maps are printed in the order of their keys
}

// firing returns the alerts of a name that fire.
func firing(all []*rules.AlertingRule, name string) (found []string) {
	for _, rule := range all {
		if rule.Name() != name {
			continue
		}
		for _, alert := range rule.ActiveAlerts() {
			if alert.State == rules.StateFiring {
				found = append(found, render(name, alert.Labels.Map(), alert.Annotations.Map()))
			}
		}
	}
	slices.Sort(found)
	return found
}

func (s scene) play(t *testing.T, step time.Duration) {
	input := fmt.Sprintf("load %v\n", time.Duration(s.Interval))
	for _, series := range s.InputSeries {
		input += "  " + series.Series + " " + series.Values + "\n"
	}
	world, err := promqltest.NewLazyLoader(input, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := world.Close(); err != nil {
			t.Error(err)
		}
	}()
	query := rules.EngineQueryFunc(world.QueryEngine(), world.Storage())
	all := load(t, rules.ManagerOptions{QueryFunc: query, Appendable: world.Storage()})
	cases := s.AlertRuleTest
	for since := time.Duration(0); len(cases) > 0; since += step {
		now := time.Unix(0, 0).UTC().Add(since)
		world.WithSamplesTill(now, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, rule := range all {
				if _, err := rule.Eval(world.Context(), 0, now, query, nil, 0); err != nil {
					t.Fatalf("%s at %v: %v", rule.Name(), since, err)
				}
			}
		})
		for ; len(cases) > 0 && time.Duration(cases[0].EvalTime) < since+step; cases = cases[1:] {
			var want []string
			for _, alert := range cases[0].ExpAlerts {
				want = append(want, render(cases[0].Alertname, alert.ExpLabels, alert.ExpAnnotations))
			}
			slices.Sort(want)
			if got := firing(all, cases[0].Alertname); !slices.Equal(got, want) {
				t.Errorf("%s at %v:\n got %q\nwant %q", cases[0].Alertname, cases[0].EvalTime, got, want)
			}
		}
	}
}

// TestAlertsFire plays alerts_test.yaml. Each alert has to fire in one of its scenes, and in one of its moments it must not.
func TestAlertsFire(t *testing.T) {
	var s script
	decode(t, observability+"alerts_test.yaml", &s)
	if !slices.Equal(s.RuleFiles, []string{"alerts.yaml"}) || s.EvaluationInterval == 0 {
		t.Fatalf("rule files %q, evaluated every %v", s.RuleFiles, s.EvaluationInterval)
	}
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, scene := range s.Tests {
		for _, c := range scene.AlertRuleTest {
			fires[c.Alertname] = fires[c.Alertname] || len(c.ExpAlerts) > 0
			rests[c.Alertname] = rests[c.Alertname] || len(c.ExpAlerts) == 0
		}
		t.Run(scene.Name, func(t *testing.T) { scene.play(t, time.Duration(s.EvaluationInterval)) })
	}
	for _, alert := range load(t, rules.ManagerOptions{}) {
		if !fires[alert.Name()] || !rests[alert.Name()] {
			t.Errorf("%s: fires in a scene: %v, does not in one: %v", alert.Name(), fires[alert.Name()], rests[alert.Name()])
		}
	}
}
