package op_test

import (
	"errors"
	"iter"
	"testing"
	"time"

	"writ/domain/op"
)

const (
	ledger = "3f9c2ab41d6e4a70"
	nonce  = op.Nonce("6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e")
	upid   = "UPID:pve1:0000A1B2:00C3D4E5:6743F2A0:qmdestroy:105:writ@pve!6f1c9a0e-1:"
)

var (
	claim   = op.Claim{0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a, 0x69, 0x78, 0x87, 0x96, 0xa5, 0xb4, 0xc3, 0xd2, 0xe1, 0xf0}
	payload = op.Digest{0xaa, 0xbb}
	start   = time.Date(2026, 11, 23, 9, 0, 0, 123_000_000, time.UTC)
)

// at is the time of the n-th event of a story.
func at(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }

func header(attempt, n int) op.Header {
	return op.Header{
		OpID: op.OpID(nonce, attempt, claim), Nonce: nonce, Attempt: attempt, Class: op.GuestDestroy,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		Agent:  "lab", Instance: "i-1", At: at(n),
	}
}

// change makes variations of an event: change(started(1, 0), func(e *op.Started) {…}).
func change[E op.Event](e E, f func(E)) E {
	f(e)
	return e
}

func started(attempt, n int) *op.Started {
	purge := false
	h := header(attempt, n)
	return &op.Started{
		Header: h, Claim: claim,
		Intent:        op.Intent{Class: h.Class, Target: h.Target, Params: op.Params{Purge: &purge}},
		Envelope:      []byte(`{"payload":"e30="}`),
		PayloadSHA256: payload,
		Signers:       []op.Signer{{Person: "alice", Key: "SHA256:rYc8Cz1TZ4wMZnMZLT0mWjUq2t3w5u0pDd9yTg1O1jA"}},
		Role:          "operator", PolicySerial: 7,
		Facts: op.Facts{
			Found: true, Node: "pve1", Name: "web-3", Pool: "retire", Tags: []string{"web"},
			Storages: []string{"local-lvm"},
		},
		SubmittedBy: "token:ci",
	}
}

func launching(attempt, n int) *op.Launching {
	return &op.Launching{
		Header: header(attempt, n), Node: "pve1", Credential: "writ@pve!6f1c9a0e-1",
		Request: op.Request{Method: "DELETE", Path: "/nodes/pve1/qemu/105", Query: "purge=0"},
		Observed: op.Observed{
			Found: true, Node: "pve1", Type: op.QEMU, VMID: 105, Name: "web-3",
			SMBIOSUUID: "5c6f0d9e-8b7a-4c3d-9e2f-1a0b3c4d5e6f", VMGenID: "0b9e8d7c-6b5a-4f3e-8d2c-1b0a9f8e7d6c",
			CTime: 1763888400, MACs: []string{"BC:24:11:0A:0B:0C"}, Volumes: []string{"local-lvm:vm-105-disk-0"},
			Digest: "da39a3ee5e6b4b0d3255bfef95601890afd80709", Status: "stopped", NodeOnline: true, Quorate: true,
		},
	}
}

func running(attempt, n int) *op.TaskRunning {
	return &op.TaskRunning{Header: header(attempt, n), UPID: upid}
}

func succeeded(attempt, n int) *op.Succeeded {
	return &op.Succeeded{
		Header: header(attempt, n), ExitStatus: "WARNINGS: 1",
		Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"no guest of the expected identity exists"}},
		Residue:  []string{"local-lvm:vm-105-disk-1"},
	}
}

func failed(attempt, n int, effect op.Effect) *op.Failed {
	return &op.Failed{
		Header: header(attempt, n), Kind: op.KindTaskFailed, Effect: effect, Message: "VM is running - destroy failed",
		LogTail:  []string{"trying to acquire lock...", "TASK ERROR: VM is running - destroy failed"},
		Evidence: &op.Evidence{Effect: effect, Reasons: []string{"the guest is there, all volumes too"}},
	}
}

func voided(attempt, n int) *op.Voided {
	h := header(attempt, n)
	if attempt == 0 {
		h.OpID = ""
	}
	return &op.Voided{Header: h, Reason: "ticket closed", VoidedBy: "token:alice"}
}

// given folds a story, each of its events proposed and then applied, and
// gives the op and the records of its stream.
func given(t testing.TB, events ...op.Event) (op.Op, []op.Record) {
	t.Helper()
	o := op.New(ledger, nonce)
	var records []op.Record
	for i, e := range events {
		rec, foreseen, err := o.Propose(e)
		if err != nil {
			t.Fatalf("given event %d: %v", i, err)
		}
		if err := o.Apply(rec); err != nil {
			t.Fatalf("given event %d: %v", i, err)
		}
		if got, want := printed(t, foreseen), printed(t, o); got != want {
			t.Fatalf("given event %d: Propose foresees\n%s\nApply makes\n%s", i, got, want)
		}
		records = append(records, rec)
	}
	return o, records
}

// printed is all there is to an op, as text.
func printed(t testing.TB, o op.Op) string {
	t.Helper()
	text, err := op.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sealed makes the record that puts an event behind a story without asking
// whether it may stand there: what a program with a bug would have written.
func sealed(t testing.TB, o op.Op, e op.Event) op.Record {
	t.Helper()
	data, err := op.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return sealedBytes(t, o, e.Type(), data)
}

func sealedBytes(t testing.TB, o op.Op, typ string, data []byte) op.Record {
	t.Helper()
	rec, _, err := o.Tail.Seal(ledger, o.Nonce.Stream(), string(o.Nonce), typ, data)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// stream gives records as a store would.
func stream(records []op.Record) iter.Seq2[op.Record, error] {
	return func(yield func(op.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// isCorrupt checks that an error names the stream, shortened, and the revision.
func isCorrupt(t *testing.T, err error, revision uint64) {
	t.Helper()
	var corrupt *op.CorruptStreamError
	if !errors.As(err, &corrupt) {
		t.Fatalf("got error %v, want a *CorruptStreamError", err)
	}
	if corrupt.Stream != nonce.Stream() || corrupt.Revision != revision {
		t.Errorf("got an error about %s@%d, want %s@%d", corrupt.Stream, corrupt.Revision, nonce.Stream(), revision)
	}
}
