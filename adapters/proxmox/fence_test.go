package proxmox_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// Wherever the request is inside the host when the fence is confirmed, it has no
// effect when it goes on, and the probe may say so.
func TestFenceStopsALateRequest(t *testing.T) {
	for _, kind := range []pvesim.Kind{pvesim.QEMU, pvesim.LXC} {
		for name, point := range map[string]string{
			"not yet read":                  pvesim.PointArrival,
			"waiting for pvedaemon":         pvesim.PointQueue,
			"authenticated, not yet forked": pvesim.PointFork,
		} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				r := newAttemptRig(t)
				r.guest(kind)
				a, l := r.attemptBy(r.exec, op.GuestType(kind), 1)
				held := r.fault(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Point: point, ClientGone: true})
				_, err := r.exec.Launch(t.Context(), a, l)
				wantKind(t, err, "ambiguous")
				if s := r.tasks(l); len(s.UPIDs) != 0 || !s.Complete {
					t.Errorf("tasks before the fence: got %+v, want none, complete", s)
				}
				f := r.fence(l)
				wantFence(t, f, true, false, "through another node", "itself shows the token as void", "protection was set", "no task")
				r.wantToken(l, "dead")
				held.Release()
				r.wantEffects(0, 0)
				wantEffect(t, r.probe(fenced(l, f), engine.Task{}), op.EffectNone, 0)
				if s := r.tasks(l); len(s.UPIDs) != 0 || !s.Complete {
					t.Errorf("tasks after the fence: got %+v, want none, complete", s)
				}
				// Without what the fence changed the guest does not look untouched.
				wantEffect(t, r.probe(l, engine.Task{}), op.EffectUnknown, 0)

				asked := len(r.writes())
				again := r.fence(l)
				wantFence(t, again, true, false)
				if again.Digest != f.Digest || len(r.writes()) != asked {
					t.Errorf("again: got digest %s and %q, want %s and no further write", again.Digest, r.writes()[asked:], f.Digest)
				}
			})
		}
	}
}

// The guest's node is behind the others: the acknowledgement of the write is not
// enough, and the fence waits for that node.
func TestFenceWaitsForANodeThatIsBehind(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	held := r.late(l, a, pvesim.PointQueue)
	r.node("pve1", pvesim.NodeControl{Behind: new(true)})
	first := r.hold("GET", tokenPath, "pve1", pvesim.PointFork)
	got := make(chan engine.Fence, 1)
	go func() {
		f, err := r.exec.Fence(t.Context(), l)
		if err != nil {
			t.Error(err)
		}
		got <- f
	}()
	<-first.Reached()
	r.wantToken(l, "live") // as pve1 has it
	second := r.hold("GET", tokenPath, "pve1", pvesim.PointFork)
	first.Release() // reads what is old
	select {
	case f := <-got:
		t.Fatalf("got %+v while the node was behind", f)
	case <-second.Reached():
	}
	r.node("pve1", pvesim.NodeControl{Behind: new(false)})
	second.Release()
	wantFence(t, <-got, true, false, "itself shows the token as void")
	held.Release()
	r.wantEffects(0, 0)
}

// The guest's node is cut off from the quorum: nothing reaches it, and what waits
// there runs. The fence must not be confirmed.
func TestFenceOfANodeThatIsCutOff(t *testing.T) {
	r := newAttemptRig(t)
	r.host.HurryFence(50 * time.Millisecond)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	held := r.late(l, a, pvesim.PointQueue)
	r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
	f := r.fence(l)
	wantFence(t, f, false, false, "not known to refuse", "still shows the token as good", "end of its lease", "not part of a quorate cluster")
	if f.Digest != "" {
		t.Errorf("digest: got %s, want none: the guest was not protected", f.Digest)
	}
	held.Release()
	if _, volumes := r.effects(); volumes != 2 {
		t.Errorf("volumes destroyed at the cut-off node: got %d, want 2: the test shows nothing", volumes)
	}
	r.node("pve1", pvesim.NodeControl{Quorate: new(true)})
	s := r.tasks(l)
	if len(s.UPIDs) != 1 {
		t.Fatalf("tasks: got %+v, want one", s)
	}
	// Nothing more will come of it, but what has begun has done its work.
	f = r.fence(l)
	wantFence(t, f, true, false, "follow it: "+s.UPIDs[0])
	wantEffect(t, r.probe(fenced(l, f), r.task(s.UPIDs[0])), op.EffectPartial, 0)
}

