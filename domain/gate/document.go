package gate

import (
	"time"

	"writ/domain/op"
)

// PolicyVersion is the version of the policy format that this program reads.
const PolicyVersion = 1

// A PolicyDocument is what a policy file says. It is decoded from YAML at the
// program's edge, where unknown keys and nulls must be refused, and recorded
// by op.Marshal inside Loaded; the names are the same in both. It decides
// nothing until Compile has checked all of it.
//
//	version: 1
//	clock_skew: 30s
//	people:
//	  alice:
//	    keys:
//	      - key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… alice@laptop
//	        format: ssh
//	        not_after: 2027-11-23T00:00:00Z
//	  bob:
//	    keys:
//	      - key: sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5… bob
//	        format: ssh
//	roles:
//	  operator:
//	    holders: [alice, bob]
//	    quorum: 2
//	    max_lifetime: 24h
//	    allow:
//	      - classes: [guest-destroy]
//	        on: {vmids: [100-199], pools: [test]}
//	        only: {tags: [disposable]}
//	  resolver:
//	    holders: [alice, bob]
//	    quorum: 2
//	    max_lifetime: 1h
//	    resolve: true
//	benign:
//	  - callers: [terraform]
//	    classes: [guest-start, snapshot-create]
//	    on: {pools: [test]}
type PolicyDocument struct {
	// Version is 1.
	Version int `json:"version" yaml:"version"`
	// ClockSkew is by how much a document's not_before may lie in the future:
	// a duration up to MaxClockSkew, DefaultClockSkew if not given. Expiry
	// knows no tolerance.
	ClockSkew string `json:"clock_skew,omitempty" yaml:"clock_skew,omitempty"`
	// People are all whose signatures can count, by name. A key belongs to
	// one person only, and is listed once.
	People map[string]Person `json:"people" yaml:"people"`
	// Roles are what documents name to be allowed by, by name. Names of people
	// and roles are 1 to 64 lower-case letters, digits and . _ - @ and begin
	// with a letter or digit.
	Roles map[string]Role `json:"roles" yaml:"roles"`
	// Benign are the rules by which benign classes run without a signature.
	// Without any, none runs.
	Benign []BenignRule `json:"benign,omitempty" yaml:"benign,omitempty"`
}

// A Person is someone who signs.
type Person struct {
	// Keys are the person's keys, at least one. A key that is no longer used
	// stays listed with revoked_at, so that signatures by it are told apart
	// from those of strangers.
	Keys []Key `json:"keys" yaml:"keys"`
}

// A Key is an enrolled public key. Times are RFC 3339 in UTC, in whole
// seconds.
type Key struct {
	// Key is a line as in an OpenSSH public key file, of the type ssh-ed25519,
	// sk-ssh-ed25519@openssh.com or sk-ecdsa-sha2-nistp256@openssh.com.
	Key string `json:"key" yaml:"key"`
	// Format is how the key signs: ssh (as ssh-keygen -Y sign does) or raw
	// (plain Ed25519). It must be given; no message can choose it.
	Format string `json:"format" yaml:"format"`
	// NotBefore is when the key begins to count; NotAfter is the first moment
	// at which it no longer does. Both compare with the time of the decision,
	// as nothing proves when a signature was made.
	NotBefore string `json:"not_before,omitempty" yaml:"not_before,omitempty"`
	NotAfter  string `json:"not_after,omitempty" yaml:"not_after,omitempty"`
	// RevokedAt is from when on every signature of the key is refused, however
	// old it may claim to be.
	RevokedAt string `json:"revoked_at,omitempty" yaml:"revoked_at,omitempty"`
	Comment   string `json:"comment,omitempty" yaml:"comment,omitempty"`
}

// A Role is what some people together may order or settle.
type Role struct {
	// Holders are the people who hold the role. Signatures of others don't
	// count.
	Holders []string `json:"holders" yaml:"holders"`
	// Quorum is how many distinct holders must have signed, from 1 to the
	// number of holders. A person who signs with two keys counts once.
	Quorum int `json:"quorum" yaml:"quorum"`
	// MaxLifetime is the longest time from not_before to expires_at that a
	// document may have, from MinLifetime to MaxLifetime. Required.
	MaxLifetime string `json:"max_lifetime" yaml:"max_lifetime"`
	// RequesterCounts lets the signature of the person whom the document names
	// in requested_by count toward the quorum.
	RequesterCounts bool `json:"requester_counts,omitzero" yaml:"requester_counts,omitempty"`
	// FIDO is what a signature must prove of its making to count.
	FIDO FIDO `json:"fido,omitzero" yaml:"fido,omitempty"`
	// Resolve lets the role settle ops that the evidence does not decide, on
	// every target of the ledger: a resolution names an op, and no rule of
	// Allow has a part in it. Nor does Allow give the right to resolve.
	Resolve bool `json:"resolve,omitzero" yaml:"resolve,omitempty"`
	// Allow are the rules: at least one, or none in a role that resolves. Each
	// stands for itself: a target must be granted by one rule alone, never by
	// parts of two.
	Allow []Rule `json:"allow,omitempty" yaml:"allow,omitempty"`
}

