package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"golang.org/x/crypto/ssh"

	"writ/adapters/highwater"
	"writ/adapters/pebblestore"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

const (
	// largeInFlight is how many ops the service that wrote a large ledger had in
	// flight when it was killed.
	largeInFlight = 1000
	// largeStep is the time from one op of a large ledger to the next.
	largeStep = 250 * time.Millisecond
	// fillers is how many ops are appended at once, so that they share fsyncs. A
	// killed filler leaves at most so many gaps.
	fillers = 512
)

// A largeLedger is a folder as writ init makes it, whose ledger is that of a
// service which carried out so many ops and was killed while it had
// largeInFlight more in flight. Every op is real: its writ is signed, its events
// are those that the aggregate allows, and an audit finds nothing.
//
// What an op's events say is made from its number alone, so that a filler that
// was killed goes on where it was.
type largeLedger struct {
	dir     string
	ops     int // that have ended
	id      eventstore.LedgerID
	from    time.Time // when the policy came into force
	signers []signedop.Signer
}

var largePeople = []string{"alice", "bob", "carol", "dave"}

// newLargeLedger gives one that may not be there yet.
func newLargeLedger(tb testing.TB, dir string, ops int) *largeLedger {
	tb.Helper()
	l := &largeLedger{dir: dir, ops: ops}
	for _, name := range largePeople {
		seed := sha256.Sum256([]byte("large ledger: key of " + name))
		s, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			tb.Fatal(err)
		}
		l.signers = append(l.signers, s)
	}
	return l
}

// fillLedger makes a large ledger, or finishes one that was left unfinished. It
// does nothing to one that is whole.
func fillLedger(tb testing.TB, dir string, ops int) *largeLedger {
	tb.Helper()
	l := newLargeLedger(tb, dir, ops)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		l.init(tb)
	}
	var now atomic.Int64 // by the ledger's own clock, in nanoseconds since 1970
	store, err := pebblestore.Open(l.ledger(), pebblestore.Options{
		Clock: func() time.Time { return time.Unix(0, now.Load()) }, MaxGroup: fillers, CheckAtOpen: -1,
	})
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			tb.Error(err)
		}
	}()
	l.begin(store)
	now.Store(l.from.UnixNano())
	l.enforce(tb, store)
	mark, found, err := l.mark().Seen(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if !found || mark.Position == 0 { // else it is whole
		l.fill(tb, store, &now)
	}
	return l
}

func (l *largeLedger) ledger() string { return filepath.Join(l.dir, ledgerName) }

func (l *largeLedger) mark() highwater.File { return highwater.At(highWaterOf(l.ledger())) }

// begin sets what is known of the ledger before its first event: it began so long
// ago that all of its ops have ended by now.
func (l *largeLedger) begin(store *pebblestore.Store) {
	l.id = store.LedgerID()
	l.from = time.Now().UTC().Truncate(time.Second).Add(-time.Duration(l.ops+largeInFlight)*largeStep - time.Hour)
}

