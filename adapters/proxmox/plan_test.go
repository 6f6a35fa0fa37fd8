package proxmox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// planNow is the simulated clusters' time: what plans show must not depend on when
// a test runs.
var planNow = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

func atPlanNow(o *pvesim.Options) { o.Now = func() time.Time { return planNow } }

const shared107 = "local-lvm:vm-107-disk-1"

// rich makes guest 107 with all that a plan can tell, and gives an intent of a
// class on it, or on its disk, or on a backup of it.
func (r *classRig) rich(class op.Class, kind pvesim.Kind) op.Intent {
	r.t.Helper()
	in := guestIntent(class, kind)
	running := in.Class == op.SnapshotRollback || slices.Contains([]op.Class{op.GuestStop, op.GuestShutdown, op.GuestReboot}, class)
	r.rig.guest(kind, func(g *pvesim.Guest) {
		g.Snapshots, g.Running, g.Pool = []string{"first", before}, running, "team"
	})
	r.rig.guest(kind, func(g *pvesim.Guest) { g.VMID, g.Name, g.Disks = 106, "neighbour", []string{"local-lvm:1"} })
	shared, foreign := "scsi5", "scsi7"
	if kind == pvesim.LXC {
		shared, foreign = "mp5", "mp7"
	}
	r.sim.EditGuest(106, map[string]string{shared: shared107})
	r.volume(pvesim.Volume{VolID: "local-lvm:vm-107-disk-9", VMID: 107, Size: 3 << 30})
	r.sim.EditGuest(107, map[string]string{"unused0": "local-lvm:vm-107-disk-9", foreign: "local-lvm:vm-106-disk-0,size=1G"})
	r.sim.AddStorage(pvesim.Storage{ID: "vault", Type: "nfs", Path: "/mnt/pve/vault", Content: []string{"backup"}, Shared: true, Nodes: []string{"pve2"}})
	r.sim.AddStorage(pvesim.Storage{ID: "attic", Type: "nfs", Path: "/mnt/pve/attic", Content: []string{"backup"}, Shared: true, Disabled: true})
	own := r.backup(107)
	r.add(r.sim.AddVolume(pvesim.Volume{
		VolID: "local:backup/vzdump-" + string(kind) + "-107-2026_11_01-02_00_00.tar.zst", Node: "pve2", VMID: 107, Size: 5, Content: "backup", Format: "tar.zst", Protected: true,
	}))
	r.backup(106)
	if r.sim.AddReplication(107, "pve2") == "" || r.sim.AddReplication(106, "pve2") == "" {
		r.t.Fatal("no replication job")
	}
	r.sim.AddBackupJob(106, 107)
	r.sim.AddBackupJob(107)
	r.sim.AddBackupJob(106)
	r.sim.AddUser("owner@pve", "")
	r.sim.Grant("/vms/107", "owner@pve", "PVEVMAdmin", true)
	r.sim.Grant("/vms/106", "owner@pve", "PVEVMUser", true)
	switch class { //nolint:exhaustive // the others need nothing more
	case op.SnapshotRollback, op.SnapshotDelete:
		in.Params.Snapshot = before
	case op.SnapshotCreate:
		in.Params.Snapshot = next
	case op.BackupCreate:
		in.Params.Storage = "local"
	case op.RestoreOverwrite:
		in.Params.Archive, in.Params.Storage = own, "local-lvm"
	case op.VolumeDelete:
		in.Target = op.Target{Node: "pve1", Volume: shared107}
	case op.BackupDelete:
		in.Target = op.Target{Node: "pve1", Volume: own}
	}
	return in
}

