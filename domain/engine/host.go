package engine

import (
	"context"
	"errors"

	"writ/domain/op"
)

// A Host is asked about targets and tasks, whatever the class. All methods may
// be called concurrently and repeated at will: they change nothing.
type Host interface {
	// Facts reads what the gate must know about a target. A target that does
	// not exist is no error, it is Facts with Found false. An error means
	// that the host could not be asked.
	Facts(ctx context.Context, target op.Target) (op.Facts, error)

	// Task gives the state of a task by its UPID. An error is no answer.
	Task(ctx context.Context, upid string) (Task, error)
}

// An Executor carries out the ops of one class on the host. It decides
// nothing: the gate and the engine do. All methods may be called concurrently;
// reads may be repeated at will.
type Executor interface {
	// Observe reads the attempt's target afresh, a guest's identity from one
	// single read of its configuration, whatever else the intent is about, and
	// the state of the node and cluster that would carry out a request; if a
	// plan is expected, the digest of that as well. A target that does not
	// exist is no error. Whatever can't be read is an
	// error, never a zero value.
	Observe(ctx context.Context, a Attempt) (op.Observed, error)

	// Request gives the one mutating request of an attempt on a target as
	// observed, and the id of the credential that will send it. It asks
	// nothing of the host.
	Request(a Attempt, seen op.Observed) (req op.Request, credential string, err error)

	// Launch sends exactly the announced request, once: a fresh connection,
	// no retry, no redirect. It gives the UPID of the task that the host
	// started, or an empty one if the host carried it out synchronously.
	//
	// An error made by Definite proves that the host started nothing for this
	// request and never will. Every other error is ambiguous: the request may
	// have taken effect, or may still do. An *OtherCopyError is one of these.
	Launch(ctx context.Context, a Attempt, announced *op.Launching) (upid string, err error)

	// FindTasks looks for the tasks that the announced request has started. An
	// error means that the host could not be asked.
	FindTasks(ctx context.Context, announced *op.Launching) (TaskSearch, error)

	// Fence makes it impossible for a late request of the announcement to take
	// effect, and says how far that went. It may be repeated; it only ever
	// takes rights away. An error means that the host could not be asked, and
	// that parts of the fence may stand.
	Fence(ctx context.Context, announced *op.Launching) (Fence, error)

	// PrecedesEffect tells whether a task of this class that ended with the
	// given error text failed before it changed anything.
	PrecedesEffect(exitStatus string) bool

	// Probe reads the host's state and compares it with what was observed at
	// the announcement. It must be called only once no request and no task of
	// the attempt can act any more, or its answer is worth nothing. exitStatus
	// and log are those of the task's end, empty if they are not known.
	//
	// An error means that the host could not be asked.
	Probe(ctx context.Context, announced *op.Launching, exitStatus string, log []string) (Finding, error)
}

// A Finding is what a probe saw and what it proves.
type Finding struct {
	Evidence op.Evidence
	// Residue are volumes of the target that are still there although the
	// target is gone.
	Residue []string
	// MayStillAct: something that the task began may still be at work, though
	// the task itself has ended, such as a child of a worker that was killed.
	// The target is kept from other ops until that is ruled out.
	MayStillAct bool
}

// TaskPhase says how far a task is.
type TaskPhase uint8

// The phases of a task.
const (
	TaskActive TaskPhase = iota + 1
	TaskEnded
	// TaskForgotten: the host no longer knows the task. That says nothing
	// about whether it ran or what it did.
	TaskForgotten
)

// A Task is what the host says about one of its tasks.
type Task struct {
	Phase TaskPhase
	// ExitStatus of an ended task: "OK", "WARNINGS: n", an error text, or
	// "unexpected status" for one that died.
	ExitStatus string
	// Log is the end of its log, if it has ended.
	Log []string
}

// ErrNoExecutor is what Observe or Request gives, wrapped with what is missing, for
// a target of its class that this host can't act on as it is configured: as if
// there were no executor.
var ErrNoExecutor = errors.New("no executor")

// A DefiniteError proves that the host started nothing for a request and
// never will.
type DefiniteError struct{ Err error }

func (e *DefiniteError) Error() string { return e.Err.Error() }

// Unwrap gives the error that is the proof.
func (e *DefiniteError) Unwrap() error { return e.Err }

// Definite marks an error of a launch as proof that nothing happened. Only
// what the host's own code shows to come before the start of any work may be
// marked; whoever is in doubt does not mark.
func Definite(err error) error { return &DefiniteError{Err: err} }

// IsDefinite tells whether an error was marked by Definite.
func IsDefinite(err error) bool {
	var d *DefiniteError
	return errors.As(err, &d)
}
