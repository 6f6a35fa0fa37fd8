package proxmox_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

const (
	serviceUser = "writ@pve"
	nonce       = op.Nonce("6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e")
	tokenPath   = "/access/users/*/token/*"
)

// newAttemptRig is a rig whose Host makes a token for each attempt. Its reading
// token can do nothing but look, and its service user only what it needs.
func newAttemptRig(t *testing.T, change ...func(*pvesim.Options)) *rig {
	t.Helper()
	r := newRig(t, change...)
	r.sim.AddRole("Guests", "VM.Audit", "VM.Config.Disk")
	r.sim.AddRole("WritAttempt", "VM.Allocate")
	r.sim.AddRole("WritService", "VM.Allocate", "VM.Config.Options")
	r.sim.AddUser(serviceUser, "correct horse")
	r.sim.Grant("/vms", serviceUser, "WritService", true)
	r.host = r.another(func(*proxmox.Config) {})
	r.exec = r.host.Executors()[op.GuestDestroy]
	r.oldTask("pve1")
	r.oldTask("pve2")
	return r
}

// another is a second process over the same cluster: the next one after a crash,
// or one with a copy of the ledger.
func (r *rig) another(change func(*proxmox.Config)) *proxmox.Host {
	r.t.Helper()
	c := r.conf
	c.ServiceUser, c.ServicePassword = serviceUser, "correct horse"
	change(&c)
	return newHost(r.t, c)
}

// oldTask gives a node a history that reaches back beyond the test.
func (r *rig) oldTask(node string) {
	r.t.Helper()
	if _, err := r.sim.AddToken("root@pam!old", pvesim.Token{Secret: secret}); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.sim.AddGuest(pvesim.Guest{VMID: 900, Node: node}); err != nil {
		r.t.Fatal(err)
	}
	r.node(node, pvesim.NodeControl{Skew: new(-time.Hour)})
	defer r.node(node, pvesim.NodeControl{Skew: new(time.Duration(0))})
	got := r.sim.Do(r.t.Context(), pvesim.Request{
		Node: node, Method: "POST", Path: "/api2/json/nodes/" + node + "/qemu/900/status/start",
		Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!old=" + secret}},
	})
	if got.Status != 200 {
		r.t.Fatalf("make an old task: got %d %s", got.Status, got.Reason)
	}
	r.sim.DestroyGuest(900)
	r.before = len(r.sim.Effects())
	r.asked = len(r.sim.Requests())
}

// attempt looks at the guest and makes the announcement of one attempt.
func (r *rig) attempt(number int, earlier ...int) (engine.Attempt, *op.Launching) {
	return r.attemptBy(r.exec, op.QEMU, number, earlier...)
}

func (r *rig) attemptBy(x engine.Executor, typ op.GuestType, number int, earlier ...int) (engine.Attempt, *op.Launching) {
	r.t.Helper()
	a := engine.Attempt{
		Nonce: nonce, Number: number, Intent: op.Intent{Class: op.GuestDestroy, Target: target(typ, 107)}, Earlier: earlier,
		ExpiresAt: time.Now().Add(time.Hour),
	}
	seen, err := x.Observe(r.t.Context(), a)
	if err != nil {
		r.t.Fatal(err)
	}
	req, cred, err := x.Request(a, seen)
	if err != nil {
		r.t.Fatal(err)
	}
	r.runs++
	return a, &op.Launching{
		Header: op.Header{
			OpID: fmt.Sprintf("%020x", r.runs), Nonce: nonce, Attempt: number, Class: a.Intent.Class, Target: a.Intent.Target,
			At: time.Now().UTC(),
		},
		Node: seen.Node, Credential: cred, Request: req, Observed: seen,
	}
}

// writes are the mutating requests that reached the host, in short.
func (r *rig) writes() []string {
	var out []string
	for _, q := range r.sim.Requests()[r.asked:] {
		path := strings.TrimPrefix(q.Path, "/api2/json")
		if name, ok := strings.CutPrefix(path, "/access/users/"+serviceUser+"/token/"); ok {
			path = "token " + name[strings.LastIndexByte(name, '-')+1:]
			if strings.Contains(q.Query, "expire=1&") || strings.HasSuffix(q.Query, "expire=1") {
				path += " dead"
			}
		}
		out = append(out, q.Method+" "+path)
	}
	return out
}

func (r *rig) wantWrites(want ...string) {
	r.t.Helper()
	if got := r.writes(); !slices.Equal(got, want) {
		r.t.Errorf("mutating requests: got %q, want %q", got, want)
	}
}

