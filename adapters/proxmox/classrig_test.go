package proxmox_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// A classRig plays ops of any class over a simulated cluster, step by step as the
// engine does, and compares what was found with what really happened. Each of its
// requests, reads too, is held against the published API (see recorder).
type classRig struct {
	*rig
	own   bool         // each attempt has a token of its own
	shift atomic.Int64 // of the simulated cluster's clock against the real one
}

// inBothModes runs a test with one token for all, and with one per attempt.
func inBothModes(t *testing.T, test func(t *testing.T, r *classRig)) {
	t.Helper()
	t.Run("shared token", func(t *testing.T) { test(t, newClassRig(t, false)) })
	t.Run("token per attempt", func(t *testing.T) { test(t, newClassRig(t, true)) })
}

// attemptRights are all that requests of any class need. Of each there is a role
// that holds it alone.
var attemptRights = []string{
	"VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback", "VM.Backup", "Datastore.Allocate", "Datastore.AllocateSpace", "Sys.Modify",
	"SDN.Use", "Mapping.Use",
}

// newClassRig makes a cluster of two nodes with an old history, and a Host whose
// rights are enough for every class.
func newClassRig(t *testing.T, own bool, change ...func(*pvesim.Options)) *classRig {
	t.Helper()
	r := &classRig{own: own}
	clock := func(o *pvesim.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(r.shift.Load())) }
		o.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	r.rig = newRig(t, append([]func(*pvesim.Options){clock}, change...)...)
	record(r)
	sight := []string{"VM.Audit", "VM.Config.Disk", "VM.Backup"}
	r.sim.AddRole("Cluster", "Sys.Audit", "Sys.Syslog", "Pool.Audit", "Datastore.Audit", "Datastore.AllocateSpace", "Datastore.Allocate")
	if own {
		r.sim.AddRole("Guests", sight...)
		r.sim.AddRole("WritAttempt", "VM.Allocate")
		for _, privilege := range attemptRights {
			r.sim.AddRole("WritAttempt-"+privilege, privilege)
		}
		r.sim.AddUser(serviceUser, "correct horse")
		r.sim.AddRole("WritService", append([]string{"VM.Allocate", "VM.Config.Options", "Permissions.Modify"}, attemptRights...)...)
		r.sim.Grant("/", serviceUser, "WritService", true)
		r.host = r.another(func(*proxmox.Config) {})
	} else {
		all := append([]string{"VM.Allocate", "VM.Config.Options", "Sys.Modify"}, sight...)
		r.sim.AddRole("Guests", append(all, attemptRights...)...)
		r.sim.AddRole("Cluster", "Sys.Audit", "Sys.Modify", "Sys.Syslog", "Pool.Audit", "Datastore.Audit", "Datastore.AllocateSpace", "Datastore.Allocate")
		r.host = newHost(t, r.conf)
	}
	r.oldTask("pve1")
	r.oldTask("pve2")
	return r
}

// past lets something happen an hour ago, by the cluster's clock.
func (r *classRig) past(do func()) {
	r.shift.Store(int64(-time.Hour))
	defer r.shift.Store(0)
	do()
}

// guest makes a guest with two disks on pve1, an hour ago.
func (r *classRig) guest(kind pvesim.Kind, change ...func(*pvesim.Guest)) {
	r.t.Helper()
	r.past(func() { r.rig.guest(kind, change...) })
}

// An order is one attempt of an op, looked at and announced.
type order struct {
	r     *classRig
	x     engine.Executor
	a     engine.Attempt
	l     *op.Launching
	begin int // how many effects there were before
}

// order looks at the target of an intent and announces the first attempt at it.
func (r *classRig) order(in op.Intent) *order {
	r.t.Helper()
	o := &order{r: r, x: r.host.Executors()[in.Class], begin: len(r.sim.Effects())}
	o.a = engine.Attempt{Nonce: nonce, Number: 1, Intent: in, ExpiresAt: time.Now().Add(time.Hour)}
	seen, err := o.x.Observe(r.t.Context(), o.a)
	if err != nil {
		r.t.Fatal(err)
	}
	if !seen.Found {
		r.t.Fatalf("look at %s: got none there", in.Target)
	}
	o.announce(seen)
	return o
}

