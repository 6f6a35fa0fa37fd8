package proxmox_test

import (
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
	"writ/domain/signedop"
)

// The digest is about what is lost, and about nothing beside.
func TestPlanDigestChangesWithLossesAlone(t *testing.T) {
	cases := []struct {
		name    string
		change  func(r *classRig)
		changes bool
	}{
		{"nothing", func(*classRig) {}, false},
		{"a snapshot", func(r *classRig) { r.sim.AddSnapshot(107, "third", "") }, true},
		{"a snapshot less", func(r *classRig) { r.sim.DropSnapshot(107, "first") }, true},
		{"a disk", func(r *classRig) {
			r.volume(pvesim.Volume{VolID: "local-lvm:vm-107-disk-8", VMID: 107})
			r.sim.EditGuest(107, map[string]string{"unused1": "local-lvm:vm-107-disk-8"})
		}, true},
		{"a larger disk", func(r *classRig) { r.sim.EditGuest(107, map[string]string{"scsi0": "local-lvm:vm-107-disk-0,size=9G"}) }, true},
		{"a disk in another place", func(r *classRig) {
			r.sim.EditGuest(107, map[string]string{"scsi1": "", "scsi9": "local-lvm:vm-107-disk-1,size=1G"})
		}, false},
		{"an entry of the access control list", func(r *classRig) { r.sim.Grant("/vms/107", "owner@pve", "PVEVMUser", true) }, true},
		{"another pool", func(r *classRig) { r.sim.SetPool(107, "") }, true},
		{"a backup", func(r *classRig) {
			r.volume(pvesim.Volume{VolID: "local:backup/vzdump-qemu-107-2026_11_22-01_00_00.vma.zst", VMID: 107, Content: "backup", Format: "vma.zst"})
		}, false},
		{"a replication job, which stays without purge", func(r *classRig) { r.sim.RemoveReplication(107) }, false},
		{"a guest that refers to a disk", func(r *classRig) { r.sim.EditGuest(106, map[string]string{"scsi6": "local-lvm:vm-107-disk-0"}) }, false},
		{"notes", func(r *classRig) { r.sim.EditGuest(107, map[string]string{"description": "other"}) }, false},
		{"another node", func(r *classRig) { r.add(r.sim.MoveGuest(107, "pve2")) }, false},
		{"an attempt's token", func(r *classRig) {
			id := serviceUser + "!w-" + strings.Repeat("0a", 20) + "-1"
			if _, err := r.sim.AddToken(id, pvesim.Token{Privsep: true}); err != nil {
				r.t.Fatal(err)
			}
			r.sim.Grant("/vms/107", id, "WritAttempt", false)
		}, false},
		{"a token's entry by hand", func(r *classRig) {
			id := serviceUser + "!w-by-hand"
			if _, err := r.sim.AddToken(id, pvesim.Token{Privsep: true}); err != nil {
				r.t.Fatal(err)
			}
			r.sim.Grant("/vms/107", id, "WritAttempt", false)
		}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newClassRig(t, true, atPlanNow)
			in := r.rich(op.GuestDestroy, pvesim.QEMU)
			was := digestOf(t, r.plan(in))
			c.change(r)
			if got := digestOf(t, r.plan(in)); (got != was) != c.changes {
				t.Errorf("digest: got %s after %s, want another one: %t", got, was, c.changes)
			}
		})
	}
}

// The digest that a plan shows is the one that the last look gives, and only where
// a plan is expected.
func TestObserveGivesThePlan(t *testing.T) {
	for _, class := range op.Classes() {
		if class == op.StorageWipe {
			continue // of which TestObserveGivesThePlanOfAPool tells
		}
		t.Run(string(class), func(t *testing.T) {
			r := newClassRig(t, true, atPlanNow)
			in := r.rich(class, pvesim.QEMU)
			want := digestOf(t, r.plan(in))
			x := r.host.Executors()[class]
			for _, planned := range []bool{false, true} {
				seen, err := x.Observe(t.Context(), engine.Attempt{Intent: in, Planned: planned})
				if err != nil {
					t.Fatal(err)
				}
				if got := seen.Plan; planned && got != want || !planned && got != "" {
					t.Errorf("planned %t: got plan %q, want %q if it is", planned, got, want)
				}
			}
		})
	}
}