// init makes the folder, with the policy that people put in force: whole, or not
// at all.
func (l *largeLedger) init(tb testing.TB) {
	tb.Helper()
	dir := l.dir + ".new"
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Dir(dir), 0o700)); err != nil {
		tb.Fatal(err)
	}
	var errs strings.Builder
	if code := run(tb.Context(), []string{"init", dir}, strings.NewReader(""), io.Discard, &errs); code != 0 {
		tb.Fatalf("init: exit code %d: %s", code, errs.String())
	}
	var policy strings.Builder
	fmt.Fprintf(&policy, "version: 1\npeople:\n")
	for i, name := range largePeople {
		key := bytes.TrimSpace(ssh.MarshalAuthorizedKey(l.signers[i].Key().Public))
		fmt.Fprintf(&policy, "  %s: {keys: [{key: %q, format: raw}]}\n", name, key)
	}
	fmt.Fprintf(&policy, "roles:\n  operator:\n    holders: [%s]\n    quorum: 1\n    max_lifetime: 24h\n    requester_counts: true\n"+
		"    allow: [{classes: [guest-destroy], on: {vmids: [100-999999]}}]\n", strings.Join(largePeople, ", "))
	if err := os.WriteFile(filepath.Join(dir, policyName), []byte(policy.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(dir, l.dir); err != nil {
		tb.Fatal(err)
	}
}

// enforce puts the policy on record, unless it is. Its time is where the ledger
// begins.
func (l *largeLedger) enforce(tb testing.TB, store *pebblestore.Store) *engine.PolicyBook {
	tb.Helper()
	file, err := readPolicyFile(filepath.Join(l.dir, policyName))
	if err != nil {
		tb.Fatal(err)
	}
	book := engine.NewPolicyBook(store, l.identity(), stoppedClock{l.from})
	if _, err := book.Enforce(tb.Context(), file.Document, file.Source); err != nil {
		tb.Fatal(err)
	}
	head, err := store.Head(tb.Context(), gate.PolicyStream)
	if err != nil {
		tb.Fatal(err)
	}
	var loaded gate.Loaded
	if err := op.Unmarshal(head.Data, &loaded); err != nil {
		tb.Fatal(err)
	}
	l.from = loaded.At
	return book
}

func (l *largeLedger) identity() engine.Identity {
	return engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(l.id)}, Instance: "writ-1"}
}

// A stoppedClock is one that nobody waits for.
type stoppedClock struct{ at time.Time }

func (c stoppedClock) Now() time.Time { return c.at }

func (c stoppedClock) Wait(ctx context.Context, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

// fill appends what is missing. An append that is on record already is answered
// as it was the first time, and changes nothing.
func (l *largeLedger) fill(tb testing.TB, store *pebblestore.Store, now *atomic.Int64) {
	tb.Helper()
	all := l.ops + largeInFlight
	from := l.resume(tb, store)
	began := time.Now()
	var done atomic.Int64
	each(fillers, all-1-from, func(i int) {
		i += from
		at := l.at(i).UnixNano()
		for was := now.Load(); was < at && !now.CompareAndSwap(was, at); was = now.Load() {
		}
		if _, err := l.append(tb.Context(), store, i); err != nil && !tb.Failed() {
			tb.Error(err)
		}
		if n := done.Add(1); n%100_000 == 0 {
			fmt.Fprintf(os.Stderr, "%s: %d of %d ops, %.0f a second\n", l.dir, from+int(n), all, float64(n)/time.Since(began).Seconds())
		}
	})
	if tb.Failed() {
		tb.FailNow()
	}
	// The last op alone, so that its last event is the ledger's.
	end, err := l.append(tb.Context(), store, all-1)
	if err != nil {
		tb.Fatal(err)
	}
	if n := all - from; n > 1 {
		tb.Logf("%s: %d ops in %s, %.0f a second", l.dir, n, time.Since(began).Round(time.Second), float64(n)/time.Since(began).Seconds())
	}
	// Only now: by it the ledger is known to be whole.
	events := l.events(all - 1)
	if err := l.mark().Keep(tb.Context(), engine.Mark{
		Ledger: l.id, Position: end.Position, Event: events[len(events)-1].ID, At: time.Now().UTC(),
	}); err != nil {
		tb.Fatal(err)
	}
}

// resume gives the first op that may be missing. Ops are appended in their
// order, fillers at a time: one that is there has all before it but for so many.
func (l *largeLedger) resume(tb testing.TB, store *pebblestore.Store) int {
	tb.Helper()
	there := func(i int) bool {
		_, err := store.Head(tb.Context(), eventstore.StreamID(largeNonce(i).Stream()))
		if err != nil && !errors.Is(err, eventstore.ErrStreamNotFound) {
			tb.Fatal(err)
		}
		return err == nil
	}
	low, high := 0, (l.ops+largeInFlight)/fillers+1 // in steps of fillers
	for low < high {
		if mid := (low + high) / 2; mid*fillers < l.ops+largeInFlight && there(mid*fillers) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return max(0, (low-2)*fillers)
}

func (l *largeLedger) append(ctx context.Context, store *pebblestore.Store, i int) (eventstore.Appended, error) {
	return store.Append(ctx, eventstore.StreamID(largeNonce(i).Stream()), eventstore.NoStream(), l.events(i)...)
}

// at is when an op began.
func (l *largeLedger) at(i int) time.Time {
	return l.from.Add(time.Minute + time.Duration(i)*largeStep)
}

// largeNonce gives the nonce of an op: no two neighbours are near each other.
func largeNonce(i int) op.Nonce {
	sum := largeDraw("nonce", i)
	return op.Nonce(hex.EncodeToString(sum[:16]))
}

// largeDraw gives what stands for random bits.
func largeDraw(what string, i int) [32]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("large ledger: "+what+" "), uint64(i)))
}

