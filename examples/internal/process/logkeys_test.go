package process

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keysFrom says where the keys begin among the arguments of a call that logs; -1 for other calls.
func keysFrom(call *ast.CallExpr) int {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return -1
	}
	switch f.Sel.Name {
	case "Info", "LoggerWithValues":
		return 1
	case "Error":
		return 2
	case "WithValues":
		return 0
	}
	return -1
}

// logKeys adds the keys of all calls in a file. A key that is no literal is "?".
func logKeys(t *testing.T, path string, keys map[string]bool) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		from := keysFrom(call)
		if from < 0 || len(call.Args) < from+2 || (len(call.Args)-from)%2 != 0 || call.Ellipsis.IsValid() {
			return true
		}
		for i := from; i < len(call.Args); i += 2 {
			key := "?"
			if literal, ok := call.Args[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
				key, _ = strconv.Unquote(literal.Value)
			}
			keys[key] = true
		}
		return true
	})
}

// TestLogKeys holds the list of docs/configuration.md against the sources.
func TestLogKeys(t *testing.T) {
	keys := map[string]bool{"err": true}
	for _, root := range []string{"sharding", "health", "examples/manager", "examples/worker", "examples/internal/process", "examples/internal/install"} {
		err := filepath.WalkDir(filepath.Join("../../..", root), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && !strings.Contains(path, "/ctrlruntime/") {
				logKeys(t, path, keys)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, word := range []string{"ring", "shard", "object", "epoch", "migration"} {
		if !keys[word] {
			t.Errorf("nobody logs a %s", word)
		}
	}
	const page, begin, end = "../../../docs/configuration.md", "<!-- keys begin -->\n", "<!-- keys end -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	list, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the keys", page)
	}
	want := "`" + strings.Join(slices.Sorted(maps.Keys(keys)), "`, `") + "`\n"
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("%s has not the keys that are logged: a new one needs a reason; then go test ./examples/internal/process -run TestLogKeys -update (-logged +documented)\n%s", page, diff)
	}
}
