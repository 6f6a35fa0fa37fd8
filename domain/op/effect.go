package op

// Effect is what an attempt did to the host.
type Effect string

// The effects. None and Done are only ever recorded with proof.
const (
	EffectNone    Effect = "none"
	EffectDone    Effect = "done"
	EffectPartial Effect = "partial"
	EffectUnknown Effect = "unknown"
)

// Known tells whether the effect is one of the four.
func (e Effect) Known() bool {
	switch e {
	case EffectNone, EffectDone, EffectPartial, EffectUnknown:
		return true
	}
	return false
}

// FailureKind says why an attempt failed.
type FailureKind string

// The kinds of failure.
const (
	// KindRefused: the gate, asked again right before launch, said no.
	KindRefused FailureKind = "refused"
	// KindPrecondition: the host is not as the document expects it.
	KindPrecondition FailureKind = "precondition"
	// KindNoExecutor: this program can't carry out ops of the class.
	KindNoExecutor FailureKind = "no-executor"
	// KindInterrupted: the service stopped before anything was sent.
	KindInterrupted FailureKind = "interrupted"
	// KindRejected: the host refused the request and proved that it started nothing.
	KindRejected FailureKind = "rejected"
	// KindTaskFailed: the host's task ended with an error.
	KindTaskFailed FailureKind = "task-failed"
	// KindNotExecuted: recovery proved that the request never took effect.
	KindNotExecuted FailureKind = "not-executed"
	// KindGone: the target ceased to exist by other hands. No longer recorded:
	// a request that the host had let in may hit what takes its place, so such
	// an op waits for a person. Read in ledgers that hold it.
	KindGone FailureKind = "gone"
	// KindResolved: a person settled an indeterminate op.
	KindResolved FailureKind = "resolved"
)

// Known tells whether the kind is one of those above.
func (k FailureKind) Known() bool {
	switch k {
	case KindRefused, KindPrecondition, KindNoExecutor, KindInterrupted, KindRejected, KindTaskFailed, KindNotExecuted,
		KindGone, KindResolved:
		return true
	}
	return false
}

// Evidence is what was seen on the host and what follows from it.
type Evidence struct {
	Effect  Effect   `json:"effect"`
	Reasons []string `json:"reasons"`
}
