package proxmox_test

import (
	"slices"
	"strings"
	"testing"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// taken gives the one item of a kind that a plan takes away.
func taken(t *testing.T, p op.Plan, kind op.PlanKind, name string) {
	t.Helper()
	var names []string
	for _, i := range p.TakesAway {
		if i.Kind == kind {
			names = append(names, i.Name)
		}
	}
	if !slices.Contains(names, name) {
		t.Errorf("taken away of kind %s: got %q, want %q among it", kind, names, name)
	}
}

// A backup job that goes as a whole is more than a guest's place in one.
func TestPlanTellsAJobFromAPlaceInIt(t *testing.T) {
	yes := true
	plan := func(vmids ...int) op.Plan {
		r := newClassRig(t, true, atPlanNow)
		r.rig.guest(pvesim.QEMU)
		r.sim.AddBackupJob(vmids...)
		in := guestIntent(op.GuestDestroy, pvesim.QEMU)
		in.Params.Purge = &yes
		return r.plan(in)
	}
	place, whole := plan(106, 107), plan(107)
	taken(t, place, op.PlanBackupJob, "backup-1")
	taken(t, whole, op.PlanBackupJob, "backup-1 as a whole")
	if digestOf(t, place) == digestOf(t, whole) {
		t.Error("digest: got one for a place in a job and for the job, want two")
	}
}

// A storage whose definition goes is more than one that is taken off a node.
func TestPlanTellsAStorageFromItsPlaceOnANode(t *testing.T) {
	plan := func(nodes ...string) op.Plan {
		r := newClassRig(t, true, atPlanNow)
		r.pools()
		s := storageOn[lvmPool]
		s.Nodes = nodes
		r.sim.AddStorage(s)
		return r.plan(wipeOf(lvmPool, withCleanup))
	}
	whole, place := plan("pve1"), plan("pve1", "pve2")
	taken(t, whole, op.PlanStorage, "on-vg1")
	taken(t, place, op.PlanStorage, "on-vg1 on node pve1")
	if digestOf(t, place) == digestOf(t, whole) {
		t.Error("digest: got one for both, want two")
	}
}

// A rollback throws away what was written to every disk that is in the snapshot,
// whoever owns it.
func TestPlanOfARollbackTakesForeignDisks(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	r.rig.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.VMID, g.Name, g.Disks = 106, "neighbour", []string{"local-lvm:1"} })
	r.rig.guest(pvesim.QEMU)
	r.sim.EditGuest(107, map[string]string{"scsi7": "local-lvm:vm-106-disk-0,size=1G", "ide2": "local:iso/a.iso,media=cdrom"})
	if !r.sim.AddSnapshot(107, before, "") {
		t.Fatal("no snapshot")
	}
	in := guestIntent(op.SnapshotRollback, pvesim.QEMU)
	in.Params.Snapshot = before
	p := r.plan(in)
	taken(t, p, op.PlanContent, "local-lvm:vm-106-disk-0")
	digestOf(t, p)
	for _, i := range p.TakesAway {
		if strings.Contains(i.Name, "iso") {
			t.Errorf("taken away: got %+v, and an image in a CD drive stays as it is", i)
		}
	}
}

// A pool that is hidden from the token, or all but /pool itself, is not none.
func TestPlanDoesNotTakeAHiddenPoolForNone(t *testing.T) {
	for name, hide := range map[string]func(r *classRig){
		"something else said on the pool": func(r *classRig) { r.sim.Grant("/pool/team", "svc@pve", "Other", true) },
		"not passed on":                   func(r *classRig) { r.sim.Grant("/pool", "svc@pve", "Pools", false) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true, atPlanNow)
			r.rig.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.Pool = "team" })
			r.sim.AddRole("Other", "VM.Audit")
			r.sim.AddRole("Pools", "Pool.Audit")
			hide(r)
			p := r.plan(guestIntent(op.GuestDestroy, pvesim.QEMU))
			if _, err := p.Digest(); err == nil || !strings.Contains(err.Error(), "Pool.Audit on /pool") {
				t.Errorf("digest: got error %v with %+v, want that the token does not see all pools", err, p.TakesAway)
			}
		})
	}
}