func (r *classRig) plan(in op.Intent) op.Plan {
	r.t.Helper()
	p, err := r.host.Plan(r.t.Context(), in)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// told is a plan in lines.
func told(p op.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", p.Class, p.Target)
	list := func(title string, items []op.PlanItem) {
		for _, i := range items {
			fmt.Fprintf(&b, "  %s %s %s", title, i.Kind, i.Name)
			if i.Size != nil {
				fmt.Fprintf(&b, " size=%d", *i.Size)
			}
			if i.Time != 0 {
				fmt.Fprintf(&b, " time=%d", i.Time)
			}
			if i.Note != "" {
				fmt.Fprintf(&b, " (%s)", i.Note)
			}
			if len(i.Users) > 0 {
				fmt.Fprintf(&b, " users=%s", strings.Join(i.Users, ","))
			}
			b.WriteByte('\n')
		}
	}
	list("takes", p.TakesAway)
	list("stops", p.Stops)
	list("leaves", p.Remains)
	for _, o := range p.Obstacles {
		fmt.Fprintf(&b, "  obstacle %s\n", o)
	}
	for _, g := range p.Unknown {
		fmt.Fprintf(&b, "  unknown %s: %s (taken away: %t)\n", g.What, g.Why, g.TakenAway)
	}
	if d, err := p.Digest(); err != nil {
		fmt.Fprintf(&b, "  no digest: %v\n", err)
	} else {
		fmt.Fprintf(&b, "  digest %s\n", d)
	}
	return b.String()
}

func digestOf(t *testing.T, p op.Plan) string {
	t.Helper()
	d, err := p.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// Every class is planned, and what is told of each is as published.
func TestPlanOfEachClass(t *testing.T) {
	var b strings.Builder
	yes := true
	for _, kind := range kinds {
		for _, class := range op.Classes() {
			if class == op.StorageWipe || !class.ActsOnGuest() && kind == pvesim.LXC {
				continue
			}
			r := newClassRig(t, true, atPlanNow)
			in := r.rich(class, kind)
			b.WriteString(told(r.plan(in)))
			if class != op.GuestDestroy {
				continue
			}
			r.sim.SetHA(107, "started")
			in.Params.Purge = &yes
			b.WriteString("with purge, and under HA: " + told(r.plan(in)))
		}
	}
	goldenText(t, "plan/classes.txt", b.String())
}

func TestPlanOfPools(t *testing.T) {
	var b strings.Builder
	for _, p := range allPools {
		r := newClassRig(t, true, atPlanNow)
		r.pools()
		s := storageOn[p]
		s.Nodes = []string{"pve1"}
		s.Content = append(slices.Clone(s.Content), "backup")
		r.sim.AddStorage(s)
		r.volume(pvesim.Volume{VolID: s.ID + ":vm-300-disk-0", VMID: 300, Content: "images"})
		if p.Kind == op.Directory {
			r.volume(pvesim.Volume{VolID: s.ID + ":iso/a.iso", Content: "iso", Format: "iso"})
			r.rig.guest(pvesim.QEMU)
			if _, err := r.sim.AddBackup(107, s.ID); err != nil {
				t.Fatal(err)
			}
		}
		b.WriteString(told(r.plan(wipeOf(p, withCleanup))))
	}
	for _, change := range []func(*pvesim.Disk){partitions, func(d *pvesim.Disk) { d.Used = "mounted" }} {
		r := newClassRig(t, true, atPlanNow)
		r.withDisk(change)
		b.WriteString(told(r.plan(wipeDisk())))
	}
	r := newClassRig(t, true, atPlanNow)
	r.plug()
	b.WriteString("without the password of root: " + told(r.plan(wipeDisk())))
	goldenText(t, "plan/pools.txt", b.String())
}

// A template on which others stand.
func TestPlanNamesLinkedClones(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	r.rig.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.Disks, g.Template = []string{"local:1,format=qcow2"}, true })
	g, _ := r.sim.Guest(107)
	clone := "local:107/base-107-disk-0.qcow2/108/vm-108-disk-0.qcow2"
	r.volume(pvesim.Volume{VolID: clone, VMID: 108, Parent: g.Disks[0]})
	p := r.plan(guestIntent(op.GuestDestroy, pvesim.QEMU))
	if !slices.ContainsFunc(p.Remains, func(i op.PlanItem) bool { return i.Kind == op.PlanClone && i.Name == clone }) {
		t.Errorf("remains: got %+v, want the clone %s", p.Remains, clone)
	}
	if len(p.Obstacles) != 1 || !strings.Contains(p.Obstacles[0], clone) {
		t.Errorf("obstacles: got %q, want the clone alone", p.Obstacles)
	}
}