// FIDO are demands on how a signature was made. Keys without FIDO meet none
// of them.
type FIDO struct {
	Touch bool `json:"touch,omitzero" yaml:"touch,omitempty"` // the authenticator was touched
	PIN   bool `json:"pin,omitzero" yaml:"pin,omitempty"`     // the person was verified, by PIN or biometrics
}

// Tokenless is the name under which a submission is recorded that came without
// an API token. It can't be a caller in a BenignRule.
const Tokenless = "local"

// A BenignRule lets callers run benign classes on targets without a signature.
// Each rule stands for itself: caller, class and target must be named by one
// rule alone.
type BenignRule struct {
	// Callers are the names of API tokens, at least one, compared exactly.
	// Tokenless is refused: without tokens every local process would be it.
	Callers []string `json:"callers" yaml:"callers"`
	// Classes are benign classes, at least one. Who submits something never
	// authorizes a class that takes something away.
	Classes []op.Class `json:"classes" yaml:"classes"`
	// On and Only are as in a Rule.
	On   On   `json:"on" yaml:"on"`
	Only Only `json:"only,omitzero" yaml:"only,omitempty"`
}

// A Rule allows classes on targets.
type Rule struct {
	// Classes are signed classes, at least one. Benign ones are not ordered by
	// writs and have no place here.
	Classes []op.Class `json:"classes" yaml:"classes"`
	// On grants.
	On On `json:"on" yaml:"on"`
	// Only takes away from what On grants.
	Only Only `json:"only,omitzero" yaml:"only,omitempty"`
}

// On grants targets: those that any one of its members grants. At least one
// member is given. All comparisons are exact and see capitals.
type On struct {
	// VMIDs are single ones ("250") and ranges with both ends ("100-199"). They
	// grant guests, whether the host has them or not.
	VMIDs []string `json:"vmids,omitempty" yaml:"vmids,omitempty"`
	// Pools grant the guests that are in exactly this resource pool now; a
	// pool does not grant what is in a pool nested in it. Volumes, backups and
	// storages are not granted by pool.
	Pools []string `json:"pools,omitempty" yaml:"pools,omitempty"`
	// Storages grant what lies on them entirely: a target is granted only if
	// it has volumes and *all* the storages that hold them are listed here. An
	// op on a guest reaches all of its disks, so one listed storage must not
	// open the way to a disk on another. A guest without volumes is not
	// granted by any storage.
	Storages []string `json:"storages,omitempty" yaml:"storages,omitempty"`
}

// Only narrows what On grants: every member given must hold, and none can
// hold for a target that the host does not have. Lesser admins can change
// names, tags and the node of a guest, so these can only ever take away.
type Only struct {
	// Names are guest names, one of which must match: in full, or by a prefix
	// written with an asterisk at its end ("web-*").
	Names []string `json:"names,omitempty" yaml:"names,omitempty"`
	// Tags must *all* be on the guest. For one of several tags, write several
	// rules.
	Tags []string `json:"tags,omitempty" yaml:"tags,omitempty"`
	// Nodes are those of which the target must be on one, by the facts and not
	// by what the document says.
	Nodes []string `json:"nodes,omitempty" yaml:"nodes,omitempty"`
}

// TypeLoaded is the type of the event that puts a policy in force;
// PolicyStream is where it stands.
const (
	TypeLoaded   = "PolicyLoaded"
	PolicyStream = "policy"
)

// Loaded records a policy whole before it is put in force. What decides is
// Policy compiled with Serial, so an auditor can decide again.
type Loaded struct {
	Serial   uint64    `json:"serial"` // grows by each policy put in force
	Agent    string    `json:"agent"`
	Instance string    `json:"instance"`
	At       time.Time `json:"at"` // UTC
	// SourceSHA256 is the digest of the policy file's bytes.
	SourceSHA256 op.Digest      `json:"source_sha256"`
	Policy       PolicyDocument `json:"policy"`
}
