package proxmox_test

import (
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// dump orders a backup of guest 107.
func (r *classRig) dump(kind pvesim.Kind, change ...func(*pvesim.Guest)) *order {
	r.t.Helper()
	r.guest(kind, change...)
	return r.order(op.Intent{
		Class: op.BackupCreate, Target: target(op.GuestType(kind), 107), Params: op.Params{Storage: "local"},
	})
}

func (r *classRig) backups() int {
	n := 0
	for _, v := range r.sim.Volumes() {
		if v.Content == "backup" {
			n++
		}
	}
	return n
}

func TestBackupMade(t *testing.T) {
	for _, kind := range bothKinds {
		t.Run(string(kind), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				o := r.dump(kind, func(g *pvesim.Guest) { g.Running = true })
				if want := "mode=snapshot&remove=0&storage=local&vmid=107"; o.l.Request.Query != want {
					t.Errorf("query: got %s, want %s", o.l.Request.Query, want)
				}
				o.play().want(t, "none", op.EffectDone, "the storage lists backups of the guest that were made since: local:backup/vzdump-"+string(kind)+"-107-")
				if g, _ := r.sim.Guest(107); g.Lock != "" || !g.Running || r.backups() != 1 {
					t.Errorf("guest: got %+v, want it running on; %d backups", g, r.backups())
				}
			})
		})
	}
	t.Run("earlier backups stay", func(t *testing.T) {
		r := newClassRig(t, true)
		r.sim.AddStorage(pvesim.Storage{ID: "local", Type: "dir", Path: "/var/lib/vz", Content: []string{"images", "backup"}, PruneBackups: "keep-last=1"})
		o := r.dump(pvesim.QEMU)
		r.node("pve1", pvesim.NodeControl{Skew: new(-time.Hour)})
		r.backup(107)
		r.node("pve1", pvesim.NodeControl{Skew: new(time.Duration(0))})
		o.play().want(t, "none", op.EffectDone)
		if got := r.backups(); got != 2 {
			t.Errorf("backups: got %d, want the earlier one, too", got)
		}
	})
}

// What the host does not take up, and what its task is refused, leaves no backup.
func TestBackupRefused(t *testing.T) {
	cases := []struct {
		name string
		do   func(*classRig)
		kind string
		text string
	}{
		{"no right", func(r *classRig) {
			r.sim.Revoke("/", "svc@pve")
			r.sim.Revoke("/vms", "svc@pve")
			r.sim.Revoke("/", serviceUser)
		}, "definite", "403"},
		{"daemon down", func(r *classRig) { r.node("pve1", pvesim.NodeControl{Daemon: pvesim.Refusing}) }, "definite", "595"},
		{"guest moved away", func(r *classRig) { _ = r.sim.MoveGuest(107, "pve2") }, "definite", "the host found nothing to do"},
		{"no storage", func(r *classRig) { r.sim.RemoveStorage("local") }, "none", "could not activate storage"},
		{"guest locked by another", func(r *classRig) { r.sim.EditGuest(107, map[string]string{"lock": "migrate"}) }, "none", "job errors"},
		{"a disk is gone", func(r *classRig) { r.sim.DropVolume("pve1", "local-lvm:vm-107-disk-0") }, "none", "job errors"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				o := r.dump(pvesim.QEMU)
				o.playAfter(func() { c.do(r) }).want(t, c.kind, op.EffectNone, c.text)
			})
		})
	}
}

func TestBackupAnswerLost(t *testing.T) {
	cases := map[string]struct {
		fault pvesim.Fault
		done  bool
	}{
		"cut before":               {pvesim.Fault{Kind: pvesim.FaultCut}, false},
		"cut after":                {pvesim.Fault{Kind: pvesim.FaultCut, After: true}, true},
		"596, executed":            {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: "Connection timed out", After: true}, true},
		"the task can't be listed": {pvesim.Fault{Kind: pvesim.FaultActiveLock}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				o := r.dump(pvesim.LXC)
				c.fault.Method, c.fault.Path = "POST", "/nodes/*/vzdump"
				r.fault(c.fault)
				e := o.play()
				if e.adopted != c.done {
					t.Errorf("adopted: got %v, want %v", e.adopted, c.done)
				}
				if c.done {
					e.want(t, "ambiguous", op.EffectDone)
					return
				}
				e.want(t, "ambiguous", op.EffectUnknown, "lists no backup of it that was made since")
			})
		})
	}
}

