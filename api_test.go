package shardcontroller_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/api.txt anew")

// TestAPI holds the exported declarations of all public packages against testdata/api.txt, so that a change of them is a
// decision: go test . -run TestAPI -update. What is generated from the types is left out, as it follows from them.
func TestAPI(t *testing.T) {
	var got bytes.Buffer
	for _, p := range publicPackages(t) {
		fmt.Fprintf(&got, "package %s // %s\n", p.Name, p.ImportPath)
		for _, line := range declarations(p) {
			fmt.Fprintln(&got, line)
		}
		fmt.Fprintln(&got)
	}
	const golden = "testdata/api.txt"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("the exported API has changed (-%s +now). If that is meant: go test . -run TestAPI -update\n%s", golden, diff)
	}
}

// TestEveryExportedNameIsDocumented looks at functions, methods, types, fields of structs, and groups of constants and variables. A
// struct of up to three fields is documented by the comment of its type.
func TestEveryExportedNameIsDocumented(t *testing.T) {
	for _, p := range publicPackages(t) {
		if p.Doc == "" {
			t.Errorf("package %s has no comment", p.ImportPath)
		}
		for _, f := range functions(p) {
			if f.Doc == "" {
				t.Errorf("%s: %s has no comment", p.ImportPath, f.Name)
			}
		}
		for _, v := range slices.Concat(p.Consts, p.Vars) {
			undocumentedValues(t, p, v)
		}
		for _, typ := range p.Types {
			if typ.Doc == "" {
				t.Errorf("%s: type %s has no comment", p.ImportPath, typ.Name)
			}
			for _, v := range slices.Concat(typ.Consts, typ.Vars) {
				undocumentedValues(t, p, v)
			}
			undocumentedFields(t, p, typ)
		}
	}
}

func undocumentedValues(t *testing.T, p *doc.Package, group *doc.Value) {
	if group.Doc != "" {
		return
	}
	for _, spec := range group.Decl.Specs {
		if value := spec.(*ast.ValueSpec); value.Doc == nil && value.Comment == nil && value.Names[0].IsExported() {
			t.Errorf("%s: %s has no comment", p.ImportPath, value.Names[0])
		}
	}
}

// undocumentedFields takes a comment for all fields that follow it without an empty line, as gofmt groups them.
func undocumentedFields(t *testing.T, p *doc.Package, typ *doc.Type) {
	for _, spec := range typ.Decl.Specs {
		structure, ok := spec.(*ast.TypeSpec).Type.(*ast.StructType)
		if !ok || structure.Fields.NumFields() <= 3 {
			continue
		}
		last, documented := token.Pos(0), false
		for _, field := range structure.Fields.List {
			if field.Doc != nil || field.Comment != nil {
				documented = true
			} else if last == 0 || fileSet.Position(field.Pos()).Line > fileSet.Position(last).Line+1 {
				documented = false
			}
			last = field.End()
			if !documented && len(field.Names) > 0 && field.Names[0].IsExported() {
				t.Errorf("%s: field %s.%s has no comment", p.ImportPath, typ.Name, field.Names[0])
			}
		}
	}
}

var fileSet = token.NewFileSet()

// publicPackages parses every package that others may import, without those that are generated, and commands.
func publicPackages(t *testing.T) []*doc.Package {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Name}} {{.ImportPath}} {{.Dir}} {{join .GoFiles \",\"}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []*doc.Package
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] == "main" || strings.Contains(fields[1], "/internal/") || strings.Contains(fields[1], "/generated/") ||
			strings.Contains(fields[1], "/examples/") {
			continue
		}
		var files []*ast.File
		for _, name := range strings.Split(fields[3], ",") {
			if strings.HasPrefix(name, "zz_generated") {
				continue
			}
			file, err := parser.ParseFile(fileSet, filepath.Join(fields[2], name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
		p, err := doc.NewFromFiles(fileSet, files, fields[1])
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 5 {
		t.Fatalf("found %d public packages", len(packages))
	}
	return packages
}

func functions(p *doc.Package) []*doc.Func {
	all := slices.Clone(p.Funcs)
	for _, typ := range p.Types {
		all = slices.Concat(all, typ.Funcs, typ.Methods)
	}
	return all
}

// declarations prints the exported declarations of a package on one or more lines each, in order, without comments.
func declarations(p *doc.Package) []string {
	var lines []string
	for _, f := range functions(p) {
		decl := *f.Decl
		decl.Doc, decl.Body = nil, nil
		lines = append(lines, printed(&decl))
	}
	for _, group := range slices.Concat(p.Consts, p.Vars) {
		lines = append(lines, values(group)...)
	}
	for _, typ := range p.Types {
		for _, group := range slices.Concat(typ.Consts, typ.Vars) {
			lines = append(lines, values(group)...)
		}
		lines = append(lines, printed(bare(typ.Decl)))
	}
	slices.Sort(lines)
	return lines
}

func values(group *doc.Value) []string {
	var lines []string
	for _, name := range group.Names {
		if ast.IsExported(name) {
			lines = append(lines, group.Decl.Tok.String()+" "+name)
		}
	}
	return lines
}

// bare returns the declaration of a type without comments.
func bare(decl *ast.GenDecl) *ast.GenDecl {
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			n.Doc = nil
		case *ast.TypeSpec:
			n.Doc, n.Comment = nil, nil
		case *ast.Field:
			n.Doc, n.Comment = nil, nil
		}
		return true
	})
	return decl
}

func printed(node ast.Node) string {
	var text bytes.Buffer
	if err := format.Node(&text, fileSet, node); err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(text.String()) {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	return strings.Join(lines, "\n")
}
