package proxmox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// liveClasses are those whose ops leave the guest alive.
var liveClasses = []op.Class{
	op.GuestStop, op.GuestShutdown, op.GuestReboot, op.GuestStart, op.SnapshotRollback, op.SnapshotDelete, op.SnapshotCreate,
}

const before, next = "before-upgrade", "next"

// live makes a guest for ops of a class, with two snapshots, and gives the intent
// of one: those of snapshots are about the newer one.
func (r *classRig) live(class op.Class, kind pvesim.Kind) op.Intent {
	r.t.Helper()
	r.guest(kind, func(g *pvesim.Guest) {
		g.Running = class != op.GuestStart
		g.Snapshots = []string{"first", before}
	})
	in := guestIntent(class, kind)
	switch class { //nolint:exhaustive // the others are about no snapshot
	case op.SnapshotRollback, op.SnapshotDelete:
		in.Params.Snapshot = before
	case op.SnapshotCreate:
		in.Params.Snapshot = next
	}
	return in
}

// impostor makes another guest with the VMID, that has the name, the snapshots' names
// and the disks' of the one before.
func (r *classRig) impostor(kind pvesim.Kind) {
	r.t.Helper()
	r.rig.guest(kind, func(g *pvesim.Guest) { g.Running, g.Snapshots = true, []string{"first", before} })
}

// eachLive runs a test for each class, on a machine and on a container, with both
// kinds of tokens.
func eachLive(t *testing.T, test func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind)) {
	t.Helper()
	for _, class := range liveClasses {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%s of %s", class, kind), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, r *classRig) { test(t, r, class, kind) })
			})
		}
	}
}

func TestLiveDone(t *testing.T) {
	eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		o := r.order(r.live(class, kind))
		o.play().want(t, "none", op.EffectDone, `ended with "OK"`)
		if !slices.Contains(o.kinds(), aims[class]) {
			t.Errorf("effects: got %v, want %s among them", o.kinds(), aims[class])
		}
	})
}

// Whatever happens to the answer of a launch, the error is ambiguous; the task is
// found by itself and adopted, or there is none, and then nothing is concluded:
// no fence holds back what may still be on its way.
func TestLiveAmbiguousLaunches(t *testing.T) {
	cases := map[string]struct {
		fault    pvesim.Fault
		executed bool
	}{
		"cut before it was executed":          {pvesim.Fault{Kind: pvesim.FaultCut}, false},
		"reply cut":                           {pvesim.Fault{Kind: pvesim.FaultCut, After: true}, true},
		"596, not executed":                   {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596}, false},
		"596, executed":                       {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, After: true}, true},
		"502 of a proxy, executed":            {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 502, After: true}, true},
		"an empty 200, executed":              {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, After: true}, true},
		"a UPID that is none":                 {pvesim.Fault{Kind: pvesim.FaultBadUPID, Text: "UPID:pve1:1:2:3"}, true},
		"500, the task can't be listed yet":   {pvesim.Fault{Kind: pvesim.FaultActiveLock}, true},
		"500, the task can't be listed, ever": {pvesim.Fault{Kind: pvesim.FaultActiveLock, Unlisted: true}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
				o := r.order(r.live(class, kind))
				c.fault.Method, c.fault.Path = o.l.Request.Method, o.l.Request.Path
				in := r.fault(c.fault)
				e := o.play()
				if in.Hits() != 1 || e.adopted != c.executed {
					t.Errorf("got %d faults, task adopted %v, want one, and %v", in.Hits(), e.adopted, c.executed)
				}
				if c.executed {
					e.want(t, "ambiguous", op.EffectDone, `ended with "OK"`)
					return
				}
				e.want(t, "ambiguous", op.EffectUnknown)
				wantFence(t, e.fence, false, false, string(class), "look whether one is still waiting on node pve1")
				if len(o.kinds()) > 0 {
					t.Errorf("effects: got %v, want none", o.kinds())
				}
			})
		})
	}
}

