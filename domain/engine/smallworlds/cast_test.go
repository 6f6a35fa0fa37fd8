package smallworlds_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

const ledger = "3f9c2ab41d6e4a70"

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
	sub    engine.Submission
	nonce  op.Nonce
	seen   op.Observed // the guest, untouched

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

func newCast(tb testing.TB) *cast {
	tb.Helper()
	seed := sha256.Sum256([]byte("alice"))
	alice, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		tb.Fatalf("signer: %v", err)
	}
	c := &cast{
		seen: op.Observed{
			Found: true, Node: "pve1", Type: op.QEMU, VMID: 105, Name: "web-3", SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f",
			Volumes: []string{"local-lvm:vm-105-disk-0"}, Digest: "plain", Status: "stopped", NodeOnline: true, Quorate: true,
		},
		parts: make([]played, 1), byKey: make(map[string]uint32), next: make(map[input]uint32),
		begun: make(map[string]uint32), append: make(map[uint32]uint16), byBytes: make(map[string]uint16), ops: make(map[string]op.Op),
	}
	c.policy, err = gate.Compile(gate.PolicyDocument{
		Version: 1,
		People: map[string]gate.Person{"alice": {Keys: []gate.Key{{
			Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(alice.Key().Public))), Format: "raw",
		}}}},
		Roles: map[string]gate.Role{"operator": {
			Holders: []string{"alice"}, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true,
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-199"}}}},
		}},
	}, 1)
	if err != nil {
		tb.Fatalf("policy: %v", err)
	}
	doc := signedop.Document{
		Version: 1, Nonce: "6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e", Audience: "lab/" + ledger, Class: op.GuestDestroy,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		Expect: signedop.Expect{Name: c.seen.Name, SMBIOSUUID: c.seen.SMBIOSUUID, Volumes: c.seen.Volumes},
		Role:   "operator", RequestedBy: "alice", NotBefore: now, ExpiresAt: now.Add(time.Hour), Reason: "retire web-3",
	}
	c.nonce = doc.Nonce
	raw, err := signedop.Seal(doc, alice)
	if err != nil {
		tb.Fatalf("seal: %v", err)
	}
	c.sub = engine.Submission{Intent: doc.Intent(), Envelope: raw, SubmittedBy: "test"}
	return c
}

func identity(launcher int, epoch uint8) engine.Identity {
	return engine.Identity{
		Site: gate.Site{Agent: "lab", Ledger: ledger}, Instance: []string{"node-a", "node-b"}[launcher], Epoch: uint64(epoch),
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
		return engine.NewJob(identity(launcher, 0), pace, c.draw, c.sub)
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
	o, err := op.Fold(ledger, c.nonce, func(yield func(op.Record, error) bool) {
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
