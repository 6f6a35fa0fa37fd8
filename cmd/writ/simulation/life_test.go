package simulation_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
	"writ/domain/signedop"
)

// live lets people do one thing, and the next one a little later.
func (w *world) live() {
	s := w.sim
	if s.calm {
		return
	}
	r := &s.rng
	s.after(r.between(time.Second, 8*time.Second), w.live)
	i := s.instances[r.upTo(len(s.instances))]
	switch lead := s.leader(); {
	case lead != nil && r.per1000(930):
		i = lead
	case lead == nil && r.per1000(800):
		return // nobody would hear of it
	}
	vmid := s.vmids[r.upTo(len(s.vmids))]
	switch n := r.upTo(100); {
	case n < 58:
		w.ask(i, vmid)
	case n < 70 && len(s.writs) > 0:
		s.deliver(i, s.writs[max(0, len(s.writs)-1-r.upTo(4))], 0)
	case n < 74 && len(s.writs) > 0:
		s.deliver(i, s.writs[r.upTo(len(s.writs))], 1+r.upTo(3))
	case n < 77 && len(s.writs) > 0:
		s.void(i, s.writs[r.upTo(len(s.writs))])
	case n < 84:
		if left := i.copy.inFlight(); len(left) > 0 {
			s.settle(i, left[r.upTo(len(left))])
		}
	case n < 88:
		w.lift(vmid)
	default:
		w.meddle(vmid)
	}
}

// ask lets somebody order an op of some class, and mostly see to it before that
// it can be carried out.
func (w *world) ask(i *instance, vmid int) {
	s := w.sim
	r := &s.rng
	all := op.Classes()
	class := all[r.upTo(len(all))]
	if r.per1000(120) {
		class = op.GuestDestroy
	}
	if _, ok := w.pve.Guest(vmid); !ok {
		w.create(vmid)
	}
	if !r.per1000(200) {
		w.ready(class, vmid)
	}
	if class.Benign() {
		w.askBenign(i, class, vmid)
		return
	}
	if o := w.order(class, vmid); o != nil {
		s.deliver(i, o, 0)
		if r.per1000(200) {
			s.after(r.within(time.Second), func() { s.deliver(i, o, 0) })
		}
	}
}

// ready brings a guest into the state that ops of a class want.
func (w *world) ready(class op.Class, vmid int) {
	g, _ := w.pve.Guest(vmid)
	if len(w.running(vmid)) > 0 {
		return
	}
	w.lift(vmid)
	if g.Lock != "" {
		w.pve.EditGuest(vmid, map[string]string{"lock": ""})
	}
	if len(g.Disks) == 0 {
		w.pve.DestroyGuest(vmid)
		w.create(vmid)
	}
	switch class { //nolint:exhaustive // others take it as it is
	case op.GuestDestroy, op.RestoreOverwrite, op.GuestStart:
		w.power(vmid, false)
	case op.GuestStop, op.GuestShutdown, op.GuestReboot:
		w.power(vmid, true)
	}
}

// askBenign orders what needs no signature.
func (w *world) askBenign(i *instance, class op.Class, vmid int) {
	s := w.sim
	p := i.up
	in, ok := w.intent(class, vmid)
	if p == nil || !ok {
		return
	}
	w.benign = append(w.benign, in)
	s.figures.Events["deliveries"]++
	s.tell(string(class), "of", in.Target.String(), "is asked of", p.name)
	ctx, cancel := context.WithCancel(s.caller())
	s.begin(func() {
		defer cancel()
		s.answered(p.engine.RunSignedJob(ctx, engine.Submission{Intent: in, SubmittedBy: "caller"}))
	})
}