// A late request is carried out although the client has long gone: what was found
// before must not have been taken for the end.
func TestLiveLateExecution(t *testing.T) {
	eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		o := r.order(r.live(class, kind))
		held := r.fault(pvesim.Fault{
			Kind: pvesim.FaultHold, Method: o.l.Request.Method, Path: o.l.Request.Path, Point: pvesim.PointFork, ClientGone: true,
		})
		o.play().want(t, "ambiguous", op.EffectUnknown)
		held.Release()
		if !slices.Contains(o.kinds(), aims[class]) {
			t.Fatalf("effects: got %v, want %s among them", o.kinds(), aims[class])
		}
		e := ending{}
		if o.search(&e); !e.adopted {
			t.Error("the task that has begun since was not found")
		}
	})
}

// stagesOf are the stages of a class's task at which a worker may be killed.
func stagesOf(class op.Class, kind pvesim.Kind) []string {
	switch class { //nolint:exhaustive // the others have one stage that acts
	case op.GuestReboot:
		if kind == pvesim.LXC {
			return []string{pvesim.StageStart, pvesim.StageLock, pvesim.StageStop, pvesim.StageUp, pvesim.StageEnd}
		}
		return []string{pvesim.StageStart, pvesim.StageLock, pvesim.StageStop, pvesim.StageEnd}
	case op.SnapshotRollback:
		return []string{
			pvesim.StageStart, pvesim.StageMigration, pvesim.StageLock, pvesim.StageCheck, pvesim.StageStop, pvesim.StageMark,
			pvesim.StageVolume + "0", pvesim.StageVolume + "1", pvesim.StageFinish, pvesim.StageEnd,
		}
	case op.SnapshotDelete:
		return []string{
			pvesim.StageStart, pvesim.StageMigration, pvesim.StageCheck, pvesim.StageMark, pvesim.StagePrepare,
			pvesim.StageVolume + "0", pvesim.StageRecord + "0", pvesim.StageVolume + "1", pvesim.StageRecord + "1", pvesim.StageFinish, pvesim.StageEnd,
		}
	case op.SnapshotCreate:
		return []string{
			pvesim.StageStart, pvesim.StageLock, pvesim.StagePrepare, pvesim.StageVolume + "0", pvesim.StageVolume + "1",
			pvesim.StageFinish, pvesim.StageEnd,
		}
	default:
		return []string{pvesim.StageStart, pvesim.StageLock, pvesim.StageAct, pvesim.StageEnd}
	}
}

// The worker is killed before each of its stages. That it did nothing is never
// concluded, nor that it did all, unless there is proof; what it has left half done
// is named, with what to do. Of the end of a snapshot's task the guest itself
// tells; of a power task nothing does.
func TestLiveKilledWorkers(t *testing.T) {
	eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		for _, stage := range stagesOf(class, kind) {
			t.Run("before "+stage, func(t *testing.T) {
				r := newClassRig(t, r.own)
				o := r.order(r.live(class, kind))
				killed := r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 107, Stage: stage})
				e := o.play()
				if killed.Hits() != 1 {
					t.Fatalf("kills: got %d, want 1", killed.Hits())
				}
				want := op.EffectUnknown
				// A container's rollback can leave the configuration as it was.
				if stage == pvesim.StageEnd && (class == op.SnapshotDelete || class == op.SnapshotCreate || class == op.SnapshotRollback && kind == pvesim.QEMU) {
					want = op.EffectDone
				}
				e.want(t, "none", want, "unexpected status")
				halfway := slices.Contains(o.kinds(), pvesim.VolumeRolledBack) || slices.Contains(o.kinds(), pvesim.VolumeSnapshotDeleted) || slices.Contains(o.kinds(), pvesim.VolumeSnapshotted)
				if halfway && stage != pvesim.StageEnd {
					if e.finding.Evidence.Effect != op.EffectPartial || !strings.Contains(strings.ToLower(e.reasons()), "unlock") {
						t.Errorf("finding: got %s (%s), want partial, and how to unlock the guest", e.finding.Evidence.Effect, e.reasons())
					}
				}
				if want != op.EffectDone && !e.finding.MayStillAct {
					t.Errorf("finding: got that nothing may still act (%s), the node has not restarted", e.reasons())
				}
			})
		}
	})
}

