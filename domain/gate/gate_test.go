package gate_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// Each field of an intent, those that later versions add as well, must be
// compared with the document.
func TestEveryFieldOfAnIntentIsCompared(t *testing.T) {
	fields := 0
	var walk func(path string, at func(*op.Intent) reflect.Value)
	walk = func(path string, at func(*op.Intent) reflect.Value) {
		r := allowed()
		v := at(&r.intent)
		if v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
				fields++
				if d := r.decide(); d.Reason != gate.IntentMismatch {
					t.Errorf("intent with %s: reason %s (%s), want %s", path, d.Reason, d.Detail, gate.IntentMismatch)
				}
				return
			}
			deref := func(i *op.Intent) reflect.Value { return at(i).Elem() }
			walk(path, deref)
			v.SetZero()
			fields++
			if d := r.decide(); d.Reason != gate.IntentMismatch {
				t.Errorf("intent without %s: reason %s (%s), want %s", path, d.Reason, d.Detail, gate.IntentMismatch)
			}
			return
		}
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
				walk(strings.Trim(path+"."+name, "."), func(in *op.Intent) reflect.Value { return at(in).Field(i) })
			}
			return
		}
		fields++
		switch path {
		case "class":
			r.intent.Class = op.GuestStop
		default:
			change(t, v)
		}
		d := r.decide()
		if d.Reason != gate.IntentMismatch || !strings.HasPrefix(d.Detail, "intent."+path+":") {
			t.Errorf("another %s: reason %s (%s), want %s naming the field", path, d.Reason, d.Detail, gate.IntentMismatch)
		}
	}
	walk("", func(i *op.Intent) reflect.Value { return reflect.ValueOf(i).Elem() })
	if fields < 7 {
		t.Errorf("%d fields walked, want at least 7", fields)
	}
}

// change sets a value to another one.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int:
		v.SetInt(v.Int() + 1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Pointer:
		next := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			next.Elem().Set(v.Elem())
		}
		change(t, next.Elem())
		v.Set(next)
	default:
		t.Fatalf("no other value for a %s: teach the test", v.Kind())
	}
}

func TestPermitTrustsNothingOfAuthenticate(t *testing.T) {
	r := allowed()
	before := must(gate.Compile(r.policy, serial))
	sub := r.submission()
	a, d := gate.Authenticate(r.now, before, r.site, sub)
	if a == nil {
		t.Fatalf("refused: %s: %s", d.Reason, d.Detail)
	}
	if d.Allowed() || d.Reason != "" {
		t.Errorf("Authenticate alone gave the decision %q, want none", d.Reason)
	}
	// The caller may use its buffer again: what was verified is kept apart.
	clear(sub.Envelope)
	if got := a.Document().Nonce; got != r.order.Nonce {
		t.Errorf("document of nonce %s, want %s", got.Short(), r.order.Nonce.Short())
	}
	withBob := func(change func(*gate.Key)) *gate.Policy {
		doc := document()
		k := key(bob)
		change(&k)
		doc.People["bob"] = gate.Person{Keys: []gate.Key{k}}
		return must(gate.Compile(doc, serial+1))
	}
	quorum3 := document()
	role := quorum3.Roles["operator"]
	role.Quorum = 3
	quorum3.Roles["operator"] = role
	noRole := document()
	delete(noRole.Roles, "operator")
	elsewhere := site
	elsewhere.Ledger = "0000000000000000"
	for _, c := range []struct {
		name   string
		now    time.Time
		policy *gate.Policy
		site   gate.Site
		a      *gate.Authenticated
		want   gate.Reason
	}{
		{"nothing has changed", now, before, site, a, gate.Signed},
		{"it has expired meanwhile", at("2026-11-23T10:00:00Z"), before, site, a, gate.Expired},
		{"a key was revoked meanwhile", now, withBob(func(k *gate.Key) { k.RevokedAt = "2026-11-23T09:30:00Z" }), site, a, gate.KeyRevoked},
		{"a key ran out meanwhile", now, withBob(func(k *gate.Key) { k.NotAfter = "2026-11-23T09:30:00Z" }), site, a, gate.KeyExpired},
		{"a key is another person's now", now, withBob(func(k *gate.Key) { k.Key = line(sshSigner(77)) }), site, a, gate.QuorumNotMet},
		{"the quorum was raised", now, must(gate.Compile(quorum3, serial+1)), site, a, gate.QuorumNotMet},
		{"the role is gone", now, must(gate.Compile(noRole, serial+1)), site, a, gate.RoleNotPermitted},
		{"another ledger", now, before, elsewhere, a, gate.WrongAudience},
		{"no policy", now, nil, site, a, gate.UnknownKey},
		{"an empty policy", now, new(gate.Policy), site, a, gate.UnknownKey},
		{"nothing was authenticated", now, before, site, nil, gate.Unsigned},
		{"nothing was authenticated, but a value made", now, before, site, new(gate.Authenticated), gate.Unsigned},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := gate.Permit(c.now, c.policy, c.site, c.a, r.facts)
			if d.Reason != c.want || d.Allowed() != (c.want == gate.Signed) {
				t.Errorf("reason %s (%s), allowed %t; want %s", d.Reason, d.Detail, d.Allowed(), c.want)
			}
			if d.PolicySerial != c.policy.Serial() {
				t.Errorf("policy serial %d, want %d", d.PolicySerial, c.policy.Serial())
			}
		})
	}
}

