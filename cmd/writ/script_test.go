package main

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) {
	// In scripts, "writ" is this very program, signals and all.
	testscript.Main(m, map[string]func(){"writ": main})
}

// TestScript runs testdata/script/*.txtar: the program as people use it.
//
// Beside the commands of testscript there are:
//
//	cluster [guests]     start a simulated cluster with so many guests (3 if not
//	                     said: qemu 100 web-1, qemu 101 db-2, lxc 102 cache-3) and
//	                     set SIM_URL, SIM_TOKEN_ID, SIM_SECRET_FILE, SIM_USER,
//	                     SIM_PASSWORD_FILE and SIM_CA_FILE
//	jsonenv VAR FILE KEY set an environment variable to a member of a JSON object;
//	                     FILE may be stdout
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(*testscript.Env) error {
			return requireTools("ssh-keygen", "ssh-agent", "ssh-add")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cluster": scriptCluster,
			"jsonenv": scriptJSONEnv,
		},
	})
}

// requireTools fails where a missing tool must not make a script skip: when
// WRIT_CI is set.
func requireTools(names ...string) error {
	if os.Getenv(ciVariable) == "" {
		return nil
	}
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return err
		}
	}
	return nil
}

func scriptCluster(ts *testscript.TestScript, neg bool, args []string) {
	f := pvesimFlags{
		listen: "127.0.0.1:0", nodes: []string{"pve1", "pve2"}, guests: 3, seed: 1,
		taskTime: time.Millisecond, authDelay: 10 * time.Millisecond,
	}
	if neg || len(args) > 1 {
		ts.Fatalf("usage: cluster [guests]")
	}
	if len(args) == 1 {
		ts.Check(json.Unmarshal([]byte(args[0]), &f.guests))
	}
	dir := ts.MkAbs("cluster")
	ts.Check(os.MkdirAll(dir, 0o700))
	ready, stop, err := f.start(dir)
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
	ts.Setenv("SIM_URL", ready.URL)
	ts.Setenv("SIM_TOKEN_ID", ready.TokenID)
	ts.Setenv("SIM_SECRET_FILE", ready.SecretFile)
	ts.Setenv("SIM_USER", ready.User)
	ts.Setenv("SIM_PASSWORD_FILE", ready.PasswordFile)
	ts.Setenv("SIM_CA_FILE", ready.CAFile)
}

func scriptJSONEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: jsonenv VAR FILE KEY")
	}
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(strings.TrimSpace(ts.ReadFile(args[1]))), &object))
	value, ok := object[args[2]].(string)
	if !ok {
		ts.Fatalf("%s: no text under %q", args[1], args[2])
	}
	ts.Setenv(args[0], value)
}