// events gives the stream of an op. Of a hundred that have ended 90 succeeded, 2
// of them at the second attempt, 6 failed without an effect, 2 with one, and 2
// were taken back. Of those in flight as many are in each state.
func (l *largeLedger) events(i int) []eventstore.Proposed {
	s := l.story(i)
	switch end := i % 100; {
	case i >= l.ops:
		s.started()
		if i%3 > 0 {
			s.launching()
		}
		if i%3 > 1 {
			s.running()
		}
	case end < 2:
		s.voided()
	case end < 8:
		s.started()
		s.failed(op.KindPrecondition, op.EffectNone)
	case end < 10:
		s.started()
		s.launching()
		s.running()
		s.failed(op.KindTaskFailed, op.EffectPartial)
	default:
		if end < 12 {
			s.started()
			s.failed(op.KindPrecondition, op.EffectNone)
		}
		s.started()
		s.launching()
		s.running()
		s.succeeded()
	}
	return s.proposed
}

// A largeStory makes the events of one op. What can't be is a mistake in this
// file.
type largeStory struct {
	l        *largeLedger
	i        int
	op       op.Op
	target   op.Target
	seen     op.Observed // the target, right before the launch
	at       time.Time   // of the next event
	proposed []eventstore.Proposed
}

func (l *largeLedger) story(i int) *largeStory {
	id := largeDraw("guest", i)
	node, vmid := fmt.Sprintf("pve%d", 1+i%3), 100+int(binary.BigEndian.Uint16(id[16:]))
	return &largeStory{
		l: l, i: i, op: op.New(string(l.id), largeNonce(i)), at: l.at(i),
		target: op.Target{Node: node, Guest: &op.Guest{Type: op.QEMU, VMID: vmid}},
		seen: op.Observed{
			Found: true, Node: node, Type: op.QEMU, VMID: vmid, Name: fmt.Sprintf("web-%d", i%1000),
			SMBIOSUUID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16]),
			Volumes:    []string{fmt.Sprintf("local-lvm:vm-%d-disk-0", vmid)},
			Digest:     hex.EncodeToString(id[12:]), Status: "stopped", NodeOnline: true, Quorate: true,
		},
	}
}

func (s *largeStory) happen(e op.Event) {
	rec, next, err := s.op.Propose(e)
	if err != nil {
		panic(err)
	}
	s.op, s.at = next, s.at.Add(100*time.Millisecond)
	s.proposed = append(s.proposed, eventstore.Proposed{ID: eventstore.EventID(rec.ID), Type: rec.Type, Data: rec.Data, Metadata: rec.Metadata})
}

func (s *largeStory) header() op.Header {
	return op.Header{
		OpID: s.op.OpID, Nonce: s.op.Nonce, Attempt: s.op.Attempt, Class: op.GuestDestroy, Target: s.target,
		Agent: "lab", Instance: "writ-1", At: s.at.UTC(),
	}
}

func (s *largeStory) facts() op.Facts {
	seen := s.seen
	return op.Facts{Found: true, Node: seen.Node, Name: seen.Name, Storages: []string{"local-lvm"}}
}

