package audit_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/audit"
)

// TestDamage tampers with a sound record and checks that exactly what was done
// to it is found.
func TestDamage(t *testing.T) {
	done := nonce("done").Stream()
	at := func(t *testing.T, l list, stream string, revision uint64) *eventstore.Recorded {
		t.Helper()
		return &l[l.find(t, stream, revision)]
	}
	edit := func(e *eventstore.Recorded, old, new string) {
		e.Data = bytes.Replace(e.Data, []byte(old), []byte(new), 1)
	}
	tests := map[string]struct {
		damage func(*testing.T, list) list
		stream string // of the only finding, shortened
		rev    uint64
		kind   audit.Kind
		says   string // in what was expected or found
	}{
		"a byte of data changed": {func(t *testing.T, l list) list {
			edit(at(t, l, done, 3), "no guest", "no ghost")
			return l
		}, "op-" + nonce("done").Short(), 3, audit.Altered, "bytes of the id"},
		"data and id changed, the chain not": {func(t *testing.T, l list) list {
			e := at(t, l, done, 3)
			edit(e, "no guest", "no ghost")
			e.ID = eventstore.EventID(op.EventID(done, 3, e.Type, e.Data))
			return l
		}, "op-" + nonce("done").Short(), 3, audit.BrokenChain, "chain hash"},
		"an id changed": {func(t *testing.T, l list) list {
			at(t, l, done, 2).ID[3]++
			return l
		}, "op-" + nonce("done").Short(), 2, audit.WrongID, "id "},
		"metadata that leads to another op": {func(t *testing.T, l list) list {
			e := at(t, l, done, 1)
			e.Metadata = bytes.Replace(e.Metadata, []byte(nonce("done")), []byte(nonce("elsewhere")), 1)
			return l
		}, "op-" + nonce("done").Short(), 1, audit.BadMetadata, "$correlationId"},
		"metadata that is none": {func(t *testing.T, l list) list {
			at(t, l, done, 1).Metadata = []byte("null and void")
			return l
		}, "op-" + nonce("done").Short(), 1, audit.BadMetadata, "schema 1"},
		"two events of a stream swapped": {func(t *testing.T, l list) list {
			i, j := l.find(t, done, 1), l.find(t, done, 2)
			l[i], l[j] = l[j], l[i]
			l[i].Position, l[j].Position = l[j].Position, l[i].Position
			return l
		}, "op-" + nonce("done").Short(), 2, audit.WrongRevision, "revision 1"},
		"an event taken out": {func(t *testing.T, l list) list {
			i := l.find(t, done, 1)
			return slices.Delete(l, i, i+1)
		}, "op-" + nonce("done").Short(), 2, audit.WrongRevision, "revision 1"},
		"an event doubled": {func(t *testing.T, l list) list {
			e := l[l.find(t, done, 1)]
			e.Position++
			return slices.Insert(l, l.find(t, done, 1)+1, e)
		}, "op-" + nonce("done").Short(), 1, audit.WrongRevision, "revision 2"},
		"an op's end told twice": {func(t *testing.T, l list) list {
			i := l.find(t, done, 3)
			e := l[i]
			e.Revision++
			e.Position++
			l = slices.Insert(l, i+1, e)
			l.reseal(t, done)
			return l
		}, "op-" + nonce("done").Short(), 4, audit.EventAfterEnd, "OpSucceeded at revision 4"},
		"a whole op told again": {func(t *testing.T, l list) list {
			var again list
			for _, e := range l {
				if string(e.Stream) == done {
					e.Position += 1 << 30
					again = append(again, e)
				}
			}
			return append(l, again...)
		}, "op-" + nonce("done").Short(), 0, audit.EventAfterEnd, "OpStarted at revision 0"},
		"a transition skipped": {func(t *testing.T, l list) list {
			i := l.find(t, done, 2)
			l = slices.Delete(l, i, i+1)
			l.reseal(t, done)
			return l
		}, "op-" + nonce("done").Short(), 2, audit.IllegalTransition, "OpSucceeded when the op is launching"},
		"an event of another op": {func(t *testing.T, l list) list {
			at(t, l, done, 2).Data = at(t, l, nonce("of node-b").Stream(), 2).Data
			l.reseal(t, done)
			return l
		}, "op-" + nonce("done").Short(), 2, audit.Contradiction, "belongs to another op"},
		"an event that the program does not know": {func(t *testing.T, l list) list {
			at(t, l, done, 3).Type = "OpImproved"
			l.reseal(t, done)
			return l
		}, "op-" + nonce("done").Short(), 3, audit.UnknownEvent, "OpImproved"},
		"an event with a member more": {func(t *testing.T, l list) list {
			edit(at(t, l, done, 3), `{"op_id"`, `{"more":1,"op_id"`)
			l.reseal(t, done)
			return l
		}, "op-" + nonce("done").Short(), 3, audit.BadEvent, "more"},
		"a chain of another ledger": {func(t *testing.T, l list) list {
			var tail op.Tail
			for i, e := range l {
				if string(e.Stream) == done {
					rec, next, err := tail.Seal("0000000000000000", done, string(nonce("done")), e.Type, e.Data)
					if err != nil {
						t.Fatal(err)
					}
					l[i].ID, l[i].Metadata, tail = eventstore.EventID(rec.ID), rec.Metadata, next
				}
			}
			return l
		}, "op-" + nonce("done").Short(), 0, audit.BrokenChain, "chain hash"},
		"a stream with a name that is no nonce": {func(t *testing.T, l list) list {
			e := l[l.find(t, done, 0)]
			e.Stream = "op-107"
			e.Position++
			return slices.Insert(l, l.find(t, done, 0)+1, e)
		}, "op-107", 0, audit.BadStream, "op-107"},
		"a signer added, and all hashes after it made anew": {func(t *testing.T, l list) list {
			e := at(t, l, done, 0)
			edit(e, `{"person":"alice"`, `{"person":"mallory","key":"SHA256:x"},{"person":"alice"`)
			l.reseal(t, done)
			return l
		}, "op-" + nonce("done").Short(), 0, audit.DecisionDiffers, "mallory"},
		"the policy that decided, changed": {func(t *testing.T, l list) list {
			edit(at(t, l, gate.PolicyStream, 0), "100-199", "100-999")
			return l
		}, "policy", 0, audit.Altered, "bytes of the id"},
		"a policy that does not compile": {func(t *testing.T, l list) list {
			edit(at(t, l, gate.PolicyStream, 1), `"quorum":2`, `"quorum":9`)
			l.reseal(t, gate.PolicyStream)
			return l
		}, "policy", 1, audit.BadPolicy, "quorum"},
		"a policy with the serial of another": {func(t *testing.T, l list) list {
			edit(at(t, l, gate.PolicyStream, 1), `"serial":2`, `"serial":1`)
			l.reseal(t, gate.PolicyStream)
			return l
		}, "policy", 1, audit.BadPolicy, "serial 1"},
		"a resolution that says something else": {func(t *testing.T, l list) list {
			edit(at(t, l, nonce("nobody knows").Stream(), 3), `"effect":"unknown"`, `"effect":"partial"`)
			l.reseal(t, nonce("nobody knows").Stream())
			return l
		}, "op-" + nonce("nobody knows").Short(), 3, audit.ResolutionDiffers, "effect partial"},
		"a request for another guest": {func(t *testing.T, l list) list {
			edit(at(t, l, done, 1), "/nodes/pve1/qemu/105", "/nodes/pve1/qemu/106")
			l.reseal(t, done)
			return l
		}, "op-" + nonce("done").Short(), 1, audit.RequestDiffers, "/nodes/pve1/qemu/106"},
		"a target that was not as expected": {func(t *testing.T, l list) list {
			edit(at(t, l, done, 1), `"smbios_uuid":"5c6f`, `"smbios_uuid":"ffff`)
			l.reseal(t, done)
			return l
		}, "op-" + nonce("done").Short(), 1, audit.ExpectationUnmet, "ffff0f0e"},
		"a refusal for another reason": {func(t *testing.T, l list) list {
			edit(at(t, l, op.GateStream("node-a"), 1), `"reason":"unsigned"`, `"reason":"malformed"`)
			l.reseal(t, op.GateStream("node-a"))
			return l
		}, "gate-node-a", 1, audit.DecisionDiffers, "unsigned"},
		"a refusal for a reason that allows": {func(t *testing.T, l list) list {
			edit(at(t, l, op.GateStream("node-a"), 0), `"reason":"out-of-scope"`, `"reason":"signed"`)
			l.reseal(t, op.GateStream("node-a"))
			return l
		}, "gate-node-a", 0, audit.Contradiction, "signed"},
		"a sign of life of another epoch": {func(t *testing.T, l list) list {
			edit(at(t, l, op.AliveStream("lab"), 1), `"epoch":2`, `"epoch":3`)
			l.reseal(t, op.AliveStream("lab"))
			return l
		}, "alive-lab", 1, audit.WrongEpoch, "epoch 3"},
		"an audience in another form": {func(t *testing.T, l list) list {
			edit(at(t, l, op.LedgerStream, 0), `"audience":"00112233445566ff"`, `"audience":"00112233445566FF"`)
			l.reseal(t, op.LedgerStream)
			// Without the rollback the op after it is for somebody else.
			return slices.DeleteFunc(l, func(e eventstore.Recorded) bool { return string(e.Stream) == nonce("after the rollback").Stream() })
		}, "ledger", 0, audit.BadEvent, "00112233445566FF"},
		"an epoch that does not grow": {func(t *testing.T, l list) list {
			edit(at(t, l, op.AgentStream("lab"), 1), `"epoch":2`, `"epoch":5`)
			l.reseal(t, op.AgentStream("lab"))
			return slices.DeleteFunc(l, func(e eventstore.Recorded) bool { return e.Position > l[l.find(t, "agent-lab", 1)].Position })
		}, "agent-lab", 1, audit.WrongEpoch, "epoch 5"},
		"a task adopted by another op": {func(t *testing.T, l list) list {
			upid := adoptedUPID()
			e := at(t, l, op.UPIDStream(upid), 0)
			edit(e, `"op_id":"`, `"op_id":"ff`)
			l.reseal(t, op.UPIDStream(upid))
			return l
		}, op.UPIDStream(adoptedUPID()), 0, audit.TaskOfTwoOps, "another op has it"},
		"an adoption in the stream of another task": {func(t *testing.T, l list) list {
			upid := adoptedUPID()
			edit(at(t, l, op.UPIDStream(upid), 0), "qmdestroy:110", "qmdestroy:119")
			l.reseal(t, op.UPIDStream(upid))
			return l
		}, op.UPIDStream(adoptedUPID()), 0, audit.Contradiction, "qmdestroy:119"},
		"a place in the ledger used twice": {func(t *testing.T, l list) list {
			i := l.find(t, done, 2)
			l[i].Position = l[i-1].Position
			return l
		}, "op-" + nonce("done").Short(), 2, audit.OutOfOrder, "a position beyond"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := tt.damage(t, wholeEvents(t))
			r := verify(t, l, audit.Options{})
			if len(r.Findings) != 1 {
				t.Fatalf("findings: got %+v, want one, %s", r.Findings, tt.kind)
			}
			f := r.Findings[0]
			if f.Kind != tt.kind || f.Stream != tt.stream || f.Revision != tt.rev || !strings.Contains(f.Expected+"\n"+f.Found, tt.says) {
				t.Errorf("got %+v\nwant %s in %s at revision %d that says %q", f, tt.kind, tt.stream, tt.rev, tt.says)
			}
			if r.Sound {
				t.Error("the report calls it sound")
			}
		})
	}
}

