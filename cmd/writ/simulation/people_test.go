package simulation_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// An order is a writ that people have signed.
type order struct {
	nonce    op.Nonce
	doc      signedop.Document
	envelope []byte
	vmid     int
	uuid     string
	hostile  bool // nobody who may has signed it, or not this
	audience string

	// Of carried histories.
	prize   string // what it is about, as it was when it was signed
	keyless bool
}

// label is for the history.
func (o *order) label() string {
	if o.prize != "" {
		return string(o.doc.Class) + " of " + o.prize
	}
	return o.uuid[24:]
}

// What takes long to make, and is the same in each history, is made once.
var (
	alice, bob, mallory = person("alice"), person("bob"), person("mallory")
	policies            = []gate.PolicyDocument{policy("alice", "bob"), policy("bob"), policy("alice")}
	sealed              = make(map[string][]byte)
)

func person(name string) signedop.Signer {
	seed := sha256.Sum256([]byte(name))
	s, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return s
}

// policy is one in which some of the people may order, and bob may settle.
func policy(holders ...string) gate.PolicyDocument {
	key := func(s signedop.Signer, revoked bool) gate.Person {
		line := string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(s.Key().Public)))
		k := gate.Key{Key: line, Format: "raw"}
		if revoked {
			k.RevokedAt = "1999-12-31T00:00:00Z"
		}
		return gate.Person{Keys: []gate.Key{k}}
	}
	return gate.PolicyDocument{
		Version: 1,
		People:  map[string]gate.Person{"alice": key(alice, len(holders) == 1 && holders[0] == "bob"), "bob": key(bob, false)},
		Roles: map[string]gate.Role{"operator": {
			Holders: holders, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true,
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-199"}}}},
		}, "resolver": {
			Holders: []string{"bob"}, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true, Resolve: true,
		}},
	}
}

// order lets a person sign a writ for a guest as it is now.
func (s *sim) order(g *guest) *order {
	seen := g.seen()
	// The same in many histories, so that it is signed but once.
	s.drawn[g.uuid]++
	sum := sha256.Sum256(fmt.Appendf(nil, "order %d for %s", s.drawn[g.uuid], g.uuid))
	lives := []time.Duration{3 * time.Minute, 12 * time.Hour, 12 * time.Hour, 12 * time.Hour}[s.rng.upTo(4)]
	d := signedop.Document{
		Version: 1, Nonce: op.Nonce(fmt.Sprintf("%x", sum[:16])), Audience: agent + "/" + s.audience, Class: op.GuestDestroy,
		Target: op.Target{Node: s.host.names[0], Guest: &op.Guest{Type: seen.Type, VMID: seen.VMID}},
		Expect: signedop.Expect{SMBIOSUUID: seen.SMBIOSUUID, VMGenID: seen.VMGenID, Volumes: seen.Volumes},
		Role:   "operator", RequestedBy: "alice", NotBefore: s.start.Add(-time.Hour).UTC(), ExpiresAt: s.start.Add(lives).UTC(), Reason: "retire it",
	}
	o := &order{nonce: d.Nonce, doc: d, vmid: g.vmid, uuid: g.uuid, audience: s.audience}
	who := []signedop.Signer{alice, bob, bob, mallory}[[]int{0, 0, 0, 1, 1, 1, 1, 2, 2, 3}[s.rng.upTo(10)]]
	o.hostile = who == mallory
	o.envelope = seal(d, who)
	s.writs = append(s.writs, o)
	s.orders[o.nonce] = o
	return o
}

// seal signs a document, once in the life of the program.
func seal(d signedop.Document, by signedop.Signer) []byte {
	if d.Class != op.GuestDestroy {
		return sealAnew(d, by)
	}
	key := fmt.Sprint(d.Nonce, d.Audience, d.Target.Guest.VMID, d.Expect, d.ExpiresAt.Unix(), by.Key().Fingerprint)
	if raw := sealed[key]; raw != nil {
		return raw
	}
	raw := sealAnew(d, by)
	sealed[key] = raw
	return raw
}

func sealAnew(d signedop.Document, by signedop.Signer) []byte {
	raw, err := signedop.Seal(d, by)
	if err != nil {
		panic(err)
	}
	return raw
}

