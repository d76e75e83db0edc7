package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// print writes a report as the flag --output says; text writes it for people.
func (s *session) print(report any, text func(io.Writer)) error {
	s.progress.end()
	switch s.output {
	case "json":
		encoder := json.NewEncoder(s.stdout)
		encoder.SetIndent("", "    ")
		return encoder.Encode(report)
	case "yaml":
		data, err := yaml.Marshal(report)
		if err != nil {
			return err
		}
		_, err = s.stdout.Write(data)
		return err
	}
	text(s.stdout)
	return nil
}

// table is one as kubectl prints it: capitals above columns, and three spaces between them.
type table struct {
	header []string
	rows   [][]string
}

func newTable(header ...string) *table { return &table{header: header} }

// row adds a row. An empty cell is shown as "-", but for the last one.
func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		if row[i] = fmt.Sprint(cell); row[i] == "" && i < len(cells)-1 {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// write writes nothing for a table without rows.
func (t *table) write(out io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{t.header}, t.rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a strings.Builder does not fail
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(out, strings.TrimRight(line, " \n"))
	}
}

// section is a table with an empty line above.
func (t *table) section(out io.Writer) {
	if len(t.rows) > 0 {
		fmt.Fprintln(out)
		t.write(out)
	}
}

// age is how kubectl writes it. What is in the future, by another clock, is now.
func age(d time.Duration) string { return duration.HumanDuration(max(0, d)) }

func ratio(r *shardv1.Ratio) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%.2f", r.Float64())
}

func percent(part float64) string { return fmt.Sprintf("%.2f%%", 100*part) }

// clip keeps a text in a table short.
func clip(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// plural is "1 object", "2 objects".
func plural(n int64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