// What a fence does when one of its parts can't be had.
func TestFenceParts(t *testing.T) {
	fault := func(kind pvesim.FaultKind, method, path string, status int, after bool) func(*rig, *op.Launching) {
		return func(r *rig, _ *op.Launching) {
			r.fault(pvesim.Fault{Kind: kind, Method: method, Path: path, Status: status, After: after})
		}
	}
	const config = guestPath + "/config"
	cases := []struct {
		name            string
		do              func(*rig, *op.Launching)
		confirmed, gone bool
		reason          string
		token           string
	}{
		{"expiry: lost, later found out", fault(pvesim.FaultCut, "PUT", tokenPath, 0, false), false, false, "not known to refuse", "live"},
		{"expiry: answer lost", fault(pvesim.FaultCut, "PUT", tokenPath, 0, true), true, false, "made void", "dead"},
		{"expiry: 596, written", fault(pvesim.FaultAnswer, "PUT", tokenPath, 596, true), true, false, "made void", "dead"},
		{"expiry: 401", fault(pvesim.FaultAnswer, "PUT", tokenPath, 401, false), false, false, "401", "live"},
		{"login: lost", func(r *rig, _ *op.Launching) {
			r.restart(func(*proxmox.Config) {})
			r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "POST", Path: "/access/ticket", Times: -1})
		}, false, false, "log in as", "live"},
		{"login: wrong password", func(r *rig, _ *op.Launching) {
			r.restart(func(c *proxmox.Config) { c.ServicePassword = "wrong" })
		}, false, false, "authentication failure", "live"},
		{"no password any more", func(r *rig, _ *op.Launching) {
			r.restart(func(c *proxmox.Config) { c.ServiceUser, c.ServicePassword = "", "" })
		}, false, false, "give the password of writ@pve", "live"},
		{"another service user", func(r *rig, _ *op.Launching) {
			r.sim.AddUser("writ2@pve", "pw")
			r.sim.Grant("/vms", "writ2@pve", "WritService", true)
			r.restart(func(c *proxmox.Config) { c.ServiceUser, c.ServicePassword = "writ2@pve", "pw" })
		}, false, false, "the service user is writ2@pve", "live"},
		{"the node has no URL of its own", func(r *rig, _ *op.Launching) {
			r.restart(func(c *proxmox.Config) { c.BaseURL, c.Nodes = c.Nodes["pve2"], nil })
		}, false, false, "give its own URL", "dead"},
		{"the only URL is the node's", func(r *rig, _ *op.Launching) {
			r.restart(func(c *proxmox.Config) { c.BaseURL, c.Nodes = c.Nodes["pve1"], nil })
		}, true, false, "there was no other to ask", "dead"},
		{"the other node is down", func(r *rig, _ *op.Launching) { r.node("pve2", pvesim.NodeControl{Up: new(false)}) }, true, false, "there was no other to ask", "dead"},
		{"the guest's node is down", func(r *rig, _ *op.Launching) {
			r.host.HurryFence(20 * time.Millisecond)
			r.node("pve1", pvesim.NodeControl{Up: new(false)})
		}, false, false, "not known to refuse", ""},
		{"no node has quorum", func(r *rig, _ *op.Launching) {
			r.host.HurryFence(20 * time.Millisecond)
			r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
			r.node("pve2", pvesim.NodeControl{Quorate: new(false)})
		}, false, false, "no node of a quorate cluster", "live"},
		{"the token was deleted", func(r *rig, l *op.Launching) { r.deleteToken(l) }, true, false, "made void", "dead"},
		{"the token was deleted, and the tombstone's answer is lost", func(r *rig, l *op.Launching) {
			r.deleteToken(l)
			r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "POST", Path: tokenPath, After: true})
		}, true, false, "made void", "dead"},
		{"the token was deleted, and the tombstone is lost", func(r *rig, l *op.Launching) {
			r.host.HurryFence(50 * time.Millisecond)
			r.deleteToken(l)
			r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "POST", Path: tokenPath})
		}, false, false, "no such token yet", "absent"},

		{"protection: lost", fault(pvesim.FaultCut, "PUT", config, 0, false), false, false, "could not be protected", "dead"},
		{"protection: answer lost", fault(pvesim.FaultCut, "PUT", config, 0, true), true, false, "the answer to setting it was lost", "dead"},
		{"protection: 596", fault(pvesim.FaultAnswer, "PUT", config, 596, false), false, false, "596", "dead"},
		{"protection: no right", func(r *rig, _ *op.Launching) { r.sim.AddRole("WritService", "VM.Allocate") }, false, false, "VM.Config.Options on /vms/107", "dead"},
		{"protection: the guest is locked", func(r *rig, _ *op.Launching) { r.sim.EditGuest(107, map[string]string{"lock": "backup"}) }, false, false, "locked", "dead"},
		{"protection: set already", func(r *rig, _ *op.Launching) { r.sim.EditGuest(107, map[string]string{"protection": "1"}) }, true, false, "is protected", "dead"},
		{"the guest has changed but is the same", func(r *rig, _ *op.Launching) { r.sim.EditGuest(107, map[string]string{"cores": "3"}) }, true, false, "is protected", "dead"},
		{"the guest has moved", func(r *rig, _ *op.Launching) { _ = r.sim.MoveGuest(107, "pve2") }, true, false, "is protected", "dead"},
		{"the guest is gone", func(r *rig, _ *op.Launching) { r.sim.DestroyGuest(107) }, false, true, "no guest to protect", "dead"},
		{"the VMID is another guest's", func(r *rig, _ *op.Launching) { r.sim.DestroyGuest(107); r.guest(pvesim.QEMU) }, false, true, "another guest by now", "dead"},
		{"the VMID is a container's", func(r *rig, _ *op.Launching) { r.sim.DestroyGuest(107); r.guest(pvesim.LXC) }, false, true, "no guest to protect", "dead"},
		{"half-way destroyed", func(r *rig, _ *op.Launching) {
			r.sim.EditGuest(107, map[string]string{"lock": "destroyed"})
		}, false, false, "only root", "dead"},
		{"what it was told by has changed", func(r *rig, _ *op.Launching) {
			r.sim.EditGuest(107, map[string]string{"vmgenid": "0b9e0000-0000-4000-8000-000000000000"})
		}, false, false, "can't be told", "dead"},

		{"the tasks can't be read", fault(pvesim.FaultAnswer, "GET", "/nodes/*/tasks", 596, false), false, false, "could not be looked through", "dead"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			held := r.late(l, a, pvesim.PointQueue)
			if strings.HasPrefix(c.name, "expiry") || strings.HasPrefix(c.name, "login") {
				r.host.HurryFence(50 * time.Millisecond)
			}
			c.do(r, l)
			if strings.HasPrefix(c.name, "login") {
				r.host.HurryFence(50 * time.Millisecond)
			}
			before, _ := r.effects()
			f := r.fence(l)
			wantFence(t, f, c.confirmed, c.gone, c.reason)
			if c.token != "" {
				r.wantToken(l, c.token)
			}
			if g, ok := r.sim.Guest(107); ok && c.gone && g.Protection {
				t.Error("a guest that is not the announced one was protected")
			}
			if c.confirmed {
				held.Release()
				if after, _ := r.effects(); after != before {
					t.Errorf("destroyed behind a confirmed fence: %d guests", after-before)
				}
			}
			if q := r.raised(); q != "" {
				t.Errorf("the fence took back what holds: %s", q)
			}
		})
	}
}

