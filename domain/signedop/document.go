package signedop

import (
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

func (d Document) frame() frame {
	return frame{
		nonce: d.Nonce, audience: d.Audience, role: d.Role, requestedBy: d.RequestedBy,
		notBefore: d.NotBefore, expiresAt: d.ExpiresAt, reason: d.Reason,
	}
}

// Check tells what is wrong with the form of a document, as a
// *MalformedError. It compares with no clock, policy or host.
func (d Document) Check() error {
	if d.Version != Version {
		return malformed("version", "%d, this program knows only %d", d.Version, Version)
	}
	if err := d.frame().check(); err != nil {
		return err
	}
	if err := d.Intent().Check(); err != nil {
		return inField("document", err)
	}
	return d.Expect.check(d.Intent())
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
	return s == "nonce" || s == "class" || strings.HasPrefix(s, "target.") || strings.HasPrefix(s, "params.")
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
	return parsePayload[Document]("document", payload, documentMembers())
}

// clone shares nothing that could be changed through it.
func (d Document) clone() Document {
	d.Target, d.Params, d.Expect = d.Target.Clone(), d.Params.Clone(), d.Expect.clone()
	return d
}
