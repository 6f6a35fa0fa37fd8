package viewtest

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// Start is the time of the first event of every [Story].
var Start = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// Nonce gives the n-th of many nonces.
func Nonce(n uint64) op.Nonce {
	return op.Nonce(fmt.Sprintf("%032x", n))
}

// A Story writes the life of one op into a ledger. Its methods append one
// event each, as the service would, one second after the one before.
type Story struct {
	Op op.Op

	t     testing.TB
	store eventstore.Store
	now   time.Time
	vmid  int
}

// NewStory begins a story in which nothing has happened yet.
func NewStory(t testing.TB, store eventstore.Store, n op.Nonce) *Story {
	t.Helper()
	return &Story{Op: op.New(string(store.LedgerID()), n), t: t, store: store, now: Start, vmid: 105}
}

// At sets the time of the next event.
func (s *Story) At(now time.Time) *Story {
	s.now = now
	return s
}

// On sets the number of the guest that the op is about.
func (s *Story) On(vmid int) *Story {
	s.vmid = vmid
	return s
}

// Header is what the next event of the attempt under way says.
func (s *Story) Header() op.Header {
	return op.Header{
		OpID: s.Op.OpID, Nonce: s.Op.Nonce, Attempt: s.Op.Attempt, Class: op.GuestDestroy,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: s.vmid}},
		Agent:  "lab", Instance: "i-1", At: s.now,
	}
}

// Append puts an event on record and gives it as the ledger holds it.
func (s *Story) Append(e op.Event) eventstore.Recorded {
	s.t.Helper()
	rec, _, err := s.Op.Propose(e)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.Op.Apply(rec); err != nil {
		s.t.Fatal(err)
	}
	s.now = s.now.Add(time.Second)
	return put(s.t, s.store, eventstore.StreamID(s.Op.Nonce.Stream()), rec)
}

// Write puts any bytes on record as the next event of the op's stream, as a
// damaged or newer program would.
func (s *Story) Write(typ string, data []byte) eventstore.Recorded {
	s.t.Helper()
	rec, tail, err := s.Op.Tail.Seal(s.Op.Ledger, s.Op.Nonce.Stream(), string(s.Op.Nonce), typ, data)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Op.Tail = tail
	return put(s.t, s.store, eventstore.StreamID(s.Op.Nonce.Stream()), rec)
}

func put(t testing.TB, store eventstore.Store, stream eventstore.StreamID, rec op.Record) eventstore.Recorded {
	t.Helper()
	expected := eventstore.NoStream()
	if rec.Revision > 0 {
		expected = eventstore.At(eventstore.Revision(rec.Revision - 1))
	}
	done, err := store.Append(t.Context(), stream, expected, eventstore.Proposed{
		ID: eventstore.EventID(rec.ID), Type: rec.Type, Data: rec.Data, Metadata: rec.Metadata,
	})
	if err != nil {
		t.Fatal(err)
	}
	return eventstore.Recorded{
		Stream: stream, Revision: done.Revision, Position: done.Position, ID: eventstore.EventID(rec.ID),
		Type: rec.Type, Data: rec.Data, Metadata: rec.Metadata,
	}
}

// Started claims the op for the next attempt.
func (s *Story) Started() eventstore.Recorded {
	s.t.Helper()
	return s.started(false)
}

// StartedKeyless claims an op that nobody signed.
func (s *Story) StartedKeyless() eventstore.Recorded {
	s.t.Helper()
	return s.started(true)
}

func (s *Story) started(keyless bool) eventstore.Recorded {
	s.t.Helper()
	h := s.Header()
	h.Attempt++
	var claim op.Claim
	binary.BigEndian.PutUint64(claim[:], uint64(h.Attempt))
	h.OpID = op.OpID(h.Nonce, h.Attempt, claim)
	return s.Append(&op.Started{Header: h, Claim: claim, Intent: op.Intent{Class: h.Class, Target: h.Target}, Role: "operator", Keyless: keyless})
}

// Launching announces the request.
func (s *Story) Launching() eventstore.Recorded {
	s.t.Helper()
	return s.Append(&op.Launching{
		Header: s.Header(), Node: "pve2", Credential: "writ@pve!x",
		Request: op.Request{Method: "DELETE", Path: fmt.Sprintf("/nodes/pve2/qemu/%d", s.vmid)},
	})
}

// Running records the host's task; an empty UPID if there is none.
func (s *Story) Running(upid string) eventstore.Recorded {
	s.t.Helper()
	return s.Append(&op.TaskRunning{Header: s.Header(), UPID: upid})
}

// Succeeded ends the op.
func (s *Story) Succeeded() eventstore.Recorded {
	s.t.Helper()
	return s.Append(&op.Succeeded{
		Header: s.Header(), ExitStatus: "OK", Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"gone"}},
	})
}

// Failed ends the attempt.
func (s *Story) Failed(kind op.FailureKind, effect op.Effect) eventstore.Recorded {
	s.t.Helper()
	return s.Append(&op.Failed{
		Header: s.Header(), Kind: kind, Effect: effect, Message: "it failed",
		Evidence: &op.Evidence{Effect: effect, Reasons: []string{"seen"}},
	})
}

// Voided takes the writ back.
func (s *Story) Voided() eventstore.Recorded {
	s.t.Helper()
	return s.Append(&op.Voided{Header: s.Header(), Reason: "not needed any more", VoidedBy: "alice"})
}
