package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

func TestExpectationsOfWhatTheHostShows(t *testing.T) {
	ctime := int64(1795426571)
	vm := op.Observed{
		Found: true, Type: op.QEMU, VMID: 105, Node: "pve1", Name: "web-3", SMBIOSUUID: "5c6f2d3e-6b1a-4f5e-9d57-1f0c8d9a7b42",
		VMGenID: "0b9e2d3e-6b1a-4f5e-9d57-1f0c8d9a7b42", CTime: ctime, MACs: []string{"BC:24:11:00:00:01"},
		Volumes: []string{"local-lvm:vm-105-disk-0"}, Digest: "da39a3ee5e6b4b0d3255bfef95601890afd80709", Status: "stopped",
	}
	container := op.Observed{
		Found: true, Type: op.LXC, VMID: 106, Node: "pve1", Name: "cache", Digest: vm.Digest, Status: "running",
	}
	marked := container
	marked.WritID = "00112233445566778899aabbccddeeff"
	cases := []struct {
		name   string
		seen   op.Observed
		strict bool
		want   signedop.Expect
	}{
		{"a virtual machine by its identity and disks", vm, false, signedop.Expect{
			Name: "web-3", SMBIOSUUID: vm.SMBIOSUUID, VMGenID: vm.VMGenID, CTime: &ctime, Volumes: vm.Volumes,
		}},
		{"strictly, by all that was read", vm, true, signedop.Expect{
			Name: "web-3", SMBIOSUUID: vm.SMBIOSUUID, VMGenID: vm.VMGenID, CTime: &ctime, Volumes: vm.Volumes,
			MACs: vm.MACs, Digest: vm.Digest, Status: "stopped",
		}},
		{"a container without disks and network by its config", container, false, signedop.Expect{
			Name: "cache", Volumes: []string{}, MACs: []string{}, Digest: vm.Digest,
		}},
		{"a marked container by its mark, so that its config may change", marked, false, signedop.Expect{
			Name: "cache", Volumes: []string{}, MACs: []string{}, WritID: marked.WritID,
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := expectOf(c.seen, c.strict)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			d := testDocument()
			d.Target.Guest = &op.Guest{Type: c.seen.Type, VMID: c.seen.VMID}
			d.Expect = got
			if err := d.Check(); err != nil {
				t.Errorf("a document that expects it: %v, want none", err)
			}
		})
	}
}

func TestAnOrderInPlainWords(t *testing.T) {
	yes, ctime := true, int64(1795426571)
	now := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	vm := testDocument()
	vm.Params.Purge = &yes
	vm.Expect = signedop.Expect{
		Name: "web-3", SMBIOSUUID: vm.Expect.SMBIOSUUID, VMGenID: "0b9e2d3e-6b1a-4f5e-9d57-1f0c8d9a7b42", CTime: &ctime,
		Volumes: []string{"local-lvm:vm-105-disk-0", "nas:vm-105-disk-1"},
	}
	container := testDocument()
	container.Target.Guest = &op.Guest{Type: op.LXC, VMID: 106}
	container.Params.Force = &yes
	container.Expect = signedop.Expect{
		Name: "cache", Volumes: []string{}, MACs: []string{}, WritID: "00112233445566778899aabbccddeeff", Status: "running",
	}
	stop := testDocument()
	stop.Class = op.GuestStop
	var got bytes.Buffer
	for _, c := range []struct {
		name string
		d    signedop.Document
		now  time.Time
	}{
		{"a virtual machine and what goes with it", vm, now},
		{"a running container without disks, too early", container, now.Add(-time.Hour)},
		{"a stop, too late", stop, now.Add(24 * time.Hour)},
	} {
		fmt.Fprintf(&got, "# %s\n\n", c.name)
		describe(&got, c.d, c.now)
		fmt.Fprintln(&got)
	}
	golden(t, "describe.txt", got.String())
}

// golden compares with a file of testdata, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got (rewrite with -update and read the difference):\n%s\nwant:\n%s", path, got, want)
	}
}

func testDocument() signedop.Document {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	return signedop.Document{
		Version: signedop.Version, Nonce: "00112233445566778899aabbccddeeff", Audience: "lab/3f9c2ab41d6e4a70",
		Class: op.GuestDestroy, Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		Expect: signedop.Expect{SMBIOSUUID: "5c6f2d3e-6b1a-4f5e-9d57-1f0c8d9a7b42", Volumes: []string{}},
		Role:   "operator", RequestedBy: "alice", NotBefore: at, ExpiresAt: at.Add(time.Hour), Reason: "test",
	}
}

// What inspect says of each signature must add up to what the gate decides:
// here for every set of signers out of six keys.
func TestWhoCountsAgreesWithTheGate(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	owners := []string{"alice", "bob", "bob", "carol", "dave", "mallory"} // dave holds nothing, mallory is not enrolled
	policy := gate.PolicyDocument{
		Version: 1, People: map[string]gate.Person{},
		Roles: map[string]gate.Role{"operator": {
			Holders: []string{"alice", "bob", "carol"}, Quorum: 2, MaxLifetime: "24h",
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"105"}}}},
		}},
	}
	var signers []signedop.Signer
	for i, owner := range owners {
		signer, line := testSigner(t, owner)
		signers = append(signers, signer)
		k := gate.Key{Key: line, Format: "ssh"}
		if i == 3 {
			k.RevokedAt = "2026-11-23T09:15:00Z"
		}
		if owner != "mallory" {
			p := policy.People[owner]
			p.Keys = append(p.Keys, k)
			policy.People[owner] = p
		}
	}
	for _, requester := range []string{"alice", "bob", "erin"} {
		for _, counts := range []bool{false, true} {
			role := policy.Roles["operator"]
			role.RequesterCounts = counts
			policy.Roles["operator"] = role
			compiled, err := gate.Compile(policy, 1)
			if err != nil {
				t.Fatal(err)
			}
			for set := range 1 << len(signers) {
				name := fmt.Sprintf("requested by %s (counts: %t), signed by set %06b", requester, counts, set)
				d := testDocument()
				d.RequestedBy = requester
				checkAgreement(t, name, now, compiled, d, subset(signers, set))
			}
		}
	}
}

func subset(signers []signedop.Signer, set int) []signedop.Signer {
	var some []signedop.Signer
	for i, s := range signers {
		if set&(1<<i) != 0 {
			some = append(some, s)
		}
	}
	return some
}

func checkAgreement(t *testing.T, name string, now time.Time, policy *gate.Policy, d signedop.Document, signers []signedop.Signer) {
	t.Helper()
	raw, err := signedop.Seal(d, signers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parseSigned(raw)
	if err != nil {
		t.Fatal(err)
	}
	authentic, refusal := gate.Authenticate(now, policy, gate.Site{Agent: "lab", Ledger: "3f9c2ab41d6e4a70"}, gate.Submission{Intent: d.Intent(), Envelope: raw})
	var people []string
	views := signatureViews(now, policy.Document(), file)
	for _, v := range views {
		if *v.Counts == (v.Note != "") {
			t.Errorf("%s: %+v: a signature counts, or there is a note why not", name, v)
		}
		if *v.Counts && !slices.Contains(people, v.Person) {
			people = append(people, v.Person)
		}
	}
	if len(views) != len(signers) || (len(people) >= 2) != (authentic != nil) {
		t.Errorf("%s: inspect counts %q of %d signatures, the gate says %q %s", name, people, len(views), refusal.Reason, refusal.Detail)
	}
}
