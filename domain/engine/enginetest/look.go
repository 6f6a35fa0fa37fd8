package enginetest

import "writ/domain/op"

// A Look is what a probe has to go by.
type Look struct {
	State State
	Said  string // the task's exit status; empty if no task is known, or its end is not
	// Others: the host lists another task that can have done it.
	Others bool
	// Changed: the target's configuration is not as it was announced, by other
	// hands than those that do what the op does.
	Changed bool
}

func (l Look) ok() bool     { return l.Said == SaidOK }
func (l Look) killed() bool { return l.Said == SaidKilled }
func (l Look) began() bool  { return l.Said != "" }

// A Sight is what a probe proves.
type Sight struct {
	Effect      op.Effect
	MayStillAct bool
}

// Look gives what a probe of the class proves by what it sees.
func (c Class) Look(l Look) Sight {
	if l.Said == SaidEarly {
		return Sight{Effect: op.EffectNone}
	}
	return c.look(l)
}

func is(e op.Effect) Sight { return Sight{Effect: e} }

// unclear is of what can't be told. After the death of a worker a child of it may
// be at work.
func (l Look) unclear() Sight { return Sight{op.EffectUnknown, l.killed()} }

// begun is of a subject that is half done: by whom, only a task tells.
func (l Look) begun() Sight {
	if !l.began() {
		return l.unclear()
	}
	return Sight{op.EffectPartial, l.killed()}
}

// unchanged is of one that shows no trace.
func (l Look) unchanged() Sight {
	if l.killed() || l.Changed {
		return l.unclear()
	}
	return is(op.EffectNone)
}

// reached is of one that is as it was to be, by a task that does not say so.
func (l Look) reached() Sight {
	if !l.began() || l.Others {
		return l.unclear()
	}
	return is(op.EffectDone)
}

func lookAtDestroyed(l Look) Sight {
	switch {
	case l.State == Done, l.State == Undone:
		return is(op.EffectDone)
	case l.State == Half:
		return is(op.EffectPartial) // volumes that its configuration names are gone
	case l.ok():
		return l.unclear()
	}
	return l.unchanged()
}

func lookAtRestored(l Look) Sight {
	switch {
	case l.ok() && l.State != Untouched:
		return is(op.EffectDone)
	case l.State == Half:
		return l.begun()
	case l.State != Untouched, l.ok():
		return l.unclear()
	}
	return l.unchanged()
}

func lookAtRolledBack(l Look) Sight {
	switch {
	case l.ok():
		return is(op.EffectDone)
	case l.State == Half:
		return l.begun()
	case l.State == Done:
		return l.reached()
	case l.State == Undone:
		return l.unclear()
	}
	return l.unchanged()
}

func lookAtSnapshotDeleted(l Look) Sight {
	switch {
	case l.ok() && l.State == Untouched:
		return l.unclear()
	case l.ok():
		return is(op.EffectDone)
	case l.State == Half:
		return l.begun()
	case l.State != Untouched:
		return l.reached()
	}
	return l.unchanged()
}

func lookAtSnapshotMade(l Look) Sight {
	switch {
	case l.ok():
		return is(op.EffectDone)
	case l.State == Half:
		return l.begun()
	case l.State == Done:
		return l.reached()
	}
	return l.unchanged()
}

func lookAtVolume(l Look) Sight {
	switch {
	case l.State == Done && l.began(), l.State == Undone && l.ok():
		return is(op.EffectDone)
	case l.State != Untouched, l.ok():
		return l.unclear()
	}
	return l.unchanged()
}

// lookAtWiped: the order asks for a clean-up, of which nothing is known if the
// task does not say that it ended well.
func lookAtWiped(l Look) Sight {
	switch {
	case l.ok() && l.State != Untouched:
		return is(op.EffectDone)
	case l.State == Undone, l.ok(), !l.began() && l.State != Untouched:
		return l.unclear()
	case l.State != Untouched:
		return is(op.EffectPartial)
	case l.began():
		return l.unclear() // some of its volumes may be gone
	}
	return is(op.EffectNone)
}

// lookAtStop: half way is a guest that was told to stop and is running.
func lookAtStop(l Look) Sight {
	running := l.State == Untouched || l.State == Half
	switch {
	case l.killed(), l.ok() && running:
		return l.unclear()
	case l.ok():
		return is(op.EffectDone)
	case !running:
		return l.unclear() // guests stop by themselves, and by other hands
	case l.began():
		return is(op.EffectPartial)
	}
	return is(op.EffectNone)
}

// lookAtRebooted: half way is a guest that is down.
func lookAtRebooted(l Look) Sight {
	switch {
	case l.killed(), l.ok() && l.State == Untouched:
		return l.unclear()
	case l.State == Half:
		return l.begun()
	case l.ok():
		return is(op.EffectDone)
	case l.State != Untouched:
		return l.unclear()
	case l.began():
		return is(op.EffectPartial)
	}
	return is(op.EffectNone)
}

func lookAtStarted(l Look) Sight {
	switch {
	case l.killed():
		return l.unclear()
	case l.ok():
		return is(op.EffectDone)
	case l.State == Done:
		return l.unclear() // it can't be told who started it
	}
	return is(op.EffectNone)
}

func lookAtBackup(l Look) Sight {
	switch {
	case l.ok():
		return is(op.EffectDone)
	case l.State == Done:
		return l.unclear() // whose backup it is can't be told
	case l.State == Half:
		return l.begun()
	}
	return l.unchanged()
}
