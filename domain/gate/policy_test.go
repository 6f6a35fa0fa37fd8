package gate_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
	"golang.org/x/crypto/ssh"

	"writ/domain/gate"
	"writ/domain/op"
)

// edit gives the policy of the tests with the role operator changed.
func edit(change func(*gate.Role)) func(*gate.PolicyDocument) {
	return func(d *gate.PolicyDocument) {
		role := d.Roles["operator"]
		change(&role)
		d.Roles["operator"] = role
	}
}

// rule gives the policy of the tests with the first rule of operator changed.
func rule(change func(*gate.Rule)) func(*gate.PolicyDocument) {
	return edit(func(r *gate.Role) { change(&r.Allow[0]) })
}

// benign gives the policy of the tests with the second benign rule changed.
func benign(change func(*gate.BenignRule)) func(*gate.PolicyDocument) {
	return func(d *gate.PolicyDocument) { change(&d.Benign[1]) }
}

func keys(change func(*gate.Key)) func(*gate.PolicyDocument) {
	return func(d *gate.PolicyDocument) { change(&d.People["alice"].Keys[0]) }
}

func TestCompileRefuses(t *testing.T) {
	empty := []string{}
	cases := []struct {
		name  string
		path  string // of the first problem
		spoil func(*gate.PolicyDocument)
	}{
		{"another version", "version", func(d *gate.PolicyDocument) { d.Version = 2 }},
		{"no version", "version", func(d *gate.PolicyDocument) { d.Version = 0 }},
		{"clock skew beyond the bound", "clock_skew", func(d *gate.PolicyDocument) { d.ClockSkew = "5m1s" }},
		{"negative clock skew", "clock_skew", func(d *gate.PolicyDocument) { d.ClockSkew = "-1s" }},
		{"clock skew without a unit", "clock_skew", func(d *gate.PolicyDocument) { d.ClockSkew = "30" }},
		{"a policy that can't be recorded", "", func(d *gate.PolicyDocument) { d.Roles["\xff"] = gate.Role{} }},
		{"a policy beyond the bound", "", keys(func(k *gate.Key) { k.Comment = strings.Repeat("x", gate.MaxPolicyBytes) })},

		{"a person's name that is none", "people", func(d *gate.PolicyDocument) { d.People["al ice"] = d.People["frank"] }},
		{"two people whose names differ in capitals", "people.alice", func(d *gate.PolicyDocument) { d.People["Alice"] = gate.Person{Keys: []gate.Key{key(rawSigner(42))}} }},
		{"a person without keys", "people.zoe.keys", func(d *gate.PolicyDocument) { d.People["zoe"] = gate.Person{} }},
		{"no key in a key", "people.alice.keys[0].key", keys(func(k *gate.Key) { k.Key = "" })},
		{"half a key", "people.alice.keys[0].key", keys(func(k *gate.Key) { k.Key = k.Key[:40] })},
		{"a key with options", "people.alice.keys[0].key", keys(func(k *gate.Key) { k.Key = "no-touch-required " + k.Key })},
		{"two keys in one", "people.alice.keys[0].key", keys(func(k *gate.Key) { k.Key += "\n" + line(stranger) })},
		{"no format", "people.alice.keys[0].format", keys(func(k *gate.Key) { k.Format = "" })},
		{"unknown format", "people.alice.keys[0].format", keys(func(k *gate.Key) { k.Format = "SSH" })},
		{"a FIDO key in format raw", "people.alice.keys[0].key", keys(func(k *gate.Key) { k.Key = line(carol) })},
		{"the same key twice for one person", "people.alice.keys[1].key", func(d *gate.PolicyDocument) { d.People["alice"].Keys[1] = key(alice) }},
		{"one key of two people", "people.frank.keys[0].key", func(d *gate.PolicyDocument) { d.People["frank"].Keys[0] = key(alice) }},
		{"one key of two people in two formats", "people.frank.keys[0].key", func(d *gate.PolicyDocument) { d.People["frank"].Keys[0] = gate.Key{Key: line(alice), Format: "ssh"} }},
		{"one key of two people, once as a FIDO key", "people.frank.keys[0].key", func(d *gate.PolicyDocument) { d.People["frank"].Keys[0] = key(rawSigner(4)) }},
		{"the same key twice, revoked once", "people.alice.keys[1].key", func(d *gate.PolicyDocument) {
			k := key(alice)
			k.RevokedAt = "2026-01-01T00:00:00Z"
			d.People["alice"].Keys[1] = k
		}},
		{"a point of low order", "people.alice.keys[0].key", keys(func(k *gate.Key) {
			blob := ssh.Marshal(struct {
				Type string
				Key  []byte
			}{ssh.KeyAlgoED25519, append([]byte{1}, make([]byte, 31)...)})
			k.Key = string(ssh.MarshalAuthorizedKey(must(ssh.ParsePublicKey(blob))))
		})},
		{"a local time", "people.alice.keys[0].revoked_at", keys(func(k *gate.Key) { k.RevokedAt = "2026-11-01T00:00:00+01:00" })},
		{"a date alone", "people.alice.keys[0].not_after", keys(func(k *gate.Key) { k.NotAfter = "2026-11-01" })},
		{"parts of seconds", "people.alice.keys[0].not_before", keys(func(k *gate.Key) { k.NotBefore = "2026-11-01T00:00:00.5Z" })},
		{"the zero time", "people.alice.keys[0].revoked_at", keys(func(k *gate.Key) { k.RevokedAt = "0001-01-01T00:00:00Z" })},
		{"a key that never counts", "people.alice.keys[0].not_after", keys(func(k *gate.Key) { k.NotBefore, k.NotAfter = "2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z" })},

		{"a role's name that is none", "roles", func(d *gate.PolicyDocument) { d.Roles[""] = d.Roles["operator"] }},
		{"no holders", "roles.operator.holders", edit(func(r *gate.Role) { r.Holders = nil })},
		{"a holder who is not enrolled", "roles.operator.holders[1]", edit(func(r *gate.Role) { r.Holders[1] = "mallory" })},
		{"a holder in other capitals", "roles.operator.holders[0]", edit(func(r *gate.Role) { r.Holders[0] = "Alice" })},
		{"a holder twice", "roles.operator.holders[1]", edit(func(r *gate.Role) { r.Holders[1] = "alice" })},
		{"an empty quorum", "roles.operator.quorum", edit(func(r *gate.Role) { r.Quorum = 0 })},
		{"a negative quorum", "roles.operator.quorum", edit(func(r *gate.Role) { r.Quorum = -1 })},
		{"a quorum beyond the holders", "roles.operator.quorum", edit(func(r *gate.Role) { r.Quorum = 7 })},
		{"more FIDO keys required than there are", "roles.operator.fido", edit(func(r *gate.Role) { r.FIDO.Touch = true })},
		{"no longest lifetime", "roles.operator.max_lifetime", edit(func(r *gate.Role) { r.MaxLifetime = "" })},
		{"a lifetime in days", "roles.operator.max_lifetime", edit(func(r *gate.Role) { r.MaxLifetime = "7d" })},
		{"a lifetime beyond the bound", "roles.operator.max_lifetime", edit(func(r *gate.Role) { r.MaxLifetime = "720h1s" })},
		{"a lifetime below the bound", "roles.operator.max_lifetime", edit(func(r *gate.Role) { r.MaxLifetime = "59s" })},
		{"no rules", "roles.operator.allow", edit(func(r *gate.Role) { r.Allow = nil })},
		{"a role that resolves, with an empty list of rules", "roles.operator.allow", edit(func(r *gate.Role) { r.Resolve, r.Allow = true, []gate.Rule{} })},
		{"a role that resolves, with a bad rule", "roles.operator.allow[0].on", edit(func(r *gate.Role) { r.Resolve, r.Allow[0].On = true, gate.On{} })},
		{"a role that resolves, with an empty quorum", "roles.operator.quorum", edit(func(r *gate.Role) { r.Resolve, r.Allow, r.Quorum = true, nil, 0 })},
		{"a role that resolves, without lifetime", "roles.operator.max_lifetime", edit(func(r *gate.Role) { r.Resolve, r.Allow, r.MaxLifetime = true, nil, "" })},

		{"no classes", "roles.operator.allow[0].classes", rule(func(r *gate.Rule) { r.Classes = nil })},
		{"unknown class", "roles.operator.allow[0].classes[0]", rule(func(r *gate.Rule) { r.Classes[0] = "guest-*" })},
		{"benign class", "roles.operator.allow[0].classes[1]", rule(func(r *gate.Rule) { r.Classes[1] = op.GuestStart })},
		{"a class twice", "roles.operator.allow[0].classes[1]", rule(func(r *gate.Rule) { r.Classes[1] = op.GuestDestroy })},
		{"storages by vmid", "roles.operator.allow[0].classes[0]", rule(func(r *gate.Rule) { r.Classes[0] = op.StorageWipe })},
		{"nothing to grant by", "roles.operator.allow[0].on", rule(func(r *gate.Rule) { r.On = gate.On{} })},
		{"empty vmids", "roles.operator.allow[0].on.vmids", rule(func(r *gate.Rule) { r.On.VMIDs = empty })},
		{"empty pools", "roles.operator.allow[0].on.pools", rule(func(r *gate.Rule) { r.On.Pools = empty })},
		{"empty storages", "roles.operator.allow[0].on.storages", rule(func(r *gate.Rule) { r.On.Storages = empty })},
		{"empty names", "roles.operator.allow[0].only.names", rule(func(r *gate.Rule) { r.Only.Names = empty })},
		{"empty tags", "roles.operator.allow[0].only.tags", rule(func(r *gate.Rule) { r.Only.Tags = empty })},
		{"empty nodes", "roles.operator.allow[0].only.nodes", rule(func(r *gate.Rule) { r.Only.Nodes = empty })},
		{"a range backwards", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "199-100" })},
		{"a range of one", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "100-100" })},
		{"a range without end", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "100-" })},
		{"a range of three", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "100-120-140" })},
		{"a range with spaces", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "100 - 199" })},
		{"a vmid with a leading zero", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "0100" })},
		{"a vmid with a sign", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "+100" })},
		{"a vmid below the bound", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "99" })},
		{"a vmid beyond the bound", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "100-1000000000" })},
		{"a vmid beyond all integers", "roles.operator.allow[0].on.vmids[0]", rule(func(r *gate.Rule) { r.On.VMIDs[0] = "99999999999999999999" })},
		{"a vmid twice", "roles.operator.allow[0].on.vmids[1]", rule(func(r *gate.Rule) { r.On.VMIDs[1] = "199" })},
		{"ranges that overlap", "roles.operator.allow[0].on.vmids[1]", rule(func(r *gate.Rule) { r.On.VMIDs[1] = "199-300" })},
		{"a pool without a name", "roles.operator.allow[0].on.pools[0]", rule(func(r *gate.Rule) { r.On.Pools[0] = "" })},
		{"a pool with an empty part", "roles.operator.allow[0].on.pools[0]", rule(func(r *gate.Rule) { r.On.Pools[0] = "test/" })},
		{"a pattern for a pool", "roles.operator.allow[0].on.pools[0]", rule(func(r *gate.Rule) { r.On.Pools[0] = "test*" })},
		{"a pool twice", "roles.operator.allow[0].on.pools[1]", rule(func(r *gate.Rule) { r.On.Pools = []string{"test", "test"} })},
		{"two storages in one string", "roles.operator.allow[0].on.storages[0]", rule(func(r *gate.Rule) { r.On.Storages = []string{"a,b"} })},
		{"a storage without a name", "roles.operator.allow[0].on.storages[0]", rule(func(r *gate.Rule) { r.On.Storages = []string{""} })},
		{"a name that matches all", "roles.operator.allow[0].only.names[0]", rule(func(r *gate.Rule) { r.Only.Names = []string{"*"} })},
		{"an asterisk within a name", "roles.operator.allow[0].only.names[0]", rule(func(r *gate.Rule) { r.Only.Names = []string{"web-*-1"} })},
		{"two asterisks", "roles.operator.allow[0].only.names[0]", rule(func(r *gate.Rule) { r.Only.Names = []string{"web-**"} })},
		{"a tag with a control character", "roles.operator.allow[0].only.tags[0]", rule(func(r *gate.Rule) { r.Only.Tags = []string{"a\x1bb"} })},
		{"a tag that is too long", "roles.operator.allow[0].only.tags[0]", rule(func(r *gate.Rule) { r.Only.Tags = []string{strings.Repeat("a", 129)} })},
		{"a node that is none", "roles.operator.allow[0].only.nodes[0]", rule(func(r *gate.Rule) { r.Only.Nodes = []string{"pve1/"} })},
		{"too many holders", "roles.operator.holders", edit(func(r *gate.Role) { r.Holders = make([]string, 1001) })},
		{"too many classes", "roles.operator.allow[0].classes", rule(func(r *gate.Rule) { r.Classes = make([]op.Class, 1001) })},
		{"too many vmids", "roles.operator.allow[0].on.vmids", rule(func(r *gate.Rule) { r.On.VMIDs = make([]string, 1001) })},
		{"too many pools", "roles.operator.allow[0].on.pools", rule(func(r *gate.Rule) { r.On.Pools = make([]string, 1001) })},

		{"a benign rule without callers", "benign[1].callers", benign(func(b *gate.BenignRule) { b.Callers = nil })},
		{"a benign rule with empty callers", "benign[1].callers", benign(func(b *gate.BenignRule) { b.Callers = empty })},
		{"a caller without a name", "benign[1].callers[0]", benign(func(b *gate.BenignRule) { b.Callers[0] = "" })},
		{"a caller that can't be a token's name", "benign[1].callers[0]", benign(func(b *gate.BenignRule) { b.Callers[0] = "token:*" })},
		{"whoever comes without a token", "benign[1].callers[0]", benign(func(b *gate.BenignRule) { b.Callers[0] = gate.Tokenless })},
		{"a caller twice", "benign[1].callers[1]", benign(func(b *gate.BenignRule) { b.Callers = []string{"ci", "ci"} })},
		{"too many callers", "benign[1].callers", benign(func(b *gate.BenignRule) { b.Callers = make([]string, 1001) })},
		{"a benign rule without classes", "benign[1].classes", benign(func(b *gate.BenignRule) { b.Classes = nil })},
		{"unknown class in a benign rule", "benign[1].classes[0]", benign(func(b *gate.BenignRule) { b.Classes[0] = "guest-*" })},
		{"signed class in a benign rule", "benign[1].classes[1]", benign(func(b *gate.BenignRule) { b.Classes[1] = op.GuestReboot })},
		{"signed class by storages in a benign rule", "benign[1].classes[0]", benign(func(b *gate.BenignRule) { b.Classes = []op.Class{op.StorageWipe} })},
		{"a benign class twice", "benign[1].classes[1]", benign(func(b *gate.BenignRule) { b.Classes[1] = op.BackupCreate })},
		{"a benign rule on nothing", "benign[1].on", benign(func(b *gate.BenignRule) { b.On = gate.On{} })},
		{"a benign rule on empty vmids", "benign[1].on.vmids", benign(func(b *gate.BenignRule) { b.On.VMIDs = empty })},
		{"a benign rule on a bad range", "benign[1].on.vmids[0]", benign(func(b *gate.BenignRule) { b.On.VMIDs = []string{"9-1"} })},
		{"a benign rule only for no tags", "benign[1].only.tags", benign(func(b *gate.BenignRule) { b.Only.Tags = empty })},
		{"an empty benign rule", "benign[2].callers", func(d *gate.PolicyDocument) { d.Benign = append(d.Benign, gate.BenignRule{}) }},
		{"many problems at once", "version", func(d *gate.PolicyDocument) {
			*d = gate.PolicyDocument{Roles: map[string]gate.Role{"b": {Quorum: 1, Holders: []string{"x"}}, "a": {Allow: make([]gate.Rule, 30)}}, Benign: make([]gate.BenignRule, 2)}
		}},
	}
	var out bytes.Buffer
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			doc := document()
			c.spoil(&doc)
			p, err := gate.Compile(doc, serial)
			var pe *gate.PolicyError
			if p != nil || !errors.As(err, &pe) {
				t.Fatalf("policy %v, error %v; want none and a *PolicyError", p, err)
			}
			if pe.Problems[0].Path != c.path {
				t.Errorf("first problem at %q, want %q\n%v", pe.Problems[0].Path, c.path, err)
			}
			fmt.Fprintf(&out, "%s\n    %s\n", c.name, strings.ReplaceAll(err.Error(), "\n", "\n    "))
		})
	}
	golden(t, "policy-errors.golden", out.Bytes())
}

