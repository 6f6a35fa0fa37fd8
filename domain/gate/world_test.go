package gate_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func at(clock string) time.Time {
	t, err := time.Parse(time.RFC3339, clock)
	if err != nil {
		panic(err)
	}
	return t
}

var (
	now  = at("2026-11-23T09:30:00Z")
	site = gate.Site{
		Agent: "lab", Ledger: "3f9c2ab41d6e4a70",
		Self: []op.Guest{{Type: op.LXC, VMID: 150}}, SelfStorages: []string{"ledger"},
	}
)

// private makes the key of a number, always the same.
func private(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// public is the half of a key that can be shown.
func public(k ed25519.PrivateKey) ed25519.PublicKey { return ed25519.PublicKey(k[ed25519.SeedSize:]) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func rawSigner(n byte) signedop.Signer { return must(signedop.NewRawSigner(private(n))) }

func sshSigner(n byte) signedop.Signer {
	return must(signedop.NewSSHSigner(must(ssh.NewSignerFromKey(private(n)))))
}

// fidoSigner stands in for an authenticator, touched at every use.
func fidoSigner(n byte, pin bool) signedop.Signer {
	return must(signedop.NewSSHSigner(authenticator{key: private(n), pin: pin}))
}

// An authenticator signs as OpenSSH's PROTOCOL.u2f says.
type authenticator struct {
	key ed25519.PrivateKey
	pin bool
}

const fidoApplication = "ssh:writ"

func (a authenticator) PublicKey() ssh.PublicKey {
	blob := ssh.Marshal(struct {
		Type        string
		Key         []byte
		Application string
	}{ssh.KeyAlgoSKED25519, public(a.key), fidoApplication})
	return must(ssh.ParsePublicKey(blob))
}

func (a authenticator) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	flags := byte(0x01)
	if a.pin {
		flags |= 0x04
	}
	tail := binary.BigEndian.AppendUint32([]byte{flags}, 7)
	app, msg := sha256.Sum256([]byte(fidoApplication)), sha256.Sum256(data)
	signed := slices.Concat(app[:], tail, msg[:])
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(a.key, signed), Rest: tail}, nil
}

// The people of the tests.
var (
	alice       = rawSigner(1)
	aliceLaptop = sshSigner(2)
	bob         = sshSigner(3)
	carol       = fidoSigner(4, false)
	carolPIN    = fidoSigner(4, true)
	dave        = rawSigner(5) // key revoked on 2026-11-01
	erin        = rawSigner(6) // key expired on 2026-11-01
	frank       = rawSigner(7) // holds no role
	grace       = rawSigner(8) // key counts from 2027-01-01 on
	stranger    = rawSigner(99)
)

func line(s signedop.Signer) string {
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(s.Key().Public)))
}

func key(s signedop.Signer) gate.Key {
	return gate.Key{Key: line(s), Format: s.Key().Format.String()}
}

