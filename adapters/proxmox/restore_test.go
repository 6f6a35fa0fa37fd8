package proxmox_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// backup makes a backup of a guest on local.
func (r *classRig) backup(vmid int) string {
	r.t.Helper()
	v, err := r.sim.AddBackup(vmid, "local")
	if err != nil {
		r.t.Fatal(err)
	}
	return v.VolID
}

// restore orders a restore over guest 107 of a backup of guest 106, which is of
// the same kind.
func (r *classRig) restore(kind pvesim.Kind, change ...func(*pvesim.Guest)) *order {
	r.t.Helper()
	r.guest(kind, change...)
	r.guest(kind, func(g *pvesim.Guest) { g.VMID, g.Name, g.Disks = 106, "saved", []string{"local-lvm:1"} })
	return r.order(restoreOf(kind, r.backup(106)))
}

func restoreOf(kind pvesim.Kind, archive string) op.Intent {
	return op.Intent{
		Class: op.RestoreOverwrite, Target: target(op.GuestType(kind), 107),
		Params: op.Params{Archive: archive, Storage: "local-lvm"},
	}
}

var bothKinds = []pvesim.Kind{pvesim.QEMU, pvesim.LXC}

func TestRestoreSucceeds(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		o := r.restore(pvesim.QEMU)
		if a := o.l.Observed.Archive; a == nil || a.VMID != 106 || a.Content != "backup" || a.Size == 0 || a.CTime == 0 {
			t.Errorf("observed archive: got %+v", a)
		}
		e := o.play()
		e.want(t, "none", op.EffectDone, "another one: digest")
		if g, _ := r.sim.Guest(107); g.Name != "saved" {
			t.Errorf("name: got %s, want that of the backup", g.Name)
		}
	})
	inBothModes(t, func(t *testing.T, r *classRig) {
		e := r.restore(pvesim.LXC).play()
		e.want(t, "none", op.EffectDone, "another one: digest")
	})
	t.Run("of its own backup, as another machine", func(t *testing.T) {
		r := newClassRig(t, true)
		r.guest(pvesim.QEMU)
		in := restoreOf(pvesim.QEMU, r.backup(107))
		in.Params.Unique = new(true)
		o := r.order(in)
		before, _ := r.sim.Guest(107)
		o.play().want(t, "none", op.EffectDone)
		if after, _ := r.sim.Guest(107); after.UUID == before.UUID {
			t.Error("uuid: got the old one, want another")
		}
	})
	t.Run("of its own backup, without a generation id", func(t *testing.T) {
		r := newClassRig(t, true)
		r.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.Config = map[string]string{"vmgenid": "0"} })
		r.order(restoreOf(pvesim.QEMU, r.backup(107))).play().want(t, "none", op.EffectDone, "as it was, to the byte")
	})
	t.Run("a disk without a place in the backup", func(t *testing.T) {
		r := newClassRig(t, true)
		r.restore(pvesim.QEMU).play().want(t, "none", op.EffectDone)
		if g, _ := r.sim.Guest(107); g.Config["unused0"] == "" {
			t.Errorf("config: got %v, want the second disk as unused0", g.Config)
		}
	})
}

