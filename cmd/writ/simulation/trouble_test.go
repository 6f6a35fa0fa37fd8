package simulation_test

import (
	"fmt"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// An injected is a fault at the host, which is over after a while.
type injected struct {
	*pvesim.Injected

	kind  pvesim.FaultKind
	point string // where it holds requests, if it does
	over  bool
}

// holds tells whether a request may be held up by it.
func (f *injected) holds() bool { return !f.over && f.point != "" && f.Hits() > 0 }

func (f *injected) end() {
	if !f.over {
		f.over = true
		f.Release()
	}
}

// inject puts a fault in force, for a while.
func (w *world) inject(f pvesim.Fault, lasts time.Duration) {
	in, err := w.pve.Inject(f)
	if err != nil {
		panic(err)
	}
	one := &injected{Injected: in, kind: f.Kind}
	if f.Kind == pvesim.FaultHold {
		one.point = f.Point
	}
	w.faults = append(w.faults, one)
	w.sim.tell("fault:", string(f.Kind), f.Method, f.Path, f.Point, f.Stage, f.TaskType, fmt.Sprint(f.Status))
	w.sim.figures.Events["faults at the host"]++
	w.sim.after(lasts, one.end)
}

// stages are those of tasks at which one can fail, stay or be killed.
var stages = []string{
	pvesim.StageLock, pvesim.StageCheck, pvesim.StageFree + "0", pvesim.StageFree + "1", pvesim.StageZombie, pvesim.StageUnlink, pvesim.StageAct,
	pvesim.StageDestroy, pvesim.StageStub, pvesim.StageAllocate + "0", pvesim.StageExtract, pvesim.StageConfig, pvesim.StageArchive, pvesim.StageMark,
	pvesim.StageVolume + "0", pvesim.StageFinish, pvesim.StageStop, pvesim.StageEnd, pvesim.StageStart,
}

// stagesOf are those of the tasks of a class at which something can be half done.
var stagesOf = map[op.Class][]string{
	op.GuestDestroy:     {pvesim.StageLock, pvesim.StageFree + "0", pvesim.StageFree + "1", pvesim.StageZombie, pvesim.StageAccess, pvesim.StageUnlink},
	op.RestoreOverwrite: {pvesim.StageHeader, pvesim.StageStub, pvesim.StageFree + "0", pvesim.StageAllocate + "0", pvesim.StageExtract, pvesim.StageConfig, pvesim.StageEnd},
	op.SnapshotRollback: {pvesim.StageStop, pvesim.StageMark, pvesim.StageVolume + "0", pvesim.StageVolume + "1", pvesim.StageFinish, pvesim.StageEnd},
	op.SnapshotDelete:   {pvesim.StageMark, pvesim.StageVolume + "0", pvesim.StageRecord + "0", pvesim.StageVolume + "1", pvesim.StageFinish, pvesim.StageEnd},
	op.SnapshotCreate:   {pvesim.StagePrepare, pvesim.StageVolume + "0", pvesim.StageVolume + "1", pvesim.StageFinish, pvesim.StageEnd},
	op.VolumeDelete:     {pvesim.StageLock, pvesim.StageFree + "0", pvesim.StageEnd},
	op.BackupDelete:     {pvesim.StageLock, pvesim.StageFree + "0", pvesim.StageEnd},
	op.StorageWipe:      {pvesim.StageLock, pvesim.StageDestroy, pvesim.StageConfig, pvesim.StageWipe + "0", pvesim.StageEnd},
	op.GuestStop:        {pvesim.StageLock, pvesim.StageAct, pvesim.StageEnd},
	op.GuestShutdown:    {pvesim.StageLock, pvesim.StageAct, pvesim.StageEnd},
	op.GuestReboot:      {pvesim.StageLock, pvesim.StageStop, pvesim.StageUp, pvesim.StageEnd},
	op.GuestStart:       {pvesim.StageLock, pvesim.StageAct, pvesim.StageEnd},
	op.BackupCreate:     {pvesim.StageJob, pvesim.StageMark, pvesim.StageArchive, pvesim.StageStore, pvesim.StagePrune, pvesim.StageUnlock, pvesim.StageEnd},
}

// beset aims at one launch: other people come between it and what it is to do, or
// its request or task fares badly.
func (w *world) beset(one *sent, l *op.Launching) {
	s := w.sim
	if s.calm || s.faulty == 0 {
		return
	}
	d := diceFor(s.seed, "beset "+one.opID, 1)
	stages := stagesOf[l.Class]
	task := pvesim.Fault{VMID: one.vmid, Node: l.Node, Stage: stages[d.upTo(len(stages))]}
	request := pvesim.Fault{Method: l.Request.Method, Path: l.Request.Path, Node: l.Node}
	if l.Class == op.VolumeDelete || l.Class == op.BackupDelete {
		task.TaskType = "imgdel"
	}
	if l.Class == op.StorageWipe {
		task.TaskType = "zfsremove"
		if p := l.Target.Pool; p != nil && p.Kind == op.LVM {
			task.TaskType = "lvmremove"
		}
	}
	lasts := d.between(10*time.Second, 40*time.Second)
	switch n := d.upTo(100); {
	case n < 8 && one.vmid == 0:
		s.after(d.within(time.Second), func() { w.swap(l.Target) })
	case n < 8:
		s.after(d.within([]time.Duration{200 * time.Millisecond, 2 * time.Second}[d.upTo(2)]), func() { w.meddle(one.vmid) })
	case n < 26:
		task.Kind = pvesim.FaultTaskKill
		w.inject(task, lasts)
	case n < 38:
		task.Kind, task.Text = pvesim.FaultTaskFail, []string{"command 'lvs' failed: got timeout", "received interrupt", "unable to open file - Input/output error"}[d.upTo(3)]
		w.inject(task, lasts)
	case n < 41:
		task.Kind, task.Delay = pvesim.FaultTaskDelay, d.within(time.Minute)
		w.inject(task, lasts)
	case n < 49:
		request.Kind, request.Point = pvesim.FaultHold, []string{pvesim.PointArrival, pvesim.PointQueue, pvesim.PointFork, pvesim.PointReply}[d.upTo(4)]
		request.ClientGone = true
		w.inject(request, lasts)
	case n < 53:
		request.Kind, request.Unlisted = pvesim.FaultActiveLock, d.per1000(500)
		w.inject(request, lasts)
	case n < 56:
		request.Kind, request.After = pvesim.FaultCut, true
		w.inject(request, lasts)
	}
}

// trouble lets one thing go wrong at the host, and the next one a little later.
func (w *world) trouble() {
	if w.sim.calm || w.sim.faulty == 0 {
		return
	}
	w.sim.after(w.sim.rng.between(3*time.Second, 30*time.Second), w.trouble)
	w.fate()
}

// fate lets one thing go wrong at the host.
func (w *world) fate() {
	s := w.sim
	r := &s.rng
	node := w.names[r.upTo(len(w.names))]
	stage := stages[r.upTo(len(stages))]
	lasts := r.between(5*time.Second, 50*time.Second)
	method, path := "POST", "/nodes/*/**"
	if r.per1000(500) {
		method = "DELETE"
	}
	request := func(f pvesim.Fault) {
		f.Method, f.Path = method, path
		w.inject(f, lasts)
	}
	task := func(f pvesim.Fault) {
		f.Stage = stage
		w.inject(f, lasts)
	}
	switch n := r.upTo(20); n {
	case 0, 1, 2:
		f := pvesim.Fault{Kind: pvesim.FaultHold, Point: []string{pvesim.PointArrival, pvesim.PointQueue, pvesim.PointFork, pvesim.PointReply}[r.upTo(4)]}
		if r.per1000(500) {
			f.ClientGone = true
		} else {
			f.Status = []int{596, 502, 504}[r.upTo(3)]
		}
		request(f)
	case 3:
		request(pvesim.Fault{Kind: pvesim.FaultActiveLock, Unlisted: r.per1000(500)})
	case 4:
		request(pvesim.Fault{Kind: pvesim.FaultAnswer, Status: []int{595, 596, 502, 503}[r.upTo(4)]})
	case 5:
		request(pvesim.Fault{Kind: pvesim.FaultAnswer, Status: []int{596, 502, 504, 597}[r.upTo(4)], After: true})
	case 6:
		request(pvesim.Fault{Kind: pvesim.FaultCut, After: r.per1000(600)})
	case 7:
		if !w.shared {
			request(pvesim.Fault{Kind: pvesim.FaultRepeat, Delay: r.within(5 * time.Second)})
		}
	case 8:
		request(pvesim.Fault{Kind: pvesim.FaultBadUPID, Text: []string{"", "UPID:pve1:", "done"}[r.upTo(3)]})
	case 9, 10:
		task(pvesim.Fault{Kind: pvesim.FaultTaskKill})
	case 11:
		task(pvesim.Fault{Kind: pvesim.FaultTaskFail, Text: []string{"command 'lvs' failed: got timeout", "received interrupt", "unable to open file - Input/output error"}[r.upTo(3)]})
	case 12:
		task(pvesim.Fault{Kind: pvesim.FaultTaskDelay, Delay: r.within(time.Minute)})
	case 13:
		w.inject(pvesim.Fault{Kind: pvesim.FaultTaskForget}, lasts)
	case 14:
		w.inject(pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: fmt.Sprintf("%s:vm-%d-*", disks, s.vmids[r.upTo(len(s.vmids))]), Times: 1 + r.upTo(3)}, lasts)
	default:
		w.fateOfNode(node, n, lasts)
	}
}

