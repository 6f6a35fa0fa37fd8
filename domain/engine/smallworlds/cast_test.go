package smallworlds_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"writ/domain/engine"
	"writ/domain/engine/enginetest"
	"writ/domain/gate"
	"writ/domain/op"
)

// now is the time of everything.
var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// pace gives up early: a repetition more shows nothing that one does not.
var pace = engine.Pace{
	AppendRetry: time.Millisecond, AppendRetryMax: time.Millisecond, HostRetry: time.Millisecond, HostRetryMax: time.Millisecond,
	FindTries: 2, LookTries: 2, Poll: time.Millisecond, PollMax: time.Millisecond, StaleLook: time.Second,
}

// A played is a job in one of its states, with the command that it has given.
// Jobs are values: a copy of one is a branch of its history.
type played struct {
	job   engine.Job
	cmd   engine.Command
	seed  uint8 // of its claims; no two jobs of a history have the same
	draws uint8
}

// A cast holds every state that any job has come into, each once, and what
// each result has led to. As the step function gives the same for the same, a
// result is played once, however many worlds it comes up in.
type cast struct {
	policy *gate.Policy
	class  enginetest.Class
	order  enginetest.Order
	nonce  op.Nonce

	parts  []played
	byKey  map[string]uint32
	next   map[input]uint32
	begun  map[string]uint32
	append map[uint32]uint16 // the record that a part wants to append

	records []op.Record
	facts   []fact // what the checker makes of them
	byBytes map[string]uint16
	ops     map[string]op.Op // by stream

	drawing *played // the job that is being stepped
	same    bool    // wrong on purpose: all claims are alike
}

// An input is a result that a job is given.
type input struct {
	part uint32
	what string // the same text stands for the same result
}

func newCast(tb testing.TB, class op.Class) *cast {
	tb.Helper()
	k := enginetest.Of(class)
	c := &cast{
		policy: enginetest.Policy(tb), class: k, order: enginetest.NewOrder(tb, k, now),
		parts: make([]played, 1), byKey: make(map[string]uint32), next: make(map[input]uint32),
		begun: make(map[string]uint32), append: make(map[uint32]uint16), byBytes: make(map[string]uint16), ops: make(map[string]op.Op),
	}
	if c.nonce = c.order.Nonce; c.nonce == "" {
		// Of a benign class each delivery is an op of its own. A world follows one,
		// whose nonce is the first thing that the first delivery draws.
		c.nonce = op.NonceOf(op.Claim{firstSeed, 1})
	}
	return c
}

// firstSeed is of the claims of the first delivery.
const firstSeed = 1

func identity(launcher int, epoch uint8) engine.Identity {
	return engine.Identity{
		Site: enginetest.Site(), Instance: []string{"node-a", "node-b"}[launcher], Epoch: uint64(epoch),
	}
}

// draw gives the claim of the job that is being stepped.
func (c *cast) draw() op.Claim {
	c.drawing.draws++
	if c.same {
		return op.Claim{1}
	}
	return op.Claim{c.drawing.seed, c.drawing.draws}
}

// deliver begins a job for the writ.
func (c *cast) deliver(launcher int, seed uint8) uint32 {
	return c.begin(string([]byte{seed}), seed, func() *engine.Job {
		sub := engine.Submission{Intent: c.order.Intent, Envelope: c.order.Envelope, SubmittedBy: c.order.Caller}
		return engine.NewJob(identity(launcher, 0), pace, c.draw, sub)
	})
}

// recover begins the job that settles the op of a stream.
func (c *cast) recover(launcher int, epoch uint8, stream []uint16) uint32 {
	return c.begin(string([]byte{0, byte(launcher), epoch})+keyOf(stream), 0, func() *engine.Job {
		return engine.NewRecovery(identity(launcher, epoch), pace, c.fold(stream))
	})
}

// begin begins a job, unless that was done before under the same key.
func (c *cast) begin(key string, seed uint8, job func() *engine.Job) uint32 {
	if at, ok := c.begun[key]; ok {
		return at
	}
	p := played{job: *job(), seed: seed}
	c.drawing = &p
	p.cmd = p.job.Begin(now)
	c.begun[key] = c.keep(p)
	return c.begun[key]
}

func keyOf(stream []uint16) string {
	b := make([]byte, 0, 16)
	for _, r := range stream {
		b = binary.LittleEndian.AppendUint16(b, r)
	}
	return string(b)
}

// step gives a job a result, which is made only if it is the first time.
func (c *cast) step(part uint32, what string, result func() engine.Result) uint32 {
	in := input{part, what}
	if to, ok := c.next[in]; ok {
		return to
	}
	p := c.parts[part]
	c.drawing = &p
	p.cmd = p.job.Step(now, result())
	to := c.keep(p)
	c.next[in] = to
	return to
}

func (c *cast) keep(p played) uint32 {
	key := portrait(&p)
	if at, ok := c.byKey[key]; ok {
		return at
	}
	c.parts = append(c.parts, p)
	at := uint32(len(c.parts) - 1)
	c.byKey[key] = at
	return at
}

// record gives the number of a record, which is its own for its exact bytes.
func (c *cast) record(rec op.Record) uint16 {
	key := fmt.Sprintf("%d %s %s %s %s", rec.Revision, rec.ID, rec.Type, rec.Data, rec.Metadata)
	if at, ok := c.byBytes[key]; ok {
		return at
	}
	c.records = append(c.records, rec)
	c.facts = append(c.facts, read(rec.Type, rec.Data))
	at := uint16(len(c.records) - 1)
	c.byBytes[key] = at
	return at
}

// fold gives the op whose stream this is.
func (c *cast) fold(stream []uint16) op.Op {
	key := keyOf(stream)
	if o, ok := c.ops[key]; ok {
		return o
	}
	o, err := op.Fold(enginetest.Ledger, c.nonce, func(yield func(op.Record, error) bool) {
		for _, r := range stream {
			if !yield(c.records[r], nil) {
				return
			}
		}
	})
	if err != nil {
		panic("smallworlds: a stream that the engine has written: " + err.Error())
	}
	c.ops[key] = o
	return o
}