// What the host refuses before the fork is definite, and nothing happened.
func TestRestoreRefused(t *testing.T) {
	cases := []struct {
		name string
		kind pvesim.Kind
		do   func(*classRig)
		text string
	}{
		{"container running", pvesim.LXC, func(r *classRig) { r.sim.PowerGuest(107, true) }, "can't overwrite running container"},
		{"container protected", pvesim.LXC, func(r *classRig) { r.sim.EditGuest(107, map[string]string{"protection": "1"}) }, "protection mode enabled"},
		{"container locked", pvesim.LXC, func(r *classRig) { r.sim.EditGuest(107, map[string]string{"lock": "backup"}) }, "CT is locked (backup)"},
		{"machine locked", pvesim.QEMU, func(r *classRig) { r.sim.EditGuest(107, map[string]string{"lock": "backup"}) }, "VM is locked (backup)"},
		{"archive gone", pvesim.QEMU, func(r *classRig) { r.dropBackup() }, "does not exist"},
		{"storage of the archive gone", pvesim.QEMU, func(r *classRig) { r.sim.RemoveStorage("local") }, "storage 'local' does not exist"},
		{"target storage off", pvesim.LXC, func(r *classRig) {
			r.sim.AddStorage(pvesim.Storage{ID: "local-lvm", Type: "lvmthin", Content: []string{"rootdir"}, Disabled: true})
		}, "storage 'local-lvm' is disabled"},
		{"machine moved away", pvesim.QEMU, func(r *classRig) { _ = r.sim.MoveGuest(107, "pve2") }, "File exists"},
		{"container moved away", pvesim.LXC, func(r *classRig) { _ = r.sim.MoveGuest(107, "pve2") }, "already exists on node 'pve2'"},
		{"replaced by a container", pvesim.QEMU, func(r *classRig) { r.sim.DestroyGuest(107); r.guest(pvesim.LXC) }, "File exists"},
		{"no quorum", pvesim.QEMU, func(r *classRig) { r.node("pve1", pvesim.NodeControl{Quorate: new(false)}) }, "no quorum?"},
		{"no right", pvesim.QEMU, func(r *classRig) { r.sim.AddRole("Guests", "VM.Audit") }, "403"},
		{"its daemon down", pvesim.LXC, func(r *classRig) { r.node("pve1", pvesim.NodeControl{Daemon: pvesim.Refusing}) }, "595"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newClassRig(t, false)
			o := r.restore(c.kind)
			c.do(r)
			o.begin = len(r.sim.Effects())
			o.play().want(t, "definite", op.EffectNone, c.text)
		})
	}
}

func (r *classRig) dropBackup() {
	for _, v := range r.sim.Volumes() {
		if v.Content == "backup" {
			r.sim.DropVolume(v.Node, v.VolID)
		}
	}
}

// With a token of its own the attempt looks once more before it is let go: what
// has changed since the announcement is no longer what was announced.
func TestRestoreLooksAgain(t *testing.T) {
	cases := map[string]struct {
		do   func(*classRig)
		text string
	}{
		"guest changed":  {func(r *classRig) { r.sim.EditGuest(107, map[string]string{"tags": "new"}) }, "has changed since"},
		"archive gone":   {func(r *classRig) { r.dropBackup() }, "does not exist"},
		"archive anew":   {func(r *classRig) { r.swapBackup() }, "not the one that was announced"},
		"no storage":     {func(r *classRig) { r.sim.RemoveStorage("local") }, "does not exist"},
		"no role for it": {func(r *classRig) { r.sim.AddRole("WritAttempt-VM.Backup", "VM.Audit") }, "lacks VM.Backup on /vms/106"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true)
			o := r.restore(pvesim.QEMU)
			c.do(r)
			o.play().want(t, "definite", op.EffectNone, c.text)
			if g, _ := r.sim.Guest(107); g.Lock != "" {
				t.Errorf("lock: got %s, want none: nothing was sent", g.Lock)
			}
		})
	}
}

// What the configuration in the backup needs of the cluster, the token gets: use
// of the bridges that its interfaces are on, and of mapped devices.
func TestRestoreRights(t *testing.T) {
	r := newClassRig(t, true)
	r.guest(pvesim.QEMU)
	r.guest(pvesim.QEMU, func(g *pvesim.Guest) {
		g.VMID, g.Name, g.Disks, g.MACs = 106, "saved", []string{"local-lvm:1"}, nil
		g.Config = map[string]string{
			"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0", "net1": "virtio=BC:24:11:00:00:02,bridge=vmbr1,tag=7",
			"net2": "virtio=BC:24:11:00:00:03,bridge=vmbr0,firewall=1", "hostpci0": "mapping=gpu,pcie=1", "usb0": "mapping=key", "usb1": "spice",
			"net3": "virtio=BC:24:11:00:00:04,bridge=vmbr2,trunks=5;6",
		}
	})
	o := r.order(restoreOf(pvesim.QEMU, r.backup(106)))
	o.play().want(t, "none", op.EffectDone)
	var got []string
	for _, q := range r.sim.Requests()[r.asked:] {
		if query, err := url.ParseQuery(q.Query); err == nil && strings.HasSuffix(q.Path, "/access/acl") {
			got = append(got, query.Get("roles")+" on "+query.Get("path"))
		}
	}
	slices.Sort(got)
	want := []string{
		"WritAttempt on /vms/107",
		"WritAttempt-Datastore.AllocateSpace on /storage/local",
		"WritAttempt-Datastore.AllocateSpace on /storage/local-lvm",
		"WritAttempt-Mapping.Use on /mapping/pci/gpu",
		"WritAttempt-Mapping.Use on /mapping/usb/key",
		"WritAttempt-SDN.Use on /sdn/zones/localnetwork/vmbr0",
		"WritAttempt-SDN.Use on /sdn/zones/localnetwork/vmbr1/7",
		"WritAttempt-VM.Backup on /vms/106",
	}
	if !slices.Equal(got, want) {
		t.Errorf("rights: got %q, want %q", got, want)
	}
}

