package pvesim_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const labSecret = "11111111-2222-4333-8444-555555555555"

// lab is the cluster that the recordings were made on, set up again.
type lab struct {
	t           *testing.T
	sim         *pvesim.Sim
	clock       *pvesim.ManualClock
	upids       map[string]string // recorded to ours
	wrongSecret bool
	undo        func()            // ends the state that before made for one exchange
	storage     map[string]func() // releases locks that are held over several exchanges
}

func newLab(t *testing.T) *lab {
	t.Helper()
	clock := pvesim.NewManualClock(time.Unix(1795416000, 0).UTC())
	sim, err := pvesim.New(pvesim.Options{
		Nodes: []string{"pve1", "pve2"}, Now: clock.Now, AfterFunc: clock.AfterFunc,
		Pace: pvesim.Pace{Start: 20 * time.Millisecond, Volume: 20 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	l := &lab{t: t, sim: sim, clock: clock, upids: map[string]string{}, undo: func() {}, storage: map[string]func(){}}
	sim.RemoveStorage("local-lvm")
	sim.AddStorage(pvesim.Storage{ID: "lab", Type: "dir", Path: "/srv/store", Content: []string{"images", "rootdir", "iso", "vztmpl", "backup"}})
	for _, u := range []string{"bars@pve", "aud@pve", "none@pve", "owner@pve"} {
		sim.AddUser(u, "secret12")
	}
	sim.Grant("/", "bars@pve", "Administrator", true)
	sim.Grant("/", "aud@pve", "PVEAuditor", true)
	for _, id := range []string{"bars@pve!t1", "root@pam!t1", "aud@pve!t1", "none@pve!t1", "owner@pve!t1"} {
		l.token(id, false)
	}
	l.token("bars@pve!priv", true)
	l.add(pvesim.Guest{VMID: 100, Name: "vm100", Disks: []string{"lab:0.01,format=qcow2"}, Deaf: true, Running: true, Config: map[string]string{
		"boot": "order=scsi0", "kvm": "0", "scsihw": "virtio-scsi-pci", "memory": "64",
	}})
	l.add(pvesim.Guest{Kind: pvesim.LXC, VMID: 200, Name: "ct200", Disks: []string{"lab:0.05"}, Running: true, Config: map[string]string{
		"ostype": "unmanaged", "memory": "64", "swap": "0",
	}})
	l.do(request("POST", "/nodes/pve1/qemu/100/status/start", "root@pam!t1", ""))
	return l
}

func (l *lab) token(id string, privsep bool) {
	l.t.Helper()
	if _, err := l.sim.AddToken(id, pvesim.Token{Secret: labSecret, Privsep: privsep}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) add(g pvesim.Guest) {
	l.t.Helper()
	if _, err := l.sim.AddGuest(g); err != nil {
		l.t.Fatal(err)
	}
}

// do sends a request and moves the clock as far as its reply needs.
func (l *lab) do(req pvesim.Request) pvesim.Response {
	l.t.Helper()
	var got *pvesim.Response
	l.sim.Serve(req, func(r pvesim.Response) { got = &r })
	for got == nil {
		if !l.clock.Step() {
			l.t.Fatalf("%s %s: got no reply and no timer is left, want a reply", req.Method, req.Path)
		}
	}
	return *got
}

// before brings about what the exchange was recorded under.
func (l *lab) before(file, name string) {
	l.undo()
	l.undo = func() {}
	l.wrongSecret = name == "token-wrong-secret"
	switch {
	case strings.HasPrefix(name, "during-vzdump-"):
	case soon[name] || strings.HasPrefix(name, "qemu-restore-stopped-force-broken-archive-") || file == "cluster" || strings.HasPrefix(name, "setup-create-1") && file == "destroy":
		l.clock.Advance(300 * time.Millisecond)
	case !strings.HasPrefix(name, "running-") && !strings.Contains(name, "immediately") && !strings.Contains(name, "-during") &&
		!strings.Contains(name, "twice-at-once") && !strings.Contains(name, "while-first") && name != "stop-task" && !strings.HasSuffix(name, "-own-token"):
		l.clock.Advance(21 * time.Second)
	}
	if strings.Contains(name, "twice-at-once") && strings.Contains(name, "-task-") {
		l.clock.Advance(21 * time.Second)
	}
	for _, f := range []func(*lab){prepare[file+":"+name], prepareStorage[file+":"+name]} {
		if f != nil {
			f(l)
		}
	}
}

// request makes a request below /api2/json with the token that all tests use.
// The query, if any, follows the path.
func request(method, path, auth, body string) pvesim.Request {
	p, query, _ := strings.Cut(path, "?")
	r := pvesim.Request{Method: method, Path: "/api2/json" + p, Query: query, Header: http.Header{}}
	if auth != "" {
		r.Header.Set("Authorization", "PVEAPIToken="+auth+"="+labSecret)
	}
	if body != "" {
		r.Body = []byte(body)
	}
	return r
}

// soon are exchanges that came right after the one before.
var soon = map[string]bool{
	"list-qemu": true, "list-qemu-full": true, "cluster-resources-vm": true, "create-existing-vmid": true,
	"destroy-while-flock-held-log-during": true, "destroy-then-sigkill-worker-task-status": true, "destroy-then-stop-task-DELETE": true,
	"create-response-for-nonroot-kvm-option": true,
}
