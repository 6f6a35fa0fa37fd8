package planted_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"writ/cmd/writ/planted"
)

func TestReadVerdict(t *testing.T) {
	const run = `{"Action":"run","Package":"writ/domain/op","Test":"TestA"}` + "\n"
	output := func(text string) string {
		return `{"Action":"output","Package":"writ/domain/op","Output":"` + text + `\n"}` + "\n"
	}
	const failed = `{"Action":"fail","Package":"writ/domain/op"}` + "\n"
	for name, tt := range map[string]struct {
		events string
		want   planted.Result
		test   string
	}{
		"all is well":  {run + `{"Action":"pass","Package":"writ/domain/op","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"writ/domain/op"}`, planted.Passed, ""},
		"no tests":     {`{"Action":"skip","Package":"writ/domain/op"}`, planted.Passed, ""},
		"a test fails": {run + `{"Action":"fail","Package":"writ/domain/op","Test":"TestA"}` + "\n" + failed, planted.Failed, "domain/op.TestA"},
		"a part of a test fails": {
			run + `{"Action":"fail","Package":"writ/domain/op","Test":"TestA"}` + "\n" + `{"Action":"fail","Package":"writ/domain/op","Test":"TestA/part"}` + "\n" + failed,
			planted.Failed, "domain/op.TestA/part",
		},
		"of several the first": {
			`{"Action":"fail","Package":"writ/domain/op","Test":"TestA"}` + "\n" + `{"Action":"fail","Package":"writ/domain/op","Test":"TestB/part"}` + "\n" + failed,
			planted.Failed, "domain/op.TestA",
		},
		"a goroutine panics": {run + output("panic: close of closed channel") + failed, planted.Failed, "domain/op.TestA"},
		"a test hangs": {
			run + output("panic: test timed out after 2m0s") + output(`\trunning tests:`) + output(`\t\tTestA (2m0s)`) + output(`\t\tTestA/part (1m59s)`) + failed,
			planted.Hung, "domain/op.TestA/part",
		},
		"a hang that names no test": {output("panic: test timed out after 2m0s") + failed, planted.Broken, ""},
		"a failure without a test":  {output("exit status 3") + failed, planted.Broken, ""},
		"it does not compile": {
			`{"ImportPath":"writ/domain/op","Action":"build-output","Output":"a.go:1:1: no"}` + "\n" + `{"ImportPath":"writ/domain/op","Action":"build-fail"}` + "\n" +
				`{"Action":"fail","Package":"writ/domain/op","FailedBuild":"writ/domain/op"}`,
			planted.NotBuilt, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := planted.ReadVerdict(strings.NewReader(tt.events))
			if err != nil || v.Result != tt.want || v.Test != tt.test {
				t.Errorf("got %s by %q, %v; want %s by %q", v.Result, v.Test, err, tt.want, tt.test)
			}
		})
	}
	for name, events := range map[string]string{"that break off": run, "that are none": "go: no such tool\n"} {
		if v, err := planted.ReadVerdict(strings.NewReader(events)); err == nil {
			t.Errorf("events %s: got %s, want an error", name, v.Result)
		}
	}
}

// aModule is one with a test that fails once two and two make five.
func aModule(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, src := range map[string]string{
		"go.mod":      "module example\n\ngo 1.26\n",
		"a.go":        "package a\n\nfunc Add(a, b int) int { return a + b }\n",
		"a_test.go":   "package a\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif Add(2, 2) != 4 {\n\t\tt.Error(\"wrong\")\n\t}\n}\n",
		"b/b.go":      "package b\n",
		"b/b_test.go": "package b\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// A mistake is laid over the source for one run, which stays as it is.
func TestRun(t *testing.T) {
	root := aModule(t)
	for _, tt := range []struct {
		name, body string
		want       planted.Result
	}{
		{"a mistake", "package a\n\nfunc Add(a, b int) int { return a + b + 1 }\n", planted.Failed},
		{"one that does not compile", "package a\n\nfunc Add(a, b int) int { return a + c }\n", planted.NotBuilt},
		{"no mistake", "", planted.Passed},
	} {
		var changed map[string]string
		if tt.body != "" {
			changed = map[string]string{"a.go": tt.body}
		}
		v, err := planted.Run(t.Context(), root, changed, planted.Suite{Package: "."})
		if err != nil || v.Result != tt.want || (v.Test == "example.TestAdd") != (tt.want == planted.Failed) {
			t.Errorf("%s: got %s by %q, %v; want %s\n%s", tt.name, v.Result, v.Test, err, tt.want, v.Output)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := planted.Run(ended, root, nil, planted.Suite{Package: "."}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: got %v, want that it was cancelled", err)
	}
}