// A configuration that makes no sense is nothing to hand rights out by.
func TestRestoreRightsOfNonsense(t *testing.T) {
	for name, config := range map[string]map[string]string{
		"VLAN":   {"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=../../vms"},
		"bridge": {"net0": "virtio=BC:24:11:00:00:01,bridge=../../vms/100"},
		"device": {"hostpci0": "mapping=../../vms/100"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true)
			r.guest(pvesim.QEMU)
			r.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.VMID, g.Disks, g.MACs, g.Config = 106, []string{"local-lvm:1"}, nil, config })
			o := r.order(restoreOf(pvesim.QEMU, r.backup(106)))
			_, _ = o.x.Launch(t.Context(), o.a, o.l)
			for _, q := range r.sim.Requests()[r.asked:] {
				if strings.HasSuffix(q.Path, "/access/acl") && strings.Contains(q.Query, "..") {
					t.Errorf("rights: got %s", q.Query)
				}
			}
		})
	}
}

// swapBackup puts a backup of another size in the place of the one that is there.
func (r *classRig) swapBackup() {
	r.t.Helper()
	for _, v := range r.sim.Volumes() {
		if v.Content != "backup" {
			continue
		}
		r.sim.DropVolume(v.Node, v.VolID)
		v.Size++
		if err := r.sim.AddVolume(v); err != nil {
			r.t.Fatal(err)
		}
	}
}

// playAt plays an order and does something while its task stands before a stage.
func (o *order) playAt(stage string, do func()) ending {
	o.r.t.Helper()
	held := o.r.fault(pvesim.Fault{Kind: pvesim.FaultTaskHold, Auth: o.l.Credential, Stage: stage})
	upid, err := o.x.Launch(o.r.t.Context(), o.a, o.l)
	if err != nil {
		o.r.t.Fatal(err)
	}
	<-held.Reached()
	do()
	held.Release()
	return o.settle(upid, err)
}

// What a task is refused before it has touched the guest.
func TestRestoreTaskRefused(t *testing.T) {
	cases := []struct {
		name  string
		kind  pvesim.Kind
		stage string
		do    func(*classRig)
		text  string
	}{
		{"machine running", pvesim.QEMU, "check", func(r *classRig) { r.sim.PowerGuest(107, true) }, "vm is running"},
		{"machine protected", pvesim.QEMU, "check", func(r *classRig) { r.sim.EditGuest(107, map[string]string{"protection": "1"}) }, "protection mode enabled"},
		{"machine's archive gone", pvesim.QEMU, "header", func(r *classRig) { r.dropBackup() }, "does not exist"},
		{"container's archive gone", pvesim.LXC, "header", func(r *classRig) { r.dropBackup() }, "does not exist"},
		{"container running", pvesim.LXC, "check", func(r *classRig) { r.sim.PowerGuest(107, true) }, "can't overwrite running container"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				o := r.restore(c.kind)
				o.playAt(c.stage, func() { c.do(r) }).want(t, "none", op.EffectNone, c.text)
				if g, _ := r.sim.Guest(107); g.Lock != "" || g.Name != "web" {
					t.Errorf("guest: got %+v, want it as it was", g)
				}
			})
		})
	}
}

