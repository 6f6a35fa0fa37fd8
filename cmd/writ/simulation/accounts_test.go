package simulation_test

import (
	"fmt"
	"slices"
	"strings"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// accounts are what a world knows of its own, kept by what its host says that
// it did. The service never sees them.
type accounts struct {
	sent    []*sent
	byOp    map[string]*sent
	seen    int // effects looked at
	deeds   []*deed
	letIn   map[string]string // what an op's request was let in for
	swapped map[string]int    // at which step other people last took the target of a name away
	gone    map[string]bool   // things that are no more
	stopped map[string]int    // at which step other people last stopped a guest
	denied  map[string]bool   // ids of ops on record as without effect
	givenUp map[string]bool   // ids of ops on record as settled by people, their effect as unknown
	looked  map[op.Nonce]int  // at which step its target was last looked at
	twice   map[string]int    // how often the host took up an op's request
	ran     map[pvesim.EffectKind]int
}

// A deed is one effect that the request of an op had.
type deed struct {
	opID string
	of   *sent // nil if nobody has launched it
	kind pvesim.EffectKind
	on   string
}

func newAccounts() accounts {
	return accounts{
		byOp: make(map[string]*sent), letIn: make(map[string]string), swapped: make(map[string]int), gone: make(map[string]bool), stopped: make(map[string]int),
		denied: make(map[string]bool), givenUp: make(map[string]bool), looked: make(map[op.Nonce]int), twice: make(map[string]int), ran: make(map[pvesim.EffectKind]int),
	}
}

// prize is what an intent is about, as it is now: the same text only as long as
// it is the same thing. Empty if there is none.
func (w *world) prize(in op.Intent) string {
	w.look()
	t := in.Target
	switch {
	case t.Guest != nil:
		g, ok := w.pve.Guest(t.Guest.VMID)
		if !ok {
			return ""
		}
		thing := guestThing(g.Instance)
		if in.Class == op.SnapshotRollback || in.Class == op.SnapshotDelete {
			thing = w.snapshotThing(g.Instance, in.Params.Snapshot)
		}
		return thing
	case t.Volume != "":
		return w.named("volume " + t.Volume)
	case t.Pool != nil:
		return w.named("pool " + t.Pool.Name)
	}
	return "disk " + t.Disk
}

func guestThing(instance int) string { return fmt.Sprint("guest ", instance) }

func (w *world) snapshotThing(instance int, name string) string {
	return w.named(fmt.Sprint("guest ", instance, " snapshot ", name))
}

// named is the newest thing of a name.
func (w *world) named(name string) string { return fmt.Sprint(name, " #", w.births[name]) }

// place is where what an intent is about can be taken away and made anew.
func place(in op.Intent) string {
	t := in.Target
	switch {
	case t.Guest != nil && (in.Class == op.SnapshotRollback || in.Class == op.SnapshotDelete):
		return fmt.Sprint("snapshot ", in.Params.Snapshot, " of ", t.Guest.VMID)
	case t.Guest != nil:
		return fmt.Sprint("guest ", t.Guest.VMID)
	case t.Volume != "":
		return "volume " + t.Volume
	case t.Pool != nil:
		return "pool " + t.Pool.Name
	}
	return "disk " + t.Disk
}

// admitted is told of each request that the host has let in.
func (w *world) admitted(r pvesim.Request) {
	if r.Tag == "" {
		return
	}
	s, one := w.sim, w.byOp[r.Tag]
	if one == nil {
		s.wrong("a request of op %s is let in, which nobody launched", r.Tag)
		return
	}
	w.twice[r.Tag]++
	o := s.orders[one.nonce]
	if o == nil {
		s.wrong("op %s is not what anybody has ordered", r.Tag)
		return
	}
	w.alone(one, o)
	now := w.prize(o.doc.Intent())
	s.tell("host lets in", r.Tag, "for", now)
	if w.twice[r.Tag] == 1 {
		w.letIn[r.Tag] = now
	}
	if w.twice[r.Tag] > 1 {
		// Whatever lies between has delivered it again, within its lease.
		s.figures.Events["requests let in twice"]++
		return
	}
	if o.keyless || now == o.prize || now == "" {
		return
	}
	in := o.doc.Intent()
	if in.Target.Guest != nil && !w.shared && guestOfThing(now) != guestOfThing(o.prize) && !w.restored(in) {
		// The right went with the guest that was signed for.
		s.wrong("op %s was signed for %s, and was let in for %s", r.Tag, o.prize, now)
		return
	}
	if w.tooLate(r.Tag, o) {
		s.figures.Events["let in for another, when people had given it up"]++
		return
	}
	if w.swapped[place(in)] <= one.announced && w.swapped[fmt.Sprint("guest ", vmidOf(in))] <= one.announced {
		s.wrong("op %s was signed for %s, and was let in for %s, though nobody was at it since it was looked at", r.Tag, o.prize, now)
		return
	}
	s.figures.Events["let in for another, by a hair"]++
}

// tooLate tells whether an op's request can come upon another thing because what it
// was for is gone: people have settled the op as unknown while its request was on
// its way, and with one credential for all nothing keeps that from being let in.
func (w *world) tooLate(opID string, o *order) bool {
	return w.shared && w.givenUp[opID] && (w.gone[o.prize] || w.gone[guestOfThing(o.prize)])
}

// alone sees to it that nothing else of this ledger is at work on the guest, unless
// people have settled that.
func (w *world) alone(one *sent, o *order) {
	if one.vmid == 0 || w.shared && w.givenUp[one.opID] {
		return // people have given it up on its way, which nothing stops there
	}
	for _, t := range w.running(one.vmid) {
		other := w.byOp[t.Tag]
		if other != nil && other != one && other.vmid == one.vmid && !w.sim.settled[t.Tag] && w.twice[t.Tag] == 1 {
			w.sim.wrong("op %s (%s) is let in on guest %d beside the task of op %s", one.opID, o.doc.Class, one.vmid, t.Tag)
		}
	}
}

// restored tells whether a restore went over the guest, which keeps the rights on
// it.
func (w *world) restored(in op.Intent) bool {
	for _, d := range w.deeds {
		if d.kind == pvesim.GuestOverwritten && d.of != nil && d.of.vmid == vmidOf(in) {
			return true
		}
	}
	return false
}

func vmidOf(in op.Intent) int {
	if in.Target.Guest == nil {
		return 0
	}
	return in.Target.Guest.VMID
}

// guestOfThing cuts a snapshot off.
func guestOfThing(thing string) string {
	guest, _, _ := strings.Cut(thing, " snapshot ")
	return guest
}

// look takes up what the host has done since the last step.
func (w *world) look() {
	for _, e := range w.pve.EffectsAfter(w.seen) {
		w.seen = e.Seq
		w.note(e)
	}
}

func (w *world) note(e pvesim.Effect) {
	s := w.sim
	on := w.thingOf(e)
	if e.Tag == "" {
		w.lifecycle(e, on)
		return
	}
	w.ran[e.Kind]++
	d := &deed{opID: e.Tag, of: w.byOp[e.Tag], kind: e.Kind, on: on}
	s.tell("effect of", e.Tag, string(e.Kind), "on", on)
	w.deeds = append(w.deeds, d)
	if d.of == nil {
		s.wrong("%s on %s by op %s, which nobody launched", e.Kind, on, e.Tag)
		return
	}
	w.judge(d, e)
	w.lifecycle(e, on)
}

// judge sees to it that an effect is the only one of its nonce, on what was signed
// for, and not one that is on record as none.
func (w *world) judge(d *deed, e pvesim.Effect) {
	s := w.sim
	for _, other := range w.deeds {
		if other.of == nil || other.of.nonce != d.of.nonce || other.opID == d.opID || w.undone(other.opID) {
			continue
		}
		if w.twice[other.opID] > 1 {
			s.figures.Events["effects beside that of a second delivery"]++
			break
		}
		s.figures.Doubles++
		s.wrong("nonce %s had two effects, by op %s on %s and by op %s on %s", d.of.nonce.Short(), other.opID, other.on, d.opID, d.on)
		break
	}
	if w.denied[d.opID] && !w.undone(d.opID) {
		if w.twice[d.opID] > 1 {
			s.figures.Events["ended without effect beside a second delivery"]++
		} else {
			s.figures.False++
			s.wrong("op %s is on record as without effect, and now there is %s on %s", d.opID, d.kind, d.on)
		}
	}
	o := s.orders[d.of.nonce]
	if o == nil || o.keyless || !aimed(o.doc.Class, e.Kind) || d.on == o.prize || guestOfThing(d.on) == o.prize {
		return
	}
	if w.tooLate(d.opID, o) {
		s.figures.Events["hit the next, when people had given it up"]++
		return
	}
	if w.letIn[d.opID] == o.prize || w.swapped[place(o.doc.Intent())] > d.of.announced || w.twice[d.opID] > 1 {
		s.figures.Events["let in for one, hit the next"]++
		return
	}
	s.wrong("op %s was signed for %s, and %s hit %s", d.opID, o.prize, d.kind, d.on)
}

// thingOf is what an effect was on.
func (w *world) thingOf(e pvesim.Effect) string {
	switch e.Kind { //nolint:exhaustive // the others are of guests
	case pvesim.SnapshotCreated:
		name := fmt.Sprint("guest ", e.Instance, " snapshot ", e.Snapshot)
		w.births[name]++
		return w.named(name)
	case pvesim.BackupCreated:
		w.births["volume "+e.Volume]++
		return w.named("volume " + e.Volume)
	case pvesim.SnapshotDeleted, pvesim.GuestRolledBack, pvesim.VolumeRolledBack, pvesim.VolumeSnapshotDeleted:
		return w.snapshotThing(e.Instance, e.Snapshot)
	case pvesim.VolumeDeleted, pvesim.BackupDeleted:
		return w.named("volume " + e.Volume)
	case pvesim.PoolDestroyed:
		_, name, _ := strings.Cut(e.Device, ":")
		return w.named("pool " + name)
	case pvesim.DiskWiped, pvesim.StorageRemoved:
		return "disk " + e.Device
	}
	return guestThing(e.Instance)
}

// aimed tells whether an effect of an op of a class is on what was signed for; the
// others are on what comes of it.
func aimed(c op.Class, kind pvesim.EffectKind) bool {
	switch c {
	case op.RestoreOverwrite:
		return kind == pvesim.GuestOverwritten
	case op.StorageWipe:
		return kind == pvesim.PoolDestroyed
	case op.GuestDestroy:
		return kind == pvesim.GuestDestroyed || kind == pvesim.VolumeFreed || kind == pvesim.ConfigEmptied || kind == pvesim.GuestStopped
	case op.SnapshotRollback:
		return kind == pvesim.GuestRolledBack || kind == pvesim.VolumeRolledBack
	case op.SnapshotDelete:
		return kind == pvesim.SnapshotDeleted || kind == pvesim.VolumeSnapshotDeleted
	case op.VolumeDelete, op.BackupDelete:
		return kind == pvesim.VolumeDeleted || kind == pvesim.BackupDeleted
	case op.GuestStop, op.GuestShutdown, op.GuestReboot:
		return kind == pvesim.GuestStopped
	case op.GuestStart, op.SnapshotCreate, op.BackupCreate:
	}
	return false
}

// lifecycle notes what is no more.
func (w *world) lifecycle(e pvesim.Effect, on string) {
	switch e.Kind { //nolint:exhaustive // the others leave what they are on
	case pvesim.GuestDestroyed, pvesim.GuestOverwritten:
		w.gone[guestThing(e.Instance)] = true
		if e.Tag == "" {
			w.swapped[fmt.Sprint("guest ", e.VMID)] = w.sim.step
		}
	case pvesim.SnapshotDeleted:
		w.gone[on] = true
		if e.Tag == "" {
			w.swapped[fmt.Sprint("snapshot ", e.Snapshot, " of ", e.VMID)] = w.sim.step
		}
	case pvesim.VolumeDeleted, pvesim.BackupDeleted, pvesim.PoolDestroyed:
		w.gone[on] = true
	}
}

// touched tells whether an op's request has had an effect that is still one.
func (w *world) touched(opID string) bool {
	for _, d := range w.deeds {
		if d.opID == opID {
			return !w.undone(opID)
		}
	}
	return false
}

// undone tells whether all that an op did was taken back, as the host does with a
// snapshot that it could not finish.
func (w *world) undone(opID string) bool {
	n := 0
	for _, d := range w.deeds {
		switch {
		case d.opID != opID:
		case d.kind == pvesim.VolumeSnapshotted:
			n++
		case d.kind == pvesim.VolumeSnapshotDeleted:
			n--
		default:
			return false
		}
	}
	return n == 0
}

// aims are what must have happened for an op of a class to be done.
var aims = map[op.Class]pvesim.EffectKind{
	op.GuestDestroy: pvesim.GuestDestroyed, op.RestoreOverwrite: pvesim.GuestRestored,
	op.SnapshotRollback: pvesim.GuestRolledBack, op.SnapshotDelete: pvesim.SnapshotDeleted, op.SnapshotCreate: pvesim.SnapshotCreated,
	op.VolumeDelete: pvesim.VolumeDeleted, op.BackupDelete: pvesim.BackupDeleted, op.BackupCreate: pvesim.BackupCreated,
	op.StorageWipe: pvesim.PoolDestroyed,
	op.GuestStop:   pvesim.GuestStopped, op.GuestShutdown: pvesim.GuestStopped, op.GuestReboot: pvesim.GuestStopped, op.GuestStart: pvesim.GuestStarted,
}

// done tells whether what an order was for has happened.
func (w *world) done(o *order, opID string) bool {
	for _, d := range w.deeds {
		if d.opID == opID && d.kind == aims[o.doc.Class] {
			return true
		}
	}
	switch o.doc.Class { //nolint:exhaustive // others must have done it themselves
	case op.VolumeDelete, op.BackupDelete:
		// A guest that other people destroy takes volumes of its VMID along.
		return w.gone[o.prize] || !slices.ContainsFunc(w.pve.Volumes(), func(v pvesim.Volume) bool { return v.VolID == o.doc.Target.Volume })
	case op.GuestDestroy, op.SnapshotDelete, op.StorageWipe:
		return w.gone[o.prize]
	case op.GuestStop, op.GuestShutdown:
		// Other people may have been quicker.
		one := w.byOp[opID]
		return w.gone[o.prize] || one != nil && w.stopped[o.prize] > one.announced
	}
	return false
}
