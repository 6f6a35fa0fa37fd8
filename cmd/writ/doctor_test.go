package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const doctorPassword = "correct horse"

// A doctorWorld is a cluster that knows nothing of writ, and a ledger with a
// policy that allows some classes.
type doctorWorld struct {
	t   *testing.T
	sim *pvesim.Sim
	dir string
}

func newDoctorWorld(t *testing.T) *doctorWorld {
	t.Helper()
	w := &doctorWorld{t: t, dir: filepath.Join(t.TempDir(), "w")}
	var err error
	w.sim, err = pvesim.New(pvesim.Options{Nodes: []string{"pve1", "pve2"}, AuthDelay: -1})
	w.must(err)
	server, err := w.sim.Start(pvesim.Listen{Addr: "127.0.0.1:0", EachNode: true})
	w.must(err)
	t.Cleanup(func() {
		_ = server.Close()
		w.sim.Close()
	})
	w.task("pve1")
	w.task("pve2")
	w.run(exitOK, "init", "--agent", "lab", w.dir)
	w.run(exitOK, "keygen", "--out", w.file("alice.key"), "--person", "alice", "--no-passphrase")
	key, err := os.ReadFile(w.file("alice.key.pub"))
	w.must(err)
	w.write("policy.yaml", fmt.Sprintf(`version: 1
people:
  alice:
    keys:
      - {key: %s, format: ssh}
roles:
  operator:
    holders: [alice]
    quorum: 1
    max_lifetime: 24h
    requester_counts: true
    allow:
      - classes: [guest-destroy, guest-stop]
        on: {vmids: [100-199]}
      - classes: [backup-delete]
        on: {storages: [local]}
`, strings.TrimSpace(string(key))))
	w.write("ca.pem", string(server.CAPEM))
	w.write("secret", "not-yet-made")
	w.write("password", doctorPassword)
	for name, value := range map[string]string{
		"WRIT_LISTEN": "127.0.0.1:1", "WRIT_INSTANCE": "test", "WRIT_HOST_PROXMOX_URL": server.URL,
		"WRIT_HOST_PROXMOX_NODES":             fmt.Sprintf("{pve1: %q, pve2: %q}", server.URLs["pve1"], server.URLs["pve2"]),
		"WRIT_HOST_PROXMOX_TOKEN_SECRET_FILE": w.file("secret"), "WRIT_HOST_PROXMOX_CA_FILE": w.file("ca.pem"),
		"WRIT_HOST_PROXMOX_USER": "writ-launch@pve", "WRIT_HOST_PROXMOX_PASSWORD_FILE": w.file("password"),
	} {
		t.Setenv(name, value)
	}
	return w
}

func (w *doctorWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *doctorWorld) file(name string) string { return filepath.Join(w.dir, name) }

func (w *doctorWorld) write(name, text string) {
	w.t.Helper()
	w.must(os.WriteFile(w.file(name), []byte(text), 0o600))
}

// task lets a node have a history.
func (w *doctorWorld) task(node string) {
	w.t.Helper()
	vmid, err := w.sim.AddGuest(pvesim.Guest{Node: node})
	w.must(err)
	secret, err := w.sim.AddToken("root@pam!past", pvesim.Token{})
	w.must(err)
	got := w.sim.Do(w.t.Context(), pvesim.Request{
		Node: node, Method: "POST", Path: fmt.Sprintf("/api2/json/nodes/%s/qemu/%d/status/start", node, vmid.VMID),
		Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!past=" + secret}},
	})
	if got.Status != http.StatusOK {
		w.t.Fatalf("make a past task: got %d %s", got.Status, got.Reason)
	}
}

