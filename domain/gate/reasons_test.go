package gate_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// breakSignature changes the n-th signature of an envelope to one that the
// named key did not make.
func breakSignature(n int) func([]byte) []byte {
	return func(raw []byte) []byte {
		parts := strings.Split(string(raw), `"sig":"`)
		sig := []byte(parts[n+1])
		if sig[4] == 'A' {
			sig[4] = 'B'
		} else {
			sig[4] = 'A'
		}
		parts[n+1] = string(sig)
		return []byte(strings.Join(parts, `"sig":"`))
	}
}

type reasonCase struct {
	name  string
	want  gate.Reason
	spoil func(*request)
}

func reasonCases() []reasonCase {
	return []reasonCase{
		{"two holders sign for a guest in range", gate.Signed, func(*request) {}},
		{"junk and strangers beside a sufficient set", gate.Signed, func(r *request) {
			r.signers = []signedop.Signer{stranger, carol, dave, frank, alice, erin, aliceLaptop, bob}
			r.mangle = breakSignature(0)
		}},
		{"a broken signature beside a sufficient set", gate.Signed, func(r *request) {
			r.signers = []signedop.Signer{carol, alice, bob}
			r.mangle = breakSignature(1)
		}},
		{"the requester counts where the role says so", gate.Signed, func(r *request) {
			r.order.Role, r.order.RequestedBy, r.signers = "solo", "alice", []signedop.Signer{alice}
		}},
		{"a touch where the role demands one", gate.Signed, func(r *request) {
			r.order.Role, r.signers = "touched", []signedop.Signer{carol}
		}},
		{"a PIN where the role demands one", gate.Signed, func(r *request) {
			r.order.Role, r.signers = "verified", []signedop.Signer{carolPIN}
		}},
		{"not_before within the clock skew", gate.Signed, func(r *request) { r.now = r.order.NotBefore.Add(-30 * time.Second) }},
		{"the last moment before expiry", gate.Signed, func(r *request) { r.now = r.order.ExpiresAt.Add(-1) }},
		{"exactly the longest lifetime", gate.Signed, func(r *request) { r.order.ExpiresAt = r.order.NotBefore.Add(24 * time.Hour) }},

		{"no such class", gate.UnknownClass, func(r *request) { r.intent.Class = "guest-explode\x1b[2J" }},
		{"empty class", gate.UnknownClass, func(r *request) { r.intent.Class = "" }},
		{"no envelope", gate.Unsigned, func(r *request) { r.bare = true }},
		{"an envelope that nobody has signed", gate.Unsigned, func(r *request) { r.signers = nil }},
		{"no envelope at all but text", gate.Malformed, func(r *request) { r.mangle = func([]byte) []byte { return []byte("please") } }},
		{"a line end after the envelope", gate.Malformed, func(r *request) { r.mangle = func(raw []byte) []byte { return append(raw, '\n') } }},

		{"only a broken signature", gate.BadSignature, func(r *request) { r.signers, r.mangle = []signedop.Signer{alice}, breakSignature(0) }},
		{"a broken signature and a stranger's", gate.BadSignature, func(r *request) {
			r.signers, r.mangle = []signedop.Signer{stranger, alice}, breakSignature(1)
		}},
		{"only a stranger", gate.UnknownKey, func(r *request) { r.signers = []signedop.Signer{stranger} }},
		{"only a revoked key", gate.KeyRevoked, func(r *request) { r.signers = []signedop.Signer{dave} }},
		{"revoked is told before expired, bad and unknown", gate.KeyRevoked, func(r *request) {
			r.signers, r.mangle = []signedop.Signer{stranger, alice, erin, dave}, breakSignature(1)
		}},
		{"revoked at this very moment", gate.KeyRevoked, func(r *request) {
			k := key(alice)
			k.RevokedAt = "2026-11-23T09:30:00Z"
			r.policy.People["alice"] = gate.Person{Keys: []gate.Key{k}}
			r.signers = []signedop.Signer{alice}
		}},
		{"revoked after the signature's validity began", gate.KeyRevoked, func(r *request) {
			k := key(bob)
			k.RevokedAt = "2026-11-23T09:29:59Z"
			r.policy.People["bob"] = gate.Person{Keys: []gate.Key{k}}
		}},
		{"only an expired key", gate.KeyExpired, func(r *request) { r.signers = []signedop.Signer{erin} }},
		{"a key that ends at this very moment", gate.KeyExpired, func(r *request) {
			k := key(alice)
			k.NotAfter = "2026-11-23T09:30:00Z"
			r.policy.People["alice"] = gate.Person{Keys: []gate.Key{k}}
			r.signers = []signedop.Signer{alice}
		}},
		{"only a key that does not count yet", gate.KeyExpired, func(r *request) { r.signers = []signedop.Signer{grace} }},
		{"enough people, one of them with a revoked key", gate.KeyRevoked, func(r *request) { r.signers = []signedop.Signer{alice, dave} }},
		{"enough people, one of them with an expired key", gate.KeyExpired, func(r *request) { r.signers = []signedop.Signer{alice, erin} }},
		{"a stranger to the role, and a holder's revoked key", gate.KeyRevoked, func(r *request) {
			r.order.Role, r.signers = "solo", []signedop.Signer{frank, dave}
		}},

		{"one of two", gate.QuorumNotMet, func(r *request) { r.signers = []signedop.Signer{alice} }},
		{"one person with two keys", gate.QuorumNotMet, func(r *request) { r.signers = []signedop.Signer{alice, aliceLaptop} }},
		{"one holder and one who is none", gate.QuorumNotMet, func(r *request) { r.signers = []signedop.Signer{alice, frank} }},
		{"one holder and a broken signature", gate.QuorumNotMet, func(r *request) { r.mangle = breakSignature(1) }},
		{"one of them is the requester", gate.QuorumNotMet, func(r *request) { r.order.RequestedBy = "bob" }},
		{"the requester in other capitals", gate.QuorumNotMet, func(r *request) { r.order.RequestedBy = "Bob" }},
		{"the requester's own revoked key would not have counted", gate.QuorumNotMet, func(r *request) {
			r.signers, r.order.RequestedBy = []signedop.Signer{alice, dave}, "dave"
		}},
		{"one person with a good key and a revoked one", gate.QuorumNotMet, func(r *request) {
			k := key(aliceLaptop)
			k.RevokedAt = "2026-11-01T00:00:00Z"
			r.policy.People["alice"] = gate.Person{Keys: []gate.Key{key(alice), k}}
			r.signers = []signedop.Signer{aliceLaptop, alice}
		}},
		{"no touch", gate.QuorumNotMet, func(r *request) { r.order.Role, r.signers = "touched", []signedop.Signer{alice} }},
		{"a touch but no PIN", gate.QuorumNotMet, func(r *request) { r.order.Role, r.signers = "verified", []signedop.Signer{carol} }},

		{"no such role", gate.RoleNotPermitted, func(r *request) { r.order.Role = "root" }},
		{"a role for other classes", gate.RoleNotPermitted, func(r *request) { r.order.Role = "stopper" }},
		{"no signer holds the role", gate.RoleNotPermitted, func(r *request) { r.signers = []signedop.Signer{frank, stranger} }},

		{"another agent", gate.WrongAudience, func(r *request) { r.order.Audience = "prod/3f9c2ab41d6e4a70" }},
		{"another ledger of the same agent", gate.WrongAudience, func(r *request) { r.order.Audience = "lab/3f9c2ab41d6e4a71" }},
		{"not_before beyond the clock skew", gate.NotYetValid, func(r *request) { r.now = r.order.NotBefore.Add(-30*time.Second - 1) }},
		{"the moment of expiry", gate.Expired, func(r *request) { r.now = r.order.ExpiresAt }},
		{"longer than the role allows", gate.LifetimeTooLong, func(r *request) {
			r.order.ExpiresAt = r.order.NotBefore.Add(24*time.Hour + time.Second)
		}},

		{"another vmid than was signed", gate.IntentMismatch, func(r *request) { r.intent.Target.Guest = guest(106) }},
		{"another node than was signed", gate.IntentMismatch, func(r *request) { r.intent.Target.Node = "pve2" }},
		{"a parameter that was not signed", gate.IntentMismatch, func(r *request) { yes := true; r.intent.Params.Purge = &yes }},
		{"a signed parameter left out", gate.IntentMismatch, func(r *request) { r.intent.Params.Purge = nil }},

		{"neither range, pool nor storages", gate.OutOfScope, func(r *request) { r.aim(200) }},
		{"a guest that does not exist, out of range", gate.OutOfScope, func(r *request) { r.aim(200); r.facts = op.Facts{} }},
		{"the guest that writ runs in", gate.Self, func(r *request) { r.aim(150) }},

		{"a rule names caller and class and grants the vmid", gate.Benign, func(r *request) { r.ask("terraform", op.GuestStart) }},
		{"granted by pool", gate.Benign, func(r *request) { r.ask("ci", op.SnapshotCreate); r.aim(300); r.facts.Pool = "test" }},
		{"granted by storages and narrowed by a tag it has", gate.Benign, func(r *request) {
			r.ask("backup@night", op.BackupCreate)
			r.facts.Storages, r.facts.Tags = []string{"scratch2"}, []string{"disposable"}
		}},
		{"benign, years after and under another ledger: no writ, no time, no audience", gate.Benign, func(r *request) {
			r.ask("ci", op.GuestStart)
			r.now, r.site.Ledger = r.now.AddDate(3, 0, 0), "0000000000000000"
		}},
		{"benign, and the policy has no such rules", gate.NotPermitted, func(r *request) { r.ask("terraform", op.GuestStart); r.policy.Benign = nil }},
		{"benign by a caller in no rule", gate.NotPermitted, func(r *request) { r.ask("mallory\x1b[2J", op.GuestStart) }},
		{"benign by a holder of every role", gate.NotPermitted, func(r *request) { r.ask("alice", op.GuestStart) }},
		{"a caller in other capitals", gate.NotPermitted, func(r *request) { r.ask("Terraform", op.GuestStart) }},
		{"a caller without a name", gate.NotPermitted, func(r *request) { r.ask("", op.GuestStart) }},
		{"a caller without a token", gate.NotPermitted, func(r *request) { r.ask(gate.Tokenless, op.GuestStart) }},
		{"a class that only another's rule names", gate.NotPermitted, func(r *request) { r.ask("terraform", op.BackupCreate) }},
		{"a target that only another's rule grants", gate.NotPermitted, func(r *request) {
			r.ask("backup@night", op.SnapshotCreate)
			r.facts.Tags = []string{"disposable"}
		}},
		{"a target that the rule narrows away", gate.NotPermitted, func(r *request) {
			r.ask("backup@night", op.BackupCreate)
			r.facts.Storages = []string{"scratch"}
		}},
		{"a target that no rule grants", gate.NotPermitted, func(r *request) { r.ask("terraform", op.GuestStart); r.aim(200) }},
		{"a target that does not exist, out of range", gate.NotPermitted, func(r *request) {
			r.ask("terraform", op.GuestStart)
			r.aim(200)
			r.facts = op.Facts{Pool: "test"}
		}},
		{"a benign class with an envelope", gate.NotPermitted, func(r *request) { r.intent.Class = op.GuestStart }},
		{"a benign class with a writ for it, signed by all", gate.NotPermitted, func(r *request) {
			r.ask("terraform", op.GuestStart)
			r.order.Class, r.order.Params, r.bare = op.GuestStart, op.Params{}, false
		}},
		{"a signed class by a caller of benign rules", gate.Unsigned, func(r *request) { r.bare = true; r.caller = "ci" }},
		{"benign with a parameter", gate.Malformed, func(r *request) {
			r.ask("terraform", op.GuestStart)
			purge := true
			r.intent.Params.Purge = &purge
		}},
		{"benign without a guest", gate.Malformed, func(r *request) { r.ask("terraform", op.GuestStart); r.intent.Target.Guest = nil }},
		{"benign on a node that is a path", gate.Malformed, func(r *request) { r.ask("terraform", op.GuestStart); r.intent.Target.Node = "../x" }},
		{"benign on the guest that writ runs in", gate.Self, func(r *request) { r.ask("terraform", op.GuestStart); r.aim(150) }},
	}
}