// What the token may not see is named, with what it lacks.
func TestPlanNamesWhatItCannotSee(t *testing.T) {
	cases := []struct {
		name, guests, cluster, root, says string
		lost                              bool
	}{
		{"pools", "VM.Audit VM.Config.Disk VM.Backup", "Sys.Audit Datastore.Audit Datastore.AllocateSpace", "", "Pool.Audit on /pool", true},
		{"the access control", "VM.Audit VM.Config.Disk VM.Backup", "Pool.Audit Datastore.Audit Datastore.AllocateSpace", "Sys.Audit", "Sys.Audit on /access", true},
		{"storages", "VM.Audit VM.Config.Disk VM.Backup", "Sys.Audit Pool.Audit", "", "Datastore.Audit on /storage", false},
		{"backups", "VM.Audit VM.Config.Disk", "Sys.Audit Pool.Audit Datastore.Audit", "", "VM.Backup on /vms/107", false},
		{"a disk's size", "VM.Audit VM.Backup", "Sys.Audit Pool.Audit Datastore.Audit", "", "Datastore.Allocate on /storage/local-lvm", true},
		{"all guests", "", "Sys.Audit Pool.Audit Datastore.Audit Datastore.AllocateSpace", "", "VM.Audit on /vms, with propagate", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newClassRig(t, true, atPlanNow)
			in := r.rich(op.GuestDestroy, pvesim.QEMU)
			if c.name != "a disk's size" {
				r.sim.EditGuest(107, map[string]string{"unused0": ""}) // whose size the storage alone says
			}
			// Other roles of the names take the place of those that were granted.
			r.sim.AddRole("Guests", strings.Fields(c.guests)...)
			r.sim.AddRole("Cluster", strings.Fields(c.cluster)...)
			r.sim.AddRole("Root", strings.Fields(c.root)...)
			r.sim.Grant("/", "svc@pve", "Root", false)
			r.sim.AddRole("One", "VM.Audit")
			r.sim.Grant("/vms/107", "svc@pve", "One", false)
			if c.guests != "" {
				r.sim.Revoke("/vms/107", "svc@pve")
			}
			p := r.plan(in)
			i := slices.IndexFunc(p.Unknown, func(g op.PlanGap) bool { return strings.Contains(g.Why, c.says) })
			if i < 0 {
				t.Fatalf("unknown: got %+v, want one that says %q", p.Unknown, c.says)
			}
			if _, err := p.Digest(); p.Unknown[i].TakenAway != c.lost || (err != nil) != c.lost {
				t.Errorf("got %+v and digest's error %v, want it to be about what is taken away: %t", p.Unknown[i], err, c.lost)
			}
		})
	}
}

// Nothing but reads, and one answer whatever the mode.
func TestPlanOnlyReads(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	in := r.rich(op.GuestDestroy, pvesim.QEMU)
	asked := len(r.sim.Requests())
	effects := len(r.sim.Effects())
	first := told(r.plan(in))
	for _, q := range r.sim.Requests()[asked:] {
		if q.Method != "GET" {
			t.Errorf("request: got %s %s, want GET alone", q.Method, q.Path)
		}
	}
	if got := len(r.sim.Effects()); got != effects {
		t.Errorf("effects: got %d, want %d", got, effects)
	}
	r.host = newHost(t, r.conf)
	if again := told(r.plan(in)); again != first {
		t.Errorf("with a shared token: got\n%swant\n%s", again, first)
	}
}

// A guest can be named without its node; and one that is not there is an obstacle.
func TestPlanFindsTheGuest(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	in := r.rich(op.GuestStop, pvesim.QEMU)
	in.Target.Node = ""
	if p := r.plan(in); p.Target.Node != "pve1" || len(p.Stops) != 1 || len(p.Obstacles) > 0 {
		t.Errorf("got %+v, want a guest on pve1 that is stopped", p)
	}
	for _, g := range []op.Guest{{Type: op.QEMU, VMID: 999}, {Type: op.LXC, VMID: 107}} {
		for _, node := range []string{"", "pve1"} {
			in.Target = op.Target{Node: node, Guest: &g}
			if p := r.plan(in); len(p.Obstacles) != 1 || !strings.Contains(p.Obstacles[0], "guest "+fmt.Sprint(g.VMID)) || len(p.TakesAway) > 0 {
				t.Errorf("%v on %q: got %+v, want one obstacle and nothing taken", g, node, p)
			}
		}
	}
	in.Target = op.Target{Node: "pve1", Volume: "local-lvm:x"}
	if _, err := r.host.Plan(t.Context(), in); err == nil {
		t.Error("a stop of a volume: got no error")
	}
}

