package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"writ/adapters/pvesim"
)

// TestClassScript runs testdata/classes/*.txtar: ops of every class as people and
// programs order them, on a simulated cluster whose account of what really happened
// is compared with what was told.
//
// Beside the commands of TestServiceScript and jsonenv there are:
//
//	order NAME FLAGS...      sign NAME.writ, reading the host as the service does;
//	                         what was shown is in NAME.sign, what inspect says of it in
//	                         NAME.inspect, its nonce in NAME.nonce
//	done NAME EFFECT...      submit it: it succeeds, the cluster has these effects since
//	                         the last account, and no second delivery has any. What is
//	                         on record is in NAME.op, and why in NAME.why
//	refused NAME REASON RE   submit it: it is not done, for this reason and with a detail
//	                         that matches, and nothing has happened to the cluster
//	account EFFECT...        these and no others are the cluster's effects since the last
//	                         account
//	backup VMID STORAGE VAR  make a backup past the service, and set a variable to its id
//	backups N                so many backups, and nothing else, were made since the last
//	                         account: their names hold the time
//
// An effect is a kind and what it happened to, as in guest-destroyed:100 or
// volume-deleted:local-lvm:vm-300-disk-0.
func TestClassScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "classes"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cluster":    scriptCluster,
			"await":      scriptAwait,
			"grepenv":    scriptGrepEnv,
			"sim":        scriptSim,
			"eventually": scriptEventually,
			"order":      scriptOrder,
			"done":       scriptDone,
			"refused":    scriptRefused,
			"account":    scriptAccount,
			"backup":     scriptBackup,
			"backups":    scriptBackups,
		},
	})
}

// runWrit is exec whose output is kept in a file; the error is the program's.
func runWrit(ts *testscript.TestScript, file string, args ...string) (string, error) {
	err := ts.Exec("writ", args...)
	out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
	if file != "" {
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(out), 0o600))
	}
	return out, err
}

func scriptOrder(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: order NAME FLAGS...")
	}
	name := args[0]
	_, err := runWrit(ts, name+".sign", append([]string{
		"sign", "--config", "w/writ.yaml", "--audience", ts.Getenv("AUDIENCE"), "--requested-by", "alice", "--reason", "OPS-1: " + name,
		"--key", "alice.key", "--yes", "--out", name + ".writ",
	}, args[1:]...)...)
	ts.Check(err)
	_, err = runWrit(ts, name+".inspect", "inspect", name+".writ", "--policy", "w/policy.yaml", "--audience", ts.Getenv("AUDIENCE"))
	ts.Check(err)
	text, err := runWrit(ts, "", "--json", "inspect", name+".writ")
	ts.Check(err)
	nonce := regexp.MustCompile(`"nonce":"([0-9a-f]+)"`).FindStringSubmatch(text)
	if nonce == nil {
		ts.Fatalf("inspect gives no nonce: %s", text)
	}
	ts.Check(os.WriteFile(ts.MkAbs(name+".nonce"), []byte(nonce[1]), 0o600))
}

func scriptDone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: done NAME EFFECT...")
	}
	name, writ := args[0], args[0]+".writ"
	if text, err := runWrit(ts, "", "submit", "--wait", "1m", writ); err != nil || !strings.HasPrefix(text, "succeeded: ") {
		ts.Fatalf("submit %s: got %v and\n%s", writ, err, text)
	}
	scriptAccount(ts, false, args[1:])
	if text, err := runWrit(ts, "", "submit", writ); err != nil || !strings.HasPrefix(text, "already-applied: ") {
		ts.Fatalf("submit %s again: got %v and\n%s", writ, err, text)
	}
	scriptAccount(ts, false, nil)
	nonce := ts.ReadFile(name + ".nonce")
	text, err := runWrit(ts, name+".op", "ops", "show", nonce)
	ts.Check(err)
	if !regexp.MustCompile(`(?m)^state +succeeded since `).MatchString(text) || strings.Contains(text, nonce) {
		ts.Fatalf("ops show: got\n%s\nwant it succeeded, without its whole nonce", text)
	}
	text, err = runWrit(ts, name+".why", "audit", "why", "--url", ts.Getenv("WRIT_URL"), nonce)
	ts.Check(err)
	if !strings.Contains(text, "All of it holds") || !strings.Contains(text, " was done, once;") {
		ts.Fatalf("audit why: got\n%s\nwant it done, and all of it to hold", text)
	}
	// The scope of the claim and of the launch rests on what is on record.
	if n := len(regexp.MustCompile(`the gate saw: .*on node pve`).FindAllString(text, -1)); n < 2 {
		ts.Fatalf("audit why: got the gate's facts %d times in\n%s\nwant them of the claim and of the launch", n, text)
	}
}

