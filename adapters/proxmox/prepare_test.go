package proxmox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// The name is what every copy of a ledger, of any version, must derive.
func TestNameOfAnAttemptsToken(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	_, l := r.attempt(7)
	if want := "writ@pve!w-9ba6e2d1a3bce4e3309374b07dc6ae96deabd9bd-7"; l.Credential != want {
		t.Errorf("credential: got %s, want %s", l.Credential, want)
	}
	if r.host.Mode() != proxmox.ModeAttempt {
		t.Errorf("mode: got %s, want %s", r.host.Mode(), proxmox.ModeAttempt)
	}
	for name, a := range map[string]engine.Attempt{
		"number 0":     {Nonce: nonce, Intent: op.Intent{Class: op.GuestDestroy, Target: l.Target}},
		"no nonce":     {Number: 1, Intent: op.Intent{Class: op.GuestDestroy, Target: l.Target}},
		"no number":    {Nonce: nonce, Number: -1, Intent: op.Intent{Class: op.GuestDestroy, Target: l.Target}},
		"a huge count": {Nonce: nonce, Number: 1e10, Intent: op.Intent{Class: op.GuestDestroy, Target: l.Target}},
	} {
		if _, cred, err := r.exec.Request(a, l.Observed); err == nil {
			t.Errorf("%s: got credential %s, want an error", name, cred)
		}
	}
}

func TestAttemptDestroys(t *testing.T) {
	for _, kind := range []pvesim.Kind{pvesim.QEMU, pvesim.LXC} {
		t.Run(string(kind), func(t *testing.T) {
			r := newAttemptRig(t)
			r.guest(kind, func(g *pvesim.Guest) { g.Node = "pve2" })
			a, l := r.attemptBy(r.exec, op.GuestType(kind), 1)
			began := time.Now()
			upid, err := r.exec.Launch(t.Context(), a, l)
			if err != nil {
				t.Fatal(err)
			}
			r.wantWrites("POST /access/ticket", "POST token 1", "PUT /access/acl", fmt.Sprintf("DELETE /nodes/pve2/%s/107", kind))
			for _, q := range r.sim.Requests()[r.asked:] {
				if q.Node != "pve2" {
					t.Errorf("%s %s went to %s, want the guest's node", q.Method, q.Path, q.Node)
				}
				if by := l.Credential; q.Method == "DELETE" && q.Auth != by {
					t.Errorf("the guest was destroyed as %s, want %s", q.Auth, by)
				}
			}
			expire, comment := r.token(l)
			if left := time.Unix(expire, 0).Sub(began); left < 55*time.Second || left > 65*time.Second {
				t.Errorf("lease: got %s, want a minute", left)
			}
			for _, want := range []string{"op=" + l.OpID, "attempt=1", "target=" + string(kind) + "/107", "document_expires=" + a.ExpiresAt.UTC().Format(time.RFC3339)} {
				if !strings.Contains(comment, want) {
					t.Errorf("comment: got %q, want %q in it", comment, want)
				}
			}
			if strings.Contains(comment, string(nonce)) || strings.Contains(l.Credential, string(nonce)) {
				t.Error("the host was told the nonce")
			}
			task := r.task(upid)
			wantEffect(t, r.probe(l, task), op.EffectDone, 0)
			s := r.tasks(l)
			if len(s.UPIDs) != 1 || s.UPIDs[0] != upid || !s.Exact || !s.Complete {
				t.Errorf("tasks: got %+v, want %s, exact and complete", s, upid)
			}
			r.wantEffects(1, 2)
			for _, e := range r.sim.Effects()[r.before:] {
				if e.Auth != l.Credential {
					t.Errorf("effect: got it by %s, want by %s", e.Auth, l.Credential)
				}
			}
			// Nobody asked for a second ticket.
			r.guest(kind)
			a, l = r.attemptBy(r.exec, op.GuestType(kind), 2, 1)
			if _, err := r.exec.Launch(t.Context(), a, l); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(strings.Join(r.writes(), " "), "ticket"); got != 1 {
				t.Errorf("logins: got %d, want 1", got)
			}
		})
	}
}