// The memory that a snapshot holds is a volume of its own, which no configuration
// but the snapshot's names.
func TestPlanTakesTheMemoryOfSnapshots(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	r.rig.guest(pvesim.QEMU, running)
	got := r.sim.Do(t.Context(), pvesim.Request{
		Node: "pve1", Method: "POST", Path: "/api2/json/nodes/pve1/qemu/107/snapshot", Query: "snapname=live&vmstate=1",
		Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!old=" + secret}},
	})
	if got.Status != 200 {
		t.Fatalf("make a snapshot with memory: got %d %s", got.Status, got.Reason)
	}
	const memory = "local-lvm:vm-107-state-live"
	takesIt := func(p op.Plan) bool {
		return slices.ContainsFunc(p.TakesAway, func(i op.PlanItem) bool {
			return i.Kind == op.PlanVolume && i.Name == memory && i.Size != nil && *i.Size > 0
		})
	}
	for class, want := range map[op.Class]bool{op.GuestDestroy: true, op.SnapshotDelete: true, op.SnapshotRollback: false} {
		in := guestIntent(class, pvesim.QEMU)
		if class != op.GuestDestroy {
			in.Params.Snapshot = "live"
		}
		p := r.plan(in)
		if takesIt(p) != want {
			t.Errorf("%s takes away %+v, want %s among it: %t", class, p.TakesAway, memory, want)
		}
		digestOf(t, p)
	}
}

// Sizes as the host writes them; one that can't be read is asked of the storage.
func TestPlanReadsSizes(t *testing.T) {
	const onStorage = 1 << 30
	r := newClassRig(t, true, atPlanNow)
	r.rig.guest(pvesim.QEMU)
	for text, want := range map[string]int64{
		"32G": 32 << 30, "528K": 528 << 10, "1.5M": 3 << 19, "2T": 2 << 40, "4194304": 4 << 20, "0": 0,
		"much": onStorage, "": onStorage, "G": onStorage, "-1G": onStorage, "NaN": onStorage, "Inf": onStorage, "99999999T": onStorage, "1e400": onStorage, "1G1": onStorage,
	} {
		r.sim.EditGuest(107, map[string]string{"scsi0": "local-lvm:vm-107-disk-0,size=" + text})
		p := r.plan(guestIntent(op.GuestDestroy, pvesim.QEMU))
		i := slices.IndexFunc(p.TakesAway, func(i op.PlanItem) bool { return i.Name == "local-lvm:vm-107-disk-0" })
		if i < 0 || p.TakesAway[i].Size == nil || *p.TakesAway[i].Size != want {
			t.Errorf("size=%s: got %+v, want a disk of %d bytes", text, p.TakesAway, want)
		}
	}
}

// Backups on a node that is away are not said to be none.
func TestPlanNamesTheNodeThatIsAway(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	in := r.rich(op.GuestDestroy, pvesim.QEMU)
	was := digestOf(t, r.plan(in))
	r.node("pve2", pvesim.NodeControl{Up: new(false)})
	r.node("pve1", pvesim.NodeControl{Quorate: new(true)})
	p := r.plan(in)
	var away []string
	for _, g := range p.Unknown {
		if strings.Contains(g.What, "of node pve2") && !g.TakenAway {
			away = append(away, g.What)
		}
	}
	if len(away) != 2 {
		t.Errorf("unknown: got %+v, want the backups on two storages of pve2", p.Unknown)
	}
	if got := digestOf(t, p); got != was {
		t.Errorf("digest: got %s, it was %s", got, was)
	}
}