// The stored form of a policy: every version of it must stay readable and
// decide the same.
func TestRecordedPolicy(t *testing.T) {
	source := []byte("the bytes of a policy file")
	doc := document()
	doc.ClockSkew = "1m"
	loaded := gate.Loaded{
		Serial: serial, Agent: "lab", Instance: "writ-1", At: now, SourceSHA256: sha256.Sum256(source),
		Policy: must(gate.Compile(doc, serial)).Document(),
	}
	data := must(op.Marshal(loaded))
	golden(t, "policy-loaded.json", data)

	stored := must(os.ReadFile("testdata/policy-loaded.json"))
	var back gate.Loaded
	if err := op.Unmarshal(stored, &back); err != nil {
		t.Fatal(err)
	}
	if again := must(op.Marshal(back)); !bytes.Equal(again, stored) {
		t.Errorf("read and stored again\ngot  %s\nwant %s", again, stored)
	}
	for _, c := range reasonCases() {
		r := allowed()
		c.spoil(r)
		direct := r.decide()
		if err := op.Unmarshal(must(op.Marshal(r.policy)), &r.policy); err != nil {
			t.Fatal(err)
		}
		recorded := r.decide()
		if recorded.Reason != direct.Reason || recorded.Detail != direct.Detail || !slices.Equal(recorded.Signers, direct.Signers) {
			t.Errorf("%s: by the recorded policy %s (%s), want %s (%s)", c.name, recorded.Reason, recorded.Detail, direct.Reason, direct.Detail)
		}
	}
}

