package signedop

import (
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"writ/domain/op"
)

// Version is the version of the op document that this program writes and
// reads.
const Version = 1

// A Document is an order to do one thing once. What is not pointer, slice or
// part of Expect is always written, even when empty.
type Document struct {
	Version int      `json:"version"` // 1
	Nonce   op.Nonce `json:"nonce"`   // the op's identity; see op.Nonce
	// Audience is who may carry it out: the agent's name, a slash, and the
	// ledger id as 16 lower-case hex digits.
	Audience string    `json:"audience"`
	Class    op.Class  `json:"class"`
	Target   op.Target `json:"target"`
	Params   op.Params `json:"params"`
	Expect   Expect    `json:"expect"`
	Role     string    `json:"role"` // in which the signers sign
	// RequestedBy is the person who asked for it, whether or not they signed.
	RequestedBy string `json:"requested_by"`
	// NotBefore and ExpiresAt bound when it may start: UTC, whole seconds,
	// NotBefore the earlier.
	NotBefore time.Time `json:"not_before"`
	ExpiresAt time.Time `json:"expires_at"`
	Reason    string    `json:"reason"` // for people; one line
}

// documentMembers are those that every document has.
func documentMembers() []string {
	return []string{
		"version", "nonce", "audience", "class", "target", "params", "expect", "role", "requested_by", "not_before",
		"expires_at", "reason",
	}
}

// Intent is what the document orders, to be compared with what a caller asks.
func (d Document) Intent() op.Intent {
	return op.Intent{Class: d.Class, Target: d.Target, Params: d.Params}
}

// Check tells what is wrong with the form of a document, as a
// *MalformedError. It compares with no clock, policy or host.
func (d Document) Check() error {
	if d.Version != Version {
		return malformed("version", "%d, this program knows only %d", d.Version, Version)
	}
	if _, err := op.ParseNonce(string(d.Nonce)); err != nil {
		return inField("nonce", err)
	}
	if err := checkAudience(d.Audience); err != nil {
		return err
	}
	if err := d.Intent().Check(); err != nil {
		return inField("document", err)
	}
	if err := CheckName(d.Role); err != nil {
		return inField("role", err)
	}
	if err := CheckName(d.RequestedBy); err != nil {
		return inField("requested_by", err)
	}
	if err := d.checkTimes(); err != nil {
		return err
	}
	if err := checkText(d.Reason, MaxReasonBytes); err != nil {
		return inField("reason", err)
	}
	return d.Expect.check(d.Class, d.Target)
}

// inField makes a *MalformedError of an error about one field. Package op
// begins its messages with the field's name, followed by a colon.
func inField(field string, err error) error {
	if name, why, ok := strings.Cut(err.Error(), ": "); ok && isFieldName(name) {
		return &MalformedError{Field: name, Why: why}
	}
	return &MalformedError{Field: field, Why: err.Error()}
}

func isFieldName(s string) bool {
	switch s {
	case "nonce", "class", "target.node", "target.guest", "target.guest.type", "target.guest.vmid", "params.purge", "params.force":
		return true
	}
	return false
}

// ledgerIDDigits is the length of a ledger id in hex digits.
const ledgerIDDigits = 16

func checkAudience(s string) error {
	agent, ledger, ok := strings.Cut(s, "/")
	if !ok || checkHex(ledger, ledgerIDDigits) != nil || CheckName(agent) != nil {
		return malformed("audience", "%s is not an agent's name, a slash and a ledger id of %d lower-case hex digits",
			quote(s), ledgerIDDigits)
	}
	return nil
}

func (d Document) checkTimes() error {
	for _, t := range []struct {
		field string
		at    time.Time
	}{{"not_before", d.NotBefore}, {"expires_at", d.ExpiresAt}} {
		_, offset := t.at.Zone()
		if t.at.IsZero() || offset != 0 || t.at.Nanosecond() != 0 || t.at.Year() < 1 || t.at.Year() > 9999 {
			return malformed(t.field, "%s is %v", t.at.Format(time.RFC3339Nano), errTimeForm)
		}
	}
	if !d.NotBefore.Before(d.ExpiresAt) {
		return malformed("expires_at", "%s is not after not_before, %s", d.ExpiresAt.Format(timeLayout), d.NotBefore.Format(timeLayout))
	}
	return nil
}

// Encode gives the document's one sequence of bytes, or the *MalformedError of
// Check.
func (d Document) Encode() ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	d.NotBefore, d.ExpiresAt = d.NotBefore.UTC(), d.ExpiresAt.UTC()
	data, err := json.Marshal(d)
	if err != nil {
		return nil, malformed("document", "%v", err)
	}
	return canonicalize(data)
}

// parseDocument reads a document from the exact bytes that were signed.
func parseDocument(payload []byte) (Document, error) {
	var d Document
	if err := decodeStrict("document", payload, documentMembers(), &d); err != nil {
		return Document{}, err
	}
	again, err := d.Encode()
	if err != nil {
		return Document{}, err
	}
	// What could be read in two ways, or left out without loss, would give
	// other bytes here.
	if err := sameForm("document", payload, again); err != nil {
		return Document{}, err
	}
	return d, nil
}

// clone shares nothing that could be changed through it.
func (d Document) clone() Document {
	d.Target.Guest = cloneOf(d.Target.Guest)
	d.Params.Purge = cloneOf(d.Params.Purge)
	d.Params.Force = cloneOf(d.Params.Force)
	d.Expect.CTime = cloneOf(d.Expect.CTime)
	d.Expect.MACs = slices.Clone(d.Expect.MACs)
	d.Expect.Volumes = slices.Clone(d.Expect.Volumes)
	return d
}

func cloneOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
