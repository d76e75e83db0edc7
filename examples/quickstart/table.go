//go:build unix

package main

import (
	"fmt"
	"strings"
)

// row is a shard in the table.
type row struct {
	shard
	objects, reports int
	coming           int // objects on their way to it
}

// barWidth is how wide the bar of the shard with the most objects is.
const barWidth = 24

// table renders the shards. It has no color and at most 80 columns.
func table(rows []row) string {
	most, objects, reports := 1, 0, 0
	for _, r := range rows {
		most = max(most, r.objects)
		objects += r.objects
		reports += r.reports
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %-12s %-10s %5s %8s %8s\n", "SHARD", "PHASE", "LOAD", "OBJECTS", "REPORTS")
	for _, r := range rows {
		line := fmt.Sprintf("  %-12s %-10s %5s %8d %8d  %s", r.id, r.phase, loadText(r.load), r.objects, r.reports, bar(r.objects, most))
		if r.coming > 0 {
			line += fmt.Sprintf(" +%d", r.coming)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	fmt.Fprintf(&b, "  %-12s %-10s %5s %8d %8d\n", "", "", "", objects, reports)
	return b.String()
}

func loadText(load float64) string {
	if load < 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", load)
}

// bar is never empty for something.
func bar(n, most int) string {
	if n == 0 {
		return ""
	}
	return strings.Repeat("#", max(1, n*barWidth/most))
}