func adoptedUPID() string {
	return "UPID:pve1:0000ABCD:00ABCDEF:68A60E01:qmdestroy:110:writ@pve!adopted-1:"
}

// TestForgery puts events on record that are well formed in every way and that
// no service can have written.
func TestForgery(t *testing.T) {
	tests := map[string]struct {
		forge func(*record)
		kind  audit.Kind
		says  string
	}{
		"a claim signed by a key that nobody has enrolled": {func(r *record) {
			s := r.story("forged", 120)
			s.signers = []string{"mallory", "eve"}
			s.done()
		}, audit.DecisionDiffers, "unknown-key"},
		"a claim signed by one where two must": {func(r *record) {
			s := r.story("forged", 120)
			s.signers = []string{"alice"}
			s.done()
		}, audit.DecisionDiffers, "quorum-not-met"},
		"a claim out of scope": {func(r *record) { r.story("forged", 300).done() }, audit.DecisionDiffers, "out-of-scope"},
		"a claim of a writ that had expired": {func(r *record) {
			s := r.story("forged", 120)
			r.now = r.now.Add(2 * time.Hour)
			s.done()
		}, audit.DecisionDiffers, "expired"},
		"a claim of a writ for another ledger": {func(r *record) {
			s := r.story("forged", 120)
			s.doc.Audience = "lab/0000000000000000"
			s.done()
		}, audit.DecisionDiffers, "wrong-audience"},
		"a writ for one op in the stream of another": {func(r *record) {
			s := r.story("forged", 120)
			e := s.started()
			n := nonce("another")
			e.Nonce, e.OpID = n, op.OpID(n, 1, e.Claim)
			r.put(n, e)
		}, audit.DecisionDiffers, "of nonce " + nonce("another").Short()},
		"a claim by a policy that is not on record": {func(r *record) {
			r.serial = 9
			r.story("forged", 120).done()
		}, audit.PolicyMissing, "policy 9"},
		"a claim by a policy that was replaced long before": {func(r *record) {
			r.policy("100-149")
			r.now = r.now.Add(time.Hour)
			r.serial--
			r.story("forged", 120).done()
		}, audit.PolicySuperseded, "policy 2"},
		"a launch by a policy that is not on record": {func(r *record) {
			s := r.story("forged", 120)
			s.put(s.started())
			l := s.launching()
			l.PolicySerial = 9
			s.put(l)
		}, audit.PolicyMissing, "policy 9"},
		"a launch after the writ had expired": {func(r *record) {
			s := r.story("forged", 120)
			s.put(s.started())
			r.now = r.now.Add(2 * time.Hour)
			s.put(s.launching())
		}, audit.LaunchNotAllowed, "expired"},
		"a launch while the cluster was not quorate": {func(r *record) {
			s := r.story("forged", 120)
			s.put(s.started())
			l := s.launching()
			l.Observed.Quorate = false
			s.put(l)
		}, audit.ExpectationUnmet, "not quorate"},
		"one task for two ops": {func(r *record) {
			s := r.story("forged", 120).launched()
			run := s.running()
			run.UPID = "UPID:pve1:0000ABCD:00ABCDEF:68A60E01:qmdestroy:105:writ@pve!done-1:"
			s.put(run)
		}, audit.TaskOfTwoOps, "done-1"},
		"an event by an instance that was superseded": {func(r *record) {
			r.epoch, r.agents = 1, "node-a"
			s := r.story("forged", 120)
			s.put(s.started())
		}, audit.WrongEpoch, "nothing claimed or launched by epoch 1"},
		"a launch by an instance that had just been superseded": {func(r *record) {
			s := r.story("forged", 120)
			s.put(s.started())
			r.takeOver("node-c")
			r.epoch, r.agents = 2, "node-b"
			s.put(s.launching()).put(s.running())
		}, audit.WrongEpoch, "OpTaskRunning by instance node-b"},
		"an epoch of one instance in the name of another": {func(r *record) {
			r.agents = "node-x"
			s := r.story("forged", 120)
			s.put(s.started())
		}, audit.WrongEpoch, "epoch 2 of instance node-x"},
		"a writ of before the rollback": {func(r *record) {
			r.names = audience
			r.story("forged", 120).done()
		}, audit.DecisionDiffers, "wrong-audience"},
		"a rollback to an audience of before": {func(r *record) { r.rollBack(ledger) }, audit.Contradiction, "a new audience"},
		"a refusal in the name of another instance": {func(r *record) {
			r.journal(op.GateStream("node-z"), "refused", op.TypeRefusalsCounted, op.RefusalsCounted{Agent: "lab", Instance: "node-y", From: r.now, To: r.now})
		}, audit.Contradiction, "node-y"},
		"an event of an epoch that nobody has taken": {func(r *record) {
			r.epoch = 7
			s := r.story("forged", 120)
			s.put(s.started())
		}, audit.WrongEpoch, "epoch 7"},
		"an op settled by nobody": {func(r *record) {
			s := r.story("forged", 120).run()
			s.put(s.failed(op.KindResolved, op.EffectUnknown, "settled"))
		}, audit.ResolutionDiffers, "none is on record"},
		"an op settled by a resolution for an older state": {func(r *record) {
			s := r.story("forged", 120).launched()
			res := s.resolution(signedop.VerdictSucceeded, op.EffectDone)
			s.put(s.running()).put(s.resolved(res))
		}, audit.ResolutionDiffers, "at revision 1"},
		"an op settled by an operator who may not": {func(r *record) {
			s := r.story("forged", 120).run()
			res := s.resolution(signedop.VerdictSucceeded, op.EffectDone)
			res.Signers[0].Person = "mallory"
			s.put(s.resolved(res))
		}, audit.ResolutionDiffers, "mallory"},
		"a refusal at the launch that had no cause": {func(r *record) {
			s := r.story("forged", 120)
			s.put(s.started())
			f := s.failed(op.KindRefused, op.EffectNone, "no")
			f.Reason = string(gate.KeyRevoked)
			s.put(f)
		}, audit.DecisionDiffers, "key-revoked"},
		"a task that the host started for an op that had ended": {func(r *record) {
			r.journal(op.GateStream(r.agents), "contested", op.TypeContested, op.Contested{
				Agent: "lab", Instance: r.agents, At: r.tick(), NonceShort: "6f1c9a0e…", OpID: "x", Attempt: 1, UPID: "UPID:late", State: "failed",
			})
		}, audit.Contested, "UPID:late"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rec := wholeRecord(t)
			tt.forge(rec)
			r := verify(t, rec.memory, audit.Options{})
			found := slices.ContainsFunc(r.Findings, func(f audit.Finding) bool {
				return f.Kind == tt.kind && strings.Contains(f.Expected+"\n"+f.Found, tt.says)
			})
			if !found || len(r.FindingsByKind) != 1 {
				t.Errorf("got %+v\nwant %s that says %q and nothing else", r.Findings, tt.kind, tt.says)
			}
		})
	}
}