// A plan that can't be read whole is no answer to what an op would take away.
func TestObserveWithoutAWholePlanIsAnError(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	in := r.rich(op.GuestDestroy, pvesim.QEMU)
	r.sim.AddRole("Cluster", "Sys.Audit", "Datastore.Audit")
	seen, err := r.host.Executors()[op.GuestDestroy].Observe(t.Context(), engine.Attempt{Intent: in, Planned: true})
	if err == nil || !strings.Contains(err.Error(), "Pool.Audit on /pool") || seen.Found {
		t.Errorf("got %+v, %v, want an error that names the right", seen, err)
	}
}

// A guest that changes between two reads is not told as either.
func TestPlanOfAChangingGuest(t *testing.T) {
	r := newClassRig(t, true, atPlanNow)
	in := r.rich(op.GuestDestroy, pvesim.QEMU)
	held := r.hold("GET", "/nodes/pve1/qemu/107/snapshot", "", pvesim.PointArrival)
	planned := make(chan op.Plan, 1)
	go func() {
		p, _ := r.host.Plan(t.Context(), in)
		planned <- p
	}()
	<-held.Reached()
	r.sim.EditGuest(107, map[string]string{"tags": "a"})
	held.Release()
	p := <-planned
	if _, err := p.Digest(); err == nil || !strings.Contains(err.Error(), "changed while it was being read") {
		t.Errorf("digest: got error %v, want that the guest was changed", err)
	}
}

// An order that expects a plan is good as long as nothing more would be lost.
func TestExpectedPlanOverTheHost(t *testing.T) {
	cases := []struct {
		name   string
		change func(r *classRig)
		holds  bool
	}{
		{"nothing has changed", func(*classRig) {}, true},
		{"a backup was made", func(r *classRig) {
			r.volume(pvesim.Volume{VolID: "local:backup/vzdump-qemu-107-2026_11_22-01_00_00.vma.zst", VMID: 107, Content: "backup", Format: "vma.zst"})
		}, true},
		{"a snapshot was made", func(r *classRig) { r.sim.AddSnapshot(107, "third", "") }, false},
		{"somebody was let in", func(r *classRig) { r.sim.Grant("/vms/107", "owner@pve", "PVEVMUser", true) }, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				in := r.rich(op.GuestDestroy, pvesim.QEMU)
				r.sim.RemoveReplication(107)
				r.sim.EditGuest(106, map[string]string{"scsi5": ""})
				want := digestOf(t, r.plan(in))
				c.change(r)
				a := engine.Attempt{Nonce: nonce, Number: 1, Intent: in, ExpiresAt: time.Now().Add(time.Hour), Planned: true}
				seen, err := r.host.Executors()[in.Class].Observe(t.Context(), a)
				if err != nil {
					t.Fatal(err)
				}
				x := signedop.Expect{SMBIOSUUID: seen.SMBIOSUUID, VMGenID: seen.VMGenID, Volumes: seen.Volumes, Plan: want}
				unmet := engine.Unmet(in, x, seen)
				if c.holds {
					if len(unmet) > 0 {
						t.Fatalf("unmet: got %q, want nothing", unmet)
					}
					o := r.order(in)
					o.a = a
					o.play().want(t, "none", op.EffectDone)
					return
				}
				if len(unmet) != 1 || !strings.HasPrefix(unmet[0], "expect.plan: signed for plan "+want) || !strings.Contains(unmet[0], seen.Plan) {
					t.Errorf("unmet: got %q, want the plan alone, with both digests", unmet)
				}
			})
		})
	}
}

func TestObserveGivesThePlanOfAPool(t *testing.T) {
	eachPool(t, func(t *testing.T, r *classRig, p op.Pool) {
		r.sim.AddStorage(storageOn[p])
		in := wipeOf(p, withCleanup)
		want := digestOf(t, r.plan(in))
		x := r.host.Executors()[op.StorageWipe]
		for _, more := range []bool{false, true} {
			if more {
				r.volume(pvesim.Volume{VolID: storageOn[p].ID + ":vm-300-disk-0", VMID: 300, Content: "images"})
			}
			seen, err := x.Observe(t.Context(), engine.Attempt{Intent: in, Planned: true})
			if err != nil {
				t.Fatal(err)
			}
			if (seen.Plan != want) != more {
				t.Errorf("with a volume more (%t): got plan %s, it was %s", more, seen.Plan, want)
			}
		}
	})
}