// allows are the reasons that let an op run.
var allows = map[gate.Reason]bool{gate.Signed: true, gate.Benign: true}

// aim points intent and order at another guest.
func (r *request) aim(vmid int) {
	r.intent.Target.Guest, r.order.Target.Guest = guest(vmid), guest(vmid)
}

func TestEveryReason(t *testing.T) {
	var out bytes.Buffer
	seen := make(map[gate.Reason]bool)
	show := func(name string, d gate.Decision) {
		seen[d.Reason] = true
		fmt.Fprintf(&out, "%s\n    %s: %s\n", name, d.Reason, d.Detail)
	}
	for _, c := range reasonCases() {
		t.Run(c.name, func(t *testing.T) {
			r := allowed()
			c.spoil(r)
			d := r.decide()
			show(c.name, d)
			if d.Reason != c.want {
				t.Errorf("reason %s (%s), want %s", d.Reason, d.Detail, c.want)
			}
			if got, want := d.Allowed(), allows[c.want]; got != want {
				t.Errorf("allowed %t, want %t", got, want)
			}
			signed := c.want == gate.Signed
			if (d.Verified != nil) != signed || (len(d.Signers) > 0) != signed || (d.Role != "") != signed {
				t.Errorf("%s with the verified document %v, signers %v, role %q", c.want, d.Verified, d.Signers, d.Role)
			}
			if d.PolicySerial != serial {
				t.Errorf("policy serial %d, want %d", d.PolicySerial, serial)
			}
			if strings.Contains(d.Detail, string(r.order.Nonce)) {
				t.Errorf("detail shows the whole nonce: %s", d.Detail)
			}
		})
	}
	show("the engine knows another document under this nonce", gate.Refuse(gate.NonceReused, "nonce 6f1c9a0e…: pinned to another document"))
	show("the engine knows the nonce as spent", gate.Refuse(gate.NonceSpent, "nonce 6f1c9a0e…: voided"))
	for _, r := range gate.Reasons() {
		if !seen[r] {
			t.Errorf("no case gives the reason %s", r)
		}
	}
	golden(t, "reasons.golden", out.Bytes())
}