// A task that is refused takes its lock away, if it can.
func TestRestoreTaskRefusedAndLeavesItsLock(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		o := r.restore(pvesim.QEMU)
		o.playAt("check", func() {
			r.sim.PowerGuest(107, true)
			r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
		}).want(t, "none", op.EffectPartial, "vm is running", "nothing is lost", "qm unlock 107")
	})
}

// Whatever happens to the answer, the task is found by the attempt's name, and
// the truth is told.
func TestRestoreAnswerLost(t *testing.T) {
	cases := map[string]struct {
		fault pvesim.Fault
		done  bool
	}{
		"cut before":               {pvesim.Fault{Kind: pvesim.FaultCut}, false},
		"cut after":                {pvesim.Fault{Kind: pvesim.FaultCut, After: true}, true},
		"596, not executed":        {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: "Connection timed out"}, false},
		"596, executed":            {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: "Connection timed out", After: true}, true},
		"the task can't be listed": {pvesim.Fault{Kind: pvesim.FaultActiveLock}, true},
	}
	for name, c := range cases {
		for _, kind := range bothKinds {
			t.Run(name+", "+string(kind), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, r *classRig) {
					o := r.restore(kind)
					c.fault.Method, c.fault.Path = "POST", "/nodes/*/"+string(kind)
					in := r.fault(c.fault)
					e := o.play()
					if in.Hits() != 1 || e.adopted != c.done {
						t.Errorf("hits %d, adopted %v, want once, %v", in.Hits(), e.adopted, c.done)
					}
					switch {
					case c.done:
						e.want(t, "ambiguous", op.EffectDone)
					case r.own && kind == pvesim.QEMU:
						e.want(t, "ambiguous", op.EffectNone)
					default: // with a shared token no fence is one, and for a container none either
						e.want(t, "ambiguous", op.EffectUnknown)
					}
				})
			})
		}
	}
}

// A worker that dies at each of its stages, and one that fails there by itself.
func TestRestoreEndsEarly(t *testing.T) {
	const lost, whole = "is lost, and local:backup/", "nothing is lost"
	type early struct {
		stage   string
		killed  op.Effect
		failed  op.Effect
		says    string
		residue int // after a kill
	}
	for kind, stages := range map[pvesim.Kind][]early{
		pvesim.QEMU: {
			{"start", op.EffectPartial, "", whole, 0},
			{"check", op.EffectPartial, op.EffectNone, whole, 0},
			{"lock", op.EffectPartial, op.EffectNone, whole, 0},
			{"header", op.EffectPartial, op.EffectNone, whole, 0},
			{"stub", op.EffectPartial, op.EffectNone, whole, 0},
			{"free:0", op.EffectPartial, op.EffectPartial, lost, 2},
			{"allocate:0", op.EffectPartial, op.EffectPartial, lost, 1},
			{"extract", op.EffectPartial, op.EffectPartial, lost, 2},
			{"config", op.EffectPartial, op.EffectPartial, lost, 2},
			{"end", op.EffectUnknown, "", "look whether it is the guest of the backup", 0},
		},
		pvesim.LXC: {
			{"start", op.EffectPartial, "", whole, 0},
			{"check", op.EffectPartial, op.EffectNone, whole, 0},
			{"header", op.EffectPartial, op.EffectNone, whole, 0},
			{"allocate:0", op.EffectPartial, op.EffectNone, whole, 0},
			{"free:0", op.EffectPartial, op.EffectPartial, whole, 1},
			{"free:1", op.EffectPartial, op.EffectPartial, lost, 1},
			{"stub", op.EffectPartial, op.EffectPartial, lost, 1},
			{"extract", op.EffectPartial, op.EffectPartial, lost, 1},
			{"config", op.EffectPartial, op.EffectPartial, lost, 1},
			{"end", op.EffectUnknown, "", "look whether it is the guest of the backup", 0},
		},
	} {
		for _, c := range stages {
			t.Run(string(kind)+" killed at "+c.stage, func(t *testing.T) {
				r := newClassRig(t, true)
				o := r.restore(kind)
				r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 107, Stage: c.stage})
				e := o.play()
				e.want(t, "none", op.EffectUnknown, "unexpected status", c.says)
				if got := e.finding.Evidence.Effect; got != c.killed {
					t.Errorf("found: got %s, want %s", got, c.killed)
				}
				if len(e.finding.Residue) != c.residue {
					t.Errorf("residue: got %q, want %d volumes", e.finding.Residue, c.residue)
				}
				if !e.finding.MayStillAct {
					t.Error("what the worker had started may be alive: got no such doubt")
				}
			})
			if c.failed == "" {
				continue
			}
			t.Run(string(kind)+" failed at "+c.stage, func(t *testing.T) {
				r := newClassRig(t, true)
				o := r.restore(kind)
				r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, VMID: 107, Stage: c.stage, Text: "write error"})
				e := o.play()
				e.want(t, "none", c.failed, "write error")
				if e.finding.MayStillAct {
					t.Error("the worker ended by itself: got a doubt that something is at work")
				}
			})
		}
	}
}

