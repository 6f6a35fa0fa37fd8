package engine

import (
	"time"

	"writ/domain/gate"
	"writ/domain/op"
)

// A Command is the one thing a job wants done next. It is carried out once;
// what came of it is given to Job.Step.
type Command interface{ command() }

// The commands, each with the result it is answered with.
type (
	// ReadOp reads the op's stream and folds it. Answer: OpRead.
	ReadOp struct{ Nonce op.Nonce }

	// ReadPolicy gets the policy in force, if it is the newest on record.
	// Answer: PolicyRead.
	ReadPolicy struct{}

	// ReadFacts asks the host for the gate's facts. Answer: FactsRead.
	ReadFacts struct{ Target op.Target }

	// RecordRefusal puts a refusal on record in the gate's stream. Answer:
	// RefusalRecorded.
	RecordRefusal struct{ Refused op.Refused }

	// Reserve asks whether this instance takes claims now, and takes a place in
	// the bounded queue, kept until the job ends. Answer: Reserved.
	Reserve struct{}

	// Append puts the record at the end of the op's stream, expecting exactly
	// the revision before its own. Answer: AppendDone.
	Append struct {
		Nonce  op.Nonce
		Record op.Record
	}

	// AwaitTurn waits until no other op acts on the target, and holds it until
	// the job ends. Answer: TurnCame.
	AwaitTurn struct {
		Key   string
		Epoch uint64 // under which the op was claimed
		// Recovering: the target is held, but no place among those that act.
		Recovering bool
	}

	// Observe reads the target afresh and composes the request for it.
	// Answer: HostObserved.
	Observe struct{ Attempt Attempt }

	// Launch sends the announced request, once. Answer: LaunchDone.
	Launch struct {
		Attempt   Attempt
		Announced *op.Launching
		Epoch     uint64 // under which it was announced
	}

	// AskTask asks for a task's state. Answer: TaskAsked.
	AskTask struct {
		Class op.Class
		UPID  string
	}

	// ProbeHost reads what the attempt did to the host. Answer: Probed.
	ProbeHost struct {
		Announced  *op.Launching
		ExitStatus string
		Log        []string
	}

	// FindTasks looks for the tasks that an announced request has started.
	// Answer: TasksFound.
	FindTasks struct{ Announced *op.Launching }

	// TakeTask puts on record that a task is this attempt's, if it is nobody's
	// yet. Answer: TaskTaken.
	TakeTask struct {
		UPID, OpID string
		Target     op.Target
	}

	// RaiseFence makes it impossible for a late request to take effect.
	// Answer: Fenced.
	RaiseFence struct{ Announced *op.Launching }

	// RecordContested puts a contested task on record in the gate's stream,
	// and raises the alarm. Answer: RefusalRecorded.
	RecordContested struct{ Contested op.Contested }

	// Pause lets time pass. Answer: Paused.
	Pause struct{ For time.Duration }

	// Finish ends the job: it is not stepped again.
	Finish struct{ Answer Answer }
)

func (ReadOp) command()          {}
func (ReadPolicy) command()      {}
func (ReadFacts) command()       {}
func (RecordRefusal) command()   {}
func (Reserve) command()         {}
func (Append) command()          {}
func (AwaitTurn) command()       {}
func (Observe) command()         {}
func (Launch) command()          {}
func (AskTask) command()         {}
func (ProbeHost) command()       {}
func (FindTasks) command()       {}
func (TakeTask) command()        {}
func (RaiseFence) command()      {}
func (RecordContested) command() {}
func (Pause) command()           {}
func (Finish) command()          {}

// A Result is what came of a command.
type Result interface{ result() }

// The results.
type (
	// OpRead is the op as its stream tells it now. An absent stream is no error.
	OpRead struct {
		Op  op.Op
		Err error
	}
	// PolicyRead has Err set if no policy is in force, it is not the newest on
	// record, or that could not be found out.
	PolicyRead struct {
		Policy *gate.Policy
		Err    error
	}
	// FactsRead has Err set if the host could not be asked.
	FactsRead struct {
		Facts op.Facts
		Err   error
	}
	// RefusalRecorded has Err set if the refusal may not be on record. It stands all
	// the same.
	RefusalRecorded struct{ Err error }
	// Reserved is not OK if the queue is full, or, Closed, if this instance
	// takes no claims now, and why. The claim is made under Epoch.
	Reserved struct {
		OK     bool
		Closed string
		Epoch  uint64
	}
	// AppendDone is what became of an append.
	AppendDone struct {
		Outcome AppendOutcome
		Err     error
	}
	// TurnCame means that the target is held; or, Stopping, that it is not.
	// Blocked says why it can't be had until another op on it is settled.
	TurnCame struct {
		Stopping bool
		Blocked  string
	}
	// HostObserved has NoExecutor set if the class can't be carried out here, or
	// not on the target, for the reason in Err; and Err alone if the host could not be asked or no request can be made for what was seen.
	HostObserved struct {
		Seen       op.Observed
		Request    op.Request
		Credential string
		NoExecutor bool
		Err        error
	}
	// LaunchDone is as Executor.Launch answered; or, Withheld, nothing was sent
	// and nothing will be, and why.
	LaunchDone struct {
		UPID     string
		Err      error
		Withheld string
	}
	// TaskAsked has Err set if the host could not be asked. PrecedesEffect is the
	// executor's word on the exit status.
	TaskAsked struct {
		Task           Task
		PrecedesEffect bool
		Err            error
	}
	// Probed has Err set if the host could not be asked.
	Probed struct {
		Finding Finding
		Err     error
	}
	// TasksFound has Err set if the host could not be asked.
	TasksFound struct {
		Search TaskSearch
		Err    error
	}
	// TaskTaken is Ours if the task is on record as this attempt's; Err if that
	// is not known.
	TaskTaken struct {
		Ours bool
		Err  error
	}
	// Fenced has Err set if the host could not be asked.
	Fenced struct {
		Fence Fence
		Err   error
	}
	// Paused means that the time has passed; or, LetGo, that recovery should let
	// go of the op, and why.
	Paused struct{ LetGo string }
)

func (OpRead) result()          {}
func (PolicyRead) result()      {}
func (FactsRead) result()       {}
func (RefusalRecorded) result() {}
func (Reserved) result()        {}
func (AppendDone) result()      {}
func (TurnCame) result()        {}
func (HostObserved) result()    {}
func (LaunchDone) result()      {}
func (TaskAsked) result()       {}
func (Probed) result()          {}
func (TasksFound) result()      {}
func (TaskTaken) result()       {}
func (Fenced) result()          {}
func (Paused) result()          {}

// AppendOutcome says what is certain about an append.
type AppendOutcome uint8

// The outcomes of an append.
const (
	// AppendOK: on record, at the expected place, and this job's own.
	AppendOK AppendOutcome = iota + 1
	// AppendLost: not on record and never will be: the stream has moved on.
	AppendLost
	// AppendRefused: not on record and never will be: the store refuses its form.
	AppendRefused
	// AppendUnknown: it may be on record. Repeating exactly this append tells.
	AppendUnknown
)
