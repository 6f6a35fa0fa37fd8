package audit_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/audit"
)

const (
	ledger   = "3f9c2ab41d6e4a70"
	audience = "lab/" + ledger
)

func signer(name string) signedop.Signer {
	seed := sha256.Sum256([]byte(name))
	s, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return s
}

func enrolled(name string) gate.Person {
	line := string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(signer(name).Key().Public)))
	return gate.Person{Keys: []gate.Key{{Key: line, Format: "raw"}}}
}

func policyDocument(vmids string) gate.PolicyDocument {
	return gate.PolicyDocument{
		Version: 1,
		People:  map[string]gate.Person{"alice": enrolled("alice"), "bob": enrolled("bob")},
		Roles: map[string]gate.Role{
			"operator": {
				Holders: []string{"alice", "bob"}, Quorum: 2, MaxLifetime: "24h", RequesterCounts: true,
				Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{vmids}}}},
			},
			"resolver": {Holders: []string{"alice", "bob"}, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true, Resolve: true},
		},
		Benign: []gate.BenignRule{{Callers: []string{"terraform"}, Classes: []op.Class{op.GuestStart}, On: gate.On{Pools: []string{"test"}}}},
	}
}

// A record is a ledger as it is being made: by the rules of domain/op, but with
// nobody who decides.
type record struct {
	t      testing.TB
	memory *storetest.Memory
	now    time.Time
	tails  map[string]op.Tail
	ops    map[op.Nonce]op.Op
	serial uint64
	epoch  uint64
	agents string // the instance that launches
	names  string // the audience that writs must name
}

func newRecord(t testing.TB) *record {
	t.Helper()
	r := &record{
		t: t, memory: storetest.NewMemory(ledger), now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
		tails: make(map[string]op.Tail), ops: make(map[op.Nonce]op.Op), agents: "node-a", names: audience,
	}
	r.memory.SetClock(func() time.Time { return r.now })
	return r
}

func (r *record) tick() time.Time {
	r.now = r.now.Add(time.Second)
	return r.now
}

