package gate_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// resolverPolicy is the policy of the tests with roles that may resolve.
func resolverPolicy() gate.PolicyDocument {
	doc := document()
	holders := []string{"alice", "bob", "carol", "dave", "erin", "grace"}
	doc.Roles["resolver"] = gate.Role{Holders: holders, Quorum: 2, MaxLifetime: "1h", Resolve: true}
	doc.Roles["on-call"] = gate.Role{Holders: holders, Quorum: 1, MaxLifetime: "1h", RequesterCounts: true, Resolve: true}
	doc.Roles["resolver-touched"] = gate.Role{
		Holders: []string{"alice", "carol"}, Quorum: 1, MaxLifetime: "1h", FIDO: gate.FIDO{Touch: true}, Resolve: true,
	}
	doc.Roles["resolver-verified"] = gate.Role{
		Holders: []string{"alice", "carol"}, Quorum: 1, MaxLifetime: "1h", FIDO: gate.FIDO{Touch: true, PIN: true}, Resolve: true,
	}
	both := doc.Roles["stopper"]
	both.Resolve = true
	doc.Roles["stopper-resolver"] = both
	return doc
}

// A settling is a resolution handed in, with all that the gate decides by.
// Tests begin with one that is allowed and spoil it.
type settling struct {
	now     time.Time
	policy  gate.PolicyDocument
	site    gate.Site
	res     signedop.Resolution
	signers []signedop.Signer
	bare    bool // without an envelope
	mangle  func(raw []byte) []byte
}

func settled() *settling {
	return &settling{
		now: now, policy: resolverPolicy(), site: site,
		res: signedop.Resolution{
			Version: 1, Nonce: "6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e", Audience: "lab/3f9c2ab41d6e4a70", Attempt: 1, Revision: 1,
			Verdict: signedop.VerdictFailed, Effect: op.EffectUnknown, Role: "resolver", RequestedBy: "frank",
			NotBefore: at("2026-11-23T09:00:00Z"), ExpiresAt: at("2026-11-23T10:00:00Z"), Reason: "OPS-124: pve1 burnt down",
		},
		signers: []signedop.Signer{alice, bob},
	}
}

func (s *settling) raw() []byte {
	if s.bare {
		return nil
	}
	raw := must(signedop.SealResolution(s.res, s.signers...))
	if s.mangle != nil {
		raw = s.mangle(raw)
	}
	return raw
}

func (s *settling) decide() gate.ResolutionDecision {
	return gate.Resolve(s.now, must(gate.Compile(s.policy, serial)), s.site, s.raw())
}

// revoke gives bob's key a time from which on it does not count.
func (s *settling) revoke(from string) {
	k := key(bob)
	k.RevokedAt = from
	s.policy.People["bob"] = gate.Person{Keys: []gate.Key{k}}
}

type resolveCase struct {
	name  string
	want  gate.Reason
	spoil func(*settling)
}