// What cmd decodes from YAML is what is recorded as JSON, name for name.
func TestPolicyFileInYAML(t *testing.T) {
	var fromYAML gate.PolicyDocument
	if err := yaml.Load(must(os.ReadFile("testdata/policy.yaml")), &fromYAML, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	p, err := gate.Compile(fromYAML, serial)
	if err != nil {
		t.Fatal(err)
	}
	got := must(op.Marshal(p.Document()))
	golden(t, "policy.json", got)

	// A document with every field set survives the way through YAML.
	var full, back gate.PolicyDocument
	fill(reflect.ValueOf(&full).Elem())
	if err := yaml.Load(must(yaml.Marshal(full)), &back, yaml.WithKnownFields()); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(full, back) {
		t.Errorf("through YAML\ngot  %+v\nwant %+v", back, full)
	}
	names := func(tag string) []string {
		var all []string
		tags(reflect.TypeFor[gate.PolicyDocument](), tag, &all)
		return all
	}
	if got, want := names("yaml"), names("json"); !slices.Equal(got, want) {
		t.Errorf("names in YAML %v, want those in JSON %v", got, want)
	}
}

// fill sets every field to something.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		elem := reflect.New(v.Type().Elem()).Elem()
		fill(elem)
		v.SetMapIndex(reflect.ValueOf("on"), elem) // YAML 1.1 took this for a boolean
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("2026-11-23T09:00:00Z") // YAML has a type of its own for it
	case reflect.Int:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic("a field of kind " + v.Kind().String() + ": teach the test")
	}
}