func (o *order) announce(seen op.Observed) {
	o.r.t.Helper()
	req, credential, err := o.x.Request(o.a, seen)
	if err != nil {
		o.r.t.Fatal(err)
	}
	o.r.runs++
	o.l = &op.Launching{
		Header: op.Header{
			OpID: fmt.Sprintf("%020x", o.r.runs), Nonce: nonce, Attempt: o.a.Number,
			Class: o.a.Intent.Class, Target: o.a.Intent.Target, At: time.Now().UTC(),
		},
		Node: seen.Node, Credential: credential, Request: req, Observed: seen,
	}
}

// An ending is how an order ended.
type ending struct {
	err     error // of the launch
	upid    string
	adopted bool // the task was found, not told
	task    engine.Task
	fence   engine.Fence   // put up where no task was found
	finding engine.Finding // of the probe, if it was asked
	// effect is what the engine makes of it all: unknown, too, where a late
	// request or a child of the task may still act, where the task is forgotten,
	// or where it says that it succeeded and nothing is to be seen.
	effect op.Effect
}

// reasons are what the finding says, in one text.
func (e ending) reasons() string { return strings.Join(e.finding.Evidence.Reasons, "; ") }

// play launches an order and goes on until it is known how it ended: by the
// launch's own error, or by the end of its task, which after an ambiguous error is
// looked for, and by what the host shows then. Tasks must have ended by then, but
// those that a test holds. What is concluded must be true of what really happened.
func (o *order) play() ending {
	o.r.t.Helper()
	upid, err := o.x.Launch(o.r.t.Context(), o.a, o.l)
	return o.settle(upid, err)
}

// playAfter is play with something that happens at the last moment: the request
// has left, and the host has not looked at it.
func (o *order) playAfter(meanwhile func()) ending {
	o.r.t.Helper()
	held := o.r.hold(o.l.Request.Method, o.l.Request.Path, "", pvesim.PointArrival)
	type answer struct {
		upid string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		upid, err := o.x.Launch(o.r.t.Context(), o.a, o.l)
		answered <- answer{upid, err}
	}()
	select {
	case <-held.Reached():
	case a := <-answered:
		o.r.t.Fatalf("the request did not reach the host: %v", a.err)
	}
	meanwhile()
	held.Release()
	a := <-answered
	return o.settle(a.upid, a.err)
}

// settle is what follows a launch.
func (o *order) settle(upid string, err error) ending {
	o.r.t.Helper()
	e := ending{err: err, upid: upid}
	if engine.IsDefinite(err) {
		e.effect = op.EffectNone
		o.wantTrue(e)
		return e
	}
	if err != nil {
		o.search(&e)
	}
	if e.upid != "" {
		if e.task, err = o.r.host.Task(o.r.t.Context(), e.upid); err != nil {
			o.r.t.Fatal(err)
		}
	}
	if e.task.Phase != engine.TaskActive {
		o.conclude(&e)
		o.wantTrue(e)
	}
	return e
}

// search looks for the task of an ambiguous launch, and puts up a fence if there
// is none.
func (o *order) search(e *ending) {
	o.r.t.Helper()
	s, err := o.x.FindTasks(o.r.t.Context(), o.l)
	if err != nil || len(s.UPIDs) > 1 {
		o.r.t.Fatalf("look for the task: got %+v, %v, want no more than one", s, err)
	}
	if len(s.UPIDs) == 1 {
		e.upid, e.adopted = s.UPIDs[0], true
		return
	}
	if e.fence, err = o.x.Fence(o.r.t.Context(), o.l); err != nil {
		o.r.t.Fatal(err)
	}
}

// conclude asks the probe, unless the task's end says enough.
func (o *order) conclude(e *ending) {
	o.r.t.Helper()
	if e.task.ExitStatus != "" && o.x.PrecedesEffect(e.task.ExitStatus) {
		e.effect = op.EffectNone
		return
	}
	l := o.l
	if e.fence.Confirmed {
		l = fenced(l, e.fence)
	}
	f, err := o.x.Probe(o.r.t.Context(), l, e.task.ExitStatus, e.task.Log)
	if err != nil {
		o.r.t.Fatal(err)
	}
	e.finding, e.effect = f, f.Evidence.Effect
	over := e.upid != "" && e.task.Phase == engine.TaskEnded && e.task.ExitStatus != "OK" || e.fence.Confirmed
	switch {
	case f.MayStillAct && e.effect != op.EffectDone, e.upid == "" && !e.fence.Confirmed, e.effect == op.EffectNone && !over:
		e.effect = op.EffectUnknown
	}
}