// intent is one of a class about what is there, made if need be.
func (w *world) intent(class op.Class, vmid int) (op.Intent, bool) {
	r := &w.sim.rng
	g, ok := w.pve.Guest(vmid)
	in := op.Intent{Class: class, Target: op.Target{Node: g.Node}}
	if class.ActsOnGuest() {
		in.Target.Guest = &op.Guest{Type: op.GuestType(g.Kind), VMID: vmid}
	}
	if !ok {
		return in, false
	}
	switch class {
	case op.GuestDestroy:
		if g.Kind == pvesim.LXC && r.per1000(300) {
			in.Params.Force = new(true)
		}
	case op.RestoreOverwrite:
		in.Params.Archive, in.Params.Storage = w.backup(g), disks
		ok = in.Params.Archive != ""
	case op.SnapshotRollback, op.SnapshotDelete:
		in.Params.Snapshot = w.snapshot(g)
		ok = in.Params.Snapshot != ""
	case op.SnapshotCreate:
		in.Params.Snapshot = fmt.Sprintf("s%d", r.upTo(3))
	case op.BackupCreate:
		in.Params.Storage = backups
	case op.BackupDelete:
		in.Target.Volume = w.backup(g)
		ok = in.Target.Volume != ""
	case op.VolumeDelete:
		in.Target.Volume = w.orphan(g)
		ok = in.Target.Volume != ""
	case op.StorageWipe:
		w.wipe(&in)
	case op.GuestShutdown, op.GuestReboot:
		in.Params.Timeout = new(60)
	case op.GuestStop, op.GuestStart:
	}
	return in, ok
}

// backup finds a backup of a guest on its node, or makes one.
func (w *world) backup(g pvesim.Guest) string {
	var found []string
	for _, v := range w.pve.Volumes() {
		if v.Content == "backup" && v.VMID == g.VMID && v.Node == g.Node {
			found = append(found, v.VolID)
		}
	}
	if len(found) > 0 && w.sim.rng.per1000(700) {
		return found[w.sim.rng.upTo(len(found))]
	}
	v, err := w.pve.AddBackup(g.VMID, backups)
	if err != nil {
		return ""
	}
	w.births["volume "+v.VolID]++
	w.sim.tell("backup", v.VolID, "is made by other people")
	return v.VolID
}

// snapshot finds a snapshot of a guest, or makes one.
func (w *world) snapshot(g pvesim.Guest) string {
	if len(w.running(g.VMID)) > 0 {
		return "" // it may be being made
	}
	if n := len(g.Snapshots); n > 0 {
		return g.Snapshots[n-1-w.sim.rng.upTo(min(n, 2))]
	}
	name := fmt.Sprintf("s%d", w.sim.rng.upTo(3))
	// It is made at once, without a task: not beside an op, which could not know.
	if w.open(g.VMID) || !w.pve.AddSnapshot(g.VMID, name, "") {
		return ""
	}
	w.sim.tell("snapshot", name, "of", g.Name, "is made by other people")
	return name
}

// orphan finds a volume that nobody uses, or makes one, unless another node has
// one of the name: accounts tell volumes apart by that.
func (w *world) orphan(g pvesim.Guest) string {
	volid := fmt.Sprintf("%s:vm-%d-disk-9", disks, g.VMID)
	for _, v := range w.pve.Volumes() {
		if v.VolID == volid {
			if v.Node != g.Node {
				return ""
			}
			return volid
		}
	}
	w.made++
	if err := w.pve.AddVolume(pvesim.Volume{VolID: volid, Node: g.Node, VMID: g.VMID, Size: int64(w.made) << 20, Content: "images", Format: "raw"}); err != nil {
		panic(err)
	}
	w.births["volume "+volid]++
	w.sim.tell("volume", volid, "is made by other people")
	return volid
}

