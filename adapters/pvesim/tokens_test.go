package pvesim_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const (
	tokenPath = "/access/users/svc@pve/token/w-1"
	attempt   = "svc@pve!w-1"
)

// asService makes a request with the service user's ticket.
func (r *rig) asService(method, path, body string) *reply {
	r.t.Helper()
	ticket, csrf := r.sim.Ticket("svc@pve")
	req := request(method, path, "", body)
	req.Header.Set("Cookie", "PVEAuthCookie="+url.QueryEscape(ticket))
	req.Header.Set("CSRFPreventionToken", csrf)
	return r.wait(r.send(req))
}

// withSecret makes a request with a secret that the host handed out.
func withSecret(method, path, id, secret string) pvesim.Request {
	req := request(method, path, "", "")
	req.Header.Set("Authorization", "PVEAPIToken="+id+"="+secret)
	return req
}

// attemptToken makes the token of one attempt and lets it destroy guest 105.
func (r *rig) attemptToken(expire int64) (secret string) {
	r.t.Helper()
	r.sim.Grant("/vms", "svc@pve", "PVEVMAdmin", true)
	made := r.asService("POST", tokenPath, fmt.Sprintf("privsep=1&expire=%d&comment=op-1", expire))
	if made.Status != 200 {
		r.t.Fatalf("create token: got %d %s, want 200", made.Status, made.Reason)
	}
	acl := r.asService("PUT", "/access/acl", "path=/vms/105&roles=WritAttempt&tokens="+attempt+"&propagate=0")
	if acl.Status != 200 {
		r.t.Fatalf("grant: got %d %s, want 200", acl.Status, acl.Reason)
	}
	m, _ := made.Data.(map[string]any)
	secret, _ = m["value"].(string)
	return secret
}

func TestTokenIsCreatedOnlyIfAbsent(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	first := r.asService("POST", tokenPath, "expire=1795419600&comment=op-1")
	check(t, "first", first.Status, 200)
	info, _ := first.Data.(map[string]any)["info"].(map[string]any)
	check(t, "privsep is a number by default", info["privsep"], any(float64(1)))
	check(t, "expire comes back as the string it was", info["expire"], any("1795419600"))
	second := r.asService("POST", tokenPath, "")
	check(t, "second", second.Status, 400)
	check(t, "second's error", second.Errors["tokenid"], "Token already exists.")
	got, _ := r.asService("GET", tokenPath, "").Data.(map[string]any)
	check(t, "expire read back", got["expire"], any(float64(1795419600)))

	check(t, "delete", r.asService("DELETE", tokenPath, "").Status, 200)
	check(t, "free again", r.asService("POST", tokenPath, "").Status, 200)
	check(t, "one character is not a name", r.asService("POST", "/access/users/svc@pve/token/w", "").Status, 400)
}

func TestTokenCreationLosesTheRaceUnderTheLock(t *testing.T) {
	r := newRig(t, pvesim.Pace{Write: time.Second})
	ticket, csrf := r.sim.Ticket("svc@pve")
	req := request("POST", tokenPath, "", "")
	req.Header = http.Header{"Cookie": {"PVEAuthCookie=" + url.QueryEscape(ticket)}, "Csrfpreventiontoken": {csrf}}
	one, two := r.send(req), r.send(req)
	check(t, "winner", r.wait(one).Status, 200)
	check(t, "loser", r.wait(two).Status, 500)
	check(t, "loser's reason", (*two).Reason, "generating token failed: Token already exists.")
}

func TestWhoMayTouchTokens(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.token("svc@pve!all", pvesim.Token{})
	r.sim.AddUser("boss@pve", "secret12")
	r.token("boss@pve!t1", pvesim.Token{})
	r.sim.Grant("/access/groups/svcs", "boss@pve", "PVEUserAdmin", true)
	check(t, "the user by ticket", r.asService("POST", tokenPath, "").Status, 200)
	check(t, "the user's own token", r.call("GET", tokenPath, "svc@pve!all", "").Reason, "Permission check failed")
	check(t, "User.Modify on its group", r.call("GET", tokenPath, "boss@pve!t1", "").Status, 200)
	check(t, "missing token", r.asService("PUT", "/access/users/svc@pve/token/nope", "expire=1").Reason, "no such token 'nope' for user 'svc@pve'")
}

func TestAttemptTokenWorksOnceAndExpires(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	secret := r.attemptToken(1795416000 + 300)
	other := r.wait(r.send(withSecret("DELETE", "/nodes/pve1/qemu/106", attempt, secret)))
	check(t, "other guest", other.Reason, "Permission check failed (/vms/106, VM.Allocate)")
	done := r.wait(r.send(withSecret("DELETE", del105, attempt, secret)))
	check(t, "destroy", done.Status, 200)
	r.vm(105, 1)
	again := r.wait(r.send(withSecret("DELETE", del105, attempt, secret)))
	check(t, "the VMID made anew", again.Reason, "Permission check failed (/vms/105, VM.Allocate)")

	r.sim.Grant("/vms/105", attempt, "WritAttempt", false)
	r.clock.Advance(301 * time.Second)
	began := r.clock.Now()
	late := r.wait(r.send(withSecret("DELETE", del105, attempt, secret)))
	check(t, "after its time", fmt.Sprintf("%d %s %d", late.Status, late.Reason, len(late.Body)), "401 Authentication failed! 0")
	check(t, "delay", r.clock.Now().Sub(began), 3*time.Second)
	check(t, "still listed", r.asService("GET", tokenPath, "").Status, 200)

	r.node("pve1", pvesim.NodeControl{Skew: new(-10 * time.Minute)})
	slow := r.wait(r.send(withSecret("DELETE", del105, attempt, secret)))
	check(t, "by a clock that is behind", slow.Status, 200)
}