// deeds are the effects that the attempt's own credential had since it was
// announced.
func (o *order) deeds() []pvesim.Effect {
	return slices.DeleteFunc(o.r.sim.Effects()[o.begin:], func(e pvesim.Effect) bool { return e.Auth != o.l.Credential })
}

// kinds tells which of them there were, in their order.
func (o *order) kinds() []pvesim.EffectKind {
	var kinds []pvesim.EffectKind
	for _, e := range o.deeds() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// aims are what must have happened for an op of the class to be done.
var aims = map[op.Class]pvesim.EffectKind{
	op.GuestDestroy: pvesim.GuestDestroyed, op.RestoreOverwrite: pvesim.GuestRestored,
	op.SnapshotRollback: pvesim.GuestRolledBack, op.SnapshotDelete: pvesim.SnapshotDeleted, op.SnapshotCreate: pvesim.SnapshotCreated,
	op.VolumeDelete: pvesim.VolumeDeleted, op.BackupDelete: pvesim.BackupDeleted, op.BackupCreate: pvesim.BackupCreated,
	op.StorageWipe: pvesim.PoolDestroyed,
	op.GuestStop:   pvesim.GuestStopped, op.GuestShutdown: pvesim.GuestStopped, op.GuestReboot: pvesim.GuestStopped, op.GuestStart: pvesim.GuestStarted,
}

// aim is what must have happened for the op to be done.
func (o *order) aim() pvesim.EffectKind {
	if o.l.Target.Disk != "" {
		return pvesim.DiskWiped
	}
	return aims[o.l.Class]
}

// wantTrue compares a conclusion with what happened: nothing, where it is none;
// the aim, where it is done and the task does not itself say so; and in any case
// one request and no more.
func (o *order) wantTrue(e ending) {
	o.r.t.Helper()
	kinds := o.kinds()
	switch {
	case e.effect == op.EffectNone && len(kinds) > 0 && !undone(kinds):
		o.r.t.Errorf("the effect was found to be none (%s), yet there were %v", e.reasons(), kinds)
	case e.effect == op.EffectDone && e.task.ExitStatus != "OK" && !strings.HasPrefix(e.task.ExitStatus, "WARNINGS") && !slices.Contains(kinds, o.aim()):
		o.r.t.Errorf("the effect was found to be done (%s), yet there were only %v", e.reasons(), kinds)
	}
	sent := 0
	for _, q := range o.r.sim.Requests()[o.r.asked:] {
		if q.Auth == o.l.Credential && q.Method == o.l.Request.Method && strings.HasSuffix(q.Path, o.l.Request.Path) {
			sent++
		}
	}
	if sent > 1 {
		o.r.t.Errorf("requests of the attempt that reached the host: got %d, want one at most", sent)
	}
}

// want checks an ending: what the launch's error proves ("none" for no error), the
// effect that was found, and parts of what is said about it.
func (e ending) want(t *testing.T, kind string, effect op.Effect, says ...string) {
	t.Helper()
	wantKind(t, e.err, kind)
	if e.effect != effect {
		t.Errorf("effect: got %s, want %s; task %+v; %s", e.effect, effect, e.task, e.reasons())
	}
	all := fmt.Sprint(e.reasons(), "; ", e.err, "; ", e.task.ExitStatus)
	for _, want := range says {
		if !strings.Contains(all, want) {
			t.Errorf("reasons: got %s, want them to say %q", all, want)
		}
	}
}

// undone tells whether the effects are those of a snapshot that could not be made:
// the host takes away what it has made of it.
func undone(kinds []pvesim.EffectKind) bool {
	made := 0
	for _, k := range kinds {
		switch k { //nolint:exhaustive // no other is undone
		case pvesim.VolumeSnapshotted:
			made++
		case pvesim.VolumeSnapshotDeleted:
			made--
		default:
			return false
		}
	}
	return made == 0
}
