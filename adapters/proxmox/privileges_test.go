package proxmox_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
)

// lines are entries of an access control list, one a line: path, who, role, and
// "here" if it is not passed on. Who is a user, a token, or a group with an @ in
// front.
func lines(text string) []proxmox.AccessEntry {
	var acl []proxmox.AccessEntry
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		e := proxmox.AccessEntry{Path: f[0], Kind: "user", Who: f[1], Role: f[2], Propagate: len(f) == 3}
		if strings.Contains(e.Who, "!") {
			e.Kind = "token"
		} else if group, ok := strings.CutPrefix(e.Who, "@"); ok {
			e.Kind, e.Who = "group", group
		}
		acl = append(acl, e)
	}
	return acl
}

// accessOf is a small cluster: alice is in the groups ops and dev and has a
// separated token and one that is not; bob is in none.
func accessOf(acl string) *proxmox.Access {
	return &proxmox.Access{
		Users: map[string]proxmox.AccessUser{
			"root@pam": {Enabled: true, Tokens: map[string]proxmox.AccessToken{"all": {}, "some": {Separated: true}}},
			"alice@pve": {Enabled: true, Groups: []string{"dev", "ops"}, Tokens: map[string]proxmox.AccessToken{
				"less": {Separated: true}, "same": {},
			}},
			"bob@pve": {Enabled: true},
		},
		Roles: map[string][]string{
			"Administrator": {"Datastore.Allocate", "VM.Allocate", "VM.Audit"}, "NoAccess": {},
			"Kill": {"VM.Allocate"}, "Look": {"VM.Audit"}, "Both": {"VM.Allocate", "VM.Audit"}, "Store": {"Datastore.Allocate"},
		},
		Pools: map[string][]string{"team": {"/vms/105", "/storage/local"}, "team/inner": {"/vms/106"}, "other": {"/storage/local"}},
		ACL:   lines(acl),
	}
}