// tags lists the names of all fields below a type.
func tags(t reflect.Type, tag string, all *[]string) {
	for t.Kind() == reflect.Map || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get(tag), ",")
		*all = append(*all, name)
		tags(f.Type, tag, all)
	}
}

func TestPolicyIsImmutable(t *testing.T) {
	r := allowed()
	p := must(gate.Compile(r.policy, serial))
	// Whoever still holds the document, or a copy of it, changes nothing.
	for _, doc := range []gate.PolicyDocument{r.policy, p.Document()} {
		doc.Roles["operator"].Holders[0] = "mallory"
		doc.Roles["operator"].Allow[0].On.VMIDs[0] = "900-999"
		doc.Roles["operator"].Allow[0].Classes[0] = op.GuestStart
		doc.Benign[0].Callers[0] = "mallory"
		doc.Benign[0].Classes[0] = op.GuestDestroy
		delete(doc.People, "bob")
	}
	for _, ask := range []func(){func() {}, func() { r.ask("terraform", op.GuestStart) }} {
		ask()
		a, d := gate.Authenticate(r.now, p, r.site, r.submission())
		if a == nil {
			t.Fatalf("refused: %s: %s", d.Reason, d.Detail)
		}
		if d := gate.Permit(r.now, p, r.site, a, r.facts); !d.Allowed() {
			t.Errorf("refused: %s: %s", d.Reason, d.Detail)
		}
	}
	if got, want := must(op.Marshal(p.Document())), must(op.Marshal(document())); !bytes.Equal(got, want) {
		t.Errorf("document\ngot  %s\nwant %s", got, want)
	}
	if p.Serial() != serial {
		t.Errorf("serial %d, want %d", p.Serial(), serial)
	}
}

