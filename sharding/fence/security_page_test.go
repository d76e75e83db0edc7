package fence_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var (
	securityRow = regexp.MustCompile("(?m)^\\| [^|]*\\| [^|]+ \\| (allowed|refused: `([A-Za-z]+)`) \\| (\\*[^|]+\\*) \\|$")
	namedCase   = regexp.MustCompile(`\*([^*]+)\*`)
)

// TestSecurityPage holds the table of docs/security.md against the rules: every case that it names is there, and ends as it says.
func TestSecurityPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, c := range readRules(t).Cases {
		want[c.Name] = c.Want
	}
	rows := securityRow.FindAllStringSubmatch(string(page), -1)
	if lines := strings.Count(string(page), "| allowed |") + strings.Count(string(page), "| refused: "); len(rows) != lines || lines < 30 {
		t.Fatalf("%d rows of %d are understood", len(rows), lines)
	}
	for _, row := range rows {
		for _, name := range namedCase.FindAllStringSubmatch(row[3], -1) {
			rule, exists := want[name[1]]
			if !exists {
				t.Errorf("rules.yaml has no case %q", name[1])
			} else if rule != row[2] {
				t.Errorf("%q: the page says %s, and it is refused by %q", name[1], row[1], rule)
			}
		}
	}
}
