package pvesim_test

import (
	"strings"
	"testing"

	"writ/adapters/pvesim"
)

// The commands of a shell make what the API then shows.
func TestPveum(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	for _, line := range []string{
		"pveum role add Look --privs 'VM.Audit Sys.Audit'",
		"pveum role modify Look --privs VM.Audit",
		"pveum user add carol@pve",
		"pveum acl modify /vms --users carol@pve --roles Look --propagate 0",
		"pveum acl modify / --users carol@pve --roles PVEAuditor --propagate 1",
		"pveum acl delete / --users carol@pve --roles PVEAuditor",
	} {
		if _, err := r.sim.Pveum(line, ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.sim.Pveum("pveum passwd carol@pve", "secret word"); err != nil {
		t.Fatal(err)
	}
	secret, err := r.sim.Pveum("pveum user token add carol@pve ci --privsep 0", "")
	if err != nil || secret == "" {
		t.Fatalf("make a token: got %q, %v", secret, err)
	}
	check(t, "log in", r.call("POST", "/access/ticket", "", "username=carol@pve&password=secret+word").Status, 200)
	check(t, "what it may", string(r.call("GET", "/access/permissions?userid=carol@pve!ci", admin, "").Body), `{"data":{"/vms":{"VM.Audit":0}}}`)
	if _, err := r.sim.Pveum("pveum user token modify carol@pve ci --privsep 1", ""); err != nil {
		t.Fatal(err)
	}
	check(t, "what it may once separated", string(r.call("GET", "/access/permissions?userid=carol@pve!ci", admin, "").Body), `{"data":{}}`)
}

func TestPveumRefuses(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	for line, want := range map[string]string{
		"pveum role add PVEAdmin --privs VM.Audit":                     "already exists",
		"pveum role modify PVEAdmin --privs VM.Audit":                  "cannot be modified",
		"pveum role modify Gone --privs VM.Audit":                      "does not exist",
		"pveum role add X --privs VM.Fly":                              "invalid privilege 'VM.Fly'",
		"pveum role add X --privs":                                     "no value",
		"pveum user add root@pam":                                      "already exists",
		"pveum passwd gone@pve":                                        "no such user",
		"pveum user token add gone@pve t":                              "no such user",
		"pveum user token modify root@pam t --privsep 1":               "can't be",
		"pveum acl modify /vms --users gone@pve --roles PVEAdmin":      "no such user",
		"pveum acl modify /vms --tokens 'root@pam!t' --roles PVEAdmin": "no such user or token",
		"pveum acl modify /vms --users root@pam --roles Gone":          "does not exist",
		"pveum acl modify vms --users root@pam --roles PVEAdmin":       "invalid ACL path",
		"pveum acl modify /vms --roles PVEAdmin":                       "is required",
		"pveum pool add x":                                             "no such command",
		"pveum user add a;reboot":                                      "not a pveum command",
		"rm -rf /":                                                     "not a pveum command",
	} {
		if _, err := r.sim.Pveum(line, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", line, err, want)
		}
	}
}
