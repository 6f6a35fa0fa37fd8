package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logCalls are the methods of a logger, and at which argument their keys begin.
var logCalls = map[string]int{
	"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "With": 0,
	"DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "Log": 3,
}

// logKeys gives the keys of all log lines that the program can write, from its
// source.
func logKeys(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			first, ok := logCalls[method.Sel.Name]
			if !ok || first > 0 && (len(call.Args) < first || !isText(call.Args[first-1])) {
				return true
			}
			for i := first; i < len(call.Args); i += 2 {
				if key, err := strconv.Unquote(textOf(call.Args[i])); err == nil && len(call.Args) > i+1 {
					found[key] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]string, 0, len(found))
	for k := range found {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// isText tells whether an expression is a text, or one put together.
func isText(e ast.Expr) bool {
	if b, ok := e.(*ast.BinaryExpr); ok {
		return isText(b.X)
	}
	return textOf(e) != ""
}

func textOf(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		return lit.Value
	}
	return ""
}

// Whoever searches logs or alerts on them must find the same under the same
// key tomorrow, and learn from the documents what it is.
func TestTheKeysOfTheLog(t *testing.T) {
	keys := logKeys(t)
	got := strings.Join(keys, "\n") + "\n"
	golden := filepath.Join("testdata", "logkeys.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("keys\n%s\nwant\n%s\nif a key was added on purpose: -update, and say in docs/operations.md what it is", got, want)
	}
	docs, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	for _, k := range keys {
		if !form.MatchString(k) {
			t.Errorf("%q is not a key such as op_id", k)
		}
		if !strings.Contains(string(docs), "`"+k+"`") {
			t.Errorf("docs/operations.md does not say what %s is", k)
		}
	}
}
