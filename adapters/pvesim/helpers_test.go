package pvesim_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const admin = "root@pam!t1"

// rig is a small cluster on a clock that moves by hand.
type rig struct {
	t     testing.TB
	sim   *pvesim.Sim
	clock *pvesim.ManualClock
}

// newRig makes nodes pve1 and pve2 whose tasks take no time of their own.
func newRig(tb testing.TB, pace pvesim.Pace) *rig {
	tb.Helper()
	clock := pvesim.NewManualClock(time.Unix(1795416000, 0).UTC())
	sim, err := pvesim.New(pvesim.Options{Nodes: []string{"pve1", "pve2"}, Now: clock.Now, AfterFunc: clock.AfterFunc, Pace: pace})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(sim.Close)
	r := &rig{t: tb, sim: sim, clock: clock}
	r.token(admin, pvesim.Token{})
	sim.AddUser("svc@pve", "secret12", "svcs")
	sim.AddRole("WritAttempt", "VM.Allocate")
	return r
}

func (r *rig) token(id string, t pvesim.Token) {
	r.t.Helper()
	t.Secret = labSecret
	if _, err := r.sim.AddToken(id, t); err != nil {
		r.t.Fatal(err)
	}
}

// vm makes a stopped VM with that many disks on local-lvm.
func (r *rig) vm(vmid, disks int, change ...func(*pvesim.Guest)) pvesim.Guest {
	r.t.Helper()
	g := pvesim.Guest{VMID: vmid, Name: "web", MACs: []string{""}}
	for range disks {
		g.Disks = append(g.Disks, "local-lvm:1")
	}
	for _, f := range change {
		f(&g)
	}
	out, err := r.sim.AddGuest(g)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// reply is a decoded response.
type reply struct {
	pvesim.Response `json:"-"`

	Data    any               `json:"data"`
	Message string            `json:"message"`
	Errors  map[string]string `json:"errors"`
	Total   int               `json:"total"`
}

// send starts a request; the reply is nil until there is one.
func (r *rig) send(req pvesim.Request) **reply {
	r.t.Helper()
	var got *reply
	r.sim.Serve(req, func(resp pvesim.Response) {
		rep := &reply{Response: resp}
		if strings.HasPrefix(resp.ContentType, "application/json") {
			if err := json.Unmarshal(resp.Body, rep); err != nil {
				r.t.Errorf("reply: got %q, want JSON", resp.Body)
			}
		}
		got = rep
	})
	return &got
}

// call sends a request and moves the clock until the reply is there.
func (r *rig) call(method, path, auth, body string) *reply {
	r.t.Helper()
	return r.wait(r.send(request(method, path, auth, body)))
}

func (r *rig) wait(got **reply) *reply {
	r.t.Helper()
	for *got == nil {
		if !r.clock.Step() {
			r.t.Fatal("got no reply and no timer left, want a reply")
		}
	}
	return *got
}

// upid sends a request that starts a task.
func (r *rig) upid(method, path, auth string) string {
	r.t.Helper()
	rep := r.call(method, path, auth, "")
	upid, ok := rep.Data.(string)
	if !ok || rep.Status != 200 {
		r.t.Fatalf("%s %s: got %d %s, want 200 and a UPID", method, path, rep.Status, rep.Reason)
	}
	return upid
}

// exit is a task's state: "running" or its exit status.
func (r *rig) exit(upid string) string {
	r.t.Helper()
	node := strings.Split(upid, ":")[1]
	rep := r.call("GET", "/nodes/"+node+"/tasks/"+upid+"/status", admin, "")
	m, ok := rep.Data.(map[string]any)
	if !ok {
		return rep.Errors["upid"]
	}
	if m["status"] == "running" {
		return "running"
	}
	s, _ := m["exitstatus"].(string)
	return s
}

func (r *rig) inject(f pvesim.Fault) *pvesim.Injected {
	r.t.Helper()
	in, err := r.sim.Inject(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return in
}

func (r *rig) node(name string, ch pvesim.NodeControl) {
	r.t.Helper()
	if err := r.sim.Node(name, ch); err != nil {
		r.t.Fatal(err)
	}
}

// count tells how many effects of a kind there were.
func (r *rig) count(kind pvesim.EffectKind) int {
	n := 0
	for _, e := range r.sim.Effects() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// disks tells how many volumes there are.
func (r *rig) disks() int { return len(r.sim.Volumes()) }

func check[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s: got %v, want %v", what, got, want)
	}
}