func TestNoPolicyKnowsNobody(t *testing.T) {
	for _, p := range []*gate.Policy{nil, new(gate.Policy)} {
		if doc := p.Document(); p.Serial() != 0 || p.Warnings() != nil || doc.People != nil || doc.Roles != nil || doc.Benign != nil {
			t.Errorf("serial %d, document %+v; want nothing", p.Serial(), doc)
		}
	}
}

func TestWarnings(t *testing.T) {
	doc := document()
	if got := must(gate.Compile(doc, serial)).Warnings(); len(got) != 0 {
		t.Errorf("warnings %q, want none", got)
	}
	edit(func(r *gate.Role) { r.Quorum = len(r.Holders) })(&doc)
	got := must(gate.Compile(doc, serial)).Warnings()
	if len(got) != 1 || !strings.HasPrefix(got[0], "roles.operator.quorum: ") {
		t.Errorf("warnings %q, want one about roles.operator.quorum", got)
	}
	edit(func(r *gate.Role) { r.RequesterCounts = true })(&doc)
	if got := must(gate.Compile(doc, serial)).Warnings(); len(got) != 0 {
		t.Errorf("warnings %q where the requester counts, want none", got)
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(must(op.Marshal(document())))
	f.Add(must(os.ReadFile("testdata/policy.json")))
	f.Add([]byte(`{"version":1,"people":{},"roles":{"r":{"holders":[],"quorum":0,"max_lifetime":"","allow":[{"classes":[],"on":{"vmids":["1-2"]}}]}}}`))
	f.Add(must(op.Marshal(resolverPolicy())))
	f.Add([]byte(`{"version":1,"people":{},"roles":{},"benign":[{"callers":["ci"],"classes":["guest-start"],"on":{"pools":["test"]},"only":{"tags":["a"]}}]}`))
	f.Add([]byte(`{"version":1,"people":{},"roles":{},"benign":[{"callers":["local",""],"classes":["guest-destroy","guest-start","guest-start"],"on":{"vmids":[]}},{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var doc gate.PolicyDocument
		if op.Unmarshal(data, &doc) != nil {
			return
		}
		p, err := gate.Compile(doc, serial)
		if err != nil {
			var pe *gate.PolicyError
			if !errors.As(err, &pe) || len(pe.Problems) == 0 {
				t.Fatalf("error %v, want a *PolicyError with problems", err)
			}
			return
		}
		for name, role := range doc.Roles {
			if role.Quorum < 1 || role.Quorum > len(role.Holders) || (len(role.Allow) == 0 && !role.Resolve) {
				t.Errorf("role %q was accepted: %+v", name, role)
			}
		}
		for i, b := range doc.Benign {
			signed := slices.ContainsFunc(b.Classes, func(c op.Class) bool { return !c.Benign() })
			if len(b.Callers) == 0 || slices.Contains(b.Callers, "") || slices.Contains(b.Callers, gate.Tokenless) || len(b.Classes) == 0 || signed {
				t.Errorf("benign[%d] was accepted: %+v", i, b)
			}
		}
		again, err := gate.Compile(p.Document(), serial)
		if err != nil {
			t.Fatalf("recorded policy: %v", err)
		}
		if got, want := must(op.Marshal(again.Document())), must(op.Marshal(p.Document())); !bytes.Equal(got, want) {
			t.Errorf("recorded again\ngot  %s\nwant %s", got, want)
		}
	})
}