// run runs the program, and gives what it prints.
func (w *doctorWorld) run(code int, args ...string) string {
	w.t.Helper()
	var out, errw bytes.Buffer
	if got := run(w.t.Context(), args, strings.NewReader(""), &out, &errw); got != code {
		w.t.Fatalf("writ %s: got exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errw.String())
	}
	return out.String()
}

// examine runs doctor for programs.
func (w *doctorWorld) examine(code int, args ...string) diagnosis {
	w.t.Helper()
	var d diagnosis
	before := len(w.sim.Requests())
	defer func() {
		w.t.Helper()
		for _, q := range w.sim.Requests()[before:] {
			if q.Method != http.MethodGet && !strings.HasSuffix(q.Path, "/access/ticket") {
				w.t.Errorf("got %s %s sent, want nothing but questions and a login", q.Method, q.Path)
			}
		}
	}()
	text := w.run(code, append([]string{"--json", "doctor", "--config", w.file(configName)}, args...)...)
	w.must(json.Unmarshal([]byte(text), &d))
	if d.OK != (code == exitOK) {
		w.t.Errorf("got ok %t with exit code %d", d.OK, code)
	}
	return d
}

// setUp does what doctor says.
func (w *doctorWorld) setUp() {
	w.t.Helper()
	for _, line := range w.examine(exitFailed).Commands {
		secret, err := w.sim.Pveum(line, doctorPassword)
		w.must(err)
		if secret != "" {
			w.write("secret", secret)
		}
	}
}

// rest are the findings that are not well. How fast the disk is does not count.
func (d diagnosis) rest() []finding {
	return slices.DeleteFunc(slices.Clone(d.Checks), func(f finding) bool { return f.State == stateOK || f.Check == "fsync" })
}

// On a cluster that knows nothing of writ the commands that doctor prints are all
// that it takes: then everything is well, and nothing is left to be done.
func TestDoctorSetsUp(t *testing.T) {
	w := newDoctorWorld(t)
	first := w.examine(exitFailed)
	if !first.FromNothing || len(first.Commands) == 0 || first.rest()[0].Check != "api" {
		t.Fatalf("before: got %+v, want the API to be unusable and commands that begin with nothing", first)
	}
	w.setUp()
	d := w.examine(exitOK)
	if rest := d.rest(); len(rest) > 0 || len(d.Commands) > 0 || d.FromNothing {
		t.Errorf("after: got %+v and %q, want all well and nothing to do", rest, d.Commands)
	}
	var checks []string
	for _, f := range d.Checks {
		checks = append(checks, f.Check)
	}
	want := []string{
		"api", "version", "certificate", "certificate", "quorum", "node pve1", "clock of pve1", "tasks of pve1", "node pve2", "clock of pve2", "tasks of pve2",
		"credentials", "service user", "attempt roles", "privileges", "least privilege", "policy", "keys", "ledger", "policy in force", "high-water mark", "disk", "fsync",
	}
	if !slices.Equal(checks, want) {
		t.Errorf("checks: got %q, want %q", checks, want)
	}
	text := w.run(exitOK, "doctor", "--config", w.file(configName))
	for _, part := range []string{
		"ok    privileges       all that is needed for guest-destroy, backup-delete, guest-stop\n",
		"0 failures.\n",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("text: got\n%s\nwant it to say %q", text, part)
		}
	}
	if strings.ContainsAny(text, "\x1b\r") {
		t.Errorf("text: got colours or progress, want none where there is no terminal:\n%s", text)
	}
}

