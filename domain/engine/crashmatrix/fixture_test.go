package crashmatrix_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

const ledger = eventstore.LedgerID("3f9c2ab41d6e4a70")

// now is the time of everything: no check of an age or of an expiry can hide
// what would go wrong without it.
var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// pace gives up early: a repetition more shows nothing that one does not.
var pace = engine.Pace{
	AppendRetry: time.Millisecond, AppendRetryMax: time.Millisecond, HostRetry: time.Millisecond, HostRetryMax: time.Millisecond,
	FindTries: 2, LookTries: 2, Poll: time.Millisecond, PollMax: time.Millisecond, StaleLook: time.Second,
}

// A writ is what all histories are about.
type writ struct {
	policy *gate.Policy
	nonce  op.Nonce
	seen   op.Observed // the guest, untouched

	begun   engine.Job // a job for it that has begun
	first   engine.Command
	drawing *life // whose claims are drawn
	hollow  bool  // wrong on purpose: the fence does nothing
}

func newWrit(tb testing.TB) *writ {
	tb.Helper()
	seed := sha256.Sum256([]byte("alice"))
	alice, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		tb.Fatalf("signer: %v", err)
	}
	w := &writ{seen: op.Observed{
		Found: true, Node: "pve1", Type: op.QEMU, VMID: 105, Name: "web-3", SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f",
		Volumes: []string{"local-lvm:vm-105-disk-0"}, Status: "stopped", NodeOnline: true, Quorate: true,
	}}
	w.policy, err = gate.Compile(gate.PolicyDocument{
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
		Version: 1, Nonce: "6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e", Audience: "lab/" + string(ledger), Class: op.GuestDestroy,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		Expect: signedop.Expect{Name: w.seen.Name, SMBIOSUUID: w.seen.SMBIOSUUID, Volumes: w.seen.Volumes},
		Role:   "operator", RequestedBy: "alice", NotBefore: now, ExpiresAt: now.Add(time.Hour), Reason: "retire web-3",
	}
	w.nonce = doc.Nonce
	raw, err := signedop.Seal(doc, alice)
	if err != nil {
		tb.Fatalf("seal: %v", err)
	}
	sub := engine.Submission{Intent: doc.Intent(), Envelope: raw, SubmittedBy: "test"}
	j := engine.NewJob(identity(0), pace, func() op.Claim { return w.drawing.draw() }, sub)
	w.first = j.Begin(now)
	w.begun = *j
	return w
}

func identity(epoch int) engine.Identity {
	return engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(ledger)}, Instance: "node-a", Epoch: uint64(epoch)}
}

// A life is one history: a ledger, a host, and the processes that come and go.
type life struct {
	*writ
	memory *storetest.Memory
	host   *host
	epoch  int // of the process at work
	drawn  byte
	steps  int
	ending bool // the service is about to stop

	moments   []int // for what is late, in its order: before which command it comes
	late      int   // how much was late so far
	followers []*follower
	inTime    []bool // of what was late: it came before all was over

	log      []string // what happened, for people
	onRecord []fact   // as far as the checker has read
	wrong    string   // the first thing that the checker found
}

func newLife(w *writ, end exit, shared bool) *life {
	return &life{writ: w, memory: storetest.NewMemory(ledger), host: &host{guest: whole, end: end, shared: shared, hollow: w.hollow, tokens: make(map[int]bool)}, epoch: 1}
}

func (l *life) draw() op.Claim {
	l.drawn++
	return op.Claim{l.drawn}
}

func (l *life) op() op.Op {
	o, err := engine.LoadOp(context.Background(), l.memory, ledger, l.nonce)
	if err != nil {
		panic("crashmatrix: the stream that the engine has written: " + err.Error())
	}
	return o
}
