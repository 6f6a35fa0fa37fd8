package proxmox_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/op"
)

// allClasses is the reach of a policy that allows everything everywhere.
func allClasses() map[op.Class]proxmox.Reach {
	all := make(map[op.Class]proxmox.Reach)
	for _, c := range op.Classes() {
		all[c] = proxmox.Reach{Guests: true}
	}
	return all
}

// setUp makes the cluster what the service needs for some classes, by the commands
// that are printed for people, and checks that this is enough and no more.
func (r *classRig) setUp(classes map[op.Class]proxmox.Reach) {
	r.t.Helper()
	progress := func(string) {}
	have, unread, err := r.host.ReadAccess(r.t.Context(), progress)
	if err != nil || len(unread) > 0 {
		r.t.Fatalf("read the cluster's rights: %q, %v", unread, err)
	}
	setup := r.host.Setup(classes)
	for _, line := range setup.Commands(have) {
		if _, err := r.sim.Pveum(line, "correct horse"); err != nil {
			r.t.Fatal(err)
		}
	}
	if have, _, err = r.host.ReadAccess(r.t.Context(), progress); err != nil {
		r.t.Fatal(err)
	}
	if again := setup.Commands(have); len(again) > 0 {
		r.t.Errorf("once the commands have run: got %q to be done, want nothing", again)
	}
	needs := proxmox.Needs(r.host.Mode(), classes)
	if lacks, err := r.host.CheckNeeds(r.t.Context(), needs); err != nil || len(lacks) > 0 {
		r.t.Errorf("what is missing: got %+v, %v, want nothing", lacks, err)
	}
	if more, err := r.host.Superfluous(r.t.Context(), needs); err != nil || len(more) > 0 {
		r.t.Errorf("what is not needed: got %+v, %v, want nothing", more, err)
	}
}

// oneOf gives an intent of a class on a target that is there.
func (r *classRig) oneOf(class op.Class) op.Intent {
	r.t.Helper()
	const volid = "local-lvm:vm-300-disk-0"
	in := guestIntent(class, pvesim.QEMU)
	switch class { //nolint:exhaustive // the others have their own helper
	case op.VolumeDelete:
		r.add(r.sim.AddVolume(pvesim.Volume{VolID: volid, Node: "pve1", VMID: 300, Size: 1 << 30, Content: "images", Format: "raw"}))
		return op.Intent{Class: class, Target: op.Target{Node: "pve1", Volume: volid}}
	case op.StorageWipe:
		yes := true
		r.add(r.sim.AddDisk(pvesim.Disk{Node: "pve1", DevPath: "/dev/sdb", Size: 1 << 40, Serial: "S1"}))
		r.add(r.sim.AddDiskPool(pvesim.DiskPool{Kind: pvesim.PoolZFS, Name: "tank", Node: "pve1", Size: 1 << 40, Members: []string{"/dev/sdb"}}))
		return op.Intent{
			Class: class, Target: op.Target{Node: "pve1", Pool: &op.Pool{Kind: op.ZFS, Name: "tank"}}, Params: op.Params{CleanupConfig: &yes},
		}
	case op.BackupDelete:
		r.guest(pvesim.QEMU)
		return op.Intent{Class: class, Target: op.Target{Node: "pve1", Volume: r.backup(107)}}
	case op.RestoreOverwrite:
		r.guest(pvesim.QEMU)
		in.Params = op.Params{Archive: r.backup(107), Storage: "local-lvm"}
	case op.BackupCreate:
		r.guest(pvesim.QEMU)
		in.Params.Storage = "local"
	case op.GuestDestroy:
		r.guest(pvesim.QEMU)
	default:
		return r.live(class, pvesim.QEMU)
	}
	return in
}

// With the rights that doctor's commands give for one class, and not one more, an
// op of that class runs to its proven end.
func TestSetupIsEnoughForEachClass(t *testing.T) {
	for _, class := range op.Classes() {
		t.Run(string(class), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.t = t
				r.setUp(map[op.Class]proxmox.Reach{class: {Guests: true}})
				r.order(r.oneOf(class)).play().want(t, "none", op.EffectDone)
			})
		})
	}
}

// A policy that grants by pools and storages alone needs rights on these alone.
func TestSetupForPoolsAndStorages(t *testing.T) {
	for _, class := range op.Classes() {
		if class == op.StorageWipe {
			continue // it takes rights on everything anyway
		}
		t.Run(string(class), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.t = t
				r.setUp(map[op.Class]proxmox.Reach{class: {Pools: []string{"team"}, Storages: []string{"local", "local-lvm"}}})
				in := r.oneOf(class)
				r.sim.SetPool(107, "team")
				r.order(in).play().want(t, "none", op.EffectDone)
			})
		})
	}
}

// The commands for a cluster on which nothing is, all of them.
func TestSetupFromNothing(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		fresh, err := pvesim.New(pvesim.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fresh.Close)
		lines := r.host.Setup(allClasses()).Commands(nil)
		for _, line := range lines {
			if _, err := fresh.Pveum(line, "correct horse"); err != nil {
				t.Error(err)
			}
		}
		name := "setup-shared.txt"
		if r.own {
			name = "setup-attempt.txt"
		}
		goldenText(t, "doctor/"+name, strings.Join(lines, "\n")+"\n")
	})
}