// The guest is destroyed after the launch, and its VMID given to another, which
// must never be taken for it. With a token of the attempt's own it is certain that
// the task was on the announced guest; with a shared one it is not.
func TestLiveReusedVMID(t *testing.T) {
	for name, again := range map[string]bool{"destroyed": false, "destroyed, and the VMID used again": true} {
		for _, told := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, task known %v", name, told), func(t *testing.T) {
				eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
					in := r.live(class, kind)
					o := r.order(in)
					if !told {
						r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: o.l.Request.Method, Path: o.l.Request.Path})
					}
					upid, err := o.x.Launch(t.Context(), o.a, o.l)
					r.sim.DestroyGuest(107)
					if again {
						r.impostor(kind)
					}
					e := o.settle(upid, err)
					want := op.EffectUnknown
					if told && r.own {
						want = op.EffectDone
					}
					e.want(t, launchKind(err), want)
					if got := e.reasons(); !strings.Contains(got, "is now another guest") && !strings.Contains(got, "is the same guest") && !strings.Contains(got, "any more") {
						t.Errorf("reasons: got %s, want them to say that the guest is gone", got)
					}
				})
			})
		}
	}
}

// The guest is destroyed and its VMID given to another between look and launch. A
// token of the attempt's own has lost its right by then; a shared one has not, and
// then at least success is not claimed.
func TestLiveReusedBeforeTheLaunch(t *testing.T) {
	eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		in := r.live(class, kind)
		o := r.order(in)
		e := o.playAfter(func() {
			r.sim.DestroyGuest(107)
			r.impostor(kind)
		})
		switch {
		case r.own:
			e.want(t, "definite", op.EffectNone, "403")
		case class == op.GuestStart: // it runs already
			if e.effect != op.EffectNone {
				t.Errorf("effect: got %s, want none", e.effect)
			}
		default:
			e.want(t, "none", op.EffectUnknown, "VMID 107 is")
		}
	})
}

// The guest has moved: the look finds it where it is, and the request goes there.
func TestLiveFollowsAMigratedGuest(t *testing.T) {
	eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		in := r.live(class, kind)
		if err := r.sim.MoveGuest(107, "pve2"); err != nil {
			t.Fatal(err)
		}
		o := r.order(in)
		if o.l.Node != "pve2" {
			t.Errorf("node: got %s, want pve2", o.l.Node)
		}
		o.play().want(t, "none", op.EffectDone)
	})
}

// The request is delivered twice, as something between may do: the attempt's end is
// that of its task that came further, and no other is taken for it.
func TestLiveRepeatedDelivery(t *testing.T) {
	eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		o := r.order(r.live(class, kind))
		r.fault(pvesim.Fault{Kind: pvesim.FaultRepeat, Method: o.l.Request.Method, Path: o.l.Request.Path})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		if err != nil {
			t.Fatal(err)
		}
		task := r.task(upid)
		f, err := o.x.Probe(t.Context(), o.l, task.ExitStatus, task.Log)
		if err != nil {
			t.Fatal(err)
		}
		wantEffect(t, f, op.EffectDone, 0)
	})
}

// A fence of these classes makes the token void, and says that this is not all that
// may be needed, and what to do.
func TestLiveFence(t *testing.T) {
	eachLive(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		o := r.order(r.live(class, kind))
		held := r.fault(pvesim.Fault{Kind: pvesim.FaultHold, Method: o.l.Request.Method, Path: o.l.Request.Path, Point: pvesim.PointQueue, ClientGone: true})
		_, err := o.x.Launch(t.Context(), o.a, o.l)
		wantKind(t, err, "ambiguous")
		f, err := o.x.Fence(t.Context(), o.l)
		if err != nil {
			t.Fatal(err)
		}
		wantFence(t, f, false, false, "nothing at the host holds back a request of class "+string(class), "restart pvedaemon and pveproxy")
		if f.Digest != "" {
			t.Errorf("digest: got %s, want none: the guest is not protected", f.Digest)
		}
		held.Release()
		if got, want := len(o.kinds()) > 0, !r.own; got != want {
			t.Errorf("a request that waited for the second check of its token had an effect: got %v, want %v", got, want)
		}
	})
}