// Two things are wrong, each pair of them: the check that comes first gives
// the reason.
func TestTheFirstFailingCheckIsReported(t *testing.T) {
	checks := []reasonCase{
		{"class", gate.UnknownClass, func(r *request) { r.intent.Class = "guest-explode" }},
		{"envelope", gate.Unsigned, func(r *request) { r.bare = true }},
		{"form", gate.Malformed, func(r *request) { r.mangle = func(raw []byte) []byte { return append(raw, ' ') } }},
		{"signatures", gate.UnknownKey, func(r *request) { r.signers = []signedop.Signer{stranger} }},
		{"role", gate.RoleNotPermitted, func(r *request) { r.order.Role = "root" }},
		{"quorum", gate.QuorumNotMet, func(r *request) { r.signers = []signedop.Signer{bob, frank} }},
		{"audience", gate.WrongAudience, func(r *request) { r.site.Ledger = "0000000000000000" }},
		{"start", gate.NotYetValid, func(r *request) { r.now = r.now.Add(-time.Hour) }},
		{"expiry", gate.Expired, func(r *request) { r.now = r.now.Add(48 * time.Hour) }},
		{"lifetime", gate.LifetimeTooLong, func(r *request) { r.order.ExpiresAt = r.order.ExpiresAt.Add(25 * time.Hour) }},
		{"intent", gate.IntentMismatch, func(r *request) { r.intent.Target.Node = "pve9" }},
		{"scope", gate.OutOfScope, func(r *request) { r.policy.Roles["operator"].Allow[0].On.VMIDs[0] = "300-399" }},
		{"self", gate.Self, func(r *request) { r.site.Self = append(r.site.Self, *guest(105)) }},
	}
	for i, first := range checks {
		for _, second := range checks[i+1:] {
			if first.name == "start" && second.name == "expiry" {
				continue // no time is both
			}
			r := allowed()
			second.spoil(r)
			first.spoil(r)
			if d := r.decide(); d.Reason != first.want {
				t.Errorf("%s and %s are wrong: reason %s (%s), want %s", first.name, second.name, d.Reason, d.Detail, first.want)
			}
		}
	}
}

