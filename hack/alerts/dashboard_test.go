package alerts

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// dashboard is what the test has to know of Grafana's format.
type dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	GridPos     struct{ X, Y, W, H int }
	Datasource  struct{ Type, UID string }
	Targets     []struct {
		Expr         string `json:"expr"`
		RefID        string `json:"refId"`
		LegendFormat string `json:"legendFormat"`
	} `json:"targets"`
	Panels []panel `json:"panels"` // of a row that is closed
}

// variables are replaced as Grafana does it.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$__interval", "1m", "$namespace", ".*", "$ring", ".*")

// TestDashboard holds that every query of the dashboard is one, and asks for what exists; that every panel says what it shows; and that no two
// are in one place.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(observability + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" {
		t.Error("the dashboard has no uid or no title")
	}
	metrics, shown := exported(t), ""
	ids, taken, rows := map[int]bool{}, map[[2]int]string{}, 0
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 || p.Title == "" || len(p.Panels) > 0 {
			t.Errorf("panel %d, %q: needs an id of its own, a title, and to be in no closed row", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" || at[0] >= 24 {
					t.Fatalf("%q is where %q is, or beyond the edge", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			rows++
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 || p.Datasource.UID != "$datasource" {
			t.Errorf("%q: no description, no query, or not of the data source that is chosen", p.Title)
		}
		for _, target := range p.Targets {
			shown += target.Expr + "\n"
			for _, problem := range lint(metrics, variables.Replace(target.Expr)) {
				t.Errorf("%q, %s: %s", p.Title, target.RefID, problem)
			}
			if strings.Contains(target.Expr, "shard_controller_") && !strings.Contains(target.Expr, `namespace=~"$namespace"`) {
				t.Errorf("%q, %s: not of the namespace that is chosen", p.Title, target.RefID)
			}
		}
	}
	if rows < 7 {
		t.Errorf("only %d rows", rows)
	}
	// Whatever is exported is worth a look, or need not be exported.
	for name := range metrics {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "shard_controller_") && !strings.Contains(shown, base) {
			t.Errorf("no panel shows %s", name)
		}
	}
	for _, v := range []string{"datasource", "namespace", "ring"} {
		if !slices.ContainsFunc(d.Templating.List, func(have struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query any    `json:"query"`
		}) bool {
			return have.Name == v
		}) {
			t.Errorf("there is no variable %s", v)
		}
	}
}