// restart makes the next process, over the same cluster.
func (r *rig) restart(change func(*proxmox.Config)) {
	r.t.Helper()
	r.host = r.another(change)
	r.exec = r.host.Executors()[op.GuestDestroy]
}

// raised gives a write that makes a token live longer or lifts a protection.
func (r *rig) raised() string {
	for _, q := range r.sim.Requests()[r.asked:] {
		expiry := q.Method == "PUT" && strings.Contains(q.Path, "/token/") && q.Query != "expire=1"
		if expiry || strings.Contains(q.Query, "protection=0") || strings.Contains(q.Query, "delete") {
			return q.Method + " " + q.Path + "?" + q.Query
		}
	}
	return ""
}

// deleteToken is an administrator's tidying.
func (r *rig) deleteToken(l *op.Launching) {
	r.t.Helper()
	_, name, _ := strings.Cut(l.Credential, "!")
	got := r.sim.Do(r.t.Context(), pvesim.Request{
		Method: "DELETE", Path: "/api2/json/access/users/" + serviceUser + "/token/" + name,
		Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!old=" + secret}},
	})
	if got.Status != 200 {
		r.t.Fatalf("delete the token: got %d %s", got.Status, got.Reason)
	}
}

// A process that was paused between announcement and token goes on after its
// successor has put up the fence: it finds the tombstone.
func TestFenceBeforeTheTokenWasMade(t *testing.T) {
	for name, point := range map[string]string{"before it asked for the token": "", "its question on the way": pvesim.PointArrival} {
		t.Run(name, func(t *testing.T) {
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			paused := r.exec
			var late <-chan error
			var held *pvesim.Injected
			if point != "" {
				held = r.hold("POST", tokenPath, "", point)
				late = inBackground(t.Context(), paused, a, l)
				<-held.Reached()
			}
			r.restart(func(*proxmox.Config) {})
			wantFence(t, r.fence(l), true, false, "made void")
			r.wantToken(l, "dead")
			if point == "" {
				late = inBackground(t.Context(), paused, a, l)
			} else {
				held.Release()
			}
			wantKind(t, <-late, "another copy")
			r.wantEffects(0, 0)
			if r.launches() != 0 {
				t.Errorf("mutating requests: got %q, want no launch", r.writes())
			}
		})
	}
}

