package pvesim_test

import (
	"testing"

	"writ/adapters/pvesim"
)

// Users, groups and roles as they are shown, and to whom.
func TestAccessReads(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.sim.AddUser("alice@pve", "", "ops", "dev")
	r.sim.AddUser("bob@pam", "", "dev")
	r.sim.DisableUser("bob@pam", true)
	r.sim.ExpireUser("alice@pve", 2000000000)
	r.token("alice@pve!ci", pvesim.Token{Comment: "builds", Expire: 1999999999, Privsep: true})
	r.sim.AddRole("Look", "VM.Audit", "Sys.Audit")
	alice := `{"enable":1,"expire":2000000000,"groups":"dev,ops","realm-type":"pve","tokens":[{"comment":"builds","expire":1999999999,"privsep":1,"tokenid":"ci"}],"userid":"alice@pve"}`
	bob := `{"enable":0,"expire":0,"groups":"dev","realm-type":"pam","tokens":null,"userid":"bob@pam"}`
	got := r.call("GET", "/access/users?full=1&enabled=0", admin, "")
	check(t, "disabled users", string(got.Body), `{"data":[`+bob+`]}`)
	check(t, "one user", string(r.call("GET", "/access/users/alice@pve", admin, "").Body),
		`{"data":{"enable":1,"expire":2000000000,"groups":["dev","ops"],"tokens":{"ci":{"comment":"builds","expire":1999999999,"privsep":1}}}}`)
	check(t, "groups", string(r.call("GET", "/access/groups", admin, "").Body),
		`{"data":[{"groupid":"dev","users":"alice@pve,bob@pam"},{"groupid":"ops","users":"alice@pve"},{"groupid":"svcs","users":"svc@pve"}]}`)
	roles, _ := r.call("GET", "/access/roles", "alice@pve!ci", "").Data.([]any)
	look := map[string]any{}
	for _, row := range roles {
		if m, ok := row.(map[string]any); ok && m["roleid"] == "Look" {
			look = m
		}
	}
	check(t, "a role, to anybody", look["privs"], any("Sys.Audit,VM.Audit"))
	check(t, "not one of the host's own", look["special"], any(float64(0)))

	// A token without rights sees nobody, not even its own user.
	check(t, "users, to a stranger", string(r.call("GET", "/access/users?full=1", "alice@pve!ci", "").Body), `{"data":[]}`)
	check(t, "a user, to a stranger", r.call("GET", "/access/users/bob@pam", "alice@pve!ci", "").Status, 403)
	check(t, "groups, to a stranger", string(r.call("GET", "/access/groups", "alice@pve!ci", "").Body), `{"data":[]}`)
	// A right on one group shows its members.
	r.sim.Grant("/access/groups/ops", "alice@pve", "Look", false)
	r.sim.Grant("/access/groups/ops", "alice@pve!ci", "Look", false)
	check(t, "users of a group", string(r.call("GET", "/access/users?full=1", "alice@pve!ci", "").Body), `{"data":[`+alice+`]}`)
}
