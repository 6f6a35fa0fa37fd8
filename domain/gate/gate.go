// Package gate decides whether an intent may run.
//
// The decision has two pure steps, so that an auditor can take every one of
// them again from the record. Authenticate looks at bytes, policy and time
// alone; only what it lets through may cost the host a question. The facts
// about the target are then read, and Permit decides with them. Neither reads
// a clock, does I/O or keeps anything between two calls but which signatures
// are good, which never changes: the same arguments always give the same
// Decision, down to the text of its detail.
//
// The checks stand in a fixed order, and the first that fails gives the
// reason:
//
//  1. the class is known                                   unknown-class
//  2. it is signed, and there is an envelope               unsigned
//  3. the envelope is well formed                          malformed
//  4. a known, valid key has signed                        key-revoked, key-expired, bad-signature, unknown-key
//  5. the role exists, allows the class, is held           role-not-permitted
//     by enough distinct people among the signers          quorum-not-met (or key-revoked, key-expired)
//  6. the document is for this agent and ledger            wrong-audience
//  7. it is valid now, and not for too long                not-yet-valid, expired, lifetime-too-long
//  8. the intent says exactly what the document says       intent-mismatch
//  9. one rule of the role grants the target as it is now  out-of-scope
//  10. the target is not part of writ itself                self
//
// Checks 1 to 8 are Authenticate, and Permit takes them again with its own
// time and policy before 9 and 10. So nothing that was true a moment ago is
// trusted: right before a launch Permit is called once more, with the newest
// policy and facts, and a key revoked meanwhile refuses the op. What can't
// change is not repeated: the envelope is parsed once, and each signature is
// verified once by each key.
//
// A benign class takes nothing away and is submitted without an envelope. For
// it, these stand in the place of 2 to 9:
//
//   - there is no envelope, and one rule of the policy
//     names caller and class                              not-permitted
//   - the intent is well formed                           malformed
//   - one such rule grants the target as it is now        not-permitted
//
// A resolution, which settles an op instead of ordering one, is decided in one
// step by Resolve: checks 2 to 7 for it, where the role must have the right to
// resolve.
//
// What the policy file says and means is told at PolicyDocument. Anything that
// is absent, empty, unknown or undecidable refuses; no rule can take away what
// an op document must expect of its target.
package gate

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/op"
	"writ/domain/signedop"
)

// A Site is what an instance is and what it must not touch.
type Site struct {
	Agent  string // name of the agent
	Ledger string // id of the ledger
	// Self are the guests that writ itself runs in. They are compared by VMID
	// alone, which is unique in a cluster: a wrong type can't open the way.
	Self []op.Guest
	// SelfStorages are the storages that hold the ledger. Ops on whole
	// storages, raw volumes and backups there are refused, on any node, as
	// storages of one name can't be told apart by the facts. Guests with disks
	// there are not refused: their ops touch their own volumes only.
	SelfStorages []string
}

// Audience is what an op document must name to be run here.
func (s Site) Audience() string { return s.Agent + "/" + s.Ledger }

// A Submission is what the gate is asked about. Nothing in it is trusted but
// the caller's name.
type Submission struct {
	Intent op.Intent
	// Envelope is the writ as received; empty if there was none.
	Envelope []byte
	// Parsed may be the envelope as parsed before, to spare parsing it again.
	// It is used only if it is of exactly these bytes.
	Parsed *signedop.Unverified
	// Caller is the name of the API token by which the submission came, as
	// established by whoever took it in. It opens benign classes alone, and
	// only where a rule names it.
	Caller string
}

// Authenticated is a submission that passed Authenticate: proof that asking
// the host about its target is warranted. It allows nothing by itself. It is
// immutable and may be used concurrently.
type Authenticated struct {
	intent   op.Intent
	caller   string
	writ     *signedop.Unverified // remembers which signatures are good; nil for a benign op
	document signedop.Document
}

// Document is the op document whose signatures were verified; the zero one for
// a benign op. Whoever changes what it points to changes no decision.
func (a *Authenticated) Document() signedop.Document { return a.document }

// Authenticate takes the checks that need nothing from the host: 1 to 8 of
// the package comment. Refused, the result is nil and the Decision says why.
// Otherwise the Decision is the zero one, which allows nothing, as Permit has
// yet to decide. What the intent points to must not be changed while the
// result is in use; the envelope is copied.
//
// It may be called concurrently. Its cost is bounded whatever the envelope
// holds: it is parsed at most once, and at most signedop.MaxSignatures signatures are
// verified, each once. Permit repeats none of that.
func Authenticate(now time.Time, p *Policy, site Site, s Submission) (*Authenticated, Decision) {
	if !s.Intent.Class.Known() {
		return nil, p.refuse(UnknownClass, fmt.Sprintf("intent.class: %s is none of %v", quote(string(s.Intent.Class)), op.Classes()))
	}
	if s.Intent.Class.Benign() {
		return p.authenticateBenign(s)
	}
	if len(s.Envelope) == 0 {
		return nil, p.refuse(Unsigned, fmt.Sprintf("envelope: missing, %s runs only with a signed writ", s.Intent.Class))
	}
	u := s.Parsed
	if u == nil || !u.IsOf(s.Envelope) {
		var err error
		if u, err = signedop.Parse(s.Envelope); err != nil {
			return nil, p.refuse(Malformed, err.Error())
		}
	}
	doc, d := p.authenticate(now, site, s.Intent, u)
	if d.Reason != Signed {
		return nil, d
	}
	return &Authenticated{intent: s.Intent, caller: s.Caller, writ: u, document: doc}, Decision{}
}

