package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestAuditScript runs testdata/audit/*.txtar: a ledger that a service wrote,
// audited as people do it.
//
// Beside the commands of testscript and cluster, await, grepenv and hangup there is:
//
//	blocks FILE OUT   write the shell blocks of a page of docs/ to a script
func TestAuditScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "audit"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(*testscript.Env) error {
			return requireTools(auditTools...)
		},
		Condition: func(cond string) (bool, error) {
			if cond != "tools" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			for _, name := range auditTools {
				if _, err := exec.LookPath(name); err != nil {
					t.Logf("docs/audit.md is not tried out: %v", err)
					return false, nil
				}
			}
			return true, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cluster": scriptCluster,
			"await":   scriptAwait,
			"grepenv": scriptGrepEnv,
			"hangup":  scriptHangup,
			"blocks":  scriptBlocks,
		},
	})
}

// auditTools are what docs/audit.md needs.
var auditTools = []string{"jq", "ssh-keygen", "sha256sum", "base64", "xxd", "cmp", "comm"}

func scriptBlocks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: blocks FILE OUT")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", args[0]))
	ts.Check(err)
	var script strings.Builder
	inside, n := false, 0
	for line := range strings.Lines(string(page)) {
		switch {
		case line == "```sh\n":
			inside = true
			n++
		case inside && line == "```\n":
			inside = false
		case inside:
			script.WriteString(line)
		}
	}
	if n == 0 {
		ts.Fatalf("%s: no shell block", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(script.String()), 0o600))
}
