package pvesim

import (
	"fmt"
	"path"
	"slices"
	"time"
)

// FaultKind says what goes wrong.
type FaultKind string

// The faults on requests.
const (
	// FaultAnswer replies with Status (and Reason, Body) in place of the truth.
	// Nothing is executed, unless After is set.
	FaultAnswer FaultKind = "answer"
	// FaultCut breaks the connection: before anything is executed, or, with
	// After, in place of the reply.
	FaultCut FaultKind = "cut"
	// FaultHold keeps the request at Point until it is released. If Status is
	// set the caller gets that answer meanwhile; with ClientGone its connection
	// is cut meanwhile. Either way the request goes on when released.
	FaultHold FaultKind = "hold"
	// FaultActiveLock starts the worker and then fails to enter it in the list
	// of active tasks: 500 while it runs. It is listed only once it has ended,
	// or never, with Unlisted. The answer is Text, or that of a busy lock.
	FaultActiveLock FaultKind = "active-lock"
	// FaultBadUPID executes the request and replies Text in place of the UPID.
	FaultBadUPID FaultKind = "bad-upid"
	// FaultRepeat delivers the request a second time, Delay after it was
	// answered, as something between that repeats what it is not sure of does.
	// Nobody hears the second answer.
	FaultRepeat FaultKind = "repeat"
)

// The faults on tasks, which act before the stage that Stage names.
const (
	// FaultTaskHold keeps the worker until it is released.
	FaultTaskHold FaultKind = "task-hold"
	// FaultTaskDelay makes the stage take Delay.
	FaultTaskDelay FaultKind = "task-delay"
	// FaultTaskFail ends the task with Text.
	FaultTaskFail FaultKind = "task-fail"
	// FaultTaskKill kills the worker: no verdict, "unexpected status".
	FaultTaskKill FaultKind = "task-kill"
	// FaultTaskForget removes every trace of the task once it has ended.
	FaultTaskForget FaultKind = "task-forget"
	// FaultVolumeStuck makes every attempt to free a volume that matches Volume
	// fail with Text.
	FaultVolumeStuck FaultKind = "volume-stuck"
)

// The points at which FaultHold can keep a request.
const (
	PointArrival = "arrival" // read, not yet authenticated
	PointQueue   = "queue"   // authenticated by pveproxy, waiting for pvedaemon, which authenticates anew
	PointFork    = "fork"    // all checks of credentials passed but those of the method itself, nothing executed yet
	PointLock    = "lock"    // of a restore: everything asked for before the task was looked at, the guest's lock not yet taken
	PointReply   = "reply"   // executed, reply on its way
)

// The stages of a destroy, in order; "free" has the volume's index appended, as
// in "free:0". Other tasks have "start", "lock" and "act".
const (
	StageStart  = "start"
	StageLock   = "lock"
	StageCheck  = "check"
	StageFree   = "free:"
	StageZombie = "zombie"
	StageAccess = "access"
	StagePurge  = "purge"
	StageUnlink = "unlink"
	StageAct    = "act"
)

// Stages of what is done to storages, disks and backups. Deleting a volume has
// start, lock, "free:0" and end; pruning start, check, "free:" and an index, end;
// the removal of a pool start, lock, destroy, config, "wipe:" and an index, end;
// wiping a disk start, wipe, zero, end. At StageEnd everything has been done and
// the verdict is not written.
const (
	StageDestroy = "destroy"
	StageConfig  = "config"
	StageWipe    = "wipe"
	StageZero    = "zero"
	StageEnd     = "end"
)

// Stages of a restore, in order. Of a VM: start, check, lock, header, stub (the
// old config is gone), "free:" and an index, "allocate:" and an index, extract,
// config, end. Of a container: start, lock, check, header, "allocate:", "free:",
// stub, extract, config, end. Stages of a backup: start, lock, job, then for each
// guest mark (the config's own lock is written), stop, archive, store (there is a
// backup), prune, unlock; then end.
const (
	StageHeader   = "header"
	StageStub     = "stub"
	StageAllocate = "allocate:"
	StageExtract  = "extract"
	StageJob      = "job"
	StageArchive  = "archive"
	StageStore    = "store"
	StagePrune    = "prune"
	StageUnlock   = "unlock"
)

// Further stages of power tasks, which have start, lock, act and end; a reboot
// has stop (and up, of a container) in place of act.
const (
	StageOverrule = "overrule" // a stop's overrule-shutdown, before its lock
	StageStop     = "stop"     // of a reboot, and of a rollback of a running guest
	StageUp       = "up"       // of a reboot, and of a rollback with start
)

