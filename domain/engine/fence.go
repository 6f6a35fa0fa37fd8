package engine

import (
	"errors"
	"fmt"
	"time"

	"writ/domain/op"
)

// An Attempt is what a request is composed for.
type Attempt struct {
	Nonce  op.Nonce
	Number int // from 1
	Intent op.Intent
	// Earlier are the numbers of the attempts before this one that this ledger
	// has announced. If the host remembers any other of this nonce, another
	// copy of the ledger acts.
	Earlier []int
	// ExpiresAt is when the signed document ends; what is left at the host as
	// a witness of the attempt stays at least until then.
	ExpiresAt time.Time
	// Planned: a plan is expected, so that Observe also says what the op would
	// take away (op.Observed.Plan).
	Planned bool
}

// keylessLife is for how long after its claim the host keeps its witness of an
// attempt of an op that nobody signed: nothing can deliver it again.
const keylessLife = time.Hour

// A TaskSearch is what came of looking for the tasks of an attempt.
type TaskSearch struct {
	// UPIDs are the tasks that this attempt's request can have started.
	UPIDs []string
	// Exact: the attempt's credential was its own, so a task that was found
	// can be nobody else's, and one that is nobody's was not found.
	Exact bool
	// Complete: every node that can have run the request was asked, and its
	// history reaches back beyond the announcement. Without it, 'none found'
	// says nothing.
	Complete bool
	// Reasons say, for people, what was asked and what is missing.
	Reasons []string
}

// A Fence says whether a late request of an attempt can still take effect.
type Fence struct {
	// Confirmed: no request of this attempt that the host has not yet turned
	// into a task ever will be one that has an effect. Every part of the fence
	// was acknowledged and read back where it counts.
	Confirmed bool
	// Gone: there is no guest of the announced identity to be fenced.
	Gone bool
	// Digest is that of the target's config once the fence stood, which itself
	// may have changed it; empty if there is none.
	Digest string
	// Reasons say, for people, which parts stand and which can't be had.
	Reasons []string
}

// An OtherCopyError says that the host remembers an attempt which this ledger
// has not announced: another copy of the ledger acts, or acted. Nothing was
// sent for this attempt by this process, but something may have been by the
// other. Launching stops until a person has looked.
type OtherCopyError struct{ Why string }

func (e *OtherCopyError) Error() string {
	return fmt.Sprintf("another copy of this ledger may be acting: %s", e.Why)
}

// IsOtherCopy tells whether an error is or holds an *OtherCopyError.
func IsOtherCopy(err error) bool {
	var o *OtherCopyError
	return errors.As(err, &o)
}

// attempt is what the job's request is composed for.
func (j *Job) attempt() Attempt {
	earlier := j.op.Launches
	if n := len(earlier); n > 0 && earlier[n-1] == j.op.Attempt {
		earlier = earlier[:n-1] // this attempt is announced by now
	}
	doc := j.document()
	if s := j.op.Started; s != nil && s.Keyless {
		doc.ExpiresAt = s.At.Add(keylessLife).Truncate(time.Second)
	}
	return Attempt{
		Nonce: j.op.Nonce, Number: j.op.Attempt, Intent: j.sub.Intent, Earlier: earlier, ExpiresAt: doc.ExpiresAt,
		Planned: doc.Expect.Plan != "",
	}
}
