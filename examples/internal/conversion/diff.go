package conversion

import (
	"fmt"
	"strings"
)

// edit is one line of a comparison: ' ' in both, '-' in the first only, '+' in the second only.
type edit struct {
	kind byte
	text string
}

// compare finds a longest common subsequence of two texts, by the table of dynamic programming: they have some hundred lines.
func compare(a, b []string) []edit {
	longest := make([][]int, len(a)+1) // of a[i:] and b[j:]
	for i := range longest {
		longest[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	var edits []edit
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			edits = append(edits, edit{' ', a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			edits = append(edits, edit{'-', a[i]})
			i++
		default:
			edits = append(edits, edit{'+', b[j]})
			j++
		}
	}
	return edits
}

// Difference is that of two texts.
type Difference struct {
	// Unified is the difference in the format of diff -u, without the times; empty if there is none.
	Unified string
	// Added and Removed count lines; one that was changed is both.
	Added, Removed int
}

// Diff compares two texts of whole lines. around is how many unchanged lines are shown before and after a change.
func Diff(nameA, a, nameB, b string, around int) Difference {
	edits := compare(lines(a), lines(b))
	var d Difference
	var out strings.Builder
	for _, h := range hunks(edits, around) {
		out.WriteString(h.header(edits))
		for _, e := range edits[h.from:h.to] {
			fmt.Fprintf(&out, "%c%s\n", e.kind, e.text)
		}
	}
	for _, e := range edits {
		switch e.kind {
		case '+':
			d.Added++
		case '-':
			d.Removed++
		}
	}
	if out.Len() > 0 {
		d.Unified = fmt.Sprintf("--- %s\n+++ %s\n%s", nameA, nameB, &out)
	}
	return d
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// hunk is a range of edits that is shown.
type hunk struct{ from, to int }

// hunks are the ranges around changes. Those that touch are one.
func hunks(edits []edit, around int) []hunk {
	var found []hunk
	for i, e := range edits {
		if e.kind == ' ' {
			continue
		}
		from, to := max(0, i-around), min(len(edits), i+around+1)
		if n := len(found); n > 0 && found[n-1].to >= from {
			found[n-1].to = to
		} else {
			found = append(found, hunk{from, to})
		}
	}
	return found
}

// header says which lines of both texts the hunk is about.
func (h hunk) header(edits []edit) string {
	position := func(other byte) string {
		before, within := 0, 0
		for i, e := range edits[:h.to] {
			switch {
			case e.kind == other:
			case i < h.from:
				before++
			default:
				within++
			}
		}
		switch within {
		case 0:
			return fmt.Sprintf("%d,0", before)
		case 1:
			return fmt.Sprint(before + 1)
		}
		return fmt.Sprintf("%d,%d", before+1, within)
	}
	return fmt.Sprintf("@@ -%s +%s @@\n", position('+'), position('-'))
}