// The stages of snapshot tasks. A create has prepare, memory (with vmstate),
// volume:0 and so on, finish; a delete has migration-lock, check, mark, prepare,
// memory, record:memory, volume:0, record:0 and so on, finish; a rollback has
// migration-lock, check, stop, mark, volume:0 and so on, finish, up. A stage
// "lock" comes before each of them that reads or writes the config, and once
// before check, stop and mark of a rollback; "start" comes first and "end" last. A
// template has start, lock, prepare, volume:0 and so on; a clone finish after
// that; a resize start, lock, act; a request to the HA stack start, act; the
// migration that follows from one start, migration-lock, act.
const (
	StageMigration = "migration-lock"
	StagePrepare   = "prepare"
	StageMark      = "mark" // the config's own lock is written
	StageMemory    = "memory"
	StageVolume    = "volume:"
	StageRecord    = "record:"
	StageFinish    = "finish"
)

// Fault is something that goes wrong, and where.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// Method, Path, Node and Auth select requests; empty matches all. Path is
	// below /api2/json, with * for one segment and a last ** for the rest. Node is
	// the executing node, at PointArrival the one asked.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Node   string `json:"node,omitempty"`
	Auth   string `json:"auth,omitempty"`
	// TaskType, VMID and Stage select tasks, with Node and Auth.
	TaskType string `json:"task_type,omitempty"`
	VMID     int    `json:"vmid,omitempty"`
	Stage    string `json:"stage,omitempty"`
	// Volume is a pattern of volume ids, as in path.Match.
	Volume string `json:"volume,omitempty"`
	// Times is how often the fault strikes; 0 means once, negative always.
	Times int `json:"times,omitempty"`

	Point      string        `json:"point,omitempty"`
	Status     int           `json:"status,omitempty"`
	Reason     string        `json:"reason,omitempty"`
	Body       string        `json:"body,omitempty"`
	Text       string        `json:"text,omitempty"`
	After      bool          `json:"after,omitempty"`
	ClientGone bool          `json:"client_gone,omitempty"`
	Unlisted   bool          `json:"unlisted,omitempty"`
	Delay      time.Duration `json:"delay,omitempty"` // nanoseconds
}

// Injected is a fault in force.
type Injected struct {
	s        *Sim
	id       int
	fault    Fault
	left     int // strikes left, negative for ever
	hits     int
	reached  chan struct{}
	held     []func()
	released bool
}

// Inject puts a fault in force. Faults are tried in the order they were given.
func (s *Sim) Inject(f Fault) (*Injected, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	in := &Injected{s: s, fault: f, left: max(1, f.Times), reached: make(chan struct{})}
	if f.Times < 0 {
		in.left = -1
	}
	s.do(func() {
		s.faultSeq++
		in.id = s.faultSeq
		s.faults = append(s.prune(), in)
	})
	return in, nil
}

// prune forgets spent faults once there are many. Slices handed out before stay
// as they are.
func (s *Sim) prune() []*Injected {
	if len(s.faults) < 256 {
		return s.faults
	}
	var kept []*Injected
	for _, in := range s.faults {
		if in.left != 0 || len(in.held) > 0 {
			kept = append(kept, in)
		}
	}
	return kept
}

func (f *Fault) check() error {
	kinds := []FaultKind{
		FaultAnswer, FaultCut, FaultHold, FaultActiveLock, FaultBadUPID, FaultRepeat, FaultTaskHold, FaultTaskDelay,
		FaultTaskFail, FaultTaskKill, FaultTaskForget, FaultVolumeStuck,
	}
	if !slices.Contains(kinds, f.Kind) {
		return fmt.Errorf("inject fault: kind %q is unknown: use one of %v", f.Kind, kinds)
	}
	if f.Kind == FaultAnswer && f.Status == 0 {
		return fmt.Errorf("inject fault: kind %q needs a status", f.Kind)
	}
	if f.Kind == FaultHold && !slices.Contains([]string{PointArrival, PointQueue, PointFork, PointLock, PointReply}, f.Point) {
		return fmt.Errorf("inject fault: kind %q needs a point, not %q", f.Kind, f.Point)
	}
	if _, err := path.Match(f.Volume, ""); err != nil {
		return fmt.Errorf("inject fault: volume pattern %q: %w", f.Volume, err)
	}
	return nil
}

// Reached is closed when the fault strikes for the first time.
func (in *Injected) Reached() <-chan struct{} { return in.reached }

// Hits says how often the fault has struck.
func (in *Injected) Hits() int {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	return in.hits
}

// Release lets everything go on that this fault holds, and takes it out of
// force.
func (in *Injected) Release() { in.s.do(in.release) }

// Remove takes the fault out of force; what it holds stays held.
func (in *Injected) Remove() { in.s.do(func() { in.left = 0 }) }

func (in *Injected) release() {
	in.left, in.released = 0, true
	held := in.held
	in.held = nil
	for _, f := range held {
		f()
	}
}

func (in *Injected) strike() {
	if in.hits == 0 {
		close(in.reached)
	}
	in.hits++
	if in.left > 0 {
		in.left--
	}
}

func (in *Injected) hold(then func()) { in.held = append(in.held, then) }