func resolveCases() []resolveCase {
	return []resolveCase{
		{"two holders of a role that resolves", gate.Signed, func(*settling) {}},
		{"junk and strangers beside a sufficient set", gate.Signed, func(s *settling) {
			s.signers = []signedop.Signer{stranger, carol, dave, frank, alice, erin, aliceLaptop, bob}
			s.mangle = breakSignature(0)
		}},
		{"the requester counts where the role says so", gate.Signed, func(s *settling) {
			s.res.Role, s.res.RequestedBy, s.signers = "on-call", "alice", []signedop.Signer{alice}
		}},
		{"a touch where the role demands one", gate.Signed, func(s *settling) {
			s.res.Role, s.signers = "resolver-touched", []signedop.Signer{carol}
		}},
		{"a PIN where the role demands one", gate.Signed, func(s *settling) {
			s.res.Role, s.signers = "resolver-verified", []signedop.Signer{carolPIN}
		}},
		{"a role that allows classes and resolves", gate.Signed, func(s *settling) { s.res.Role = "stopper-resolver" }},
		{"a verdict of success", gate.Signed, func(s *settling) {
			s.res.Verdict, s.res.Effect = signedop.VerdictSucceeded, op.EffectDone
		}},
		{"not_before within the clock skew", gate.Signed, func(s *settling) { s.now = s.res.NotBefore.Add(-30 * time.Second) }},
		{"the last moment before expiry", gate.Signed, func(s *settling) { s.now = s.res.ExpiresAt.Add(-1) }},

		{"no envelope", gate.Unsigned, func(s *settling) { s.bare = true }},
		{"an envelope that nobody has signed", gate.Unsigned, func(s *settling) { s.signers = nil }},
		{"no envelope but text", gate.Malformed, func(s *settling) { s.mangle = func([]byte) []byte { return []byte("please") } }},
		{"a line end after the envelope", gate.Malformed, func(s *settling) { s.mangle = func(raw []byte) []byte { return append(raw, '\n') } }},
		{"10 MB", gate.Malformed, func(s *settling) { s.mangle = func([]byte) []byte { return bytes.Repeat([]byte("A"), 10<<20) } }},
		{"the writ instead of a resolution", gate.Malformed, func(s *settling) { s.mangle = func([]byte) []byte { return allowed().raw() } }},
		{"the writ under the type of a resolution", gate.Malformed, func(s *settling) {
			s.mangle = func([]byte) []byte {
				return bytes.Replace(allowed().raw(), []byte(signedop.PayloadType), []byte(signedop.ResolutionPayloadType), 1)
			}
		}},

		{"only a broken signature", gate.BadSignature, func(s *settling) { s.signers, s.mangle = []signedop.Signer{alice}, breakSignature(0) }},
		{"only a stranger", gate.UnknownKey, func(s *settling) { s.signers = []signedop.Signer{stranger} }},
		{"only a revoked key", gate.KeyRevoked, func(s *settling) { s.signers = []signedop.Signer{dave} }},
		{"revoked at this very moment", gate.KeyRevoked, func(s *settling) { s.revoke("2026-11-23T09:30:00Z") }},
		{"only an expired key", gate.KeyExpired, func(s *settling) { s.signers = []signedop.Signer{erin} }},
		{"only a key that does not count yet", gate.KeyExpired, func(s *settling) { s.signers = []signedop.Signer{grace} }},
		{"enough people, one of them with an expired key", gate.KeyExpired, func(s *settling) { s.signers = []signedop.Signer{alice, erin} }},

		{"one of two", gate.QuorumNotMet, func(s *settling) { s.signers = []signedop.Signer{alice} }},
		{"one person with two keys", gate.QuorumNotMet, func(s *settling) { s.signers = []signedop.Signer{alice, aliceLaptop} }},
		{"one holder and one who is none", gate.QuorumNotMet, func(s *settling) { s.signers = []signedop.Signer{alice, frank} }},
		{"one of them is the requester", gate.QuorumNotMet, func(s *settling) { s.res.RequestedBy = "bob" }},
		{"no touch", gate.QuorumNotMet, func(s *settling) { s.res.Role, s.signers = "resolver-touched", []signedop.Signer{alice} }},
		{"a touch but no PIN", gate.QuorumNotMet, func(s *settling) { s.res.Role, s.signers = "resolver-verified", []signedop.Signer{carol} }},

		{"no such role", gate.RoleNotPermitted, func(s *settling) { s.res.Role = "root" }},
		{"a role in other capitals", gate.RoleNotPermitted, func(s *settling) { s.res.Role = "Resolver" }},
		{"a role that allows classes and does not resolve", gate.RoleNotPermitted, func(s *settling) { s.res.Role = "operator" }},
		{"the right to resolve was taken from the role", gate.RoleNotPermitted, func(s *settling) {
			s.policy.Roles["resolver"] = s.policy.Roles["operator"]
		}},
		{"no signer holds the role", gate.RoleNotPermitted, func(s *settling) { s.signers = []signedop.Signer{frank, stranger} }},

		{"another agent", gate.WrongAudience, func(s *settling) { s.res.Audience = "prod/3f9c2ab41d6e4a70" }},
		{"another ledger of the same agent", gate.WrongAudience, func(s *settling) { s.res.Audience = "lab/3f9c2ab41d6e4a71" }},
		{"not_before beyond the clock skew", gate.NotYetValid, func(s *settling) { s.now = s.res.NotBefore.Add(-30*time.Second - 1) }},
		{"the moment of expiry", gate.Expired, func(s *settling) { s.now = s.res.ExpiresAt }},
		{"longer than the role allows", gate.LifetimeTooLong, func(s *settling) {
			s.res.ExpiresAt = s.res.NotBefore.Add(time.Hour + time.Second)
		}},
	}
}