// Every step before the request fails in every way it can: the request is not
// sent, and the error says what is proven.
func TestEachStepOfTheLaunchFails(t *testing.T) {
	cut := func(method, path string, after bool) func(*rig) {
		return func(r *rig) { r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: method, Path: path, After: after}) }
	}
	answer := func(method, path string, status int, after bool) func(*rig) {
		return func(r *rig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Method: method, Path: path, Status: status, After: after})
		}
	}
	const list, acl, rights = "/access/users/*/token", "/access/acl", "/access/permissions"
	cases := []struct {
		name string
		do   func(*rig)
		kind string // of the error
		left string // what the host has of the token
		text string
	}{
		{"the node has no quorum", func(r *rig) { r.node("pve1", pvesim.NodeControl{Quorate: new(false)}) }, "definite", "absent", "not part of a quorate cluster"},
		{"the node's state: 596", answer("GET", "/cluster/status", 596, false), "definite", "absent", "/cluster/status"},
		{"login: lost", cut("POST", "/access/ticket", false), "definite", "absent", "log in as writ@pve"},
		{"login: answer lost", cut("POST", "/access/ticket", true), "definite", "absent", "log in as writ@pve"},
		{"login: an odd answer", func(r *rig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Method: "POST", Path: "/access/ticket", Status: 200, Body: `{"data":{"username":"writ@pve","ticket":"PVE:!tfa!x","NeedTFA":1}}`})
		}, "definite", "absent", "second factor"},
		{"login: user disabled", func(r *rig) { r.sim.DisableUser(serviceUser, true) }, "definite", "absent", "401"},
		{"the register: 596", answer("GET", list, 596, false), "definite", "absent", "596"},
		{"the clock: 596", answer("GET", "/nodes/*/time", 596, false), "definite", "absent", "/time"},
		{"the clock: out of order", func(r *rig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Method: "GET", Path: "/nodes/*/time", Status: 200, Body: `{"data":{"time":12}}`})
		}, "definite", "absent", "clock"},
		{"the token: lost", cut("POST", tokenPath, false), "definite", "dead", "lost"},
		{"the token: answer lost", cut("POST", tokenPath, true), "definite", "dead", "lost"},
		{"the token: 595", answer("POST", tokenPath, 595, false), "definite", "absent", "595"},
		{"the token: 596, not made", answer("POST", tokenPath, 596, false), "definite", "dead", "596"},
		{"the token: 596, made", answer("POST", tokenPath, 596, true), "definite", "dead", "596"},
		{"the token: 401", answer("POST", tokenPath, 401, false), "definite", "absent", "401"},
		{"the token: empty 200, made", answer("POST", tokenPath, 200, true), "definite", "dead", "secret"},
		{"the token: 502, made", answer("POST", tokenPath, 502, true), "definite", "dead", "502"},
		{"the token: answer lost, and then nobody can be asked", func(r *rig) {
			cut("POST", tokenPath, true)(r)
			r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Method: "GET", Path: tokenPath, Status: 596})
		}, "ambiguous", "live", "another copy"},
		{"the token: answer lost, and it can't be made void", func(r *rig) {
			cut("POST", tokenPath, true)(r)
			answer("PUT", tokenPath, 595, false)(r)
		}, "definite", "live", "lost"},
		{"the right: lost", cut("PUT", acl, false), "definite", "dead", "acl"},
		{"the right: answer lost", cut("PUT", acl, true), "definite", "dead", "acl"},
		{"the right: 596, given", answer("PUT", acl, 596, true), "definite", "dead", "596"},
		{"the right: no such role", func(r *rig) { r.host = r.another(func(c *proxmox.Config) { c.AttemptRole = "Nope" }) }, "definite", "dead", "Nope"},
		{"the right: not the service user's to give", func(r *rig) { r.sim.Revoke("/vms", serviceUser) }, "definite", "dead", "403"},
		{"the check: 596", answer("GET", rights, 596, false), "definite", "dead", "permissions"},
		{"the check: too little", func(r *rig) { r.sim.AddRole("WritAttempt") }, "definite", "dead", "lacks VM.Allocate"},
		{"the check: too much", func(r *rig) { r.sim.AddRole("WritAttempt", "VM.Allocate", "VM.Config.Options") }, "definite", "dead", "nothing else"},
		{"the guest has changed", func(r *rig) { r.sim.EditGuest(107, map[string]string{"cores": "3"}) }, "definite", "dead", "has changed"},
		{"the guest was made anew", func(r *rig) { r.sim.DestroyGuest(107); r.guest(pvesim.QEMU) }, "definite", "dead", "has changed"},
		{"the guest is gone", func(r *rig) { r.sim.DestroyGuest(107) }, "definite", "dead", "does not exist"},
		{"the request: 401", answer("DELETE", guestPath, 401, false), "definite", "dead", "401"},
		{"the request: 595", answer("DELETE", guestPath, 595, false), "definite", "dead", "595"},
		{"the request: running", func(r *rig) { r.sim.PowerGuest(107, true) }, "definite", "dead", "running"},
		{"the request: lost", cut("DELETE", guestPath, false), "ambiguous", "live", "DELETE"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			c.do(r)
			r.exec = r.host.Executors()[op.GuestDestroy]
			before, _ := r.effects()
			_, err := r.exec.Launch(t.Context(), a, l)
			wantKind(t, err, c.kind)
			if !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want it to say %q", err, c.text)
			}
			if want := strings.HasPrefix(c.name, "the request"); (r.launches() > 0) != want {
				t.Errorf("mutating requests: got %q, want a launch: %v", r.writes(), want)
			}
			if after, _ := r.effects(); after != before {
				t.Errorf("destroyed by the launch: got %d guests, want none", after-before)
			}
			r.wantToken(l, c.left)
			// The process never tries again by itself.
			_, err = r.exec.Launch(t.Context(), a, l)
			wantKind(t, err, "ambiguous")
		})
	}
}

