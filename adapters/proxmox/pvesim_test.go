package proxmox_test

import (
	"fmt"
	"strings"
	"testing"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// A rig is a simulated cluster of two nodes, served with TLS, and a Host that
// reaches each of them.
type rig struct {
	t    *testing.T
	sim  *pvesim.Sim
	host *proxmox.Host
	exec engine.Executor
	conf proxmox.Config
	runs int
	// What a test counts begins after these.
	before, asked int
}

func newRig(t *testing.T, change ...func(*pvesim.Options)) *rig {
	t.Helper()
	options := pvesim.Options{Nodes: []string{"pve1", "pve2"}, AuthDelay: -1}
	for _, f := range change {
		f(&options)
	}
	sim, err := pvesim.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	srv, err := sim.Start(pvesim.Listen{Addr: "127.0.0.1:0", EachNode: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	sim.AddUser("svc@pve", "unused-password")
	if _, err := sim.AddToken(token, pvesim.Token{Secret: secret}); err != nil {
		t.Fatal(err)
	}
	sim.AddRole("Cluster", "Sys.Audit", "Pool.Audit", "Datastore.Audit")
	sim.AddRole("Guests", "VM.Audit", "VM.Allocate", "VM.Config.Disk")
	sim.AddPool("team", "")
	sim.Grant("/", "svc@pve", "Cluster", true)
	sim.Grant("/vms", "svc@pve", "Guests", true)
	r := &rig{t: t, sim: sim}
	r.conf = proxmox.Config{
		BaseURL: srv.URL, Nodes: srv.URLs,
		Fingerprints: []string{srv.Fingerprints["pve1"], srv.Fingerprints["pve2"]},
	}
	r.host = newHost(t, r.conf)
	r.exec = r.host.Executors()[op.GuestDestroy]
	return r
}

// guest makes a stopped guest with two disks on pve1.
func (r *rig) guest(kind pvesim.Kind, change ...func(*pvesim.Guest)) {
	r.t.Helper()
	g := pvesim.Guest{Kind: kind, VMID: 107, Node: "pve1", Name: "web", Disks: []string{"local-lvm:1", "local-lvm:1"}, MACs: []string{""}}
	for _, f := range change {
		f(&g)
	}
	if _, err := r.sim.AddGuest(g); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) fault(f pvesim.Fault) *pvesim.Injected {
	r.t.Helper()
	in, err := r.sim.Inject(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return in
}

func (r *rig) node(name string, change pvesim.NodeControl) {
	r.t.Helper()
	if err := r.sim.Node(name, change); err != nil {
		r.t.Fatal(err)
	}
}

// announce looks at the guest and makes the announcement of its destruction.
func (r *rig) announce(typ op.GuestType, params op.Params) *op.Launching {
	r.t.Helper()
	intent := op.Intent{Class: op.GuestDestroy, Target: target(typ, 107), Params: params}
	seen, err := r.exec.Observe(r.t.Context(), engine.Attempt{Intent: intent})
	if err != nil {
		r.t.Fatal(err)
	}
	req, cred, err := r.exec.Request(engine.Attempt{Number: 1, Intent: intent}, seen)
	if err != nil {
		r.t.Fatal(err)
	}
	r.runs++
	return &op.Launching{
		Header: op.Header{OpID: fmt.Sprintf("%020x", r.runs), Attempt: 1, Class: intent.Class, Target: intent.Target},
		Node:   seen.Node, Credential: cred, Request: req, Observed: seen,
	}
}

// task asks for a task that is over: the simulator's tasks take no time.
func (r *rig) task(upid string) engine.Task {
	r.t.Helper()
	got, err := r.host.Task(r.t.Context(), upid)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func (r *rig) probe(l *op.Launching, task engine.Task) engine.Finding {
	r.t.Helper()
	f, err := r.exec.Probe(r.t.Context(), l, task.ExitStatus, task.Log)
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// effects tells how many guests were destroyed and volumes removed in truth.
func (r *rig) effects() (guests, volumes int) {
	for _, e := range r.sim.Effects()[r.before:] {
		switch e.Kind { //nolint:exhaustive // the others are not of a destroy
		case pvesim.GuestDestroyed:
			guests++
		case pvesim.VolumeFreed:
			volumes++
		}
	}
	return guests, volumes
}

func (r *rig) wantEffects(guests, volumes int) {
	r.t.Helper()
	if g, v := r.effects(); g != guests || v != volumes {
		r.t.Errorf("effects: got %d guests and %d volumes destroyed, want %d and %d", g, v, guests, volumes)
	}
}

func (r *rig) wantOneRequest() {
	r.t.Helper()
	if got := r.sim.Requests(); len(got) != 1 {
		r.t.Errorf("mutating requests: got %+v, want one", got)
	}
}

func wantEffect(t *testing.T, f engine.Finding, want op.Effect, residue int) {
	t.Helper()
	if f.Evidence.Effect != want || len(f.Residue) != residue {
		t.Errorf("got %s, residue %q, because %s; want %s and %d volumes left",
			f.Evidence.Effect, f.Residue, strings.Join(f.Evidence.Reasons, "; "), want, residue)
	}
}

func TestSimDestroy(t *testing.T) {
	yes := true
	cases := []struct {
		name   string
		kind   pvesim.Kind
		typ    op.GuestType
		params op.Params
		change func(*pvesim.Guest)
	}{
		{"machine", pvesim.QEMU, op.QEMU, op.Params{}, func(*pvesim.Guest) {}},
		{"machine in a pool", pvesim.QEMU, op.QEMU, op.Params{Purge: &yes}, func(g *pvesim.Guest) { g.Pool = "team" }},
		{"machine under HA, with purge", pvesim.QEMU, op.QEMU, op.Params{Purge: &yes}, func(g *pvesim.Guest) { g.HA = "stopped" }},
		{"machine on the other node", pvesim.QEMU, op.QEMU, op.Params{}, func(g *pvesim.Guest) { g.Node = "pve2" }},
		{"container", pvesim.LXC, op.LXC, op.Params{}, func(*pvesim.Guest) {}},
		{"running container, with force", pvesim.LXC, op.LXC, op.Params{Force: &yes, Purge: &yes}, func(g *pvesim.Guest) { g.Running = true }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.guest(c.kind, c.change)
			l := r.announce(c.typ, c.params)
			if l.Observed.Digest == "" || len(l.Observed.Volumes) != 2 || len(l.Observed.MACs) != 1 || !l.Observed.Quorate || !l.Observed.NodeOnline {
				t.Errorf("observed: got %+v", l.Observed)
			}
			facts, err := r.host.Facts(t.Context(), l.Target)
			if want := c.name == "machine in a pool"; err != nil || facts.Node != l.Node || (facts.Pool == "team") != want {
				t.Errorf("facts: got %+v, %v", facts, err)
			}
			upid, err := launch(t.Context(), r.exec, l)
			if err != nil {
				t.Fatal(err)
			}
			task := r.task(upid)
			if task.Phase != engine.TaskEnded || task.ExitStatus != "OK" {
				t.Errorf("task: got %+v, want OK", task)
			}
			wantEffect(t, r.probe(l, task), op.EffectDone, 0)
			if seen, err := r.exec.Observe(t.Context(), lookingAt(l.Target)); err != nil || seen.Found {
				t.Errorf("afterwards: got %+v, %v, want not found", seen, err)
			}
			r.wantEffects(1, 2)
			r.wantOneRequest()
		})
	}
}

// What the host refuses before any work is definite, and true.
func TestSimRefusals(t *testing.T) {
	cases := map[string]struct {
		kind   pvesim.Kind
		typ    op.GuestType
		change func(*pvesim.Guest)
		text   string
	}{
		"machine running":     {pvesim.QEMU, op.QEMU, func(g *pvesim.Guest) { g.Running = true }, "is running"},
		"machine protected":   {pvesim.QEMU, op.QEMU, func(g *pvesim.Guest) { g.Protection = true }, "protection mode"},
		"machine under HA":    {pvesim.QEMU, op.QEMU, func(g *pvesim.Guest) { g.HA = "stopped" }, "HA resources"},
		"container running":   {pvesim.LXC, op.LXC, func(g *pvesim.Guest) { g.Running = true }, "is running"},
		"container protected": {pvesim.LXC, op.LXC, func(g *pvesim.Guest) { g.Protection = true }, "protection mode"},
		"container locked":    {pvesim.LXC, op.LXC, func(g *pvesim.Guest) { g.Lock = "backup" }, "CT is locked (backup)"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.guest(c.kind, c.change)
			_, err := launch(t.Context(), r.exec, r.announce(c.typ, op.Params{}))
			if !engine.IsDefinite(err) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want a definite error with %q", err, c.text)
			}
			r.wantEffects(0, 0)
			r.wantOneRequest()
		})
	}
}

// The guest changes between the look and the launch.
func TestSimLateRefusals(t *testing.T) {
	cases := map[string]struct {
		do   func(*rig)
		text string
	}{
		"migrated":           {func(r *rig) { _ = r.sim.MoveGuest(107, "pve2") }, "does not exist"},
		"destroyed":          {func(r *rig) { r.sim.DestroyGuest(107) }, "does not exist"},
		"started":            {func(r *rig) { r.sim.PowerGuest(107, true) }, "is running"},
		"right taken away":   {func(r *rig) { r.sim.Revoke("/vms", "svc@pve") }, "VM.Allocate"},
		"user disabled":      {func(r *rig) { r.sim.DisableUser("svc@pve", true) }, "401"},
		"the node is down":   {func(r *rig) { off := false; r.node("pve1", pvesim.NodeControl{Up: &off}) }, "not sent"},
		"its daemon is down": {func(r *rig) { r.node("pve1", pvesim.NodeControl{Daemon: pvesim.Refusing}) }, "595"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.guest(pvesim.QEMU)
			l := r.announce(op.QEMU, op.Params{})
			c.do(r)
			before, _ := r.effects()
			_, err := launch(t.Context(), r.exec, l)
			if !engine.IsDefinite(err) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v, want a definite error with %q", err, c.text)
			}
			if after, _ := r.effects(); after != before {
				t.Errorf("guests destroyed by the launch: got %d, want none", after-before)
			}
		})
	}
}

// A migrated guest is found where it is, and destroyed there.
func TestSimFollowsAMigratedGuest(t *testing.T) {
	r := newRig(t)
	r.guest(pvesim.QEMU)
	if err := r.sim.MoveGuest(107, "pve2"); err != nil {
		t.Fatal(err)
	}
	l := r.announce(op.QEMU, op.Params{})
	upid, err := launch(t.Context(), r.exec, l)
	if err != nil || l.Node != "pve2" {
		t.Fatalf("got %v on %s, want pve2", err, l.Node)
	}
	wantEffect(t, r.probe(l, r.task(upid)), op.EffectDone, 0)
	r.wantEffects(1, 2)
}

const guestPath = "/nodes/*/qemu/107"

// Whatever happens to the answer of a launch, the error is ambiguous, the
// request was sent once, and the probe tells the truth.
func TestSimAmbiguousLaunches(t *testing.T) {
	cases := map[string]struct {
		fault pvesim.Fault
		done  bool
	}{
		"lost with all it would have done": {pvesim.Fault{Kind: pvesim.FaultCut}, false},
		"reply lost":                       {pvesim.Fault{Kind: pvesim.FaultCut, After: true}, true},
		"596 and not executed":             {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: "Connection timed out"}, false},
		"596 and executed":                 {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: "Connection timed out", After: true}, true},
		"502 and executed":                 {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 502, Reason: "Bad Gateway", Body: page, After: true}, true},
		"503 with data null, executed":     {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 503, Reason: "Service Unavailable", Body: `{"data":null}`, After: true}, true},
		"empty 200, executed":              {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, Reason: "OK", After: true}, true},
		"malformed UPID":                   {pvesim.Fault{Kind: pvesim.FaultBadUPID, Text: "UPID:pve1:1:2:3"}, true},
		"the task can't be listed":         {pvesim.Fault{Kind: pvesim.FaultActiveLock}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.guest(pvesim.QEMU)
			l := r.announce(op.QEMU, op.Params{})
			c.fault.Method, c.fault.Path = "DELETE", guestPath
			in := r.fault(c.fault)
			upid, err := launch(t.Context(), r.exec, l)
			if err == nil || engine.IsDefinite(err) {
				t.Errorf("got %q, definite %v, %v, want an ambiguous error", upid, engine.IsDefinite(err), err)
			}
			if in.Hits() != 1 {
				t.Errorf("the fault struck %d times, want once", in.Hits())
			}
			f := r.probe(l, engine.Task{})
			if c.done {
				wantEffect(t, f, op.EffectDone, 0)
				r.wantEffects(1, 2)
			} else {
				wantEffect(t, f, op.EffectNone, 0)
				r.wantEffects(0, 0)
			}
			r.wantOneRequest()
		})
	}
}