func TestEveryReasonOfResolve(t *testing.T) {
	var shown bytes.Buffer
	seen := make(map[gate.Reason]bool)
	for _, c := range resolveCases() {
		t.Run(c.name, func(t *testing.T) {
			s := settled()
			c.spoil(s)
			d := s.decide()
			seen[d.Reason] = true
			fmt.Fprintf(&shown, "%s\n    %s: %s\n", c.name, d.Reason, d.Detail)
			if d.Reason != c.want {
				t.Errorf("reason %s (%s), want %s", d.Reason, d.Detail, c.want)
			}
			signed := c.want == gate.Signed
			if d.Allowed() != signed || (d.Verified != nil) != signed || (len(d.Signers) > 0) != signed || (d.Role != "") != signed {
				t.Errorf("%s with allowed %t, the verified resolution %v, signers %v, role %q", c.want, d.Allowed(), d.Verified, d.Signers, d.Role)
			}
			if d.PolicySerial != serial {
				t.Errorf("policy serial %d, want %d", d.PolicySerial, serial)
			}
			if strings.Contains(d.Detail, string(s.res.Nonce)) || len(d.Detail) > gate.MaxDetailBytes {
				t.Errorf("detail shows too much: %s", d.Detail)
			}
		})
	}
	// What the others are about, a resolution does not have: class, target,
	// intent. Whether the nonce can still be settled is the engine's to know.
	without := []gate.Reason{
		gate.Benign, gate.UnknownClass, gate.OutOfScope, gate.IntentMismatch, gate.NotPermitted, gate.NonceReused,
		gate.NonceSpent, gate.Self,
	}
	for _, r := range gate.Reasons() {
		if seen[r] == slices.Contains(without, r) {
			t.Errorf("reason %s: given by a case %t, want the opposite", r, seen[r])
		}
	}
	golden(t, "resolve.golden", shown.Bytes())
}

// Two things are wrong, each pair of them: the check that comes first gives
// the reason.
func TestTheFirstFailingCheckOfResolveIsReported(t *testing.T) {
	checks := []resolveCase{
		{"envelope", gate.Unsigned, func(s *settling) { s.bare = true }},
		{"form", gate.Malformed, func(s *settling) { s.mangle = func(raw []byte) []byte { return append(raw, ' ') } }},
		{"signatures", gate.UnknownKey, func(s *settling) { s.signers = []signedop.Signer{stranger} }},
		{"role", gate.RoleNotPermitted, func(s *settling) { s.res.Role = "operator" }},
		{"quorum", gate.QuorumNotMet, func(s *settling) { s.signers = []signedop.Signer{bob, frank} }},
		{"audience", gate.WrongAudience, func(s *settling) { s.site.Ledger = "0000000000000000" }},
		{"start", gate.NotYetValid, func(s *settling) { s.now = s.now.Add(-time.Hour) }},
		{"expiry", gate.Expired, func(s *settling) { s.now = s.now.Add(48 * time.Hour) }},
		{"lifetime", gate.LifetimeTooLong, func(s *settling) { s.res.ExpiresAt = s.res.ExpiresAt.Add(25 * time.Hour) }},
	}
	for i, first := range checks {
		for _, second := range checks[i+1:] {
			if first.name == "start" && second.name == "expiry" {
				continue // no time is both
			}
			s := settled()
			second.spoil(s)
			first.spoil(s)
			if d := s.decide(); d.Reason != first.want {
				t.Errorf("%s and %s are wrong: reason %s (%s), want %s", first.name, second.name, d.Reason, d.Detail, first.want)
			}
		}
	}
}