// What is not there, or not seen, has no digest: that nothing is listed does not
// say that nothing would be lost.
func TestPlanOfNothingHasNoDigest(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	r.rig.guest(pvesim.QEMU)
	away := guestIntent(op.GuestDestroy, pvesim.QEMU)
	away.Target.Guest = &op.Guest{Type: op.QEMU, VMID: 999}
	nowhere := away
	nowhere.Target.Node = ""
	snapshot := guestIntent(op.SnapshotRollback, pvesim.QEMU)
	snapshot.Params.Snapshot = "nosuch"
	volume := op.Intent{Class: op.VolumeDelete, Target: op.Target{Node: "pve1", Volume: "local-lvm:vm-999-disk-0"}}
	for _, in := range []op.Intent{away, nowhere, snapshot, volume} {
		p := r.plan(in)
		if d, err := p.Digest(); err == nil || len(p.Obstacles) == 0 {
			t.Errorf("%s of %s: got digest %s, obstacles %q, want an obstacle and no digest", in.Class, in.Target, d, p.Obstacles)
		}
	}
	// Right before a launch it is still an answer, not an error that is tried again.
	seen, err := r.host.Executors()[op.SnapshotRollback].Observe(t.Context(), engine.Attempt{Intent: snapshot, Planned: true})
	if err != nil || seen.Snapshot != nil || !seen.Found {
		t.Errorf("look again: got %+v, %v, want the guest without the snapshot", seen, err)
	}
}

// The host refuses to destroy a guest that is replicated, unless the jobs go too:
// who signs gets to know it beforehand.
func TestDestroyOfAReplicatedGuestIsAnObstacle(t *testing.T) {
	for _, kind := range kinds {
		r := newClassRig(t, true, atPlanNow)
		r.rig.guest(kind)
		if r.sim.AddReplication(107, "pve2") == "" {
			t.Fatal("no replication job")
		}
		in := guestIntent(op.GuestDestroy, kind)
		want := []string{"replication: the guest is replicated (107-0 to pve2); remove that first, or sign with purge"}
		if got := r.plan(in).Obstacles; !slices.Equal(got, want) {
			t.Errorf("%s: obstacles: got %q, want %q", kind, got, want)
		}
		purge := true
		in.Params.Purge = &purge
		p := r.plan(in)
		if len(p.Obstacles) > 0 {
			t.Errorf("%s with purge: obstacles: got %q, want none", kind, p.Obstacles)
		}
		taken(t, p, op.PlanReplication, "107-0 to pve2")
	}
}

// What orders that expect a plan take beyond the rest is told apart, and is enough.
func TestPlanNeedsAreEnough(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	r.pools()
	r.sim.AddStorage(storageOn[lvmPool])
	classes := map[op.Class]proxmox.Reach{op.StorageWipe: {}}
	r.setUp(classes)
	planned := func() error {
		a := engine.Attempt{Intent: wipeOf(lvmPool, withCleanup), Planned: true}
		_, err := r.host.Executors()[op.StorageWipe].Observe(t.Context(), a)
		return err
	}
	if err := planned(); err == nil || !strings.Contains(err.Error(), "Datastore.Allocate on /storage/on-vg1") {
		t.Errorf("without: got error %v, want it to name the right", err)
	}
	plans := proxmox.PlanNeeds(classes)
	if lacks, err := r.host.CheckNeeds(t.Context(), plans); err != nil || len(lacks) != 1 || lacks[0].Must {
		t.Errorf("what is missing: got %+v, %v, want one that nothing else needs", lacks, err)
	}
	for _, who := range []string{token, "svc@pve"} {
		r.sim.AddRole("Plans", "Datastore.Allocate", "Datastore.Audit")
		r.sim.Grant("/storage", who, "Plans", true)
	}
	if lacks, err := r.host.CheckNeeds(t.Context(), plans); err != nil || len(lacks) > 0 {
		t.Errorf("what is missing once it is given: got %+v, %v, want nothing", lacks, err)
	}
	if err := planned(); err != nil {
		t.Errorf("with it: got error %v", err)
	}
	needs := slices.Concat(proxmox.Needs(r.host.Mode(), classes), plans)
	if more, err := r.host.Superfluous(t.Context(), needs); err != nil || len(more) > 0 {
		t.Errorf("what is too much: got %+v, %v, want nothing", more, err)
	}
}
