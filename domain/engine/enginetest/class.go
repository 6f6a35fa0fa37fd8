package enginetest

import (
	"slices"

	"writ/domain/op"
)

// A State is how the subject of an op is: the guest, snapshot, volume or pool that
// it is about.
type State uint8

// The states. What they look like depends on the class.
const (
	Untouched State = iota + 1
	Half            // something was done to it and not all
	Done            // it is as the op is to make it
	Undone          // other people have taken that back since, or made another of its name
)

// Exit statuses of tasks, one for each thing that the engine can make of them.
const (
	SaidOK     = "OK"
	SaidEarly  = "VM is locked (backup)" // raised before any effect
	SaidError  = "command failed: exit code 5"
	SaidKilled = "unexpected status" // the worker did not end by itself
)

// A Class is one class of op, by what tells it from the others where the engine
// is concerned.
type Class struct {
	op.Class

	// Guarded: the guest's protection holds back a request that has passed the
	// check of its token. Of other classes no fence is ever confirmed.
	Guarded bool
	// ByState: that the subject is as the op is to make it is proof, whoever did
	// it and whatever the task says.
	ByState bool
	// IfItHadATask: that is proof if the attempt had a task, however it ended but
	// before any effect. IfItSaidOK: if that task said that it succeeded, though it
	// may have found nothing to do.
	IfItHadATask, IfItSaidOK bool
	// HalfWay is how its subject is once a task has failed on the way.
	HalfWay State
	// HalfEnds is the effect that is then proven.
	HalfEnds op.Effect

	marks bool              // what is looked at right before the launch changes with the state
	meets map[State]Meeting // beside the common ones
	look  func(Look) Sight
}

// A Meeting is what a task does with a subject that it finds in some state.
type Meeting uint8

// What tasks do.
const (
	Acts    Meeting = iota + 1
	Refuses         // it ends with a text that comes before any effect
	Idles           // it says OK, and has done nothing
)

// Meets gives what a task of the class does with a subject in a state.
func (c Class) Meets(s State) Meeting {
	if m, ok := c.meets[s]; ok {
		return m
	}
	if s == Half {
		return Refuses // it is locked
	}
	return Acts
}

// Shows tells whether the last look at the subject, right before the request is sent,
// shows that it is not as it was announced. Volumes of a guest go while its
// configuration stays; the configuration says nothing of running and of backups.
func (c Class) Shows(s State) bool {
	return c.marks && s != Untouched && (c.Class != op.GuestDestroy || s == Done)
}

// Over tells whether no request of the class can do anything any more to a subject
// in this state, whatever other people do.
func (c Class) Over(s State) bool { return c.Class == op.GuestDestroy && s == Done }

// CanBeUndone tells whether people can take back what an op of the class has done,
// without another target in the place of the one that was.
func (c Class) CanBeUndone() bool {
	return c.Class != op.GuestDestroy && c.Class != op.RestoreOverwrite
}

// Excuses tells whether an attempt that has done nothing itself may be on record as
// succeeded where others have done it, given how its task ended.
func (c Class) Excuses(said string) bool {
	return c.ByState || c.IfItHadATask && said != "" || c.IfItSaidOK && said == SaidOK
}

// Of gives a class.
func Of(c op.Class) Class {
	all := Classes()
	return all[slices.IndexFunc(all, func(x Class) bool { return x.Class == c })]
}

// Classes gives all of them, in the order of the documentation.
func Classes() []Class {
	refusesDone := map[State]Meeting{Done: Refuses}
	idlesDone := map[State]Meeting{Done: Idles, Half: Acts}
	half := func(c Class) Class { c.HalfWay, c.HalfEnds = Half, op.EffectPartial; return c }
	volume := Class{IfItHadATask: true, marks: true, HalfWay: Done, HalfEnds: op.EffectDone, meets: idlesDone, look: lookAtVolume}
	stop := half(Class{IfItSaidOK: true, meets: idlesDone, look: lookAtStop})
	all := map[op.Class]Class{
		op.GuestDestroy:     half(Class{Guarded: true, ByState: true, marks: true, meets: map[State]Meeting{Done: Refuses, Half: Acts}, look: lookAtDestroyed}),
		op.RestoreOverwrite: half(Class{Guarded: true, marks: true, look: lookAtRestored}),
		op.SnapshotRollback: half(Class{marks: true, look: lookAtRolledBack}),
		op.SnapshotDelete:   half(Class{marks: true, meets: refusesDone, look: lookAtSnapshotDeleted}),
		op.VolumeDelete:     volume,
		op.BackupDelete:     volume,
		op.StorageWipe:      half(Class{marks: true, meets: refusesDone, look: lookAtWiped}),
		op.GuestStop:        stop,
		op.GuestShutdown:    stop,
		op.GuestReboot:      half(Class{look: lookAtRebooted}),
		op.GuestStart:       {HalfWay: Untouched, HalfEnds: op.EffectNone, meets: refusesDone, look: lookAtStarted}, // whose failure leaves it down
		op.SnapshotCreate:   half(Class{marks: true, meets: refusesDone, look: lookAtSnapshotMade}),
		op.BackupCreate:     half(Class{look: lookAtBackup}),
	}
	classes := make([]Class, 0, len(all))
	for _, name := range op.Classes() {
		c := all[name]
		c.Class = name
		classes = append(classes, c)
	}
	return classes
}
