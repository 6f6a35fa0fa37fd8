package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestServiceScript runs testdata/service/*.txtar: the service as people run
// it, on a simulated cluster.
//
// Beside the commands of testscript and cluster there are:
//
//	await FILE REGEXP    wait until a file is there and its text matches
//	hangup               send SIGHUP to what runs in the background
//	grepenv VAR FILE RE  set an environment variable to what the first group matches
//	sim METHOD PATH FILE send the simulator's own interface, below /sim, a file
//	eventually RE CMD... run a command again and again until its output matches
func TestServiceScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "service"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cluster":    scriptCluster,
			"await":      scriptAwait,
			"hangup":     scriptHangup,
			"grepenv":    scriptGrepEnv,
			"sim":        scriptSim,
			"eventually": scriptEventually,
		},
	})
}

// scriptAwait looks at the file again and again: another process writes it.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE REGEXP")
	}
	re := regexp.MustCompile("(?m)" + args[1])
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && re.Match(text) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never came to match %s; it holds:\n%s", args[0], args[1], text)
		}
	}
}

func scriptHangup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: hangup")
	}
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGHUP))
	}
}

func scriptGrepEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: grepenv VAR FILE REGEXP")
	}
	m := regexp.MustCompile("(?m)" + args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) != 2 {
		ts.Fatalf("%s does not match %s", args[1], args[2])
	}
	ts.Setenv(args[0], strings.TrimSpace(m[1]))
}

func scriptSim(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: sim METHOD PATH FILE")
	}
	askSim(ts, args[0], args[1], ts.ReadFile(args[2]))
}

// scriptEventually asks again and again: another process has to get there.
func scriptEventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually REGEXP COMMAND...")
	}
	re := regexp.MustCompile("(?m)" + args[0])
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && re.MatchString(out) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q never came to match %s: %v\n%s", args[1:], args[0], err, out)
		}
	}
}