// A task that ends early, at every stage, and what the probe makes of it.
func TestSimTaskEndsEarly(t *testing.T) {
	off := false
	cases := map[string]struct {
		kind     pvesim.Kind
		typ      op.GuestType
		prepare  func(*rig)
		exit     string
		precedes bool
		want     op.Effect
		residue  int
	}{
		"machine locked":                   {pvesim.QEMU, op.QEMU, func(r *rig) { r.sim.EditGuest(107, map[string]string{"lock": "backup"}) }, "VM is locked (backup)", true, op.EffectNone, 0},
		"killed before its checks":         {pvesim.QEMU, op.QEMU, kill("check"), "unexpected status", false, op.EffectUnknown, 0},
		"killed before the first volume":   {pvesim.QEMU, op.QEMU, kill("free:0"), "unexpected status", false, op.EffectUnknown, 0},
		"killed between the volumes":       {pvesim.QEMU, op.QEMU, kill("free:1"), "unexpected status", false, op.EffectPartial, 0},
		"killed after the volumes":         {pvesim.QEMU, op.QEMU, kill("zombie"), "unexpected status", false, op.EffectPartial, 0},
		"killed with the config emptied":   {pvesim.QEMU, op.QEMU, kill("access"), "unexpected status", false, op.EffectPartial, 0},
		"killed before the last step":      {pvesim.QEMU, op.QEMU, kill("unlink"), "unexpected status", false, op.EffectPartial, 0},
		"container killed half-way":        {pvesim.LXC, op.LXC, kill("free:1"), "unexpected status", false, op.EffectPartial, 0},
		"a volume of a machine is stuck":   {pvesim.QEMU, op.QEMU, stick, "WARNINGS: 1", false, op.EffectDone, 1},
		"a volume of a container is stuck": {pvesim.LXC, op.LXC, stick, "", false, op.EffectPartial, 0},
		"quorum lost":                      {pvesim.QEMU, op.QEMU, func(r *rig) { r.node("pve1", pvesim.NodeControl{Quorate: &off}) }, "Permission denied", false, op.EffectPartial, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.guest(c.kind)
			l := r.announce(c.typ, op.Params{})
			c.prepare(r)
			upid, err := launch(t.Context(), r.exec, l)
			if err != nil {
				t.Fatal(err)
			}
			task := r.task(upid)
			if task.Phase != engine.TaskEnded || !strings.Contains(task.ExitStatus, c.exit) {
				t.Errorf("task: got %+v, want %q", task, c.exit)
			}
			if got := r.exec.PrecedesEffect(task.ExitStatus); got != c.precedes {
				t.Errorf("%q precedes any effect: got %v, want %v", task.ExitStatus, got, c.precedes)
			}
			wantEffect(t, r.probe(l, task), c.want, c.residue)
			r.wantOneRequest()
		})
	}
}