func (r *record) append(stream string, rec op.Record) {
	r.t.Helper()
	expected := eventstore.NoStream()
	if rec.Revision > 0 {
		expected = eventstore.At(eventstore.Revision(rec.Revision - 1))
	}
	_, err := r.memory.Append(context.Background(), eventstore.StreamID(stream), expected, eventstore.Proposed{
		ID: eventstore.EventID(rec.ID), Type: rec.Type, Data: rec.Data, Metadata: rec.Metadata,
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// journal appends to a stream that is not an op's.
func (r *record) journal(stream, correlation, typ string, v any) {
	r.t.Helper()
	data, err := op.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	rec, tail, err := r.tails[stream].Seal(ledger, stream, correlation, typ, data)
	if err != nil {
		r.t.Fatal(err)
	}
	r.append(stream, rec)
	r.tails[stream] = tail
}

func (r *record) policy(vmids string) { r.load(policyDocument(vmids)) }

func (r *record) load(doc gate.PolicyDocument) {
	r.serial++
	r.journal(gate.PolicyStream, "lab", gate.TypeLoaded, gate.Loaded{Serial: r.serial, Agent: "lab", Instance: r.agents, At: r.tick(), Policy: doc})
}

func (r *record) takeOver(instance string) {
	r.epoch++
	r.agents = instance
	r.journal(op.AgentStream("lab"), "lab", op.TypeTookOver, op.TookOver{Agent: "lab", Instance: instance, Epoch: r.epoch, At: r.tick()})
}

func (r *record) alive() {
	r.journal(op.AliveStream("lab"), "lab", op.TypeAlive, op.Alive{Agent: "lab", Instance: r.agents, Epoch: r.epoch, At: r.tick()})
}

// rollBack takes the ledger for a copy of an older one from here on.
func (r *record) rollBack(to string) {
	r.names = "lab/" + to
	r.journal(op.LedgerStream, ledger, op.TypeRollbackAccepted, op.RollbackAccepted{
		Audience: to, At: r.tick(), By: "root on pve1", Reason: "restored after the fire", Attempts: []string{"writ@pve!lost-1"},
	})
}

// put appends an event of an op, by the rules of the state machine.
func (r *record) put(n op.Nonce, e op.Event) {
	r.t.Helper()
	o, ok := r.ops[n]
	if !ok {
		o = op.New(ledger, n)
	}
	rec, after, err := o.Propose(e)
	if err != nil {
		r.t.Fatal(err)
	}
	r.append(n.Stream(), rec)
	r.ops[n] = after
}

func nonce(name string) op.Nonce {
	sum := sha256.Sum256([]byte("nonce " + name))
	return op.Nonce(hex.EncodeToString(sum[:16]))
}

func target(vmid int) op.Target {
	return op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: vmid}}
}

func document(name string, vmid int, from time.Time) signedop.Document {
	return signedop.Document{
		Version: 1, Nonce: nonce(name), Audience: audience, Class: op.GuestDestroy, Target: target(vmid),
		Expect: signedop.Expect{Name: "web-3", SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f", Volumes: []string{"local-lvm:vm-105-disk-0"}},
		Role:   "operator", RequestedBy: "alice", NotBefore: from, ExpiresAt: from.Add(time.Hour), Reason: "OPS-123: retire web-3",
	}
}

func facts() op.Facts {
	return op.Facts{Found: true, Node: "pve1", Name: "web-3", Storages: []string{"local-lvm"}}
}

func observed(vmid int) op.Observed {
	return op.Observed{
		Found: true, Node: "pve1", Type: op.QEMU, VMID: vmid, Name: "web-3", SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f",
		Volumes: []string{"local-lvm:vm-105-disk-0"}, Status: "stopped", NodeOnline: true, Quorate: true,
	}
}

// A story is an op being told: what differs from an ordinary one is changed
// before the step.
type story struct {
	*record

	name     string
	doc      signedop.Document
	signers  []string
	envelope []byte
	attempt  int
	opID     string
}

func (r *record) story(name string, vmid int) *story {
	s := &story{record: r, name: name, doc: document(name, vmid, r.now), signers: []string{"alice", "bob"}}
	s.doc.Audience = r.names
	return s
}

func (s *story) header() op.Header {
	return op.Header{
		OpID: s.opID, Nonce: s.doc.Nonce, Attempt: s.attempt, Class: s.doc.Class, Target: s.doc.Target, Agent: "lab", Instance: s.agents,
		Epoch: s.epoch, At: s.tick(),
	}
}

func (s *story) started() *op.Started {
	s.t.Helper()
	if s.envelope == nil {
		var by []signedop.Signer
		for _, name := range s.signers {
			by = append(by, signer(name))
		}
		var err error
		if s.envelope, err = signedop.Seal(s.doc, by...); err != nil {
			s.t.Fatal(err)
		}
	}
	u, err := signedop.Parse(s.envelope)
	if err != nil {
		s.t.Fatal(err)
	}
	s.attempt++
	claim := op.Claim(sha256.New().Sum(nil)[:16])
	claim[0] = byte(s.attempt)
	s.opID = op.OpID(s.doc.Nonce, s.attempt, claim)
	var signers []op.Signer
	for _, name := range s.signers {
		signers = append(signers, op.Signer{Person: name, Key: signer(name).Key().Fingerprint})
	}
	return &op.Started{
		Header: s.header(), Claim: claim, Intent: s.doc.Intent(), Envelope: s.envelope, PayloadSHA256: u.Digest(), Signers: signers,
		Role: s.doc.Role, PolicySerial: s.serial, Facts: facts(), SubmittedBy: "local",
	}
}

func (s *story) launching() *op.Launching {
	vmid := s.doc.Target.Guest.VMID
	return &op.Launching{
		Header: s.header(), Node: "pve1", Credential: "writ@pve!" + s.name,
		Request: op.Request{Method: "DELETE", Path: fmt.Sprintf("/nodes/pve1/qemu/%d", vmid)}, Observed: observed(vmid),
		PolicySerial: s.serial, Facts: facts(),
	}
}

func (s *story) upid() string {
	return fmt.Sprintf("UPID:pve1:0000ABCD:00ABCDEF:68A60E01:qmdestroy:%d:writ@pve!%s-%d:", s.doc.Target.Guest.VMID, s.name, s.attempt)
}

func (s *story) running() *op.TaskRunning { return &op.TaskRunning{Header: s.header(), UPID: s.upid()} }

func (s *story) succeeded() *op.Succeeded {
	return &op.Succeeded{
		Header: s.header(), ExitStatus: "OK", Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"no guest of the expected identity exists"}},
	}
}