// TestDamageStaysWithItsOp shows that the rest of the ledger is checked all the
// same.
func TestDamageStaysWithItsOp(t *testing.T) {
	l := wholeEvents(t)
	before := verify(t, l, audit.Options{}).Counts
	i := l.find(t, nonce("done").Stream(), 1)
	l[i].Data = []byte("gone")
	after := verify(t, l, audit.Options{}).Counts
	if after.Ops.Damaged != 1 || after.Ops.Total != before.Ops.Total || after.Unchecked != 3 {
		t.Errorf("got %+v, want one op damaged of the %d, three events unchecked", after, before.Ops.Total)
	}
	if after.Claims != before.Claims || after.LaunchDecisions != before.LaunchDecisions-1 {
		t.Errorf("claims %d and launches %d confirmed, want %d and %d", after.Claims, after.LaunchDecisions, before.Claims, before.LaunchDecisions-1)
	}
}

// unreadable is a ledger with damage at one place.
type unreadable struct {
	list

	at eventstore.Position
}

func (u unreadable) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range u.list.ReadAll(ctx, after, filter) {
			if e.Position >= u.at {
				if from, _ := after.Position(); from < u.at {
					yield(eventstore.Recorded{}, &eventstore.CorruptError{Why: "a checksum does not fit"})
					return
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestAnEventThatCannotBeReadStopsNothing(t *testing.T) {
	l := wholeEvents(t)
	for i := range l {
		l[i].Position = eventstore.Position(i + 1) // without gaps, as in the embedded store
	}
	i := l.find(t, nonce("done").Stream(), 2)
	r := verify(t, unreadable{l, l[i].Position}, audit.Options{})
	if !r.Complete || r.Counts.Events != uint64(len(l)-1) {
		t.Errorf("read %d events (complete: %t), want %d", r.Counts.Events, r.Complete, len(l)-1)
	}
	want := map[audit.Kind]int{audit.Unreadable: 1, audit.WrongRevision: 1}
	if len(r.FindingsByKind) != 2 || r.FindingsByKind[audit.Unreadable] != 1 || r.FindingsByKind[audit.WrongRevision] != 1 {
		t.Errorf("findings: got %v, want %v", r.FindingsByKind, want)
	}
}

// broken is a ledger that can't be read to its end.
type broken struct{ list }

var errDisk = errors.New("the disk is gone")

func (b broken) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range b.list[:5].ReadAll(ctx, after, filter) {
			if !yield(e, err) {
				return
			}
		}
		yield(eventstore.Recorded{}, errDisk)
	}
}

func TestAReadThatFailsIsNoSoundReport(t *testing.T) {
	r, err := audit.Verify(context.Background(), audit.OfStore(broken{wholeEvents(t)}), audit.Options{})
	if !errors.Is(err, errDisk) {
		t.Errorf("error: got %v, want %v", err, errDisk)
	}
	if r.Sound || r.Complete || !strings.Contains(r.Stopped, "disk is gone") || r.Counts.Events != 5 {
		t.Errorf("got %+v, want an incomplete report over 5 events", r)
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := audit.Verify(ctx, audit.OfStore(wholeRecord(t).memory), audit.Options{})
	if !errors.Is(err, context.Canceled) || r.Sound {
		t.Errorf("got %v, sound %t, want the context's error and not sound", err, r.Sound)
	}
}