// What is wrong is found, by name, with what to do about it.
func TestDoctorFinds(t *testing.T) {
	cases := map[string]struct {
		spoil func(w *doctorWorld)
		code  int
		want  string // check, state, then parts of what is said
		says  []string
	}{
		"a privilege too little": {
			func(w *doctorWorld) {
				w.sim.AddRole("WritServiceGuests", "VM.Allocate", "VM.Config.Options", "VM.Backup")
			},
			exitFailed, "privileges fail",
			[]string{"VM.PowerMgmt on /vms for writ-launch@pve: it is missing", "guest-stop"},
		},
		"a guest that is kept from it": {
			func(w *doctorWorld) { w.sim.Grant("/vms/100", "writ-launch@pve", "NoAccess", false) },
			exitOK, "privileges warn",
			[]string{"VM.Allocate on /vms/100 for writ-launch@pve: something else is said there"},
		},
		"a privilege that is wanted": {
			func(w *doctorWorld) { w.sim.AddRole("WritLookHere") },
			exitOK, "privileges warn",
			[]string{"Sys.Syslog on / for writ@pve!writ", "every class"},
		},
		"a privilege too much": {
			func(w *doctorWorld) { w.sim.AddRole("WritLookPools", "Pool.Audit", "Pool.Allocate") },
			exitOK, "least privilege warn",
			[]string{"writ@pve!writ may do more than it needs", "on /pool: Pool.Allocate"},
		},
		"an attempt's role with more": {
			func(w *doctorWorld) { w.sim.AddRole("WritAttempt", "VM.Allocate", "VM.Audit") },
			exitFailed, "attempt roles fail",
			[]string{`role WritAttempt holds ["VM.Allocate" "VM.Audit"], and must hold VM.Allocate alone`},
		},
		"another password": {
			func(w *doctorWorld) { w.sim.SetPassword("writ-launch@pve", "battery") },
			exitFailed, "service user fail",
			[]string{"log in as writ-launch@pve", "pveum passwd writ-launch@pve"},
		},
		"a foreign token of the service user": {
			func(w *doctorWorld) {
				_, err := w.sim.AddToken("writ-launch@pve!ansible", pvesim.Token{})
				w.must(err)
			},
			exitOK, "service user warn",
			[]string{"writ-launch@pve!ansible"},
		},
		"no quorum": {
			func(w *doctorWorld) {
				no := false
				w.must(w.sim.Node("pve1", pvesim.NodeControl{Quorate: &no}))
			},
			exitFailed, "quorum fail",
			[]string{"node pve1 is not part of a quorate cluster"},
		},
		"a key that ends soon": {
			func(w *doctorWorld) {
				policy, err := os.ReadFile(w.file("policy.yaml"))
				w.must(err)
				end := time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339)
				w.write("policy.yaml", strings.Replace(string(policy), "format: ssh", "format: ssh, not_after: "+end, 1))
			},
			exitOK, "keys warn",
			[]string{"of alice counts only until"},
		},
		"a role that nobody can fill": {
			func(w *doctorWorld) {
				policy, err := os.ReadFile(w.file("policy.yaml"))
				w.must(err)
				w.write("policy.yaml", strings.Replace(string(policy), "format: ssh", "format: ssh, revoked_at: 2026-01-01T00:00:00Z", 1))
			},
			exitFailed, "keys fail",
			[]string{"role operator takes 1 people, and only 0"},
		},
		"a policy that can't be meant": {
			func(w *doctorWorld) { w.write("policy.yaml", "version: 2\n") },
			exitFailed, "policy fail",
			[]string{"policy.yaml"},
		},
		"no high-water mark": {
			func(w *doctorWorld) { w.must(os.Remove(highWaterOf(w.file(ledgerName)))) },
			exitFailed, "high-water mark fail",
			[]string{"is missing: nothing is launched"},
		},
		"a ledger that is not there": {
			func(w *doctorWorld) { w.must(os.RemoveAll(w.file(ledgerName))) },
			exitFailed, "ledger fail",
			[]string{"no service answers for it"},
		},
		"no service user": {
			func(w *doctorWorld) {
				w.must(os.Unsetenv("WRIT_HOST_PROXMOX_USER")) // set back when the test ends, as it was set by it
				w.must(os.Unsetenv("WRIT_HOST_PROXMOX_PASSWORD_FILE"))
			},
			exitFailed, "credentials warn",
			[]string{"can't be made void"},
		},
		"a node without a URL": {
			func(w *doctorWorld) { w.t.Setenv("WRIT_HOST_PROXMOX_NODES", "{}") },
			exitOK, "node pve2 warn",
			[]string{"no fence can be confirmed"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newDoctorWorld(t)
			w.setUp()
			c.spoil(w)
			d := w.examine(c.code)
			if strings.HasPrefix(c.want, "policy") && len(d.Commands) > 0 {
				t.Errorf("commands: got %q, want none that would take away what is there", d.Commands)
			}
			for _, f := range d.Checks {
				text := f.Found + f.Remedy
				if f.Check+" "+string(f.State) == c.want && !slices.ContainsFunc(c.says, func(s string) bool { return !strings.Contains(text, s) }) {
					return
				}
			}
			t.Errorf("got %+v, want %s with %q", d.rest(), c.want, c.says)
		})
	}
}