func (s *story) failed(kind op.FailureKind, effect op.Effect, message string) *op.Failed {
	return &op.Failed{Header: s.header(), Kind: kind, Effect: effect, Message: message}
}

func (s *story) put(events ...op.Event) *story {
	s.t.Helper()
	for _, e := range events {
		s.record.put(s.doc.Nonce, e)
	}
	return s
}

// launched puts an op on record up to its launch, run up to its task.
func (s *story) launched() *story { return s.put(s.started()).put(s.launching()) }
func (s *story) run() *story      { return s.launched().put(s.running()) }
func (s *story) done() *story     { return s.run().put(s.succeeded()) }

func (s *story) resolution(verdict signedop.Verdict, effect op.Effect) *op.Resolved {
	s.t.Helper()
	o := s.ops[s.doc.Nonce]
	doc := signedop.Resolution{
		Version: 1, Nonce: s.doc.Nonce, Audience: s.names, Attempt: s.attempt, Revision: o.Tail.Next - 1, Verdict: verdict, Effect: effect,
		Role: "resolver", RequestedBy: "alice", NotBefore: s.now, ExpiresAt: s.now.Add(time.Hour), Reason: "looked at the storage by hand",
	}
	raw, err := signedop.SealResolution(doc, signer("bob"))
	if err != nil {
		s.t.Fatal(err)
	}
	u, err := signedop.ParseResolution(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	return &op.Resolved{
		Envelope: raw, PayloadSHA256: u.Digest(), Signers: []op.Signer{{Person: "bob", Key: signer("bob").Key().Fingerprint}}, Role: "resolver",
		PolicySerial: s.serial, Reason: doc.Reason,
	}
}

func (s *story) resolved(r *op.Resolved) *op.Succeeded {
	return &op.Succeeded{
		Header: s.header(), ExitStatus: op.ExitResolved, Resolution: r,
		Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"on the word of the people who signed the resolution"}},
	}
}

func (r *record) refused(reason gate.Reason, envelope []byte, in op.Intent) {
	r.journal(op.GateStream(r.agents), "refused", op.TypeRefused, op.Refused{
		Agent: "lab", Instance: r.agents, At: r.tick(), Reason: string(reason), Detail: "detail", EnvelopeSHA256: op.DigestOf(envelope),
		Intent: in, SubmittedBy: "ci", PolicySerial: r.serial,
	})
}