// A container whose restore failed half-way ceases to exist. That its VMID is free
// is seen, and so are the disks that are nobody's any more.
func TestRestoreLeavesNoContainer(t *testing.T) {
	r := newClassRig(t, true)
	o := r.restore(pvesim.LXC)
	r.fault(pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: "*vm-107-disk-1", Text: "busy"})
	e := o.play()
	e.want(t, "none", op.EffectPartial, "there is no lxc guest with VMID 107 any more", "is lost", "restore it once more by hand")
	if !slices.Equal(e.finding.Residue, []string{"local-lvm:vm-107-disk-1"}) {
		t.Errorf("residue: got %q, want the disk that could not be freed", e.finding.Residue)
	}
}

// A token that may not see what has the VMID must not take it for gone.
func TestRestoreHiddenGuestIsNotLost(t *testing.T) {
	r := newClassRig(t, true)
	o := r.restore(pvesim.LXC)
	r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, VMID: 107, Stage: "header", Text: "write error"})
	upid, err := o.x.Launch(t.Context(), o.a, o.l)
	r.sim.Grant("/vms/107", "svc@pve", "NoAccess", false)
	e := o.settle(upid, err)
	e.want(t, "none", op.EffectUnknown)
	if strings.Contains(e.reasons(), "is lost") {
		t.Errorf("reasons: got %s, want them not to say that the guest is lost", e.reasons())
	}
}

// Others act on the VMID while the request is on its way, or after.
func TestRestoreAndSomebodyElse(t *testing.T) {
	t.Run("restored by hand, the request never arrived", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.restore(pvesim.QEMU)
		r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "POST", Path: "/nodes/*/qemu"})
		_, err := o.x.Launch(t.Context(), o.a, o.l)
		r.sim.DestroyGuest(107)
		r.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.Name, g.Disks = "other", []string{"local-lvm:2", "local:3"} })
		o.settle("", err).want(t, "ambiguous", op.EffectUnknown)
	})
	t.Run("destroyed after it was restored", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.restore(pvesim.QEMU)
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.sim.DestroyGuest(107)
		o.settle(upid, err).want(t, "none", op.EffectDone, "and since")
	})
}

// The request is delivered twice. Its first task is refused before any effect, and
// the second one runs: that the first was refused proves nothing of the attempt.
func TestRestoreDeliveredTwice(t *testing.T) {
	r := newClassRig(t, true)
	o := r.restore(pvesim.QEMU)
	r.sim.PowerGuest(107, true)
	second := r.fault(pvesim.Fault{Kind: pvesim.FaultRepeat, Method: "POST", Path: "/nodes/*/qemu", Delay: 300 * time.Millisecond})
	upid, err := o.x.Launch(t.Context(), o.a, o.l)
	r.sim.PowerGuest(107, false)
	if err != nil {
		t.Fatal(err)
	}
	<-second.Reached()
	for len(r.tasks(o).UPIDs) < 2 {
		if t.Context().Err() != nil {
			t.Fatal("the second task never began")
		}
	}
	task := r.task(upid)
	f, err := o.x.Probe(t.Context(), o.l, task.ExitStatus, task.Log)
	if err != nil || !strings.Contains(task.ExitStatus, "vm is running") {
		t.Fatalf("got %+v, %v, want the first task refused", task, err)
	}
	if f.Evidence.Effect == op.EffectNone {
		t.Errorf("effect: got %+v, want anything but none: the second task has restored", f)
	}
}