// wipe makes an intent about a pool, which is made if there is none.
func (w *world) wipe(in *op.Intent) {
	r := &w.sim.rng
	p := pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolZFS, Name: "tank", Size: 1 << 40, Members: []string{"/dev/sdb"}}
	if r.per1000(500) {
		p = pvesim.DiskPool{Node: "pve2", Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 40, Members: []string{"/dev/sdc"}}
	}
	in.Target.Node = p.Node
	if r.per1000(100) {
		in.Target.Disk = "/dev/sdb"
		in.Target.Node = "pve1"
		return
	}
	in.Target.Pool = &op.Pool{Kind: op.PoolKind(p.Kind), Name: p.Name}
	if r.per1000(300) {
		in.Params.CleanupDisks = new(true)
	}
	if slices.ContainsFunc(w.pve.DiskPools(), func(o pvesim.DiskPool) bool { return o.Name == p.Name }) {
		return
	}
	// Made anew, it differs in what the host shows of it: nothing else tells it apart.
	p.Size -= int64(w.births["pool "+p.Name]) << 22
	if err := w.pve.AddDiskPool(p); err == nil {
		w.births["pool "+p.Name]++
		w.sim.tell("pool", p.Name, "is made by other people")
	}
}

// order lets a person look at what an op is to be about, and sign for it as it is.
// Nil if the host does not show it.
func (w *world) order(class op.Class, vmid int) *order {
	s := w.sim
	in, ok := w.intent(class, vmid)
	if !ok {
		return nil
	}
	x, ok := w.people.Executors()[class]
	if !ok {
		return nil
	}
	seen, err := x.Observe(context.Background(), engine.Attempt{Intent: in})
	if err != nil || !seen.Found {
		s.tell("nobody can sign for", string(class), in.Target.String())
		return nil
	}
	prize := w.prize(in)
	s.drawn[s.audience]++
	sum := sha256.Sum256(fmt.Appendf(nil, "order %d of %d", s.drawn[s.audience], s.seed))
	lives := []time.Duration{2 * time.Minute, 12 * time.Hour, 12 * time.Hour, 12 * time.Hour}[s.rng.upTo(4)]
	d := signedop.Document{
		Version: 1, Nonce: op.Nonce(fmt.Sprintf("%x", sum[:16])), Audience: agent + "/" + s.audience, Class: class,
		Target: in.Target, Params: in.Params, Expect: expectation(seen),
		Role: "operator", RequestedBy: "alice", NotBefore: s.start.Add(-time.Hour).UTC(), ExpiresAt: s.start.Add(lives).UTC(), Reason: "it is time",
	}
	o := &order{nonce: d.Nonce, doc: d, vmid: vmid, audience: s.audience, prize: prize}
	who := []signedop.Signer{alice, bob, bob, mallory}[[]int{0, 0, 0, 0, 1, 1, 1, 1, 2, 3}[s.rng.upTo(10)]]
	o.hostile = who == mallory
	raw, err := signedop.Seal(d, who)
	if err != nil {
		s.tell("nobody can sign for", string(class), in.Target.String(), err.Error())
		return nil
	}
	o.envelope = raw
	s.writs = append(s.writs, o)
	s.orders[o.nonce] = o
	return o
}

// expectation is what a person signs of what was seen.
func expectation(seen op.Observed) (x signedop.Expect) {
	if seen.VMID != 0 {
		x.Name, x.Volumes = seen.Name, append([]string{}, seen.Volumes...)
		if seen.Type == op.QEMU {
			x.SMBIOSUUID, x.VMGenID = seen.SMBIOSUUID, seen.VMGenID
		} else {
			x.MACs, x.Digest = append([]string{}, seen.MACs...), seen.Digest
		}
	}
	volume := func(v *op.VolumeSeen) *signedop.VolumeExpect {
		if v == nil {
			return nil
		}
		e := &signedop.VolumeExpect{Size: v.Size}
		if v.CTime != 0 {
			e.CTime = new(v.CTime)
		}
		return e
	}
	x.Archive, x.Volume = volume(seen.Archive), volume(seen.Volume)
	if seen.Snapshot != nil {
		x.Snapshot = &signedop.SnapshotExpect{Time: seen.Snapshot.Time}
	}
	if p := seen.Pool; p != nil {
		x.Pool = &signedop.PoolExpect{Size: p.Size, Members: p.Members}
	}
	if d := seen.Disk; d != nil {
		x.Disk = &signedop.DiskExpect{Serial: d.Serial, WWN: d.WWN, Size: d.Size}
	}
	return x
}