func (w *world) fateOfNode(node string, n int, lasts time.Duration) {
	s := w.sim
	r := &s.rng
	s.figures.Events["faults of nodes"]++
	change := func(now, then pvesim.NodeControl, what string) {
		s.tell(node, what)
		w.control(node, now)
		s.after(lasts, func() { w.control(node, then) })
	}
	switch n {
	case 15:
		bad := []pvesim.Health{pvesim.Hanging, pvesim.Refusing, pvesim.Silent}[r.upTo(3)]
		if r.per1000(500) {
			change(pvesim.NodeControl{Daemon: bad}, pvesim.NodeControl{Daemon: pvesim.Serving}, "has a daemon that does not serve")
		} else {
			change(pvesim.NodeControl{Proxy: bad}, pvesim.NodeControl{Proxy: pvesim.Serving}, "has a proxy that does not serve")
		}
	case 16:
		change(pvesim.NodeControl{Behind: new(true)}, pvesim.NodeControl{Behind: new(false)}, "is behind the others")
	case 17:
		for _, other := range w.names {
			if w.amiss[other] {
				return
			}
		}
		w.amiss[node] = true
		s.after(lasts, func() { w.amiss[node] = false })
		if r.per1000(500) {
			change(pvesim.NodeControl{Quorate: new(false)}, pvesim.NodeControl{Quorate: new(true)}, "is cut off from the quorum")
			return
		}
		w.down[node] = true
		s.after(lasts, func() { w.down[node] = false })
		change(pvesim.NodeControl{Up: new(false)}, pvesim.NodeControl{Up: new(true)}, "is off")
	case 18:
		s.tell(node, "forgets its tasks, or restarts its daemon")
		if r.per1000(700) {
			w.pve.RotateTasks(node)
		} else {
			w.control(node, pvesim.NodeControl{RestartDaemon: true})
		}
	case 19:
		if tasks := w.pve.Running(); len(tasks) > 0 {
			s.figures.Events["tasks killed"]++
			w.pve.KillTask(tasks[r.upTo(len(tasks))].UPID)
			return
		}
		skew := r.within(40*time.Second) - 20*time.Second
		change(pvesim.NodeControl{Skew: &skew}, pvesim.NodeControl{Skew: new(time.Duration(0))}, "has its clock set")
	}
}

// mend ends all that is wrong with the host.
func (w *world) mend() {
	for _, f := range w.faults {
		f.end()
	}
	for _, name := range w.names {
		if w.down[name] {
			w.control(name, pvesim.NodeControl{Up: new(true)})
		}
		w.down[name] = false
		w.control(name, pvesim.NodeControl{
			Quorate: new(true), Behind: new(false), Proxy: pvesim.Serving, Daemon: pvesim.Serving, Skew: new(time.Duration(0)),
		})
	}
}