func TestPermitOfABenignClassTrustsNothingOfAuthenticate(t *testing.T) {
	r := allowed()
	r.ask("terraform", op.GuestStart)
	before := must(gate.Compile(r.policy, serial))
	a, d := gate.Authenticate(r.now, before, r.site, r.submission())
	if a == nil {
		t.Fatalf("refused: %s: %s", d.Reason, d.Detail)
	}
	if d.Allowed() || d.Reason != "" {
		t.Errorf("Authenticate alone gave the decision %q, want none", d.Reason)
	}
	if got := a.Document().Nonce; got != "" {
		t.Errorf("document of nonce %s, want none: nobody has signed one", got.Short())
	}
	with := func(change func(*gate.BenignRule)) *gate.Policy {
		doc := document()
		change(&doc.Benign[0])
		return must(gate.Compile(doc, serial+1))
	}
	self := site
	self.Self = append(slices.Clone(site.Self), *guest(105))
	elsewhere := r.facts
	elsewhere.Node = "pve2"
	for _, c := range []struct {
		name   string
		policy *gate.Policy
		site   gate.Site
		facts  op.Facts
		want   gate.Reason
	}{
		{"nothing has changed", before, site, r.facts, gate.Benign},
		{"the caller is no longer named", with(func(b *gate.BenignRule) { b.Callers = []string{"ci"} }), site, r.facts, gate.NotPermitted},
		{"the class is no longer named", with(func(b *gate.BenignRule) { b.Classes = []op.Class{op.SnapshotCreate} }), site, r.facts, gate.NotPermitted},
		{"the target is no longer granted", with(func(b *gate.BenignRule) { b.On.VMIDs = []string{"106-199"} }), site, r.facts, gate.NotPermitted},
		{"narrowed to the node it is on", with(func(b *gate.BenignRule) { b.Only.Nodes = []string{"pve1"} }), site, r.facts, gate.Benign},
		{"narrowed to the node it has left", with(func(b *gate.BenignRule) { b.Only.Nodes = []string{"pve1"} }), site, elsewhere, gate.NotPermitted},
		{"it is writ's own guest", before, self, r.facts, gate.Self},
		{"no policy", nil, site, r.facts, gate.NotPermitted},
		{"an empty policy", new(gate.Policy), site, r.facts, gate.NotPermitted},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := gate.Permit(r.now, c.policy, c.site, a, c.facts)
			if d.Reason != c.want || d.Allowed() != (c.want == gate.Benign) {
				t.Errorf("reason %s (%s), allowed %t; want %s", d.Reason, d.Detail, d.Allowed(), c.want)
			}
			if d.PolicySerial != c.policy.Serial() {
				t.Errorf("policy serial %d, want %d", d.PolicySerial, c.policy.Serial())
			}
		})
	}
}

// The same arguments give the same answer, from many goroutines over one
// policy, and nothing of the arguments is changed.
func TestDecisionsArePure(t *testing.T) {
	for _, c := range reasonCases() {
		r := allowed()
		c.spoil(r)
		raw := r.raw()
		p := must(gate.Compile(r.policy, serial))
		sub := gate.Submission{Intent: r.intent, Envelope: raw, Caller: r.caller}
		shared, _ := gate.Authenticate(r.now, p, r.site, sub)
		decide := func() string {
			a, d := gate.Authenticate(r.now, p, r.site, sub)
			if a != nil {
				d = gate.Permit(r.now, p, r.site, a, r.facts)
				if again := gate.Permit(r.now, p, r.site, shared, r.facts); again.Reason != d.Reason || again.Detail != d.Detail {
					t.Errorf("%s: from a shared submission %s (%s), want %s (%s)", c.name, again.Reason, again.Detail, d.Reason, d.Detail)
				}
			}
			return fmt.Sprintf("%s|%s|%v|%s|%d", d.Reason, d.Detail, d.Signers, d.Role, d.PolicySerial)
		}
		inputs := func() string {
			return fmt.Sprintf("%s %v %+v %s", raw, r.site, r.facts, must(op.Marshal(r.intent)))
		}
		want, given := decide(), inputs()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5 {
					if got := decide(); got != want {
						t.Errorf("%s: got %s, want %s", c.name, got, want)
					}
				}
			})
		}
		wg.Wait()
		if got := inputs(); got != given {
			t.Errorf("%s: the arguments were changed\ngot  %s\nwant %s", c.name, got, given)
		}
	}
}