// With a shared token protection is all there is, and it says what that leaves.
func TestFenceOfASharedToken(t *testing.T) {
	for name, c := range map[string]struct {
		role      []string
		protected bool
		reason    string
	}{
		"protected for now":   {[]string{"VM.Audit", "VM.Allocate", "VM.Config.Disk", "VM.Config.Options"}, true, "a token that others use too"},
		"may not protect it":  {[]string{"VM.Audit", "VM.Allocate", "VM.Config.Disk"}, false, "give VM.Config.Options"},
		"may not even see it": {[]string{"VM.Allocate", "VM.Config.Options"}, false, "could not be read"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.guest(pvesim.QEMU)
			l := r.announce(op.QEMU, op.Params{})
			l.At = time.Now()
			held := r.fault(pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointFork, Method: "DELETE", Path: guestPath, ClientGone: true})
			_, err := launch(t.Context(), r.exec, l)
			wantKind(t, err, "ambiguous")
			r.sim.AddRole("Guests", c.role...)
			f := r.fence(l)
			wantFence(t, f, false, false, c.reason) // protection is lifted one day
			held.Release()
			if c.protected {
				r.wantEffects(0, 0)
				r.sim.AddRole("Guests", "VM.Audit", "VM.Config.Disk")
				wantEffect(t, r.probe(fenced(l, f), engine.Task{}), op.EffectNone, 0)
			} else {
				r.wantEffects(1, 2) // so it was right not to be sure
			}
		})
	}
}

