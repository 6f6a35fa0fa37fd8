package engine_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
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

const (
	ledger   = eventstore.LedgerID("3f9c2ab41d6e4a70")
	audience = "lab/3f9c2ab41d6e4a70"
)

// A world is one service with its ledger and its host, under test.
type world struct {
	t      *testing.T
	memory *storetest.Memory // the truth
	store  *storetest.Faulty // what the service sees
	host   *fakeHost
	book   *engine.PolicyBook
	engine *engine.Engine
	log    *bytes.Buffer
	logMu  sync.Mutex
	who    engine.Identity
	pace   engine.Pace
	drawn  uint64
}

type option func(*engine.Config)

func newWorld(t *testing.T, opts ...option) *world {
	t.Helper()
	m := storetest.NewMemory(ledger)
	w := &world{
		t: t, memory: m, store: storetest.NewFaulty(m), host: newFakeHost(), log: new(bytes.Buffer),
		who: engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(ledger)}, Instance: "node-a"},
	}
	w.host.add(web3())
	w.book = engine.NewPolicyBook(m, w.who, systemClock{})
	if _, err := w.book.Enforce(context.Background(), policy(), op.Digest{}); err != nil {
		t.Fatalf("enforce policy: %v", err)
	}
	w.start(opts...)
	// It leads before a test changes what the store does.
	<-w.engine.Surveyed()
	return w
}

// newWorldOver is another service over the ledger and the host of w.
func newWorldOver(w *world, instance string, opts ...option) *world {
	w.t.Helper()
	o := &world{
		t: w.t, memory: w.memory, store: storetest.NewFaulty(w.memory), host: w.host, log: new(bytes.Buffer), who: w.who, drawn: 1 << 32,
	}
	o.who.Instance = instance
	o.book = engine.NewPolicyBook(o.memory, o.who, systemClock{})
	if _, err := o.book.Enforce(context.Background(), policy(), op.Digest{}); err != nil {
		w.t.Fatalf("enforce policy: %v", err)
	}
	o.start(opts...)
	return o
}

func (w *world) start(opts ...option) {
	w.t.Helper()
	cfg := engine.Config{
		Identity: w.who, Store: w.store, Policies: w.book, Host: w.host,
		Executors: map[op.Class]engine.Executor{op.GuestDestroy: w.host},
		Clock:     systemClock{}, Draw: w.draw,
		Log: slog.New(slog.NewJSONHandler(io.Writer(lockedWriter{w}), nil)),
	}
	for _, o := range opts {
		o(&cfg)
	}
	w.pace = cfg.Pace
	e, err := engine.New(context.Background(), cfg)
	if err != nil {
		w.t.Fatalf("new engine: %v", err)
	}
	w.engine = e
	w.t.Cleanup(func() { w.stop() })
}

func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.engine.Stop(ctx); err != nil {
		w.t.Errorf("stop: %v", err)
	}
}

type lockedWriter struct{ w *world }

func (l lockedWriter) Write(p []byte) (int, error) {
	l.w.logMu.Lock()
	defer l.w.logMu.Unlock()
	return l.w.log.Write(p)
}

// draw gives claims that differ, and are the same in every run.
func (w *world) draw() op.Claim {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	w.drawn++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("claim"), w.drawn))
	return op.Claim(sum[:16])
}

// runToEnd submits and waits for the end of the attempt.
func (w *world) runToEnd(sub engine.Submission) engine.Answer {
	a := w.engine.RunSignedJob(context.Background(), sub)
	if a.Outcome != engine.InFlight {
		return a
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	return w.engine.Wait(ctx, a.Nonce)
}

// op folds an op from the truth, so every chain and transition is checked.
func (w *world) op(n op.Nonce) op.Op {
	w.t.Helper()
	o, err := engine.LoadOp(context.Background(), w.memory, ledger, n)
	if err != nil {
		w.t.Fatalf("fold %s: %v", n.Short(), err)
	}
	return o
}

// types gives the types of a stream's events.
func (w *world) types(stream string) []string {
	w.t.Helper()
	var types []string
	for e, err := range w.memory.ReadStream(context.Background(), eventstore.StreamID(stream), 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil
		}
		if err != nil {
			w.t.Fatalf("read %s: %v", stream, err)
		}
		types = append(types, e.Type)
	}
	return types
}