func TestHostileInput(t *testing.T) {
	p := must(gate.Compile(document(), serial))
	good := allowed()
	raw := good.raw()
	sig := `{"keyid":"` + alice.Key().Fingerprint + `","sig":"AAAA"}`
	many := bytes.Replace(raw, []byte(`"signatures":[`), []byte(`"signatures":[`+strings.Repeat(sig+",", 1000)), 1)
	for _, c := range []struct {
		name string
		raw  []byte
	}{
		{"10 MB of envelope", bytes.Repeat([]byte("A"), 10<<20)},
		{"10 MB after a good envelope", append(bytes.Clone(raw), bytes.Repeat([]byte(" "), 10<<20)...)},
		{"1,000 signatures", many},
		{"deep nesting", []byte(strings.Repeat("[", 60000))},
		{"invalid UTF-8", []byte("{\"payload\":\"\xff\xfe\"}")},
		{"a null byte", []byte{0}},
		{"null", []byte("null")},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, d := gate.Authenticate(now, p, site, gate.Submission{Intent: good.intent, Envelope: c.raw})
			if a != nil || d.Reason != gate.Malformed || len(d.Detail) > gate.MaxDetailBytes {
				t.Errorf("reason %s with a detail of %d bytes, want %s with at most %d", d.Reason, len(d.Detail), gate.Malformed, gate.MaxDetailBytes)
			}
			if bytes := testing.AllocsPerRun(3, func() { gate.Authenticate(now, p, site, gate.Submission{Intent: good.intent, Envelope: c.raw}) }); bytes > 5000 {
				t.Errorf("%.0f allocations to refuse it, want few", bytes)
			}
		})
	}
	t.Run("as many signatures as fit", func(t *testing.T) {
		r := allowed()
		r.signers = nil
		for n := range byte(signedop.MaxSignatures) {
			r.signers = append(r.signers, rawSigner(100+n))
		}
		if d := r.decide(); d.Reason != gate.UnknownKey {
			t.Errorf("reason %s (%s), want %s", d.Reason, d.Detail, gate.UnknownKey)
		}
		r.signers[15] = frank
		if d := r.decide(); d.Reason != gate.RoleNotPermitted || len(d.Detail) > gate.MaxDetailBytes {
			t.Errorf("reason %s with a detail of %d bytes, want %s with at most %d", d.Reason, len(d.Detail), gate.RoleNotPermitted, gate.MaxDetailBytes)
		}
	})
	t.Run("a benign intent of 1 MB each", func(t *testing.T) {
		huge := strings.Repeat("\xffé\x1b", 1<<18)
		for _, c := range []struct {
			caller string
			target op.Target
			want   gate.Reason
		}{
			{huge, op.Target{Node: huge, Guest: &op.Guest{Type: op.GuestType(huge)}}, gate.NotPermitted},
			{"ci", op.Target{Node: huge, Guest: guest(105)}, gate.Malformed},
			{"ci", op.Target{Node: "pve1", Guest: &op.Guest{Type: op.GuestType(huge), VMID: 105}}, gate.Malformed},
		} {
			a, d := gate.Authenticate(now, p, site, gate.Submission{Intent: op.Intent{Class: op.GuestStart, Target: c.target}, Caller: c.caller})
			if a != nil || d.Reason != c.want || len(d.Detail) > gate.MaxDetailBytes || strings.ContainsRune(d.Detail, '\x1b') {
				t.Errorf("reason %s with a detail of %d bytes, want %s with at most %d", d.Reason, len(d.Detail), c.want, gate.MaxDetailBytes)
			}
		}
	})
	t.Run("a class of 1 MB", func(t *testing.T) {
		_, d := gate.Authenticate(now, p, site, gate.Submission{
			Intent: op.Intent{Class: op.Class(strings.Repeat("\xffé", 1<<20))}, Envelope: raw,
		})
		if d.Reason != gate.UnknownClass || len(d.Detail) > gate.MaxDetailBytes {
			t.Errorf("reason %s with a detail of %d bytes, want %s", d.Reason, len(d.Detail), gate.UnknownClass)
		}
	})
}

// A writ that was parsed from other bytes than the envelope's is not used.
func TestParsedWritOfOtherBytesIsNotUsed(t *testing.T) {
	r := allowed()
	p := must(gate.Compile(r.policy, serial))
	sub := r.submission()
	sub.Parsed = must(signedop.Parse(sub.Envelope))
	if a, d := gate.Authenticate(r.now, p, r.site, sub); a == nil {
		t.Fatalf("refused: %s: %s", d.Reason, d.Detail)
	}
	unsigned := must(signedop.Seal(r.order))
	sub.Envelope = unsigned
	if a, d := gate.Authenticate(r.now, p, r.site, sub); a != nil || d.Reason != gate.Unsigned {
		t.Errorf("an envelope without signatures beside a parsed one with them: got %q, want %q", d.Reason, gate.Unsigned)
	}
}