// Permit decides. It takes again those of checks 1 to 8 that policy, time and
// site bear on, with those that it is given, and then 9 and 10 with facts that
// must have been read for this decision. A Decision that allows a signed op
// holds the verified document, the people whose signatures counted, and the
// role; one that allows a benign op holds none of them.
func Permit(now time.Time, p *Policy, site Site, a *Authenticated, facts op.Facts) Decision {
	switch {
	case a == nil:
		return p.refuse(Unsigned, "nothing was authenticated: a refusal of Authenticate must not be passed on")
	case a.intent.Class.Benign():
		return p.permitBenign(site, a, facts)
	case a.writ == nil:
		return p.refuse(Unsigned, "nothing was authenticated: use what Authenticate gives")
	}
	doc, d := p.authenticate(now, site, a.intent, a.writ)
	if d.Reason != Signed {
		return d
	}
	granted, why := p.roles[doc.Role].grants(doc.Class, doc.Target, facts)
	if granted == "" {
		return p.refuse(OutOfScope, why)
	}
	if why := site.touchesSelf(doc.Class, doc.Target, facts); why != "" {
		return p.refuse(Self, why)
	}
	// Asked once more against nothing but the keys that counted, so that what
	// an allowed Decision carries names no key that did not. The answers are
	// remembered: no signature is verified again.
	if d.Verified, _ = a.writ.Verify(p.keysOf(d.Signers)); d.Verified == nil {
		panic("gate: internal error: signatures that counted do not verify")
	}
	d.Detail = clipTo(fmt.Sprintf("roles.%s.%s; signed by %s", doc.Role, granted, people(d.Signers)), MaxDetailBytes)
	d.permitted = true
	return d
}

// authenticate takes checks 4 to 8 of a writ that is in form. If they pass it
// gives the document, and a Decision of reason Signed that Permit has yet to
// complete.
func (p *Policy) authenticate(now time.Time, site Site, intent op.Intent, u *signedop.Unverified) (signedop.Document, Decision) {
	if p == nil {
		p = &Policy{}
	}
	refuse := func(r Reason, why string) (signedop.Document, Decision) { return signedop.Document{}, p.refuse(r, why) }
	signed, outcomes := u.Verify(p.trusted)
	sigs := p.judge(now, outcomes)
	if r, why := unusable("writ", sigs); r != "" {
		return refuse(r, why)
	}
	doc := signed.Document()
	signers, r, why := p.agree(now, site, termsOf(&doc), sigs)
	if r != "" {
		return refuse(r, why)
	}
	if why := mismatch(intent, doc.Intent()); why != "" {
		return refuse(IntentMismatch, why)
	}
	return doc, Decision{Reason: Signed, Signers: signers, Role: doc.Role, PolicySerial: p.Serial()}
}

// mismatch names the first field in which what is asked for is not what was
// signed; empty if all are the same.
func mismatch(asked, signed op.Intent) string {
	differ := func(field string, asked, signed any) string {
		return fmt.Sprintf("intent.%s: %v was submitted, %v was signed: submit what the writ says, or sign another", field, asked, signed)
	}
	switch a, s := asked.Target.Guest, signed.Target.Guest; {
	case asked.Class != signed.Class:
		return differ("class", asked.Class, signed.Class)
	case asked.Target.Node != signed.Target.Node:
		return differ("target.node", quote(asked.Target.Node), quote(signed.Target.Node))
	case (a == nil) != (s == nil):
		return differ("target", asked.Target, signed.Target)
	case a != nil && a.Type != s.Type:
		return differ("target.guest.type", quote(string(a.Type)), quote(string(s.Type)))
	case a != nil && a.VMID != s.VMID:
		return differ("target.guest.vmid", a.VMID, s.VMID)
	case asked.Target.Volume != signed.Target.Volume:
		return differ("target.volume", quote(asked.Target.Volume), quote(signed.Target.Volume))
	case asked.Target.Disk != signed.Target.Disk:
		return differ("target.disk", quote(asked.Target.Disk), quote(signed.Target.Disk))
	// Whatever a target holds besides.
	case !asked.Target.Equal(signed.Target):
		return differ("target", asked.Target, signed.Target)
	}
	if name := asked.Params.Differs(signed.Params); name != "" {
		return differ("params."+name, given(asked.Params, name), given(signed.Params, name))
	}
	return ""
}

// given shows one parameter as it was given.
func given(p op.Params, name string) string {
	data, err := op.Marshal(p)
	if err != nil {
		return "something else"
	}
	var all map[string]jsontext.Value
	if op.Unmarshal(data, &all) != nil || all[name] == nil {
		return "nothing"
	}
	return clipTo(string(all[name]), 64)
}