// The guest changes between the look at it and the write that protects it: the
// host refuses the write, and the guest is looked at again.
func TestFenceLooksAgainAtAGuestThatChanges(t *testing.T) {
	for _, kind := range []pvesim.Kind{pvesim.QEMU, pvesim.LXC} {
		for name, c := range map[string]struct {
			change          func(*rig)
			confirmed, gone bool
		}{
			"by hand":                 {func(r *rig) { r.sim.EditGuest(107, map[string]string{"tags": "x"}) }, true, false},
			"protected by hand":       {func(r *rig) { r.sim.EditGuest(107, map[string]string{"protection": "1"}) }, true, false},
			"destroyed":               {func(r *rig) { r.sim.DestroyGuest(107) }, false, true},
			"destroyed and made anew": {func(r *rig) { r.sim.DestroyGuest(107); r.guest(kind) }, false, kind == pvesim.QEMU},
		} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				r := newAttemptRig(t)
				r.guest(kind)
				_, l := r.attemptBy(r.exec, op.GuestType(kind), 1)
				held := r.hold("PUT", "/nodes/*/*/107/config", "", pvesim.PointFork)
				got := make(chan engine.Fence, 1)
				go func() {
					f, err := r.exec.Fence(t.Context(), l)
					if err != nil {
						t.Error(err)
					}
					got <- f
				}()
				<-held.Reached()
				c.change(r)
				held.Release()
				wantFence(t, <-got, c.confirmed, c.gone)
				if g, ok := r.sim.Guest(107); ok && !c.confirmed && g.Protection {
					t.Error("a guest that is not known to be the announced one was protected")
				}
			})
		}
	}
}

// A destroy that holds the guest's lock already ends before the fence does.
func TestFenceWhileTheTaskRuns(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "DELETE", After: true})
	task := r.fault(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: 107, Stage: "free:1"})
	_, err := r.exec.Launch(t.Context(), a, l)
	wantKind(t, err, "ambiguous")
	<-task.Reached()
	put := r.hold("PUT", guestPath+"/config", "", pvesim.PointFork)
	got := make(chan engine.Fence, 1)
	go func() {
		f, err := r.exec.Fence(t.Context(), l)
		if err != nil {
			t.Error(err)
		}
		got <- f
	}()
	<-put.Reached()
	put.Release() // and waits for the lock
	task.Release()
	wantFence(t, <-got, false, true, "follow it: UPID:pve1:")
	r.wantEffects(1, 2)
}

// An attempt is fenced by the credential that it was announced with, whatever is
// configured by now.
func TestFenceAfterTheModeChanged(t *testing.T) {
	r := newAttemptRig(t)
	r.sim.AddRole("Guests", "VM.Audit", "VM.Config.Disk", "VM.Allocate")
	r.guest(pvesim.QEMU)
	shared := newHost(t, r.conf).Executors()[op.GuestDestroy]
	a, l := r.attemptBy(shared, op.QEMU, 1)
	held := r.fault(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Point: pvesim.PointQueue, ClientGone: true})
	_, err := shared.Launch(t.Context(), a, l)
	wantKind(t, err, "ambiguous")
	if s := r.tasks(l); s.Exact {
		t.Errorf("tasks: got %+v, want them not to be exact", s)
	}
	wantFence(t, r.fence(l), false, false, "a token that others use too")
	r.wantWrites("DELETE /nodes/pve1/qemu/107", "POST /access/ticket", "PUT /nodes/pve1/qemu/107/config")
	held.Release()
	r.wantEffects(0, 0)
	// And it is not launched with another credential than the announced one.
	l.OpID = "ffffffffffffffffffff"
	_, err = r.exec.Launch(t.Context(), a, l)
	wantKind(t, err, "definite")
}

// An announcement whose credential is another attempt's is not acted upon.
func TestFenceRefusesAnotherAttemptsToken(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	_, l := r.attempt(1)
	l.Attempt = 2
	if f, err := r.exec.Fence(t.Context(), l); err == nil {
		t.Errorf("fence: got %+v, want an error", f)
	}
	if s, err := r.exec.FindTasks(t.Context(), l); err == nil {
		t.Errorf("tasks: got %+v, want an error", s)
	}
	r.wantWrites()
}

func TestFenceEndsWithItsContext(t *testing.T) {
	r := newAttemptRig(t)
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	r.late(l, a, pvesim.PointQueue)
	r.node("pve1", pvesim.NodeControl{Behind: new(true)})
	held := r.hold("GET", tokenPath, "pve1", pvesim.PointFork)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := r.exec.Fence(ctx, l)
		got <- err
	}()
	<-held.Reached()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	held.Release()
}