// What was set up and then spoiled is mended by the commands, and by nothing but
// what is missing or too much.
func TestDoctorMends(t *testing.T) {
	w := newDoctorWorld(t)
	w.setUp()
	w.sim.AddRole("WritAttempt-VM.PowerMgmt", "VM.PowerMgmt", "VM.Allocate")
	w.sim.Grant("/", "writ-launch@pve", "Administrator", true)
	w.sim.Revoke("/storage", "writ@pve!writ")
	d := w.examine(exitFailed)
	want := []string{
		"pveum role modify WritAttempt-VM.PowerMgmt --privs 'VM.PowerMgmt'",
		"pveum acl modify /storage --tokens 'writ@pve!writ' --roles WritLookStorages --propagate 1",
		"pveum acl delete / --users writ-launch@pve --roles Administrator",
	}
	if !slices.Equal(d.Commands, want) || d.FromNothing {
		t.Errorf("commands: got %q, want %q", d.Commands, want)
	}
	w.setUp()
	if d := w.examine(exitOK); len(d.rest()) > 0 {
		t.Errorf("after: got %+v, want all well", d.rest())
	}
}

// While a service holds the ledger it is asked how it is; else the ledger is
// opened, and left as it was.
func TestDoctorBesideAService(t *testing.T) {
	w := newDoctorWorld(t)
	w.setUp()
	t.Setenv("WRIT_LISTEN", "127.0.0.1:0")
	c, err := loadConfig(w.file(configName), os.Environ())
	w.must(err)
	s, err := start(t, c, nil)
	w.must(err)
	find := func(d diagnosis) finding {
		i := slices.IndexFunc(d.Checks, func(f finding) bool { return f.Check == "ledger" })
		return d.Checks[i]
	}
	if f := find(w.examine(exitOK, "--url", s.URL)); f.State != stateOK || !strings.Contains(f.Found, "held by the service at "+s.URL) {
		t.Errorf("while it runs: got %+v, want the service's word", f)
	}
	if f := find(w.examine(exitFailed)); f.State != stateFail || !strings.Contains(f.Remedy, "--url") {
		t.Errorf("where nobody knows its address: got %+v, want to be told of --url", f)
	}
	stop(t, s)
	d := w.examine(exitOK)
	if f := find(d); f.State != stateOK || len(d.rest()) > 0 {
		t.Errorf("once it has ended: got %+v, %+v, want all well", f, d.rest())
	}
	mustBeFree(t, c)
}

// The list for people.
func TestDoctorBypassText(t *testing.T) {
	w := newDoctorWorld(t)
	w.setUp()
	w.sim.AddUser("alice@pam", "", "admins")
	w.sim.Grant("/", "@admins", "PVEAdmin", true)
	w.sim.AddUser("bob@pve", "")
	w.sim.DisableUser("bob@pve", true)
	w.sim.Grant("/vms", "bob@pve", "PVEVMAdmin", true)
	w.sim.Grant("/vms/100", "bob@pve", "NoAccess", false)
	_, err := w.sim.AddToken("alice@pam!ci", pvesim.Token{Expire: time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC).Unix()})
	w.must(err)
	got := w.run(exitOK, "doctor", "--bypass", "--config", w.file(configName))
	path := filepath.Join("testdata", "doctor-bypass.txt")
	if *update {
		w.must(os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	w.must(err)
	if got != string(want) {
		t.Errorf("got\n%s\nwant, by %s,\n%s", got, path, want)
	}

	// A token that sees less says so, and the exit code does.
	w.sim.Revoke("/", "writ@pve!writ")
	got = w.run(exitFailed, "doctor", "--bypass", "--config", w.file(configName))
	if !strings.Contains(got, "not complete: the access control list: token writ@pve!writ sees only what is its own, give it Sys.Audit on /access\n") {
		t.Errorf("got\n%s\nwant it to say what is missing", got)
	}
}

// On a terminal there is colour, and nothing that the host or a policy could have
// written is obeyed by it.
func TestDoctorOnATerminal(t *testing.T) {
	var out bytes.Buffer
	d := diagnosis{Checks: []finding{{"api", stateFail, "answered \x1b[2J\r", "look\nthere"}}, Commands: []string{"pveum role add X --privs 'VM.Audit'"}}
	d.text(plainWriter{&out}, palette(true))
	want := "\x1b[31;1mfail\x1b[0m  api  answered ·[2J·\n           -> look\n              there\n\n" +
		"To give writ what these classes need and no more, as root on any node:\n\n  pveum role add X --privs 'VM.Audit'\n\n" +
		"0 checks are well, 0 warnings, 1 failure.\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