// What two copies of a ledger may not do to each other.
func TestCopyOfTheLedger(t *testing.T) {
	t.Run("the other has launched this attempt", func(t *testing.T) {
		r := newAttemptRig(t)
		r.guest(pvesim.QEMU)
		a, l := r.attempt(1)
		copied := r.another(func(*proxmox.Config) {}).Executors()[op.GuestDestroy]
		b, m := r.attemptBy(copied, op.QEMU, 1)
		if _, err := r.exec.Launch(t.Context(), a, l); err != nil {
			t.Fatal(err)
		}
		r.guest(pvesim.QEMU)
		_, err := copied.Launch(t.Context(), b, m)
		wantKind(t, err, "another copy")
		r.wantEffects(1, 2)
	})
	t.Run("the other is ahead", func(t *testing.T) {
		r := newAttemptRig(t)
		r.guest(pvesim.QEMU)
		a, l := r.attempt(2, 1)
		if _, err := r.exec.Launch(t.Context(), a, l); err != nil {
			t.Fatal(err)
		}
		r.guest(pvesim.QEMU)
		b, m := r.attempt(1)
		_, err := r.exec.Launch(t.Context(), b, m)
		wantKind(t, err, "another copy")
		r.wantEffects(1, 2)
	})
	t.Run("the other is two attempts ahead", func(t *testing.T) {
		r := newAttemptRig(t)
		r.guest(pvesim.QEMU)
		a, l := r.attempt(2, 1)
		if _, err := r.sim.AddToken(strings.TrimSuffix(l.Credential, "2")+"4", pvesim.Token{Expire: 1}); err != nil {
			t.Fatal(err)
		}
		_, err := r.exec.Launch(t.Context(), a, l)
		wantKind(t, err, "another copy")
		r.wantWrites("POST /access/ticket")
	})
	for name, answerLost := range map[string]bool{"both at once": false, "both at once, and the answer to the loser is lost": true} {
		t.Run(name, func(t *testing.T) {
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			copied := r.another(func(*proxmox.Config) {}).Executors()[op.GuestDestroy]
			b, m := r.attemptBy(copied, op.QEMU, 1)
			m.OpID = l.OpID // a machine that was cloned while it ran
			held := r.hold("POST", tokenPath, "", pvesim.PointArrival)
			loser := inBackground(t.Context(), r.exec, a, l)
			<-held.Reached()
			if _, err := copied.Launch(t.Context(), b, m); err != nil {
				t.Fatal(err)
			}
			if answerLost {
				r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "POST", Path: tokenPath, After: true})
			}
			held.Release()
			wantKind(t, <-loser, "another copy")
			r.wantEffects(1, 2)
			if r.launches() != 1 {
				t.Errorf("mutating requests: got %q, want one launch", r.writes())
			}
		})
	}
}

