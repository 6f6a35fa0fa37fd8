package httpapi

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// A Scope is what a caller may do.
type Scope string

// The scopes.
const (
	Submit  Scope = "submit"  // deliver writs
	Read    Scope = "read"    // ask how ops stand, follow the ledger, read figures and audit reports
	Resolve Scope = "resolve" // hand in signed resolutions; it takes the signatures to settle anything
	Void    Scope = "void"    // take writs back: the caller's word is enough
	Backup  Scope = "backup"  // take copies and exports of the ledger, which hold envelopes that can still be submitted
)

// Scopes lists all scopes.
func Scopes() []Scope { return []Scope{Submit, Read, Resolve, Void, Backup} }

// scopeNames lists them for people.
func scopeNames() string {
	names := make([]string, len(Scopes()))
	for i, s := range Scopes() {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// A Token lets one caller in. The token itself is known to the caller alone.
//
// Its plain SHA-256 is enough, where a password would need a slow hash: a token
// is 256 random bits, and nobody finds those by trying, however fast. What a
// slow hash would add is a way to keep the service busy.
type Token struct {
	Name   string    // of the caller; recorded as submitted_by
	SHA256 op.Digest // of the token's bytes
	Scopes []Scope
	// Expires is the first moment at which the token lets nobody in any more;
	// zero is never.
	Expires time.Time
}

// Check tells what is wrong with a token, naming the field.
func (t Token) Check() error {
	if err := signedop.CheckName(t.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if t.SHA256 == (op.Digest{}) || t.SHA256 == op.DigestOf(nil) {
		return fmt.Errorf("sha256: missing, or that of an empty token; make one with: writ token create")
	}
	return checkScopes(t.Scopes)
}

// A Client lets in the holder of a certificate that one of the authorities in
// the server's TLS configuration has issued.
type Client struct {
	Name string // of the caller; recorded as submitted_by
	// Subject is the certificate's whole subject in the form of RFC 2253, such
	// as CN=controller,O=Lab. It is compared exactly.
	Subject string
	Scopes  []Scope
}

// Check tells what is wrong with a client, naming the field.
func (c Client) Check() error {
	if err := signedop.CheckName(c.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if !strings.Contains(c.Subject, "=") {
		return fmt.Errorf("subject: %q is not a subject such as CN=controller,O=Lab", c.Subject)
	}
	return checkScopes(c.Scopes)
}

func checkScopes(scopes []Scope) error {
	if len(scopes) == 0 {
		return fmt.Errorf("scopes: empty, give some of %s", scopeNames())
	}
	for i, s := range scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("scopes[%d]: %q is none of %s", i, s, scopeNames())
		}
	}
	return nil
}

// CheckCallers tells what is wrong with callers that are to be let in
// together: each must be in order, and no two may share a name, a token or a
// subject, or nobody could say who it was.
func CheckCallers(tokens []Token, clients []Client) error {
	names, taken := map[string]bool{}, errors.New("name: it is that of another caller")
	digests, subjects := map[op.Digest]bool{}, map[string]bool{}
	for _, t := range tokens {
		err := t.Check()
		switch {
		case err != nil:
		case names[t.Name]:
			err = taken
		case digests[t.SHA256]:
			err = errors.New("sha256: it is that of another caller's token")
		}
		if err != nil {
			return fmt.Errorf("token of %q: %w", clip(t.Name), err)
		}
		names[t.Name], digests[t.SHA256] = true, true
	}
	for _, c := range clients {
		err := c.Check()
		switch {
		case err != nil:
		case names[c.Name]:
			err = taken
		case subjects[c.Subject]:
			err = errors.New("subject: it is that of another caller")
		}
		if err != nil {
			return fmt.Errorf("client %q: %w", clip(c.Name), err)
		}
		names[c.Name], subjects[c.Subject] = true, true
	}
	return nil
}

// SetTokens puts other tokens in the place of all that were let in before;
// from the next request on, and of those who follow the ledger from their next
// heartbeat on. After an error nothing has changed. Clients stay as they are.
//
// Taking the last token away lets nobody in; it does not open the interface.
func (a *API) SetTokens(tokens []Token) error {
	if err := CheckCallers(tokens, a.cfg.Clients); err != nil {
		return err
	}
	own := slices.Clone(tokens)
	a.tokens.Store(&own)
	return nil
}
