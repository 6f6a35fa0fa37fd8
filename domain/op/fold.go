package op

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// An Op is one op as its stream tells it. It is a value: Apply changes the
// receiver, a copy stays as it was. The fields are for reading.
type Op struct {
	Ledger string
	Nonce  Nonce

	State   State
	Attempt int // 0 while absent
	OpID    string
	// Payload is the digest of the document that the first OpStarted pinned.
	// Pinned is false until then.
	Payload Digest
	Pinned  bool

	// Launches are the numbers of all attempts that were announced by an
	// OpLaunching, the newest one and those before it, ascending: every attempt
	// of which a request may have reached the host.
	Launches []int

	// Of the newest attempt; nil until the event has happened.
	Started   *Started
	Launching *Launching
	Running   *TaskRunning
	Succeeded *Succeeded
	Failed    *Failed
	Voided    *Voided

	// Since is when the op came into its state.
	Since time.Time
	Tail  Tail
}

// New is an op of which nothing is on record.
func New(ledger string, n Nonce) Op {
	return Op{Ledger: ledger, Nonce: n, State: Absent}
}

// Fold gives the op whose stream this is, from its first event on. It does no
// I/O beyond what the iterator does. It stops at the first error, which is the
// iterator's own or a *CorruptStreamError, and then gives the op as it was
// before: for showing it, never for acting on it.
func Fold(ledger string, n Nonce, records iter.Seq2[Record, error]) (Op, error) {
	o := New(ledger, n)
	for rec, err := range records {
		if err != nil {
			return o, err
		}
		if err := o.Apply(rec); err != nil {
			return o, err
		}
	}
	return o, nil
}

// Apply moves the op on by the next record of its stream. After an error the
// op is unchanged.
func (o *Op) Apply(rec Record) error {
	stream := o.Nonce.Stream()
	tail, err := o.Tail.Check(o.Ledger, stream, rec)
	if err != nil {
		return err
	}
	corrupt := func(why string) error {
		return &CorruptStreamError{Stream: stream, Revision: rec.Revision, Why: why}
	}
	e, err := Decode(rec.Type, rec.Data)
	if err != nil {
		return corrupt(err.Error())
	}
	next := *o
	if err := next.happen(e); err != nil {
		return corrupt(err.Error())
	}
	next.Tail = tail
	*o = next
	return nil
}

// Propose makes the record that would put an event on record as the next of
// the stream, after asking the state machine, and gives the op as it will be
// once the record has been appended: the same as Apply would make it, without
// reading back what was just written. The op itself stays as it is.
func (o *Op) Propose(e Event) (Record, Op, error) {
	next := *o
	if err := next.happen(e); err != nil {
		return Record{}, Op{}, fmt.Errorf("propose %s for %s: %w", e.Type(), o.Nonce.Short(), err)
	}
	data, err := Encode(e)
	if err != nil {
		return Record{}, Op{}, fmt.Errorf("propose %s for %s: %w", e.Type(), o.Nonce.Short(), err)
	}
	rec, tail, err := o.Tail.Seal(o.Ledger, o.Nonce.Stream(), string(o.Nonce), e.Type(), data)
	next.Tail = tail
	return rec, next, err
}

// happen is the one place where an event changes an op.
func (o *Op) happen(e Event) error {
	to, err := Transition(o.State, TriggerOf(e))
	if err != nil {
		return err
	}
	h := e.header()
	if err := o.checkHeader(e, h); err != nil {
		return err
	}
	switch e := e.(type) {
	case *Started:
		if err := o.begin(e); err != nil {
			return err
		}
	case *Launching:
		o.Launching = e
		// Clipped, so that no copy of the op shares what is added.
		o.Launches = append(slices.Clip(o.Launches), h.Attempt)
	case *TaskRunning:
		o.Running = e
	case *Succeeded:
		if err := e.check(); err != nil {
			return err
		}
		o.Succeeded = e
	case *Failed:
		if err := e.check(); err != nil {
			return err
		}
		o.Failed = e
	case *Voided:
		o.Voided = e
	}
	o.State, o.Since = to, h.At
	return nil
}

// begin opens an attempt, dropping what belonged to the one before.
func (o *Op) begin(e *Started) error {
	if o.Pinned && e.PayloadSHA256 != o.Payload {
		return fmt.Errorf("attempt %d is of another document than the one that attempt 1 pinned", e.Attempt)
	}
	if want := OpID(e.Nonce, e.Attempt, e.Claim); e.OpID != want {
		return fmt.Errorf("op id %q does not belong to this claim", clip(e.OpID))
	}
	if e.Class != e.Intent.Class || !e.Target.Equal(e.Intent.Target) {
		return errors.New("class or target is another than that of the intent")
	}
	o.Payload, o.Pinned = e.PayloadSHA256, true
	o.Attempt, o.OpID = e.Attempt, e.OpID
	o.Started = e
	o.Launching, o.Running, o.Succeeded, o.Failed = nil, nil, nil, nil
	return nil
}

// checkHeader compares what an event says of itself with where it stands.
func (o *Op) checkHeader(e Event, h *Header) error {
	if h.Nonce != o.Nonce {
		return fmt.Errorf("the event belongs to another op (nonce %s)", h.Nonce.Short())
	}
	if _, offset := h.At.Zone(); h.At.IsZero() || offset != 0 {
		return fmt.Errorf("at: %s is not a time in UTC", h.At)
	}
	if h.At.Before(o.Since) {
		return fmt.Errorf("at: %s is before the event before, %s", h.At, o.Since)
	}
	_, starts := e.(*Started)
	_, voids := e.(*Voided)
	want := o.Attempt
	if starts {
		want++
	}
	if h.Attempt != want {
		return fmt.Errorf("attempt %d where %d was expected", h.Attempt, want)
	}
	if starts || voids {
		return nil // begin looks at the rest; a writ can be taken back by its nonce alone
	}
	if h.OpID != o.OpID {
		return fmt.Errorf("op id %q, the attempt's is %q", clip(h.OpID), o.OpID)
	}
	if h.Class != o.Started.Class || !h.Target.Equal(o.Started.Target) {
		return errors.New("class or target is another than the one that was claimed")
	}
	return nil
}

// Applied tells whether the op has taken effect and is on record as done: its
// nonce is an applied key. That of an op that nobody signed is no key.
func (o *Op) Applied() bool { return o.State == StateSucceeded && !o.Keyless() }

// Keyless tells whether the op is one that nobody signed.
func (o *Op) Keyless() bool { return o.Started != nil && o.Started.Keyless }

// Spent tells whether the nonce can never run again.
func (o *Op) Spent() bool { return o.State.Final() }