func scriptRefused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: refused NAME REASON REGEXP")
	}
	text, err := runWrit(ts, "", "submit", "--wait", "1m", args[0]+".writ")
	re := regexp.MustCompile("^" + args[1] + ": (?s:.*)" + args[2])
	if err == nil || !re.MatchString(text) || strings.Contains(text, "effect ") && !strings.Contains(text, "effect    none") {
		ts.Fatalf("submit %s: got %v and\n%s\nwant it refused, effect none, as %s", args[0], err, text, re)
	}
	scriptAccount(ts, false, nil)
}

// accountSeen is the variable that holds how many effects were looked at.
const accountSeen = "SIM_ACCOUNT_SEEN"

func scriptAccount(ts *testscript.TestScript, neg bool, want []string) {
	if neg {
		ts.Fatalf("usage: account EFFECT...")
	}
	got := effectsSince(ts)
	if strings.Join(got, " ") != strings.Join(want, " ") {
		ts.Fatalf("effects: got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func scriptBackups(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: backups N")
	}
	got := effectsSince(ts)
	made := slices.DeleteFunc(slices.Clone(got), func(e string) bool { return !strings.HasPrefix(e, string(pvesim.BackupCreated)+":") })
	if len(made) != len(got) || strconv.Itoa(len(made)) != args[0] {
		ts.Fatalf("effects: got\n%s\nwant %s backups made", strings.Join(got, "\n"), args[0])
	}
}

// effectsSince are the effects since the last time that they were asked for.
func effectsSince(ts *testscript.TestScript) []string {
	var all []pvesim.Effect
	ts.Check(json.Unmarshal(askSim(ts, http.MethodGet, "/effects", ""), &all))
	seen, _ := strconv.Atoi(ts.Getenv(accountSeen)) // none before the first time
	ts.Setenv(accountSeen, strconv.Itoa(len(all)))
	var got []string
	for _, e := range all[seen:] {
		got = append(got, effectText(e))
	}
	return got
}

// effectText is an effect as scripts name it.
func effectText(e pvesim.Effect) string {
	to := strconv.Itoa(e.VMID)
	switch {
	case e.Device != "":
		to = e.Device
	case e.Volume != "":
		to = e.Volume
	case e.Snapshot != "":
		to += "@" + e.Snapshot
	}
	return string(e.Kind) + ":" + to
}

func scriptBackup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: backup VMID STORAGE VAR")
	}
	var made pvesim.Volume
	body := fmt.Sprintf(`{"vmid":%s,"storage":%q}`, args[0], args[1])
	ts.Check(json.Unmarshal(askSim(ts, http.MethodPost, "/backups", body), &made))
	ts.Setenv(args[2], made.VolID)
}

// askSim asks the simulator's own interface, below /sim.
func askSim(ts *testscript.TestScript, method, path, body string) []byte {
	pem, err := os.ReadFile(ts.Getenv("SIM_CA_FILE"))
	ts.Check(err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		ts.Check(errors.New("no certificate in " + ts.Getenv("SIM_CA_FILE")))
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(context.Background(), method, ts.Getenv("SIM_URL")+"/sim"+path, strings.NewReader(body))
	ts.Check(err)
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if resp.StatusCode > 299 {
		ts.Fatalf("%s %s: %s %s", method, path, resp.Status, answer)
	}
	return answer
}