// A worker that dies at each of its stages.
func TestBackupWorkerKilled(t *testing.T) {
	for stage, c := range map[string]struct {
		found op.Effect
		says  string
	}{
		"start":   {op.EffectUnknown, "lists no backup of it"},
		"job":     {op.EffectUnknown, "lists no backup of it"},
		"mark":    {op.EffectUnknown, "lists no backup of it"},
		"stop":    {op.EffectPartial, "no backup was made, and the guest is locked (backup)"},
		"archive": {op.EffectPartial, "what is half written"},
		"store":   {op.EffectPartial, "unlock it on node pve1 (qm unlock 107)"},
		"prune":   {op.EffectPartial, "the backup was made: local:backup/vzdump-qemu-107-"},
		"unlock":  {op.EffectPartial, "the guest is still locked (backup)"},
		"end":     {op.EffectDone, "as the task's log names it"},
	} {
		t.Run(stage, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				o := r.dump(pvesim.QEMU)
				r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: "vzdump", Stage: stage})
				e := o.play()
				e.want(t, "none", e.effect, "unexpected status", c.says)
				if got := e.finding.Evidence.Effect; got != c.found {
					t.Errorf("found: got %s, want %s: %s", got, c.found, e.reasons())
				}
			})
		})
	}
}

// Without quorum the lock can't be taken away again.
func TestBackupLosesQuorum(t *testing.T) {
	r := newClassRig(t, true)
	o := r.dump(pvesim.LXC)
	o.playAt("unlock", func() { r.node("pve1", pvesim.NodeControl{Quorate: new(false)}) }).want(t, "none", op.EffectDone)
	r = newClassRig(t, true)
	o = r.dump(pvesim.LXC)
	r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "vzdump", Stage: "archive", Text: "no space left"})
	o.playAt("stop", func() { r.node("pve1", pvesim.NodeControl{Quorate: new(false)}) }).want(t, "none", op.EffectPartial, "pct unlock 107", "snapshot vzdump")
}

func TestBackupAndSomebodyElse(t *testing.T) {
	t.Run("another's backup, the request lost", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.dump(pvesim.QEMU)
		r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "POST", Path: "/nodes/*/vzdump"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.backup(107)
		o.settle(upid, err).want(t, "ambiguous", op.EffectUnknown, "whether one of them is the attempt's can't be told")
	})
	t.Run("a token that can't see backups", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.dump(pvesim.QEMU)
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "vzdump", Stage: "job", Text: "job errors"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.sim.AddRole("Cluster", "Sys.Audit", "Datastore.Audit")
		o.settle(upid, err).want(t, "none", op.EffectUnknown, "would need Datastore.AllocateSpace on /storage/local")
	})
	t.Run("deleted since", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.dump(pvesim.QEMU)
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.dropBackup()
		o.settle(upid, err).want(t, "none", op.EffectDone, "by now the storage shows no backup")
	})
	t.Run("made, its task failed after that, and deleted since", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.dump(pvesim.LXC)
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "vzdump", Stage: "unlock", Text: "job errors"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.dropBackup()
		o.settle(upid, err).want(t, "none", op.EffectDone, "archive file size", "by now the storage shows no backup")
	})
	t.Run("made, its task failed after that, deleted since, and the log is not to be had", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.dump(pvesim.LXC)
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "vzdump", Stage: "unlock", Text: "job errors"})
		r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Method: "GET", Path: "/nodes/*/tasks/*/log", Status: 596, Reason: "Connection timed out", Times: -1})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.dropBackup()
		o.settle(upid, err).want(t, "none", op.EffectUnknown, "its log can't be read")
	})
	t.Run("the guest destroyed since", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.dump(pvesim.QEMU)
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.sim.DestroyGuest(107)
		o.settle(upid, err).want(t, "none", op.EffectDone, "the storage lists backups")
	})
}