// What counts where, after the rules of pve-access-control.
func TestPrivileges(t *testing.T) {
	for _, c := range []struct {
		name, acl, who, object string
		want                   string // privileges, with + where passed on
	}{
		{"nothing said", ``, "bob@pve", "/vms/105", ""},
		{"root needs nothing said", ``, "root@pam", "/vms/105", "Datastore.Allocate+ VM.Allocate+ VM.Audit+"},
		{"an entry for root is not read", `/ root@pam NoAccess`, "root@pam", "/", "Datastore.Allocate+ VM.Allocate+ VM.Audit+"},
		{"passed on from the root", `/ bob@pve Kill`, "bob@pve", "/vms/105", "VM.Allocate+"},
		{"not passed on", `/vms bob@pve Kill here`, "bob@pve", "/vms/105", ""},
		{"not passed on counts at its place", `/vms bob@pve Kill here`, "bob@pve", "/vms", "VM.Allocate"},
		{"two roles at one place", "/vms bob@pve Kill\n/vms bob@pve Look here", "bob@pve", "/vms", "VM.Allocate+ VM.Audit"},
		{"a privilege of two roles is passed on if one is", "/vms bob@pve Kill\n/vms bob@pve Both here", "bob@pve", "/vms", "VM.Allocate+ VM.Audit"},
		{"the deeper place replaces", "/vms bob@pve Both\n/vms/105 bob@pve Look", "bob@pve", "/vms/105", "VM.Audit+"},
		{"a deeper place for somebody else does not", "/vms bob@pve Both\n/vms/105 alice@pve Look", "bob@pve", "/vms/105", "VM.Allocate+ VM.Audit+"},
		{"another object of the same beginning is not below", "/vms/10 bob@pve Kill", "bob@pve", "/vms/105", ""},
		{"by a group", `/vms @ops Kill`, "alice@pve", "/vms/105", "VM.Allocate+"},
		{"by a group that one is not in", `/vms @ops Kill`, "bob@pve", "/vms/105", ""},
		{"by two groups", "/vms @ops Kill\n/vms @dev Look", "alice@pve", "/vms/105", "VM.Allocate+ VM.Audit+"},
		{"an own entry hides those of groups there", "/vms @ops Kill\n/vms alice@pve Look", "alice@pve", "/vms/105", "VM.Audit+"},
		{"not if it does not count there", "/vms @ops Kill\n/vms alice@pve Look here", "alice@pve", "/vms/105", "VM.Allocate+"},
		{"a deeper entry of a group replaces an own one above", "/vms alice@pve Kill\n/vms/105 @dev Look", "alice@pve", "/vms/105", "VM.Audit+"},
		{"no access", "/vms bob@pve Both\n/vms/105 bob@pve NoAccess", "bob@pve", "/vms/105", ""},
		{"no access wins over other roles there", "/vms bob@pve Kill\n/vms bob@pve NoAccess", "bob@pve", "/vms/105", ""},
		{"no access above is replaced below", "/ bob@pve NoAccess\n/vms/107 bob@pve Kill", "bob@pve", "/vms/107", "VM.Allocate+"},
		{"but not if a pool says it again", "/ bob@pve NoAccess\n/vms/105 bob@pve Kill", "bob@pve", "/vms/105", ""},
		{"no access of one group wins over another", "/vms @ops Kill\n/vms @dev NoAccess", "alice@pve", "/vms/105", ""},
		{"no access that is not passed on", "/vms bob@pve Kill\n/vms bob@pve NoAccess here", "bob@pve", "/vms/105", "VM.Allocate+"},
		{"a pool gives its members, and no further", `/pool/team bob@pve Kill`, "bob@pve", "/vms/105", "VM.Allocate"},
		{"what goes to pools goes to their members", `/pool bob@pve Kill`, "bob@pve", "/vms/105", "VM.Allocate"},
		{"not if it is not passed on to the pool", `/pool bob@pve Kill here`, "bob@pve", "/vms/105", ""},
		{"storages are members, too", `/pool/team bob@pve Store`, "bob@pve", "/storage/local", "Datastore.Allocate"},
		{"not what is no member", `/pool/team bob@pve Kill`, "bob@pve", "/vms/107", ""},
		{"a pool's rights go to a pool in it", `/pool/team bob@pve Kill`, "bob@pve", "/vms/106", "VM.Allocate"},
		{"not if they are not passed on", `/pool/team bob@pve Kill here`, "bob@pve", "/vms/106", ""},
		{"a pool adds to an own entry", "/pool/team bob@pve Kill\n/vms/105 bob@pve Look", "bob@pve", "/vms/105", "VM.Allocate VM.Audit+"},
		{"a pool does not make up for no access", "/pool/team bob@pve Kill\n/vms/105 bob@pve NoAccess", "bob@pve", "/vms/105", ""},
		{"no access of a pool wins", "/pool/team bob@pve NoAccess\n/vms/105 bob@pve Kill", "bob@pve", "/vms/105", ""},
		{"no access of one pool wins over another", "/pool/team bob@pve NoAccess\n/pool/other bob@pve Store", "bob@pve", "/storage/local", ""},
		{"a pool's role does not take the passing on away", "/pool/team bob@pve Kill here\n/vms bob@pve Kill", "bob@pve", "/vms/105", "VM.Allocate+"},
		{"a token that is not separated", `/vms alice@pve Kill`, "alice@pve!same", "/vms/105", "VM.Allocate+"},
		{"entries of such a token are not read", `/vms alice@pve!same Kill`, "alice@pve!same", "/vms/105", ""},
		{"a separated token without entries", `/vms alice@pve Kill`, "alice@pve!less", "/vms/105", ""},
		{"a separated token has not what its user has not", `/vms alice@pve!less Kill`, "alice@pve!less", "/vms/105", ""},
		{"what both have", "/vms alice@pve Both\n/vms/105 alice@pve!less Kill here", "alice@pve!less", "/vms/105", "VM.Allocate"},
		{"a group of the user is none of the token", "/vms @ops Both\n/vms @ops Kill", "alice@pve!less", "/vms/105", ""},
		{"the user's rights may come by a group", "/vms @ops Both\n/vms alice@pve!less Kill", "alice@pve!less", "/vms/105", "VM.Allocate+"},
		{"a token of root has what root has", ``, "root@pam!all", "/vms/105", "Datastore.Allocate+ VM.Allocate+ VM.Audit+"},
		{"a separated token of root has its own entries", `/vms root@pam!some Kill`, "root@pam!some", "/vms/105", "VM.Allocate+"},
		{"no such token", `/vms alice@pve Kill`, "alice@pve!gone", "/vms/105", ""},
		{"an unknown role gives nothing, and replaces", "/vms bob@pve Kill\n/vms/105 bob@pve Gone", "bob@pve", "/vms/105", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			held := accessOf(c.acl).Privileges(c.who, c.object)
			for _, p := range slices.Sorted(maps.Keys(held)) {
				mark := ""
				if held[p].PassedOn {
					mark = "+"
				}
				got = append(got, p+mark)
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
		})
	}
}