// An attempt whose launch failed before it had a token leaves its name free. The
// next one takes it, so that no copy of the ledger that knows of neither can.
func TestMissingTokenOfAnEarlierAttempt(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	first, l := r.attempt(1)
	r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Method: "POST", Path: "/access/ticket", Status: 595})
	_, err := r.exec.Launch(t.Context(), first, l)
	wantKind(t, err, "definite")
	r.wantToken(l, "absent")
	a, m := r.attempt(2, 1)
	if _, err := r.exec.Launch(t.Context(), a, m); err != nil {
		t.Fatal(err)
	}
	r.wantToken(l, "dead")
	r.wantEffects(1, 2)
	_, err = r.another(func(*proxmox.Config) {}).Executors()[op.GuestDestroy].Launch(t.Context(), first, l)
	wantKind(t, err, "another copy")
}

// A destroy that failed keeps the token's right, and the next attempt its own.
func TestNextAttemptAfterAFailedDestroy(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.Lock = "backup" })
	a, l := r.attempt(1)
	upid, err := r.exec.Launch(t.Context(), a, l)
	if err != nil {
		t.Fatal(err)
	}
	wantEffect(t, r.probe(l, r.task(upid)), op.EffectNone, 0)
	r.sim.EditGuest(107, map[string]string{"lock": ""})
	b, m := r.attempt(2, 1)
	upid2, err := r.exec.Launch(t.Context(), b, m)
	if err != nil {
		t.Fatal(err)
	}
	if s := r.tasks(l); len(s.UPIDs) != 1 || s.UPIDs[0] != upid {
		t.Errorf("tasks of the first: got %q, want %s", s.UPIDs, upid)
	}
	if s := r.tasks(m); len(s.UPIDs) != 1 || s.UPIDs[0] != upid2 {
		t.Errorf("tasks of the second: got %q, want %s", s.UPIDs, upid2)
	}
	r.wantEffects(1, 2)
}

// What waits inside the host beyond its time is refused by the host itself.
func TestTokenDoesNotOutliveItsPurpose(t *testing.T) {
	cases := map[string]struct {
		do   func(*rig)
		text string
	}{
		"the lease ends":                      {func(r *rig) { r.node("pve1", pvesim.NodeControl{Skew: new(2 * time.Minute)}) }, "401"},
		"the VMID is handed to another guest": {func(r *rig) { r.sim.DestroyGuest(107); r.guest(pvesim.QEMU) }, "403"},
		"the service user loses its right":    {func(r *rig) { r.sim.Revoke("/vms", serviceUser) }, "403"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			held := r.hold("DELETE", guestPath, "", pvesim.PointQueue)
			done := inBackground(t.Context(), r.exec, a, l)
			<-held.Reached()
			c.do(r)
			before, _ := r.effects()
			held.Release()
			err := <-done
			wantKind(t, err, "definite")
			if !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want %s", err, c.text)
			}
			if after, _ := r.effects(); after != before {
				t.Errorf("destroyed by the launch: got %d guests, want none", after-before)
			}
		})
	}
}

// A ticket that the host no longer takes is replaced, by the read that comes
// before every write.
func TestTicketIsReplaced(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	if _, err := r.exec.Launch(t.Context(), a, l); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pve1", "pve2"} {
		r.node(name, pvesim.NodeControl{Skew: new(3 * time.Hour)})
	}
	r.guest(pvesim.QEMU)
	a, l = r.attempt(2, 1)
	if _, err := r.exec.Launch(t.Context(), a, l); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(strings.Join(r.writes(), " "), "ticket"); got != 2 {
		t.Errorf("logins: got %d, want 2", got)
	}
	r.wantEffects(2, 4)
}

// The signed document ends while the token is made.
func TestDocumentExpiresWhileTheLaunchIsPrepared(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	a.ExpiresAt = time.Now()
	_, err := r.exec.Launch(t.Context(), a, l)
	wantKind(t, err, "definite")
	r.wantToken(l, "dead")
	if !strings.Contains(fmt.Sprint(err), "expired") || r.launches() != 0 {
		t.Errorf("got %v and %q, want an expired document and no launch", err, r.writes())
	}
}

// The caller gives up while the question for the token waits inside the host: it
// is answered later, to nobody, and must find the name taken.
func TestLaunchGivenUpWhileItsTokenIsMade(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	held := r.hold("POST", tokenPath, "", pvesim.PointFork)
	ctx, cancel := context.WithCancel(t.Context())
	done := inBackground(ctx, r.exec, a, l)
	<-held.Reached()
	cancel()
	wantKind(t, <-done, "definite")
	r.wantToken(l, "dead")
	held.Release()
	r.wantToken(l, "dead")
	r.wantWrites("POST /access/ticket", "POST token 1", "POST token 1 dead")
}