func kill(stage string) func(*rig) {
	return func(r *rig) { r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 107, Stage: stage}) }
}

func stick(r *rig) {
	r.fault(pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: "*disk-1*", Times: -1, Text: "lvremove failed: in use"})
}

// The VMID is handed out again before the probe: never "still there".
func TestSimReusedVMID(t *testing.T) {
	for name, kinds := range map[string][2]pvesim.Kind{
		"by a machine":                  {pvesim.QEMU, pvesim.QEMU},
		"by a container":                {pvesim.QEMU, pvesim.LXC},
		"a container's, by a container": {pvesim.LXC, pvesim.LXC},
		"a container's, by a machine":   {pvesim.LXC, pvesim.QEMU},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.guest(kinds[0])
			typ := op.GuestType(kinds[0])
			l := r.announce(typ, op.Params{})
			upid, err := launch(t.Context(), r.exec, l)
			if err != nil {
				t.Fatal(err)
			}
			r.guest(kinds[1]) // the same name and the same volume names
			f := r.probe(l, r.task(upid))
			if f.Evidence.Effect != op.EffectDone {
				t.Errorf("got %+v, want done", f)
			}
			if kinds[0] == kinds[1] && len(f.Residue) != 0 {
				t.Errorf("residue: got %q, the new guest's own volumes", f.Residue)
			}
			// The announcement is spent: sending it again would now destroy
			// the wrong guest.
			if _, err := launch(t.Context(), r.exec, l); err == nil || engine.IsDefinite(err) {
				t.Errorf("second launch: got %v, want an ambiguous refusal", err)
			}
			r.wantOneRequest()
			r.wantEffects(1, 2)
		})
	}
}