// The same for a benign class, whose checks are others.
func TestTheFirstFailingCheckOfABenignClassIsReported(t *testing.T) {
	checks := []reasonCase{
		{"class", gate.UnknownClass, func(r *request) { r.intent.Class = "guest-explode" }},
		{"caller", gate.NotPermitted, func(r *request) { r.caller = "mallory" }},
		{"form", gate.Malformed, func(r *request) { r.intent.Target.Node = "" }},
		{"scope", gate.NotPermitted, func(r *request) { r.policy.Benign[0].On.VMIDs[0] = "300-399" }},
		{"self", gate.Self, func(r *request) { r.site.Self = append(r.site.Self, *guest(105)) }},
	}
	for i, first := range checks {
		for _, second := range append([]reasonCase{{"nothing else", "", func(*request) {}}}, checks[i+1:]...) {
			r := allowed()
			r.ask("terraform", op.GuestStart)
			second.spoil(r)
			first.spoil(r)
			if d := r.decide(); d.Reason != first.want {
				t.Errorf("%s and %s are wrong: reason %s (%s), want %s", first.name, second.name, d.Reason, d.Detail, first.want)
			}
		}
	}
}

// No parameter turns a benign class into one that takes something away. A
// parameter that is harmless to a benign class has to be named here.
func TestABenignClassHasOnlyHarmlessParams(t *testing.T) {
	for _, class := range op.Classes() {
		if !class.Benign() {
			continue
		}
		for i := range reflect.TypeFor[op.Params]().NumField() {
			r := allowed()
			r.policy.Benign[0].Classes = []op.Class{class}
			r.ask("terraform", class)
			if d := r.decide(); d.Reason != gate.Benign {
				t.Fatalf("%s: reason %s (%s), want %s", class, d.Reason, d.Detail, gate.Benign)
			}
			params := reflect.ValueOf(&r.intent.Params).Elem()
			if !params.Field(i).IsZero() {
				continue // it must say that
			}
			change(t, params.Field(i))
			if d := r.decide(); d.Reason != gate.Malformed {
				t.Errorf("%s with params.%s: reason %s (%s), want %s", class, params.Type().Field(i).Name, d.Reason, d.Detail, gate.Malformed)
			}
		}
	}
}

