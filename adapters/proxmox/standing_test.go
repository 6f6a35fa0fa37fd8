package proxmox_test

import (
	"testing"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// A task that says that it took a pool down is not believed against the node, which
// lists the pool as it was: it has the same size and the same members.
func TestWipeThatLeavesItsPool(t *testing.T) {
	r := newClassRig(t, true)
	r.pools()
	o := r.order(wipeOf(zfsPool))
	upid, err := o.x.Launch(t.Context(), o.a, o.l)
	e := r.sim.AddDiskPool(pvesim.DiskPool{
		Node: "pve1", Kind: pvesim.PoolZFS, Name: "tank", Size: o.l.Observed.Pool.Size, Members: o.l.Observed.Pool.Members,
	})
	if e != nil {
		t.Fatal(e)
	}
	o.settle(upid, err).want(t, "none", op.EffectUnknown, "is there, with the same members", "yet the task ended with")
}

// A worker that was killed before it had made an archive is not done by a backup
// that somebody else makes afterwards.
func TestBackupThatOnlyAnotherHasMade(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		o := r.dump(pvesim.QEMU)
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: "vzdump", Stage: "job"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.backup(107)
		o.settle(upid, err).want(t, "none", op.EffectUnknown, "whether one of them is the attempt's can't be told", "unexpected status")
	})
}

// A snapshot of the name that was made since is not the one that was deleted.
func TestSnapshotThatWasMadeAgain(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		o := r.order(r.live(op.SnapshotDelete, pvesim.QEMU))
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, VMID: 107, Stage: "end", Text: "out of memory"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		byRoot("POST", "/nodes/pve1/qemu/107/snapshot?snapname=before-upgrade")(r)
		o.settle(upid, err).want(t, "none", op.EffectDone, "has no such snapshot before-upgrade any more")
	})
}