// From where a privilege comes.
func TestPrivilegesTellTheirSource(t *testing.T) {
	a := accessOf("/ @ops Kill\n/vms @ops Kill\n/vms @dev Both\n/pool/team @dev Look")
	got := fmt.Sprint(a.Privileges("alice@pve", "/vms/105"))
	want := "map[VM.Allocate:{true [{/vms Both dev} {/vms Kill ops}]} VM.Audit:{true [{/pool/team Look dev} {/vms Both dev}]}]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The simulator computes the same, by code that shares nothing with this one.
func TestPrivilegesAgainstTheSimulator(t *testing.T) {
	const rounds = 60
	rng := rand.New(rand.NewPCG(7, 9))
	pick := func(from []string) string { return from[rng.IntN(len(from))] }
	users := []string{"alice@pve", "bob@pve", "root@pam"}
	who := []string{"alice@pve", "bob@pve", "@ops", "@dev", "alice@pve!less", "alice@pve!same", "root@pam!some"}
	paths := []string{"/", "/vms", "/vms/105", "/vms/106", "/vms/107", "/pool", "/pool/team", "/pool/team/inner", "/storage", "/storage/local", "/access"}
	roles := []string{"Kill", "Look", "Both", "Store", "NoAccess", "Administrator"}
	for round := range rounds {
		sim, err := pvesim.New(pvesim.Options{AuthDelay: -1})
		if err != nil {
			t.Fatal(err)
		}
		a := accessOf("")
		for _, id := range users {
			if id != "root@pam" {
				sim.AddUser(id, "", a.Users[id].Groups...)
			}
			for name, tok := range a.Users[id].Tokens {
				if _, err := sim.AddToken(id+"!"+name, pvesim.Token{Privsep: tok.Separated}); err != nil {
					t.Fatal(err)
				}
			}
		}
		for name, privileges := range a.Roles {
			if name != "Administrator" && name != "NoAccess" {
				sim.AddRole(name, privileges...)
			}
		}
		for pool, members := range a.Pools {
			var storages []string
			for _, m := range members {
				if s, ok := strings.CutPrefix(m, "/storage/"); ok {
					storages = append(storages, s)
				}
			}
			sim.AddPool(pool, "", storages...)
		}
		sim.SetPool(105, "team")
		sim.SetPool(106, "team/inner")
		given := map[string]bool{}
		for range 1 + rng.IntN(9) {
			e := lines(pick(paths) + " " + pick(who) + " " + pick(roles))[0]
			e.Propagate = rng.IntN(3) > 0
			name := e.Who
			if e.Kind == "group" {
				name = "@" + e.Who
			}
			key := e.Path + name + e.Role
			if given[key] {
				continue
			}
			given[key] = true
			sim.Grant(e.Path, name, e.Role, e.Propagate)
			a.ACL = append(a.ACL, e)
		}
		secret, err := sim.AddToken("root@pam!ask", pvesim.Token{})
		if err != nil {
			t.Fatal(err)
		}
		// The simulator knows all privileges of an Administrator.
		a.Roles["Administrator"] = simPrivileges(t, sim, secret, "root@pam", "/")
		for _, id := range append(who[:2:2], who[4:]...) {
			for _, path := range paths {
				got := slices.Sorted(maps.Keys(a.Privileges(id, path)))
				want := simPrivileges(t, sim, secret, id, path)
				if !slices.Equal(got, want) {
					t.Fatalf("round %d, %s on %s: got %q, the simulator says %q, with %v", round, id, path, got, want, a.ACL)
				}
			}
		}
		sim.Close()
	}
}

// simPrivileges asks the simulator what somebody may do on an object.
func simPrivileges(t *testing.T, sim *pvesim.Sim, secret, who, path string) []string {
	t.Helper()
	got := sim.Do(t.Context(), pvesim.Request{
		Method: "GET", Path: "/api2/json/access/permissions",
		Query:  url.Values{"userid": {who}, "path": {path}}.Encode(),
		Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!ask=" + secret}},
	})
	var answer struct {
		Data map[string]map[string]int `json:"data"`
	}
	if err := json.Unmarshal(got.Body, &answer); err != nil {
		t.Fatalf("got %d %s: %v", got.Status, got.Body, err)
	}
	return slices.Sorted(maps.Keys(answer.Data[path]))
}
