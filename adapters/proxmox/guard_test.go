package proxmox_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/op"
)

func TestLaunchRefusesWhatIsNotADestroyOfTheTarget(t *testing.T) {
	cases := map[string]func(*op.Launching){
		"another class":             func(l *op.Launching) { l.Class = op.GuestStop },
		"no guest":                  func(l *op.Launching) { l.Target.Guest = nil },
		"a VMID out of bounds":      func(l *op.Launching) { l.Target.Guest.VMID = 1 },
		"nothing observed":          func(l *op.Launching) { l.Observed.Found = false },
		"another guest observed":    func(l *op.Launching) { l.Observed.VMID = 106 },
		"another type observed":     func(l *op.Launching) { l.Observed.Type = op.LXC },
		"another node announced":    func(l *op.Launching) { l.Node = "pve2" },
		"another credential":        func(l *op.Launching) { l.Credential = "root@pam!x" },
		"no op id":                  func(l *op.Launching) { l.OpID = "" },
		"another method":            func(l *op.Launching) { l.Request.Method = "POST" },
		"another path":              func(l *op.Launching) { l.Request.Path = "/nodes/pve1/qemu/106" },
		"a path with more":          func(l *op.Launching) { l.Request.Path += "/snapshot/a" },
		"a path outside":            func(l *op.Launching) { l.Request.Path = "/nodes/pve1/../pve1/qemu/105" },
		"an unknown parameter":      func(l *op.Launching) { l.Request.Query = "skiplock=1" },
		"unreferenced disks":        func(l *op.Launching) { l.Request.Query = "destroy-unreferenced-disks=1" },
		"force of a machine":        func(l *op.Launching) { l.Request.Query = "force=1" },
		"a parameter twice":         func(l *op.Launching) { l.Request.Query = "purge=0&purge=1" },
		"a boolean in words":        func(l *op.Launching) { l.Request.Query = "purge=true" },
		"a query in another form":   func(l *op.Launching) { l.Request.Query = "purge=%31" },
		"a query that does not end": func(l *op.Launching) { l.Request.Query = "purge=1&" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRawHost(t)
			l := launching(vm105, "")
			change(l)
			_, err := launch(t.Context(), r.host().Executors()[op.GuestDestroy], l)
			if !engine.IsDefinite(err) {
				t.Errorf("got %v, want a definite error", err)
			}
			if got := r.requests(); len(got) != 0 {
				t.Errorf("requests: got %q, want none", got)
			}
		})
	}
}

// Whoever launches an attempt again must not hear that nothing happened.
func TestSecondLaunchOfAnAttemptIsRefusedAndAmbiguous(t *testing.T) {
	l := launching(vm105, "")
	r := newRawHost(t).on("DELETE "+l.Request.Path, bare(596, "Connection timed out"))
	d := r.host().Executors()[op.GuestDestroy]
	for range 2 {
		if _, err := launch(t.Context(), d, l); err == nil || engine.IsDefinite(err) {
			t.Errorf("got definite %v, %v, want an ambiguous error", engine.IsDefinite(err), err)
		}
	}
	if got := r.mutations(); len(got) != 1 {
		t.Errorf("mutations: got %q, want one", got)
	}
}