func document() gate.PolicyDocument {
	daves, erins, graces := key(dave), key(erin), key(grace)
	daves.RevokedAt, daves.Comment = "2026-11-01T00:00:00Z", "left the company"
	erins.NotBefore, erins.NotAfter = "2025-11-01T00:00:00Z", "2026-11-01T00:00:00Z"
	graces.NotBefore = "2027-01-01T00:00:00Z"
	holders := []string{"alice", "bob", "carol", "dave", "erin", "grace"}
	return gate.PolicyDocument{
		Version: 1,
		People: map[string]gate.Person{
			"alice": {Keys: []gate.Key{key(alice), key(aliceLaptop)}},
			"bob":   {Keys: []gate.Key{key(bob)}},
			"carol": {Keys: []gate.Key{key(carol)}},
			"dave":  {Keys: []gate.Key{daves}},
			"erin":  {Keys: []gate.Key{erins}},
			"frank": {Keys: []gate.Key{key(frank)}},
			"grace": {Keys: []gate.Key{graces}},
		},
		Roles: map[string]gate.Role{
			"operator": {
				Holders: holders, Quorum: 2, MaxLifetime: "24h",
				Allow: []gate.Rule{
					{
						Classes: []op.Class{op.GuestDestroy, op.GuestStop},
						On:      gate.On{VMIDs: []string{"100-199", "250"}, Pools: []string{"test"}},
					},
					{
						Classes: []op.Class{op.GuestDestroy},
						On:      gate.On{Storages: []string{"scratch", "scratch2"}},
						Only: gate.Only{
							Names: []string{"web-*", "db"}, Tags: []string{"disposable", "test"}, Nodes: []string{"pve1", "pve2"},
						},
					},
				},
			},
			"solo": {
				Holders: holders, Quorum: 1, MaxLifetime: "1h", RequesterCounts: true,
				Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-199"}}}},
			},
			"touched": {
				Holders: []string{"alice", "carol"}, Quorum: 1, MaxLifetime: "1h", FIDO: gate.FIDO{Touch: true},
				Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-199"}}}},
			},
			"verified": {
				Holders: []string{"alice", "carol"}, Quorum: 1, MaxLifetime: "1h", FIDO: gate.FIDO{Touch: true, PIN: true},
				Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-199"}}}},
			},
			"stopper": {
				Holders: []string{"alice", "bob"}, Quorum: 1, MaxLifetime: "1h",
				Allow: []gate.Rule{{Classes: []op.Class{op.GuestStop}, On: gate.On{VMIDs: []string{"100-199"}}}},
			},
		},
		Benign: []gate.BenignRule{
			{
				Callers: []string{"terraform", "ci"}, Classes: []op.Class{op.GuestStart, op.SnapshotCreate},
				On: gate.On{VMIDs: []string{"100-199"}, Pools: []string{"test"}},
			},
			{
				Callers: []string{"backup@night"}, Classes: []op.Class{op.BackupCreate, op.SnapshotCreate},
				On: gate.On{Storages: []string{"scratch", "scratch2"}}, Only: gate.Only{Tags: []string{"disposable"}},
			},
		},
	}
}

// A request is a submission with all that the gate decides by. Tests begin
// with one that is allowed and spoil it.
type request struct {
	now     time.Time
	policy  gate.PolicyDocument
	site    gate.Site
	intent  op.Intent
	order   signedop.Document
	signers []signedop.Signer
	caller  string
	bare    bool                    // without an envelope
	mangle  func(raw []byte) []byte // what happens to the envelope on its way
	facts   op.Facts
}

func guest(vmid int) *op.Guest { return &op.Guest{Type: op.QEMU, VMID: vmid} }

func allowed() *request {
	purge := false
	target := op.Target{Node: "pve1", Guest: guest(105)}
	order := signedop.Document{
		Version: 1, Nonce: "6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e", Audience: "lab/3f9c2ab41d6e4a70",
		Class: op.GuestDestroy, Target: target, Params: op.Params{Purge: &purge},
		Expect: signedop.Expect{SMBIOSUUID: "5c6f0a1e-7b2d-4c3f-8a4e-9d0b1c2f3a5e", Volumes: []string{}},
		Role:   "operator", RequestedBy: "terraform",
		NotBefore: at("2026-11-23T09:00:00Z"), ExpiresAt: at("2026-11-23T10:00:00Z"), Reason: "OPS-123: retire web-3",
	}
	asked := order.Intent()
	asked.Target.Guest = guest(105) // shares nothing with the order
	return &request{
		now: now, policy: document(), site: site, intent: asked, order: order,
		signers: []signedop.Signer{alice, bob},
		caller:  "terraform",
		facts:   op.Facts{Found: true, Node: "pve1", Name: "web-3", Storages: []string{"local-lvm"}},
	}
}

// ask makes the request one for a benign class, by a caller without a writ.
func (r *request) ask(caller string, class op.Class) {
	r.intent.Class, r.intent.Params, r.caller, r.bare = class, op.Params{}, caller, true
	switch class { //nolint:exhaustive // the others have nothing they must say
	case op.SnapshotCreate:
		r.intent.Params.Snapshot = "nightly"
	case op.BackupCreate:
		r.intent.Params.Storage = "backups"
	}
}

func (r *request) raw() []byte {
	if r.bare {
		return nil
	}
	raw := must(signedop.Seal(r.order, r.signers...))
	if r.mangle != nil {
		raw = r.mangle(raw)
	}
	return raw
}

const serial = 7

func (r *request) decide() gate.Decision {
	p := must(gate.Compile(r.policy, serial))
	a, d := gate.Authenticate(r.now, p, r.site, r.submission())
	if a == nil {
		return d
	}
	return gate.Permit(r.now, p, r.site, a, r.facts)
}

func (r *request) submission() gate.Submission {
	return gate.Submission{Intent: r.intent, Envelope: r.raw(), Caller: r.caller}
}
