package proxmox_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/op"
)

// bypassAt is by what time users and tokens are judged.
var bypassAt = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// newBypassRig makes a cluster with everything that a list of who can bypass writ
// has to tell apart.
func newBypassRig(t *testing.T) *classRig {
	t.Helper()
	r := newClassRig(t, true)
	r.setUp(map[op.Class]proxmox.Reach{op.GuestDestroy: {Guests: true}})
	r.sim.Revoke("/", "svc@pve")
	r.sim.Revoke("/vms", "svc@pve")
	for _, line := range []string{
		"pveum acl modify / --users svc@pve --roles WritLook", "pveum acl modify /vms --users svc@pve --roles WritLookGuests",
	} {
		if _, err := r.sim.Pveum(line, ""); err != nil {
			t.Fatal(err)
		}
	}
	r.guest(pvesim.QEMU)
	r.sim.SetPool(107, "team")
	past, future := bypassAt.Add(-time.Hour).Unix(), bypassAt.Add(time.Hour).Unix()
	add := func(id string, tok pvesim.Token) {
		t.Helper()
		_, err := r.sim.AddToken(id, tok)
		r.add(err)
	}
	r.sim.AddUser("alice@pam", "", "admins")
	r.sim.Grant("/", "@admins", "Administrator", true)
	add("alice@pam!ci", pvesim.Token{})
	add("alice@pam!backup", pvesim.Token{Privsep: true, Expire: future})
	r.sim.Grant("/storage", "alice@pam!backup", "PVEDatastoreUser", true)
	r.sim.Grant("/vms", "alice@pam!backup", "PVEVMUser", true)
	add("alice@pam!none", pvesim.Token{Privsep: true})
	r.sim.AddUser("bob@pve", "")
	r.sim.Grant("/vms", "bob@pve", "PVEVMAdmin", true)
	r.sim.Grant("/vms/107", "bob@pve", "NoAccess", false)
	r.sim.AddUser("carol@pve", "")
	r.sim.Grant("/pool/team", "carol@pve", "PVEVMAdmin", false)
	r.sim.AddUser("dave@pve", "")
	r.sim.DisableUser("dave@pve", true)
	r.sim.Grant("/access", "dave@pve", "PVEUserAdmin", true)
	r.sim.AddUser("erin@pve", "")
	r.sim.ExpireUser("erin@pve", past)
	r.sim.AddRole("Rights", "Permissions.Modify")
	r.sim.Grant("/storage/local", "erin@pve", "Rights", true)
	r.sim.AddUser("frank@pve", "")
	r.sim.Grant("/nodes/pve1", "frank@pve", "PVESysAdmin", true)
	r.sim.AddUser("grace@pve", "")
	r.sim.Grant("/", "grace@pve", "PVEAuditor", true)
	add("root@pam!old", pvesim.Token{Expire: past})
	const stem = "writ@pve!w-0123456789abcdef0123456789abcdef01234567-"
	add(stem+"1", pvesim.Token{Privsep: true, Expire: past})
	add(stem+"2", pvesim.Token{Privsep: true, Expire: future})
	r.sim.Grant("/vms/107", stem+"2", "WritAttempt", false)
	return r
}

// Every user, group member and token, by what they can, and by what entry.
func TestBypass(t *testing.T) {
	r := newBypassRig(t)
	b, err := r.host.Bypass(t.Context(), bypassAt, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !b.Complete || len(b.Unread) > 0 {
		t.Errorf("complete: got %t, %q, want all read, and the host computing the same", b.Complete, b.Unread)
	}
	got, err := json.Marshal(b, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	goldenText(t, "doctor/bypass.json", string(got)+"\n")
}

// What is hidden from the token is said, and the list is not taken for complete.
func TestBypassThatIsNotComplete(t *testing.T) {
	for name, c := range map[string]struct {
		hide func(r *classRig)
		want string
	}{
		"no right to look": {func(r *classRig) {
			r.sim.Grant("/access", token, "NoAccess", true)
		}, "the access control list: token svc@pve!writ sees only what is its own, give it Sys.Audit on /access"},
		"users of a group": {func(r *classRig) {
			r.sim.Grant("/access/groups", token, "NoAccess", true)
		}, "users and their tokens: token svc@pve!writ sees only what is its own, give it Sys.Audit on /access/groups"},
		"one pool": {func(r *classRig) {
			r.sim.Grant("/pool/team", token, "NoAccess", false)
		}, "the members of pools: token svc@pve!writ sees only what is its own, give it Pool.Audit on /pool/team"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newBypassRig(t)
			c.hide(r)
			b, err := r.host.Bypass(t.Context(), bypassAt, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b.Complete || !slices.Contains(b.Unread, c.want) {
				t.Errorf("got complete %t, %q, want it to say %q", b.Complete, b.Unread, c.want)
			}
		})
	}
}

// An answer of the host's that does not fit what was read is said: somebody has
// changed rights meanwhile.
func TestBypassSeesChangesMeanwhile(t *testing.T) {
	r := newBypassRig(t)
	changed := false
	b, err := r.host.Bypass(t.Context(), bypassAt, func(what string) {
		if !changed && strings.Contains(what, "what bob@pve may do") {
			changed = true
			r.sim.Grant("/vms/107", "bob@pve", "PVEVMAdmin", false)
			r.sim.Revoke("/vms/107", "bob@pve")
		}
	})
	if err != nil || b.Complete || len(b.Unread) != 1 || !strings.Contains(b.Unread[0], "bob@pve has") {
		t.Errorf("got complete %t, %q, %v, want bob@pve's rights to be in doubt", b.Complete, b.Unread, err)
	}
}

// Whatever is looked at, nothing is changed: the one request that is not a
// question is the service user's login.
func TestLookingChangesNothing(t *testing.T) {
	r := newBypassRig(t)
	before := len(r.sim.Requests())
	writes := len(r.sim.Effects())
	if _, err := r.host.Bypass(t.Context(), bypassAt, nil); err != nil {
		t.Error(err)
	}
	r.host = r.another(func(*proxmox.Config) {}) // that has not logged in
	needs := proxmox.Needs(r.host.Mode(), allClasses())
	_, lacking := r.host.CheckNeeds(t.Context(), needs)
	_, more := r.host.Superfluous(t.Context(), needs)
	_, _, _, tokens := r.host.OwnTokens(t.Context(), bypassAt)
	_, history := r.host.Tasks(t.Context(), "pve1", bypassAt)
	_, _, clock := r.host.ClockAhead(t.Context(), "pve1", time.Now)
	for _, err := range []error{r.host.CheckLogin(t.Context()), lacking, more, tokens, history, clock} {
		if err != nil {
			t.Error(err)
		}
	}
	r.host.LookAtSeats(t.Context())
	logins := 0
	for _, q := range r.sim.Requests()[before:] {
		switch {
		case q.Method == http.MethodPost && strings.HasSuffix(q.Path, "/access/ticket"):
			logins++
		case q.Method != http.MethodGet:
			t.Errorf("got %s %s sent, want questions alone", q.Method, q.Path)
		}
	}
	if logins != 1 || len(r.sim.Effects()) != writes {
		t.Errorf("got %d logins and %d effects, want one login and no effect", logins, len(r.sim.Effects())-writes)
	}
}