// tasks are those that are found for an order.
func (r *classRig) tasks(o *order) engine.TaskSearch {
	r.t.Helper()
	s, err := o.x.FindTasks(r.t.Context(), o.l)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// A request that has passed the check of its token, and goes on only after the
// fence. A virtual machine's protection is read once more after that, so it is held
// back wherever it was. A container's was read before the wait for its lock: a
// restore that stood there goes on, so no fence of one may count as confirmed.
func TestRestoreLate(t *testing.T) {
	cases := []struct {
		kind      pvesim.Kind
		point     string
		confirmed bool
		want      op.Effect
		acts      bool
	}{
		{pvesim.QEMU, pvesim.PointFork, true, op.EffectNone, false},
		{pvesim.QEMU, pvesim.PointLock, true, op.EffectNone, false},
		{pvesim.LXC, pvesim.PointFork, false, op.EffectUnknown, false},
		{pvesim.LXC, pvesim.PointLock, false, op.EffectUnknown, true},
	}
	for _, c := range cases {
		t.Run(string(c.kind)+" at "+c.point, func(t *testing.T) {
			r := newClassRig(t, true)
			o := r.restore(c.kind)
			held := r.fault(pvesim.Fault{Kind: pvesim.FaultHold, Method: "POST", Path: "/nodes/*/" + string(c.kind), Point: c.point, ClientGone: true})
			e := o.play()
			e.want(t, "ambiguous", c.want)
			wantFence(t, e.fence, c.confirmed, false, "protection was set", "itself shows the token as void")
			if early := strings.Contains(strings.Join(e.fence.Reasons, "\n"), "waits in between is not held back"); early == c.confirmed {
				t.Errorf("reasons: got %q, want the wait for the lock named where it is not confirmed", e.fence.Reasons)
			}
			held.Release()
			if got := slices.Contains(o.kinds(), pvesim.GuestOverwritten); got != c.acts {
				t.Errorf("effects after the fence: got %v, want it overwritten: %v", o.kinds(), c.acts)
			}
			if g, _ := r.sim.Guest(107); !c.acts && (g.Name != "web" || !g.Protection || g.Lock != "") {
				t.Errorf("guest: got %+v, want it whole and protected", g)
			}
		})
	}
}

// Without quorum volumes are freed, and the configuration can't be written.
func TestRestoreLosesQuorum(t *testing.T) {
	cases := []struct {
		kind  pvesim.Kind
		stage string
		says  string
	}{
		{pvesim.QEMU, "stub", "nothing is lost"},
		{pvesim.QEMU, "config", "is a stub, without disks"},
		{pvesim.LXC, "stub", "refers to volumes that are gone: local-lvm:vm-107-disk-0, local-lvm:vm-107-disk-1"},
		{pvesim.LXC, "config", "is a stub, without disks"},
	}
	for _, c := range cases {
		t.Run(string(c.kind)+" at "+c.stage, func(t *testing.T) {
			r := newClassRig(t, true)
			o := r.restore(c.kind)
			o.playAt(c.stage, func() { r.node("pve1", pvesim.NodeControl{Quorate: new(false)}) }).want(t, "none", op.EffectPartial, c.says)
		})
	}
}

// A template that others stand on is seen to be one.
func TestRestoreOverATemplate(t *testing.T) {
	r := newClassRig(t, false)
	r.guest(pvesim.QEMU, func(g *pvesim.Guest) {
		g.Disks, g.Template = []string{"local:1,format=qcow2"}, true
	})
	g, _ := r.sim.Guest(107)
	if err := r.sim.AddVolume(pvesim.Volume{VolID: "local:107/base-107-disk-0.qcow2/108/vm-108-disk-0.qcow2", Node: "pve1", VMID: 108, Size: 1, Parent: g.Disks[0]}); err != nil {
		t.Fatal(err)
	}
	o := r.order(restoreOf(pvesim.QEMU, r.backup(107)))
	if !slices.Equal(o.l.Observed.Clones, []string{"local:107/base-107-disk-0.qcow2/108/vm-108-disk-0.qcow2"}) {
		t.Errorf("clones: got %q", o.l.Observed.Clones)
	}
}