func TestGuardLetsThroughOneAnnouncedRequest(t *testing.T) {
	announced := op.Request{Method: "DELETE", Path: "/nodes/pve1/qemu/105", Query: "purge=1"}
	const right = "/nodes/pve1/qemu/105?purge=1"
	elsewhere := newRawHost(t) // answers nothing: a request that comes here fails the test
	cases := []struct {
		name string
		send func(h *proxmox.Host) error
		want int // requests that reach the host
		sure bool
	}{
		{"another path", func(h *proxmox.Host) error {
			return h.Smuggle(t.Context(), announced, "DELETE", "/nodes/pve1/qemu/106?purge=1")
		}, 0, true},
		{"another query", func(h *proxmox.Host) error {
			return h.Smuggle(t.Context(), announced, "DELETE", "/nodes/pve1/qemu/105")
		}, 0, true},
		{"another method", func(h *proxmox.Host) error { return h.Smuggle(t.Context(), announced, "POST", right) }, 0, true},
		{"a read on the side of a launch", func(h *proxmox.Host) error { return h.Smuggle(t.Context(), announced, "GET", "/version") }, 0, true},
		{"another host", func(h *proxmox.Host) error {
			return h.Smuggle(t.Context(), announced, "DELETE", elsewhere.url()+"/api2/json"+right)
		}, 0, true},
		{"a body", func(h *proxmox.Host) error {
			return h.SmuggleBody(t.Context(), op.Request{Method: "DELETE", Path: announced.Path})
		}, 0, true},
		{"no exchange", func(h *proxmox.Host) error { return h.SmuggleBare(t.Context(), "DELETE", right) }, 0, true},
		{"a mutation as a read", func(h *proxmox.Host) error { return h.SmuggleRead(t.Context(), "DELETE", right) }, 0, true},
		{"the same twice", func(h *proxmox.Host) error { return h.Smuggle(t.Context(), announced, "DELETE", right, right) }, 1, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRawHost(t).on("DELETE "+right, data(`"`+upid105+`"`))
			err := c.send(r.host())
			re, ok := errors.AsType[*proxmox.RequestError](err)
			if !ok || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("got %v, want a refusal", err)
			}
			if re.Written == c.sure {
				t.Errorf("written: got %v, want %v", re.Written, !c.sure)
			}
			if got := r.requests(); len(got) != c.want {
				t.Errorf("requests: got %q, want %d", got, c.want)
			}
		})
	}
}

// The node's own URL is used where it is known.
func TestLaunchGoesStraightToTheNode(t *testing.T) {
	front, node := newRawHost(t), newRawHost(t)
	l := launching(vm105, "")
	node.on("DELETE "+l.Request.Path, data(`"`+upid105+`"`))
	h := newHost(t, proxmox.Config{BaseURL: front.url(), Nodes: map[string]string{"pve1": node.url()}})
	if _, err := launch(t.Context(), h.Executors()[op.GuestDestroy], l); err != nil {
		t.Error(err)
	}
	if got := front.requests(); len(got) != 0 {
		t.Errorf("the front node got %q", got)
	}
}

// A launch that does not get its connection soon is given up before anything
// is sent: by then the look at the guest that it rests on is old.
func TestLaunchDoesNotWaitForAConnection(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	h := newHost(t, proxmox.Config{BaseURL: "https://" + ln.Addr().String()})
	began := time.Now()
	_, err = launch(t.Context(), h.Executors()[op.GuestDestroy], launching(vm105, ""))
	if took, most := time.Since(began), engine.DefaultPace().StaleLook; !engine.IsDefinite(err) || took > most {
		t.Errorf("got %v after %s, want a definite error within %s", err, took, most)
	}
}

// A ticket of root@pam carries the wipe of a disk, which nothing else does, and no
// other request, not even a read.
func TestGuardKeepsRootsTicketForOneRequest(t *testing.T) {
	cases := map[string]struct {
		send func(h *proxmox.Host) error
		let  bool
	}{
		"a wipe with it":                {func(h *proxmox.Host) error { return h.SmuggleWith(t.Context(), "root@pam", true) }, true},
		"a destroy with it":             {func(h *proxmox.Host) error { return h.SmuggleWith(t.Context(), "root@pam", false) }, false},
		"a read with it":                {func(h *proxmox.Host) error { return h.ReadAsRoot(t.Context(), "/version") }, false},
		"a wipe with a token":           {func(h *proxmox.Host) error { return h.SmuggleWith(t.Context(), "", true) }, false},
		"a wipe with another's ticket":  {func(h *proxmox.Host) error { return h.SmuggleWith(t.Context(), "writ@pve", true) }, false},
		"a destroy with a user's token": {func(h *proxmox.Host) error { return h.SmuggleWith(t.Context(), "", false) }, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRawHost(t).on("PUT /nodes/pve1/disks/wipedisk?disk=%2Fdev%2Fsdb", data(`""`)).on("DELETE /nodes/pve1/qemu/105", data(`""`))
			err := c.send(r.host())
			switch {
			case c.let && (err != nil || len(r.requests()) != 1):
				t.Errorf("got %v, requests %q, want it let through", err, r.requests())
			case !c.let && (err == nil || !strings.Contains(err.Error(), "refused: a ticket of root@pam") || len(r.requests()) != 0):
				t.Errorf("got %v, requests %q, want a refusal", err, r.requests())
			}
		})
	}
}