// The right to resolve is none to order, and the other way round.
func TestARightToResolveOrdersNothing(t *testing.T) {
	for role, want := range map[string]gate.Reason{
		"resolver": gate.RoleNotPermitted, "stopper-resolver": gate.RoleNotPermitted, "operator": gate.Signed,
	} {
		r := allowed()
		r.policy, r.order.Role = resolverPolicy(), role
		if d := r.decide(); d.Reason != want {
			t.Errorf("guest-destroy in the role %s: reason %s (%s), want %s", role, d.Reason, d.Detail, want)
		}
	}
	r := allowed()
	r.policy = resolverPolicy()
	r.mangle = func([]byte) []byte { return settled().raw() }
	if d := r.decide(); d.Reason != gate.Malformed {
		t.Errorf("a resolution delivered as a writ: reason %s (%s), want %s", d.Reason, d.Detail, gate.Malformed)
	}
}

func TestAnAllowedResolutionHoldsWhatCounted(t *testing.T) {
	s := settled()
	s.signers = []signedop.Signer{stranger, dave, frank, aliceLaptop, alice, bob}
	d := s.decide()
	if !d.Allowed() {
		t.Fatalf("refused: %s: %s", d.Reason, d.Detail)
	}
	want := []op.Signer{
		{Person: "alice", Key: aliceLaptop.Key().Fingerprint}, {Person: "bob", Key: bob.Key().Fingerprint},
	}
	var keys []string
	for _, k := range d.Verified.Keys() {
		keys = append(keys, k.Fingerprint)
	}
	if !slices.Equal(d.Signers, want) || !slices.Equal(keys, []string{want[0].Key, want[1].Key}) {
		t.Errorf("signers %v, keys %v; want %v and no other keys", d.Signers, keys, want)
	}
	if d.Role != "resolver" || d.Verified.Resolution() != s.res {
		t.Errorf("role %s, resolution %+v; want resolver, %+v", d.Role, d.Verified.Resolution(), s.res)
	}
}

// Many signers with the longest names still make a detail within its bound.
func TestDetailOfManySignersIsBounded(t *testing.T) {
	s := settled()
	role := gate.Role{Quorum: 1, MaxLifetime: "1h", Resolve: true}
	s.signers = nil
	for n := range byte(signedop.MaxSignatures) {
		name := fmt.Sprintf("p%02d%s", n, strings.Repeat("x", signedop.MaxNameBytes-3))
		s.signers = append(s.signers, rawSigner(100+n))
		s.policy.People[name] = gate.Person{Keys: []gate.Key{key(rawSigner(100 + n))}}
		role.Holders = append(role.Holders, name)
	}
	s.policy.Roles["resolver"] = role
	if d := s.decide(); !d.Allowed() || len(d.Detail) > gate.MaxDetailBytes {
		t.Errorf("allowed %t with a detail of %d bytes, want it allowed with at most %d", d.Allowed(), len(d.Detail), gate.MaxDetailBytes)
	}
	r := allowed()
	role.Resolve, role.Allow = false, []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"105"}}}}
	r.policy, r.signers = s.policy, s.signers
	r.policy.Roles["operator"] = role
	if d := r.decide(); !d.Allowed() || len(d.Detail) > gate.MaxDetailBytes {
		t.Errorf("allowed %t with a detail of %d bytes, want it allowed with at most %d", d.Allowed(), len(d.Detail), gate.MaxDetailBytes)
	}
}