// deliver hands a writ to an instance. Whoever does may lose patience.
func (s *sim) deliver(i *instance, o *order, twist int) {
	p := i.up
	if p == nil {
		return
	}
	sub := engine.Submission{Intent: o.doc.Intent(), Envelope: o.envelope, SubmittedBy: "caller"}
	switch twist {
	case 1: // another guest than the one that was signed for
		sub.Intent.Target.Node, sub.Intent.Target.Guest = "pve9", &op.Guest{Type: op.QEMU, VMID: 100 + max(0, o.vmid-99)%len(s.vmids)}
	case 2: // a byte was changed on the way
		sub.Envelope = bytes.Clone(o.envelope)
		sub.Envelope[s.rng.upTo(len(sub.Envelope))] ^= 1
	case 3:
		sub.Envelope = nil
	}
	s.figures.Events["deliveries"]++
	s.tell("order for", o.label(), "is delivered to", p.name)
	ctx, cancel := context.WithCancel(s.caller())
	if s.rng.per1000(200) {
		s.after(s.rng.within(10*time.Second), cancel)
	}
	s.begin(func() {
		defer cancel()
		a := p.engine.RunSignedJob(ctx, sub)
		s.answered(a)
	})
}

// answered counts what callers are told.
func (s *sim) answered(a engine.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures.Answers[a.Outcome.String()]++
}

// void takes a writ back.
func (s *sim) void(i *instance, o *order) {
	p := i.up
	if p == nil {
		return
	}
	ctx := s.caller()
	s.begin(func() {
		a := p.engine.Void(ctx, o.nonce, "alice", "changed my mind")
		s.answered(a)
	})
}

// settle lets a person settle an op that was left in flight, as well as they can.
func (s *sim) settle(i *instance, n op.Nonce) bool {
	p := i.up
	if p == nil {
		return false
	}
	o, err := engine.LoadOp(context.Background(), p.copy.memory, ledger, n)
	if err != nil || o.State != op.StateLaunching && o.State != op.StateTaskRunning || s.orders[n] == nil {
		return false
	}
	r := signedop.Resolution{
		Version: 1, Nonce: n, Audience: agent + "/" + s.audience, Attempt: o.Attempt, Revision: o.Tail.Next - 1,
		Verdict: signedop.VerdictFailed, Effect: op.EffectUnknown, Role: "resolver", RequestedBy: "bob",
		NotBefore: s.start.Add(-time.Hour).UTC(), ExpiresAt: s.start.Add(12 * time.Hour).UTC(), Reason: "looked at it",
	}
	switch done, none := s.seenOf(s.orders[n], o.OpID); {
	case done:
		r.Verdict, r.Effect = signedop.VerdictSucceeded, op.EffectDone
	case none && s.saidNone[o.OpID] < 3 && s.rng.per1000(500): // refused time and again, they say that they don't know
		s.saidNone[o.OpID]++
		r.Effect = op.EffectNone // so it looks; whether something may still act the service finds out
	}
	raw, err := signedop.SealResolution(r, bob)
	if err != nil {
		panic(err)
	}
	if r.Effect == op.EffectUnknown {
		// It may be on record even if the answer is that this is not certain.
		s.settled[o.OpID], s.settledOn[s.orders[n].vmid] = true, true
	}
	s.tell("a person settles", o.OpID, string(r.Effect))
	ctx := s.caller()
	s.begin(func() {
		a := p.engine.Resolve(ctx, raw, "caller")
		s.answered(a)
	})
	return true
}

// seenOf is what a person who looks at the host takes an attempt for: done, or
// without effect, or neither.
func (s *sim) seenOf(o *order, opID string) (done, none bool) {
	if w := s.world; w != nil {
		still := !w.atWork(opID)
		return still && w.done(o, opID), still && !w.touched(opID)
	}
	end := s.host.ends[o.uuid]
	return end != nil && end.of != nil && end.of.opID == opID && !s.active(opID), !s.touched(opID)
}

// touched tells whether an attempt has had an effect.
func (s *sim) touched(opID string) bool {
	for _, e := range s.host.effects {
		if e.of.opID == opID {
			return true
		}
	}
	return false
}

// active tells whether something of an attempt may act.
func (s *sim) active(opID string) bool {
	for _, r := range s.host.requests {
		if r.l.OpID == opID && s.host.mayAct(r) {
			return true
		}
	}
	return false
}
