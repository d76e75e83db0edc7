package conversion

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// MaxAdded is how many lines may be new or changed in an operator that becomes sharded.
const MaxAdded = 15

var update = flag.Bool("update", false, "write the differences into the documentation anew")

// around is how many unchanged lines the documentation shows around a change.
const around = 2

// Documented checks, for files that an example has in the directories before and after, that page has the difference in a fenced block, and
// that the Go files among them, together, have no more than MaxAdded new or changed lines. What else is in the two
// directories must be named in gone, if only before has it, or in added. With the flag -update it writes the blocks anew.
func Documented(t *testing.T, example, page string, files, gone, added []string) {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	total := Difference{}
	for _, name := range files {
		d := Diff(example+"/before/"+name, read(t, "before", name), example+"/after/"+name, read(t, "after", name), around)
		if filepath.Ext(name) == ".go" {
			total.Added, total.Removed = total.Added+d.Added, total.Removed+d.Removed
		}
		shown, err := block(text, "--- "+example+"/before/"+name)
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		if shown == d.Unified {
			continue
		}
		if text = strings.Replace(text, shown, d.Unified, 1); !*update {
			t.Errorf("%s does not have the difference of %s as it is: run go test . -update", page, name)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s: %d lines added, %d removed; one that was changed is both", example, total.Added, total.Removed)
	if total.Added > MaxAdded {
		t.Errorf("%d lines are new or changed, want at most %d", total.Added, MaxAdded)
	}
	said := fmt.Sprintf("%d lines added, %d removed", total.Added, total.Removed)
	if !strings.Contains(text, said) {
		t.Errorf("%s does not say of %s: %q", page, example, said)
	}
	if err := only("before", files, gone); err != nil {
		t.Error(err)
	}
	if err := only("after", files, added); err != nil {
		t.Error(err)
	}
}

// block is what is in the fenced block for differences whose first line this is.
func block(page, first string) (string, error) {
	const fence = "```diff\n"
	if strings.Count(page, fence+first+"\n") != 1 {
		return "", fmt.Errorf("wants one fenced block that begins with %q and this line, has %d", fence, strings.Count(page, fence+first+"\n"))
	}
	_, rest, _ := strings.Cut(page, fence+first+"\n")
	shown, _, closed := strings.Cut(rest, "```")
	if !closed {
		return "", fmt.Errorf("the block that begins with %q has no end", first)
	}
	return first + "\n" + shown, nil
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// only returns an error that names a file of the directory that is in neither list.
func only(dir string, lists ...[]string) error {
	known := map[string]bool{}
	for _, list := range lists {
		for _, name := range list {
			known[name] = true
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !known[entry.Name()] {
			return fmt.Errorf("%s/%s is not among what is compared, and not said to be new or gone", dir, entry.Name())
		}
		delete(known, entry.Name())
	}
	for name := range known {
		return fmt.Errorf("there is no %s/%s", dir, name)
	}
	return nil
}