// a ledger in which everything has happened that can, and all of it rightly.
func wholeRecord(t testing.TB) *record {
	t.Helper()
	r := newRecord(t)
	r.policy("100-199")
	r.story("done", 105).done()
	second := r.story("second attempt", 106)
	second.put(second.started()).put(second.failed(op.KindPrecondition, op.EffectNone, "status: the guest is running; stop it first"))
	r.put(nonce("voided"), &op.Voided{
		Header: op.Header{Nonce: nonce("voided"), Agent: "lab", Instance: "node-a", At: r.tick()}, Reason: "ticket closed", VoidedBy: "alice",
	})
	r.refused(gate.OutOfScope, []byte("an envelope"), op.Intent{Class: op.GuestDestroy, Target: target(300)})
	r.refused(gate.Unsigned, nil, op.Intent{Class: op.GuestDestroy, Target: target(105)})
	r.refused(gate.UnknownClass, nil, op.Intent{Class: "guest-paint", Target: target(105)})
	r.refused(gate.NotPermitted, nil, op.Intent{Class: op.GuestStart, Target: target(105)})
	r.journal(op.GateStream("node-a"), "refusals", op.TypeRefusalsCounted, op.RefusalsCounted{
		Agent: "lab", Instance: "node-a", From: r.now, To: r.now, ByReason: map[string]int{"expired": 7},
	})
	r.policy("100-149")
	word := r.story("on people's word", 107).launched()
	res := word.resolution(signedop.VerdictSucceeded, op.EffectDone)
	word.put(&op.TaskRunning{Header: word.header(), Adopted: true}).put(word.resolved(res))
	unknown := r.story("nobody knows", 108).run()
	settled := unknown.failed(op.KindResolved, op.EffectUnknown, "settled by a signed resolution")
	settled.Resolution = unknown.resolution(signedop.VerdictFailed, op.EffectUnknown)
	unknown.put(settled)
	r.story("in flight", 109).launched()
	second.put(second.started()).put(second.launching()).put(second.running()).put(second.succeeded())
	adopted := r.story("adopted", 110).launched()
	r.journal(op.UPIDStream(adopted.upid()), adopted.opID, op.TypeUPIDAdopted, op.UPIDAdopted{
		UPID: adopted.upid(), OpID: adopted.opID, Agent: "lab", Instance: "node-a", At: r.tick(),
	})
	running := adopted.running()
	running.Adopted = true
	adopted.put(running).put(adopted.failed(op.KindTaskFailed, op.EffectPartial, "half done"))
	r.takeOver("node-a")
	r.alive()
	told := r.story("told late", 113).run()
	r.takeOver("node-b")
	r.epoch, r.agents = 1, "node-a" // which has yet to find out, and follows its task
	told.put(told.succeeded())
	r.epoch, r.agents = 2, "node-b"
	r.alive()
	r.story("of node-b", 111).done()
	late := r.story("too late", 112)
	late.put(late.started())
	r.now = r.now.Add(2 * time.Hour)
	refusal := late.failed(op.KindRefused, op.EffectNone, "expires_at: the writ expired")
	refusal.Reason = string(gate.Expired)
	late.put(refusal)
	r.rollBack("00112233445566ff")
	r.story("after the rollback", 114).done()
	return r
}

var whole struct {
	once   sync.Once
	events []eventstore.Recorded
}

// wholeEvents are those of wholeRecord, to be tampered with. The bytes that they
// point to are shared: they are replaced, never changed.
func wholeEvents(t testing.TB) list {
	t.Helper()
	whole.once.Do(func() { whole.events = wholeRecord(t).events() })
	return slices.Clone(whole.events)
}

// events gives the ledger as it stands.
func (r *record) events() []eventstore.Recorded {
	r.t.Helper()
	var all []eventstore.Recorded
	for e, err := range r.memory.ReadAll(context.Background(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// A list is a ledger that was tampered with: it gives whatever it holds.
type list []eventstore.Recorded

func (l list) LedgerID() eventstore.LedgerID { return ledger }

func (l list) ReadAll(_ context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		from, behind := after.Position()
		for _, e := range l {
			if (!behind || e.Position > from) && filter.Passes(e.Stream) && !yield(e, nil) {
				return
			}
		}
	}
}

// find gives the index of an event by its stream and revision.
func (l list) find(t testing.TB, stream string, revision uint64) int {
	t.Helper()
	i := slices.IndexFunc(l, func(e eventstore.Recorded) bool {
		return string(e.Stream) == stream && uint64(e.Revision) == revision
	})
	if i < 0 {
		t.Fatalf("no event %s@%d", stream, revision)
	}
	return i
}

// reseal makes ids and chain of a stream anew from a revision on, as somebody
// would who can rewrite the store.
func (l list) reseal(t testing.TB, stream string) {
	t.Helper()
	var tail op.Tail
	for i, e := range l {
		if string(e.Stream) != stream {
			continue
		}
		var meta op.Metadata
		if err := op.Unmarshal(e.Metadata, &meta); err != nil {
			t.Fatal(err)
		}
		rec, next, err := tail.Seal(ledger, stream, meta.Correlation, e.Type, e.Data)
		if err != nil {
			t.Fatal(err)
		}
		l[i].Revision, l[i].ID, l[i].Metadata = eventstore.Revision(rec.Revision), eventstore.EventID(rec.ID), rec.Metadata
		tail = next
	}
}

func verify(t testing.TB, l audit.Ledger, o audit.Options) *audit.Report {
	t.Helper()
	r, err := audit.Verify(context.Background(), audit.OfStore(l), o)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return r
}