func (s *largeStory) document() signedop.Document {
	from := s.l.at(s.i).Truncate(time.Second)
	return signedop.Document{
		Version: 1, Nonce: s.op.Nonce, Audience: "lab/" + string(s.l.id), Class: op.GuestDestroy, Target: s.target,
		Expect: signedop.Expect{Name: s.seen.Name, SMBIOSUUID: s.seen.SMBIOSUUID, Volumes: s.seen.Volumes},
		Role:   "operator", RequestedBy: largePeople[s.signer()], NotBefore: from.Add(-time.Minute), ExpiresAt: from.Add(6 * time.Hour),
		Reason: fmt.Sprintf("OPS-%d: retire %s", s.i, s.seen.Name),
	}
}

func (s *largeStory) signer() int { return s.i / 100 % len(largePeople) }

func (s *largeStory) started() {
	d, signer := s.document(), s.l.signers[s.signer()]
	payload, err := d.Encode()
	if err != nil {
		panic(err)
	}
	h := s.header()
	h.Attempt++
	random := largeDraw(fmt.Sprintf("claim %d", h.Attempt), s.i)
	claim := op.Claim(random[:16])
	h.OpID = op.OpID(h.Nonce, h.Attempt, claim)
	s.happen(&op.Started{
		Header: h, Claim: claim, Intent: d.Intent(), Envelope: largeSeal(payload, signer), PayloadSHA256: op.DigestOf(payload),
		Signers: []op.Signer{{Person: d.RequestedBy, Key: ssh.FingerprintSHA256(signer.Key().Public)}}, Role: d.Role, PolicySerial: 1,
		Facts: s.facts(), SubmittedBy: "controller",
	})
}

// largeSeal signs a document as signedop.Seal does, byte for byte, but does not
// verify its own signature: that would take a quarter of the time.
func largeSeal(payload []byte, s signedop.Signer) []byte {
	sig, err := s.Sign(dsse.PAE(signedop.PayloadType, payload))
	if err != nil {
		panic(err)
	}
	b64 := base64.StdEncoding
	raw := append(make([]byte, 0, 2048), `{"payload":"`...)
	raw = b64.AppendEncode(raw, payload)
	raw = append(raw, `","payloadType":"`+signedop.PayloadType+`","signatures":[{"keyid":"`+ssh.FingerprintSHA256(s.Key().Public)+`","sig":"`...)
	return append(b64.AppendEncode(raw, sig), `"}]}`...)
}

// credential is the attempt's own token.
func (s *largeStory) credential() string {
	stem := largeDraw("token", s.i)
	return fmt.Sprintf("writ-launch@pve!w-%x-%d", stem[:20], s.op.Attempt)
}

func (s *largeStory) launching() {
	seen := s.seen
	s.happen(&op.Launching{
		Header: s.header(), Node: seen.Node, Credential: s.credential(), Observed: seen, PolicySerial: 1, Facts: s.facts(),
		Request: op.Request{Method: "DELETE", Path: fmt.Sprintf("/nodes/%s/%s/%d", seen.Node, seen.Type, seen.VMID)},
	})
}

func (s *largeStory) running() {
	t := s.target
	s.happen(&op.TaskRunning{Header: s.header(), UPID: fmt.Sprintf("UPID:%s:%08X:%08X:%08X:qmdestroy:%d:%s:",
		t.Node, 1000+s.i%4_000_000, s.i, s.at.Unix(), t.Guest.VMID, s.credential())})
}

func (s *largeStory) succeeded() {
	s.happen(&op.Succeeded{
		Header: s.header(), ExitStatus: "OK",
		Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"no guest of this identity exists any more"}},
	})
}

func (s *largeStory) failed(kind op.FailureKind, effect op.Effect) {
	s.happen(&op.Failed{
		Header: s.header(), Kind: kind, Effect: effect, Message: "the guest is not as the writ expects it: status running, expected stopped",
		Evidence: &op.Evidence{Effect: effect, Reasons: []string{"its configuration was read right before"}},
	})
}

func (s *largeStory) voided() {
	h := s.header()
	h.Class, h.Target = "", op.Target{}
	s.happen(&op.Voided{Header: h, Reason: "the guest is needed for another week", VoidedBy: "controller"})
}