// launches counts the requests to destroy the guest that reached the host.
func (r *rig) launches() int {
	n := 0
	for _, w := range r.writes() {
		if strings.HasPrefix(w, "DELETE ") {
			n++
		}
	}
	return n
}

// token reads an attempt's token as the host has it: its expiry, or -1.
func (r *rig) token(l *op.Launching) (expire int64, comment string) {
	r.t.Helper()
	_, name, _ := strings.Cut(l.Credential, "!")
	ticket, _ := r.sim.Ticket(serviceUser)
	got := r.sim.Do(r.t.Context(), pvesim.Request{
		Method: "GET", Path: "/api2/json/access/users/" + serviceUser + "/token/" + name,
		Header: map[string][]string{"Cookie": {"PVEAuthCookie=" + url.QueryEscape(ticket)}},
	})
	if got.Status != 200 {
		return -1, ""
	}
	var t struct {
		Data struct {
			Expire  int64  `json:"expire"`
			Comment string `json:"comment"`
		} `json:"data"`
	}
	if err := json.Unmarshal(got.Body, &t); err != nil {
		r.t.Fatal(err)
	}
	return t.Data.Expire, t.Data.Comment
}

func (r *rig) wantToken(l *op.Launching, want string) {
	r.t.Helper()
	expire, _ := r.token(l)
	got := "live"
	switch expire {
	case -1:
		got = "absent"
	case 1:
		got = "dead"
	}
	if got != want {
		r.t.Errorf("token: got %s, want %s", got, want)
	}
}

func (r *rig) fence(l *op.Launching) engine.Fence {
	r.t.Helper()
	f, err := r.exec.Fence(r.t.Context(), l)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

func wantFence(t *testing.T, f engine.Fence, confirmed, gone bool, reasons ...string) {
	t.Helper()
	all := strings.Join(f.Reasons, "; ")
	if f.Confirmed != confirmed || f.Gone != gone {
		t.Errorf("fence: got confirmed %v, gone %v, because %s; want %v, %v", f.Confirmed, f.Gone, all, confirmed, gone)
	}
	for _, want := range reasons {
		if !strings.Contains(all, want) {
			t.Errorf("fence: got %s, want it to say %q", all, want)
		}
	}
}

func (r *rig) tasks(l *op.Launching) engine.TaskSearch {
	r.t.Helper()
	s, err := r.exec.FindTasks(r.t.Context(), l)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// fenced is the announcement as it is compared with once a fence stands.
func fenced(l *op.Launching, f engine.Fence) *op.Launching {
	seen := *l
	seen.Observed.Digest, seen.Observed.Protection = f.Digest, true
	return &seen
}

// wantKind checks what an error of a launch proves.
func wantKind(t *testing.T, err error, want string) {
	t.Helper()
	got := "none"
	switch {
	case engine.IsOtherCopy(err) && engine.IsDefinite(err):
		got = "another copy, and definite"
	case engine.IsOtherCopy(err):
		got = "another copy"
	case engine.IsDefinite(err):
		got = "definite"
	case err != nil:
		got = "ambiguous"
	}
	if got != want {
		t.Errorf("error: got %s (%v), want %s", got, err, want)
	}
}

// inBackground runs a launch whose request or preparation a fault holds.
func inBackground(ctx context.Context, x engine.Executor, a engine.Attempt, l *op.Launching) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := x.Launch(ctx, a, l)
		done <- err
	}()
	return done
}

// hold keeps a request at a point on its way.
func (r *rig) hold(method, path, node, point string) *pvesim.Injected {
	r.t.Helper()
	return r.fault(pvesim.Fault{Kind: pvesim.FaultHold, Method: method, Path: path, Node: node, Point: point})
}

// late launches an attempt whose request stays behind inside the host, at a
// point on its way, while the caller hears nothing more of it.
func (r *rig) late(l *op.Launching, a engine.Attempt, point string) *pvesim.Injected {
	r.t.Helper()
	held := r.fault(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Path: guestPath, Point: point, ClientGone: true})
	_, err := r.exec.Launch(r.t.Context(), a, l)
	wantKind(r.t, err, "ambiguous")
	return held
}

// lookingAt is an attempt to destroy a target, of which only that is known.
func lookingAt(t op.Target) engine.Attempt {
	return engine.Attempt{Intent: op.Intent{Class: op.GuestDestroy, Target: t}}
}