// What is not there is missing, what is not passed on is said to be so, and what
// is there beside is not needed.
func TestNeedsThatAreNotMet(t *testing.T) {
	r := newClassRig(t, true)
	classes := map[op.Class]proxmox.Reach{op.GuestDestroy: {Guests: true}}
	r.setUp(classes)
	r.sim.AddRole("WritServiceGuests", "VM.Allocate", "VM.Migrate")
	r.sim.AddRole("WritLookStorages")
	r.sim.Revoke("/vms", token)
	r.sim.Grant("/vms", token, "WritLookGuests", false)
	needs := proxmox.Needs(r.host.Mode(), classes)
	lacks, err := r.host.CheckNeeds(t.Context(), needs)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range lacks {
		got = append(got, l.Object+" "+l.Privilege+": "+l.Has)
	}
	want := []string{
		"/storage Datastore.Audit: it is missing",
		"/vms VM.Audit: it is not passed on to what is below",
		"/vms VM.Config.Disk: it is not passed on to what is below",
		"/vms VM.Config.Options: it is missing",
	}
	if !slices.Equal(got, want) {
		t.Errorf("what is missing: got %q, want %q", got, want)
	}
	more, err := r.host.Superfluous(t.Context(), needs)
	if err != nil || len(more) != 1 || !more[0].Launch || more[0].Object != "/vms" || !slices.Equal(more[0].Privileges, []string{"VM.Migrate"}) {
		t.Errorf("what is not needed: got %+v, %v, want VM.Migrate of the service user on /vms", more, err)
	}
}

// A privilege that is as good, passed on as far, is enough.
func TestNeedsThatAnotherPrivilegeMeets(t *testing.T) {
	r := newClassRig(t, true)
	classes := map[op.Class]proxmox.Reach{op.GuestDestroy: {Guests: true}}
	r.setUp(classes)
	r.sim.AddRole("WritLookStorages", "Datastore.Allocate")
	needs := proxmox.Needs(r.host.Mode(), classes)
	if lacks, err := r.host.CheckNeeds(t.Context(), needs); err != nil || len(lacks) > 0 {
		t.Errorf("got %+v, %v, want Datastore.Allocate to do for Datastore.Audit", lacks, err)
	}
	r.sim.Revoke("/storage", token)
	r.sim.Grant("/storage", token, "WritLookStorages", false)
	if lacks, err := r.host.CheckNeeds(t.Context(), needs); err != nil || len(lacks) != 1 || lacks[0].Privilege != "Datastore.Audit" {
		t.Errorf("got %+v, %v, want it to be missed where it is not passed on", lacks, err)
	}
}

// How far back a node remembers, and for how long it will.
func TestTaskHistory(t *testing.T) {
	r := newClassRig(t, false)
	h, err := r.host.Tasks(t.Context(), "pve2", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if h.Rows != 1 || h.Oldest.IsZero() || h.LastDay != 1 || h.Kept != 450*24*time.Hour {
		t.Errorf("got %+v, want one task within a day, and 450 days at that rate", h)
	}
	// A day later the rate is none.
	if h, err = r.host.Tasks(t.Context(), "pve2", time.Now().Add(48*time.Hour)); err != nil || h.LastDay != 0 || h.Kept != 0 {
		t.Errorf("got %+v, %v, want no task within a day", h, err)
	}
}

// A clock that is set back is seen, and by how much.
func TestClockAhead(t *testing.T) {
	r := newClassRig(t, false)
	for _, shift := range []time.Duration{0, -time.Hour, 90 * time.Second} {
		r.shift.Store(int64(shift))
		ahead, doubt, err := r.host.ClockAhead(t.Context(), "pve1", time.Now)
		if err != nil || (ahead-shift).Abs() > doubt || doubt > 10*time.Second {
			t.Errorf("shifted by %s: got %s ± %s, %v", shift, ahead, doubt, err)
		}
	}
}

// Who answers where, with which certificate.
func TestLookAtSeats(t *testing.T) {
	r := newClassRig(t, false)
	r.conf.Nodes["pve2"] = r.conf.Nodes["pve1"]
	seats := newHost(t, r.conf).LookAtSeats(t.Context())
	if len(seats) != 3 || seats[0].Node != "pve1" || seats[2].For != "pve2" || seats[2].Node != "pve1" {
		t.Fatalf("got %+v, want pve1 at all three", seats)
	}
	c := seats[0].Certificate
	if c == nil || !c.Pinned || c.Fingerprint != r.conf.Fingerprints[0] || !seats[0].Quorate || !seats[0].Online["pve2"] {
		t.Errorf("got %+v with %+v, want the pinned certificate, a quorum and both nodes", seats[0], c)
	}
	r.conf.Fingerprints = []string{strings.Repeat("00:", 31) + "00"}
	if s := newHost(t, r.conf).LookAtSeats(t.Context()); s[0].Err == nil || !strings.Contains(s[0].Err.Error(), c.Fingerprint) {
		t.Errorf("got %v, want the fingerprint that was shown instead", s[0].Err)
	}
}