func TestAnAllowedDecisionHoldsWhatCounted(t *testing.T) {
	r := allowed()
	r.signers = []signedop.Signer{stranger, dave, frank, aliceLaptop, alice, bob}
	d := r.decide()
	if !d.Allowed() {
		t.Fatalf("refused: %s: %s", d.Reason, d.Detail)
	}
	want := []op.Signer{
		{Person: "alice", Key: aliceLaptop.Key().Fingerprint}, {Person: "bob", Key: bob.Key().Fingerprint},
	}
	if fmt.Sprint(d.Signers) != fmt.Sprint(want) {
		t.Errorf("signers %v, want %v", d.Signers, want)
	}
	var keys []string
	for _, k := range d.Verified.Keys() {
		keys = append(keys, k.Fingerprint)
	}
	if fmt.Sprint(keys) != fmt.Sprint([]string{want[0].Key, want[1].Key}) {
		t.Errorf("keys of the verified document %v, want only those of the signers %v", keys, want)
	}
	if d.Role != "operator" || d.Verified.Document().Nonce != r.order.Nonce {
		t.Errorf("role %s, nonce %s; want operator, %s", d.Role, d.Verified.Document().Nonce.Short(), r.order.Nonce.Short())
	}
}

func TestRefuseTakesOnlyRefusals(t *testing.T) {
	for _, r := range []gate.Reason{gate.Signed, gate.Benign, "", "maybe"} {
		t.Run(string(r), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic for the reason %q", r)
				}
			}()
			gate.Refuse(r, "")
		})
	}
	if d := gate.Refuse(gate.NonceSpent, strings.Repeat("é", gate.MaxDetailBytes)); len(d.Detail) > gate.MaxDetailBytes || !utf8.ValidString(d.Detail) {
		t.Errorf("detail of %d bytes, valid UTF-8 %t; want at most %d, and valid", len(d.Detail), utf8.ValidString(d.Detail), gate.MaxDetailBytes)
	}
}

// What Permit did not allow can't be made to look as if it had.
func TestOnlyPermitMakesAnAllowedDecision(t *testing.T) {
	signed := allowed().decide()
	asked := allowed()
	asked.ask("terraform", op.GuestStart)
	benign := asked.decide()
	if !signed.Allowed() || !benign.Allowed() {
		t.Fatalf("refused: %s, %s", signed.Detail, benign.Detail)
	}
	asked.caller = "mallory"
	refused := asked.decide()
	with := func(d gate.Decision, r gate.Reason, v *signedop.Verified) gate.Decision {
		d.Reason, d.Verified = r, v
		return d
	}
	for name, d := range map[string]gate.Decision{
		"the zero value":                                {},
		"benign by hand":                                {Reason: gate.Benign},
		"signed by hand":                                {Reason: gate.Signed},
		"signed by hand, with an empty document":        {Reason: gate.Signed, Verified: new(signedop.Verified)},
		"signed by hand, with another's document":       {Reason: gate.Signed, Verified: signed.Verified},
		"a refusal relabelled as benign":                with(refused, gate.Benign, nil),
		"a refusal relabelled as signed":                with(refused, gate.Signed, signed.Verified),
		"a benign one relabelled as signed":             with(benign, gate.Signed, nil),
		"a signed one without its document":             with(signed, gate.Signed, nil),
		"a signed one relabelled as benign":             with(signed, gate.Benign, signed.Verified),
		"an allowed one relabelled as a refusal":        with(signed, gate.Self, signed.Verified),
		"an allowed benign one relabelled as a refusal": with(benign, gate.NotPermitted, nil),
		"a refusal outside the policy":                  gate.Refuse(gate.NonceSpent, ""),
		"a refusal outside the policy, made benign":     with(gate.Refuse(gate.NonceSpent, ""), gate.Benign, nil),
	} {
		if d.Allowed() {
			t.Errorf("%s: allowed, want not", name)
		}
	}
}