// A token whose rights came with the guest gets 403 once it is gone.
func TestSimRightsGoWithTheGuest(t *testing.T) {
	r := newRig(t)
	r.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.Pool = "team" })
	r.sim.Revoke("/vms", "svc@pve")
	r.sim.Grant("/pool/team", "svc@pve", "Guests", true)
	l := r.announce(op.QEMU, op.Params{})
	upid, err := launch(t.Context(), r.exec, l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.exec.Observe(t.Context(), lookingAt(l.Target)); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("observe: got %v, want 403: what may not be read is not gone", err)
	}
	f := r.probe(l, r.task(upid))
	wantEffect(t, f, op.EffectDone, 0)
	if reasons := strings.Join(f.Evidence.Reasons, "; "); !strings.Contains(reasons, "VM.Config.Disk") {
		t.Errorf("reasons: got %s, want them to say that the volumes could not be looked for", reasons)
	}
}

func TestSimForgottenTask(t *testing.T) {
	r := newRig(t)
	r.guest(pvesim.QEMU)
	l := r.announce(op.QEMU, op.Params{})
	r.fault(pvesim.Fault{Kind: pvesim.FaultTaskForget, VMID: 107})
	upid, err := launch(t.Context(), r.exec, l)
	if err != nil {
		t.Fatal(err)
	}
	if task := r.task(upid); task.Phase != engine.TaskForgotten {
		t.Errorf("got %+v, want forgotten", task)
	}
	wantEffect(t, r.probe(l, engine.Task{}), op.EffectDone, 0)
}

// The client hangs up while the request waits inside the host, which carries it
// out later all the same.
func TestSimLateExecution(t *testing.T) {
	r := newRig(t)
	r.guest(pvesim.QEMU)
	l := r.announce(op.QEMU, op.Params{})
	held := r.fault(pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointFork, Method: "DELETE", Path: guestPath, ClientGone: true})
	if _, err := launch(t.Context(), r.exec, l); err == nil || engine.IsDefinite(err) {
		t.Errorf("got %v, want an ambiguous error", err)
	}
	wantEffect(t, r.probe(l, engine.Task{}), op.EffectNone, 0) // true of this moment alone
	held.Release()
	wantEffect(t, r.probe(l, engine.Task{}), op.EffectDone, 0)
	r.wantOneRequest()
}