// What Resolve did not allow can't be made to look as if it had.
func TestOnlyResolveMakesAnAllowedResolution(t *testing.T) {
	good := settled().decide()
	s := settled()
	s.signers = []signedop.Signer{alice}
	refused := s.decide()
	if !good.Allowed() {
		t.Fatalf("refused: %s", good.Detail)
	}
	with := func(d gate.ResolutionDecision, r gate.Reason, v *signedop.VerifiedResolution) gate.ResolutionDecision {
		d.Reason, d.Verified = r, v
		return d
	}
	for name, d := range map[string]gate.ResolutionDecision{
		"the zero value":                           {},
		"signed by hand":                           {Reason: gate.Signed, Verified: good.Verified},
		"a refusal relabelled":                     with(refused, gate.Signed, good.Verified),
		"an allowed one without its resolution":    with(good, gate.Signed, nil),
		"an allowed one relabelled as a refusal":   with(good, gate.Expired, good.Verified),
		"an allowed one relabelled as benign":      with(good, gate.Benign, good.Verified),
		"of no policy":                             gate.Resolve(now, nil, site, settled().raw()),
		"of an empty policy":                       gate.Resolve(now, new(gate.Policy), site, settled().raw()),
		"of no envelope and no policy and no site": gate.Resolve(time.Time{}, nil, gate.Site{}, nil),
	} {
		if d.Allowed() {
			t.Errorf("%s: allowed, want not", name)
		}
	}
}

// The same arguments give the same answer, from many goroutines over one
// policy, and nothing of the arguments is changed.
func TestResolveIsPure(t *testing.T) {
	for _, c := range resolveCases() {
		s := settled()
		c.spoil(s)
		raw, p := s.raw(), must(gate.Compile(s.policy, serial))
		given := bytes.Clone(raw)
		decide := func() string {
			d := gate.Resolve(s.now, p, s.site, raw)
			return fmt.Sprintf("%s|%s|%v|%s|%d|%t", d.Reason, d.Detail, d.Signers, d.Role, d.PolicySerial, d.Allowed())
		}
		want := decide()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if got := decide(); got != want {
					t.Errorf("%s: got %s, want %s", c.name, got, want)
				}
			})
		}
		wg.Wait()
		if !bytes.Equal(raw, given) {
			t.Errorf("%s: the envelope was changed", c.name)
		}
	}
}

// The stored form of a policy with the right to resolve. One without it is
// stored as ever.
func TestRecordedPolicyWithResolvers(t *testing.T) {
	const file = "policy-resolvers.json"
	golden(t, file, must(op.Marshal(must(gate.Compile(resolverPolicy(), serial)).Document())))
	var stored gate.PolicyDocument
	if err := op.Unmarshal(must(os.ReadFile("testdata/"+file)), &stored); err != nil {
		t.Fatal(err)
	}
	p := must(gate.Compile(stored, serial))
	for _, c := range resolveCases() {
		s := settled()
		c.spoil(s)
		if !bytes.Equal(must(op.Marshal(s.policy)), must(op.Marshal(resolverPolicy()))) {
			continue // the case is about another policy
		}
		direct, recorded := s.decide(), gate.Resolve(s.now, p, s.site, s.raw())
		if recorded.Reason != direct.Reason || recorded.Detail != direct.Detail || !slices.Equal(recorded.Signers, direct.Signers) {
			t.Errorf("%s: by the recorded policy %s (%s), want %s (%s)", c.name, recorded.Reason, recorded.Detail, direct.Reason, direct.Detail)
		}
	}
	if plain := must(op.Marshal(document())); bytes.Contains(plain, []byte("resolve")) {
		t.Errorf("a policy without resolvers is stored as %s", plain)
	}
}