// refusals gives the reasons on record in the gate's stream.
func (w *world) refusals() []string {
	w.t.Helper()
	var reasons []string
	for e, err := range w.memory.ReadStream(context.Background(), eventstore.StreamID(op.GateStream(w.who.Instance)), 0) {
		if err != nil {
			break
		}
		var r op.Refused
		if e.Type == op.TypeRefused {
			if err := op.Unmarshal(e.Data, &r); err != nil {
				w.t.Fatalf("refusal: %v", err)
			}
			reasons = append(reasons, r.Reason)
		}
	}
	return reasons
}

func (w *world) wantOutcome(got engine.Answer, want engine.Outcome) {
	w.t.Helper()
	if got.Outcome != want {
		w.t.Fatalf("outcome: got %s (%s: %s), want %s", got.Outcome, got.Reason, got.Detail, want)
	}
}

func (w *world) wantTypes(n op.Nonce, want ...string) {
	w.t.Helper()
	if got := w.types(n.Stream()); !slices.Equal(got, want) {
		w.t.Fatalf("events: got %v, want %v", got, want)
	}
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pass lets time pass, in the bubble of a synctest.
func pass(d time.Duration) { _ = systemClock{}.Wait(context.Background(), d) }

// The signers.
func person(name string) signedop.Signer {
	seed := sha256.Sum256([]byte(name))
	s, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return s
}

func policy() gate.PolicyDocument {
	key := func(name string) gate.Person {
		line := string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(person(name).Key().Public)))
		return gate.Person{Keys: []gate.Key{{Key: line, Format: "raw"}}}
	}
	return gate.PolicyDocument{
		Version: 1,
		People:  map[string]gate.Person{"alice": key("alice"), "bob": key("bob")},
		Roles: map[string]gate.Role{"operator": {
			Holders: []string{"alice", "bob"}, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true,
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-199"}}}},
		}, "resolver": {
			Holders: []string{"alice", "bob"}, Quorum: 1, MaxLifetime: "1h", RequesterCounts: true, Resolve: true,
		}},
	}
}

// web3 is the guest that most tests are about.
func web3() op.Observed {
	return op.Observed{
		Found: true, Node: "pve1", Type: op.QEMU, VMID: 105, Name: "web-3",
		SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f", VMGenID: "0b9e3c1d-1f2e-4a5b-8c7d-6e5f4a3b2c1d",
		MACs: []string{"BC:24:11:2E:C5:4A"}, Volumes: []string{"local-lvm:vm-105-disk-0"},
		Digest: "da39a3ee5e6b4b0d3255bfef95601890afd80709", Status: "stopped", NodeOnline: true, Quorate: true,
	}
}

// order is a document for destroying the guest as seen.
func order(seen op.Observed, change ...func(*signedop.Document)) signedop.Document {
	now := time.Now().UTC().Truncate(time.Second)
	d := signedop.Document{
		Version: 1, Nonce: nonce("an order for " + seen.SMBIOSUUID), Audience: audience, Class: op.GuestDestroy,
		Target: op.Target{Node: seen.Node, Guest: &op.Guest{Type: seen.Type, VMID: seen.VMID}},
		Expect: signedop.Expect{Name: seen.Name, SMBIOSUUID: seen.SMBIOSUUID, VMGenID: seen.VMGenID, Volumes: seen.Volumes},
		Role:   "operator", RequestedBy: "alice", NotBefore: now, ExpiresAt: now.Add(time.Hour), Reason: "retire web-3",
	}
	for _, c := range change {
		c(&d)
	}
	return d
}

func nonce(text string) op.Nonce {
	sum := sha256.Sum256([]byte(text))
	return op.Nonce(fmt.Sprintf("%x", sum[:16]))
}

// signed is a submission of the document signed by alice.
func signed(t testing.TB, d signedop.Document) engine.Submission {
	t.Helper()
	raw, err := signedop.Seal(d, person("alice"))
	if err != nil {
		t.Fatalf("seal: %v", err)
	}
	return engine.Submission{Intent: d.Intent(), Envelope: raw, SubmittedBy: "test"}
}