// Where the request was when the token was expired decides: in a queue it is
// refused, past the check it runs.
func TestFenceAgainstARequestOnItsWay(t *testing.T) {
	cases := map[string]struct {
		point string
		want  int
		left  bool
	}{
		"not yet read":                  {pvesim.PointArrival, 401, true},
		"waiting for pvedaemon":         {pvesim.PointQueue, 401, true},
		"authenticated, not yet forked": {pvesim.PointFork, 200, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.vm(105, 1)
			secret := r.attemptToken(0)
			hold := r.inject(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Path: del105, Point: c.point})
			pending := r.send(withSecret("DELETE", del105, attempt, secret))
			<-hold.Reached()
			check(t, "fence", r.asService("PUT", tokenPath, "expire=1").Status, 200)
			hold.Release()
			check(t, "status", r.wait(pending).Status, c.want)
			_, left := r.sim.Guest(105)
			check(t, "guest left", left, c.left)
		})
	}
}

func TestNodeBehindStillAcceptsAFencedToken(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, func(g *pvesim.Guest) { g.Node = "pve2" })
	secret := r.attemptToken(0)
	r.node("pve2", pvesim.NodeControl{Behind: new(true)})
	check(t, "fence at pve1", r.asService("PUT", tokenPath, "expire=1").Status, 200)
	ask := func() pvesim.Request {
		req := withSecret("DELETE", "/nodes/pve2/qemu/105", attempt, secret)
		req.Node = "pve2"
		return req
	}
	hold := r.inject(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Point: pvesim.PointQueue})
	pending := r.send(ask())
	<-hold.Reached()
	r.node("pve2", pvesim.NodeControl{Behind: new(false)})
	hold.Release()
	check(t, "caught up before it was handled", r.wait(pending).Status, 401)
	r.node("pve2", pvesim.NodeControl{Behind: new(true)})
	check(t, "fenced view frozen too", r.wait(r.send(ask())).Status, 401)
	r.node("pve2", pvesim.NodeControl{Behind: new(false)})
	r.asService("PUT", tokenPath, "expire=0")
	r.node("pve2", pvesim.NodeControl{Behind: new(true)})
	r.asService("PUT", tokenPath, "expire=1")
	check(t, "behind", r.wait(r.send(ask())).Status, 200)
}

// A node that is behind is not behind what is done on it: the rights on a guest that
// was destroyed there are gone, and those on one that was destroyed elsewhere are not.
func TestNodeBehindSeesItsOwnGuestsComeAndGo(t *testing.T) {
	for node, kept := range map[string]bool{"pve2": false, "pve1": true} {
		r := newRig(t, pvesim.Pace{})
		here := func(g *pvesim.Guest) { g.Node = node }
		r.vm(105, 1, here)
		secret := r.attemptToken(0)
		r.node("pve2", pvesim.NodeControl{Behind: new(true)})
		r.sim.DestroyGuest(105)
		r.vm(105, 1, here)
		req := withSecret("GET", "/access/permissions?path=/vms/105", attempt, secret)
		req.Node = "pve2"
		perms, _ := r.wait(r.send(req)).Data.(map[string]any)["/vms/105"].(map[string]any)
		check(t, "rights on the guest that was on "+node, len(perms) > 0, kept)
	}
}

func TestTokenWritesWithoutQuorum(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.asService("POST", tokenPath, "")
	r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
	began := r.clock.Now()
	got := r.asService("PUT", tokenPath, "expire=1")
	check(t, "fence", got.Reason, "updating token info failed: cfs-lock 'file-user_cfg' error: no quorum!")
	check(t, "delay", r.clock.Now().Sub(began), 10*time.Second)
	r.node("pve1", pvesim.NodeControl{Quorate: new(true)})
	m, _ := r.asService("GET", tokenPath, "").Data.(map[string]any)
	check(t, "nothing written", m["expire"], any(float64(0)))
}

func TestWhatMayBeHandedOut(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.asService("POST", tokenPath, "")
	r.sim.AddPool("p1", "")
	r.sim.SetPool(105, "p1")
	r.sim.Grant("/pool/p1", "svc@pve", "WritAttempt", true)
	put := func(more string) *reply {
		return r.asService("PUT", "/access/acl", "path=/vms/105&tokens="+attempt+"&"+more)
	}
	check(t, "superset", put("roles=PVEVMAdmin&propagate=0").Reason, "ACL update failed: 400 Parameter verification failed.")
	check(t, "unknown role", put("roles=Nope").Reason, "ACL update failed: role 'Nope' does not exist")
	check(t, "with propagation", put("roles=WritAttempt").Message,
		"ACL update failed: 400 Parameter verification failed.\nrole: Cannot add role 'WritAttempt' with propagation - requires 'Permissions.Modify' or propagated superset of privileges.\n")
	check(t, "without", put("roles=WritAttempt&propagate=0").Status, 200)
	check(t, "above the guest", r.asService("PUT", "/access/acl", "path=/vms&roles=WritAttempt&tokens="+attempt).Reason,
		"Permission check failed (/vms, Permissions.Modify)")
	perms, _ := r.asService("GET", "/access/permissions?userid="+attempt+"&path=/vms/105", "").Data.(map[string]any)
	if m, _ := perms["/vms/105"].(map[string]any); len(m) != 1 || m["VM.Allocate"] != any(float64(0)) {
		t.Errorf("permissions of the token: got %v, want VM.Allocate without propagation", perms)
	}
	r.sim.Revoke("/pool/p1", "svc@pve")
	perms, _ = r.asService("GET", "/access/permissions?userid="+attempt, "").Data.(map[string]any)
	check(t, "rights left when the user's are gone", len(perms), 0)
}
