package shardcontroller_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// eachFile calls f with every file of the tree whose name ends with suffix, without what is hidden or built.
func eachFile(t *testing.T, suffix string, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || path == "bin"):
			return filepath.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, suffix):
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// page is a Markdown file as far as the tests below need it.
type page struct {
	anchors []string
	links   []string
	names   []string // identifiers of tests, examples, fuzz tests and benchmarks
}

var (
	fencedBlock = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```[ \t]*$")
	codeSpan    = regexp.MustCompile("`[^`\n]*`")
	heading     = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	inlineLink  = regexp.MustCompile(`\]\(<?([^)>\s]+)>?(?:\s+"[^"]*")?\)`)
	reference   = regexp.MustCompile(`(?m)^\[[^\]]+\]:\s+(\S+)`)
	testName    = regexp.MustCompile(`\b(?:Test|Example|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*`)
	notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

func parsePage(text string) page {
	prose := fencedBlock.ReplaceAllString(text, "")
	var p page
	for _, match := range heading.FindAllStringSubmatch(prose, -1) {
		anchor := strings.ReplaceAll(strings.ToLower(notInAnchor.ReplaceAllString(match[1], "")), " ", "-")
		p.anchors = append(p.anchors, anchor)
	}
	p.names = testName.FindAllString(text, -1)
	prose = codeSpan.ReplaceAllString(prose, "")
	for _, expression := range []*regexp.Regexp{inlineLink, reference} {
		for _, match := range expression.FindAllStringSubmatch(prose, -1) {
			p.links = append(p.links, match[1])
		}
	}
	return p
}

func readPage(t *testing.T, path string) page {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parsePage(string(text))
}

// broken says what is wrong with a link in the file from; "" if nothing. Links out of the tree are not followed.
func broken(t *testing.T, from, link string) string {
	t.Helper()
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return ""
	}
	target, anchor, _ := strings.Cut(link, "#")
	path := from
	if target != "" {
		path = filepath.Join(filepath.Dir(from), filepath.FromSlash(target))
	}
	if strings.HasPrefix(target, "/") || strings.HasPrefix(path, "..") {
		return "leads out of the tree"
	}
	if _, err := os.Stat(path); err != nil {
		return "does not exist"
	}
	if anchor != "" && strings.HasSuffix(path, ".md") && !slices.Contains(readPage(t, path).anchors, anchor) {
		return "has no such heading"
	}
	return ""
}

// TestDocsLinks follows every relative link of every Markdown file.
func TestDocsLinks(t *testing.T) {
	links := 0
	eachFile(t, ".md", func(path string) {
		for _, link := range readPage(t, path).links {
			links++
			if problem := broken(t, path, link); problem != "" {
				t.Errorf("%s: link %s %s", path, link, problem)
			}
		}
	})
	if links == 0 {
		t.Error("there is not a single link: the expressions must be wrong")
	}
}

// TestDocsAreFound holds that the README leads to every page of docs.
func TestDocsAreFound(t *testing.T) {
	linked := readPage(t, "README.md").links
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, path := range append(pages, "docs/decisions/README.md") {
		if !slices.Contains(linked, filepath.ToSlash(path)) {
			t.Errorf("%s is not linked from the README", path)
		}
	}
}

// TestDocsNames looks for every test that a Markdown file names.
func TestDocsNames(t *testing.T) {
	exists := map[string]bool{}
	eachFile(t, "_test.go", func(path string) {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil {
				exists[f.Name.Name] = true
			}
		}
	})
	names := 0
	eachFile(t, ".md", func(path string) {
		for _, name := range readPage(t, path).names {
			names++
			if !exists[name] {
				t.Errorf("%s: there is no %s", path, name)
			}
		}
	})
	if names == 0 {
		t.Error("there is not a single name: the expression must be wrong")
	}
}

func TestParsePage(t *testing.T) {
	got := parsePage("# A `b` — C, d\n[x](a.md#y) ![i](i.svg \"title\") `[no](link)`\n\n```\n[no](code)\n# no heading\nTestInCode\n```\n" +
		"TestA, `FuzzB`; Testing.\n\n[ref]: r.md\n")
	for _, c := range []struct {
		what      string
		got, want []string
	}{
		{"anchors", got.anchors, []string{"a-b--c-d"}},
		{"links", got.links, []string{"a.md#y", "i.svg", "r.md"}},
		{"names", got.names, []string{"TestInCode", "TestA", "FuzzB"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	for link, want := range map[string]string{
		"docs/ring.md": "", "docs/none.md": "does not exist", "../x": "leads out of the tree", "https://example.com/x": "",
		"docs/ring.md#the-ring": "", "docs/ring.md#none": "has no such heading",
	} {
		if got := broken(t, "README.md", link); got != want {
			t.Errorf("link %s: got %q, want %q", link, got, want)
		}
	}
}
